//! A network that swallows everything, a server that refuses, and one that is far away: an error by the deadline
//! that says its effect, or an answer.

use std::future::Future;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use oncekey_postgres::{
    Effect, Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore, PostgresStoreBuilder,
    ScanRequest, StoreError, Token,
};
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Ending;

use crate::bench::Bench;
use oncekey_storm::deed::{Deed, Stage as _, reserve};
use oncekey_storm::ledger::{Client, Tries};

const DEADLINE: Duration = Duration::from_millis(250);

/// What the driver asks once more, behind each answer, before the pool has its connection back.
const SYNC: u64 = 5;

fn by_the_deadline(builder: PostgresStoreBuilder) -> PostgresStoreBuilder {
    builder.call_deadline(DEADLINE)
}

/// What `call` said, by its deadline.
async fn refused<T: std::fmt::Debug>(
    what: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> StoreError {
    let begun = Instant::now();
    // Far below the deadlines of statements and of the driver's pool, so that it is ours that counts.
    let heard = tokio::time::timeout(DEADLINE + Duration::from_secs(4), call).await;
    let heard = heard.unwrap_or_else(|_| panic!("{what}: nothing after {:?}", begun.elapsed()));
    let error = heard.expect_err(what);
    assert!(error.is_retryable(), "{what}: {error}");
    error
}

/// Each call that a store has beside those of [`Deed`], none of which changes anything here.
async fn others(what: &str, store: &PostgresStore) -> Vec<StoreError> {
    let some = NonZeroU32::new(10).unwrap();
    vec![
        refused(&format!("{what}: garbage_collect"), store.garbage_collect(some)).await,
        refused(&format!("{what}: ensure_schema"), store.ensure_schema()).await,
        refused(&format!("{what}: scan"), store.scan(&ScanRequest::first(some))).await,
        refused(&format!("{what}: stats"), store.stats()).await,
        refused(&format!("{what}: assess"), store.assess()).await,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_answers_is_an_error_of_unknown_effect_by_the_deadline() {
    for deed in Deed::ALL {
        let bench = Bench::open().await;
        bench.warm(deed).await;
        let slot = bench.slot();
        let operation = deed.stage(&bench, &slot).await.operation;
        let hasty = bench.hasty(DEADLINE, |builder| builder).await;
        bench.proxy.black_hole();
        let error = refused(&format!("{deed:?}"), bench.by(&hasty, &slot, &operation)).await;
        assert_eq!(error.effect(), Effect::Unknown, "{deed:?}: {error}");
        // A network that sends again: all of it arrives, and late.
        bench.proxy.pass().unwrap();
        deed.right(&bench.clean(&slot, &operation).await);
        bench.clean(&slot, &reserve(Token::fresh())).await;
        bench.settle(&format!("{deed:?} in a black hole"));
    }
    let bench = Bench::open().await;
    let hasty = bench.hasty(DEADLINE, |builder| builder).await;
    bench.proxy.black_hole();
    others("a connection that hangs", &hasty).await;
}

/// The statement's own deadline is before the call's: it is sent again, and nobody can be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_effect_stays_unknown_however_the_last_try_fails() {
    for deed in Deed::ALL {
        let bench = Bench::open().await;
        bench.warm(deed).await;
        let slot = bench.slot();
        let operation = deed.stage(&bench, &slot).await.operation;
        let early = Duration::from_millis(100);
        let hasty = bench.hasty(DEADLINE, |b| b.lock_timeout(early / 2).statement_deadline(early)).await;
        bench.proxy.refuse().unwrap();
        bench.proxy.black_hole();
        let error = refused(&format!("{deed:?}"), bench.by(&hasty, &slot, &operation)).await;
        assert_eq!(error.effect(), Effect::Unknown, "{deed:?}: {error}");
    }
}

/// S7: the effect of a call is the worst of all its tries, those of its other statements too.
///
/// ```text
///   complete ──▶ stored ✗ (the answer is cut)
///   complete ──▶ nothing to write              the connection hangs before it is free again
///   look ....... never sent                    by the deadline: unknown, and not "not applied"
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_answer_may_have_done_is_not_forgotten_with_the_next_statement() {
    let bench = Bench::open().await;
    let warm = bench.measure(Deed::Complete).await.requests - SYNC;
    let mut anew = 0;
    for _ in 0..2 {
        bench.proxy.reset();
        let before = bench.seen();
        bench.warm(Deed::Complete).await;
        anew = bench.seen().since(before).requests - SYNC;
    }
    let slot = bench.slot();
    let operation = Deed::Complete.stage(&bench, &slot).await.operation;
    let hasty = bench.hasty(4 * DEADLINE, |builder| builder).await;
    bench.proxy.cut_after(ToClient, 10, Ending::Reset);
    bench.proxy.hold_after(ToServer, warm + anew);
    let error = refused("complete", bench.by(&hasty, &slot, &operation)).await;
    assert_eq!(bench.proxy.cuts(), 1);
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let found = bench.clean.lookup(&slot).await.unwrap();
    assert!(matches!(found, Some(Entry::Completed(_))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_connection_could_be_had_for_is_an_error_without_effect_by_the_deadline() {
    for refuses in [false, true] {
        let bench = Bench::open().await;
        bench.proxy.reset();
        for deed in Deed::ALL {
            let slot = bench.slot();
            let operation = deed.stage(&bench, &slot).await.operation;
            let store = bench.another(by_the_deadline);
            if refuses {
                bench.proxy.refuse().unwrap();
            } else {
                bench.proxy.black_hole();
            }
            let what = format!("{deed:?}, refused: {refuses}");
            let client = Client { number: 1, store: &store, tries: Tries::None };
            let error = refused(&what, bench.ledger.call(client, &slot, &operation)).await;
            assert_eq!(error.effect(), Effect::NotApplied, "{what}: {error}");
            bench.proxy.reset();
            bench.proxy.pass().unwrap();
            // It is not in the history.
            deed.right(&bench.clean(&slot, &operation).await);
            bench.settle(&what);
        }
        if refuses {
            bench.proxy.refuse().unwrap();
        } else {
            bench.proxy.black_hole();
        }
        let what = format!("no connection, refused: {refuses}");
        for error in others(&what, &bench.another(by_the_deadline)).await {
            assert_eq!(error.effect(), Effect::NotApplied, "{what}: {error}");
        }
        let url = bench.url();
        let error = refused(&what, by_the_deadline(bench.builder.clone()).connect(&url)).await;
        assert_eq!(error.effect(), Effect::NotApplied, "{what}: {error}");
    }
}

/// The look at the server that comes with connecting is a call like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_connects_to_a_server_that_falls_silent_says_so_by_the_deadline() {
    let bench = Bench::open().await;
    bench.warm(Deed::Fresh).await;
    bench.proxy.black_hole();
    let pool = bench.over.pool().clone();
    let error = refused("from_pool", by_the_deadline(bench.builder.clone()).from_pool(pool)).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_far_away_is_reached_all_the_same() {
    let bench = Bench::open().await;
    // A connection takes some round trips before it is of use.
    let far = Duration::from_millis(150);
    bench.proxy.delay(ToServer, far);
    bench.proxy.delay(ToClient, far);
    for deed in Deed::ALL {
        let slot = bench.slot();
        let operation = deed.stage(&bench, &slot).await.operation;
        let store = bench.another(|builder| builder);
        let client = Client { number: 1, store: &store, tries: Tries::None };
        let heard = bench.ledger.call(client, &slot, &operation).await;
        deed.right(&heard.unwrap_or_else(|error| panic!("{deed:?}: {error}")));
    }
}
