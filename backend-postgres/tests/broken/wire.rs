//! Connections that are cut: behind every byte of every call, in both directions.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use oncekey_postgres::{Effect, IdempotencyAdmin, IdempotencyStore, StoreError, Token};
use oncekey_testbed::proxy::Direction::{self, ToClient, ToServer};
use oncekey_testbed::proxy::Ending;
use tokio::task::JoinSet;

use crate::bench::{Bench, Exchange, SLACK};
use oncekey_storm::deed::{Deed, EXPIRED, Stage as _, brief, fence, granted, reserve};
use oncekey_storm::ledger::{Client, Tries};
use oncekey_storm::rounds::{random, rounds};

/// Some connections crash and some are closed in order.
fn ending(n: u64) -> Ending {
    if n.is_multiple_of(2) { Ending::Reset } else { Ending::Close }
}

/// All bytes of each call: `ONCEKEY_ROUNDS=10000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_whose_connection_is_cut_at_any_byte_is_made_again_inside_and_answered() {
    let (mut random, places, mut all) = (random(), rounds(24), JoinSet::new());
    for deed in Deed::ALL {
        all.spawn(heals(deed, random.fork(), places));
    }
    let cuts: u64 = all.join_all().await.into_iter().sum();
    println!("{cuts} cuts");
}

async fn heals(deed: Deed, mut random: fastrand::Rng, places: u64) -> u64 {
    let bench = Bench::asking().await;
    let exchange = bench.measure(deed).await;
    for (direction, bytes) in [(ToServer, exchange.requests), (ToClient, exchange.answers)] {
        let mut at: Vec<u64> = (0..=bytes).collect();
        if places < bytes {
            random.shuffle(&mut at);
            at.truncate(usize::try_from(places).unwrap());
            at.extend([0, 1, bytes - 6, bytes - 5, bytes - 1, bytes]);
        }
        for n in at {
            bench.warm(deed).await;
            heals_at(&bench, deed, direction, n).await;
        }
    }
    bench.proxy.cuts()
}

async fn heals_at(bench: &Bench, deed: Deed, direction: Direction, n: u64) {
    let what = format!("{deed:?} cut {direction:?} at byte {n}");
    let slot = bench.slot();
    let operation = deed.stage(bench, &slot).await.operation;
    let cuts = bench.proxy.cuts();
    bench.proxy.cut_after(direction, n, ending(n));
    let first = bench.over(&slot, &operation).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    deed.right(&first);
    assert_eq!(bench.proxy.cuts(), cuts + 1, "{what}: it wasn't cut");
    // S6: with the same token or grant, no second effect.
    let again = bench.over(&slot, &operation).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    deed.right(&again);
    assert_eq!(fence(&first), fence(&again), "{what}: one grant");
    // Whoever comes next finds one of these, and no ghost.
    bench.clean(&slot, &reserve(Token::fresh())).await;
    bench.settle(&what);
}

/// How long a call is tried whose every connection is cut: some three times.
const DEADLINE: Duration = Duration::from_millis(60);

/// All bytes of each call and of its connection's begin: `ONCEKEY_ROUNDS=10000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_whose_every_connection_is_cut_says_by_its_deadline_what_it_may_have_done() {
    let (mut random, places, mut all) = (random(), rounds(16), JoinSet::new());
    for deed in Deed::ALL {
        all.spawn(gives_up(deed, random.fork(), places));
    }
    let cuts: u64 = all.join_all().await.into_iter().sum();
    println!("{cuts} cuts");
}

async fn gives_up(deed: Deed, mut random: fastrand::Rng, places: u64) -> u64 {
    let bench = Bench::asking().await;
    let begin = connected(&bench).await;
    let whole = first_call(&bench, deed).await;
    let directions = [(ToServer, begin.requests, whole.requests), (ToClient, begin.answers, whole.answers)];
    for (direction, begin, whole) in directions {
        let mut at: Vec<u64> = (0..=whole).collect();
        if places < whole {
            random.shuffle(&mut at);
            at.truncate(usize::try_from(places).unwrap());
            // Where a message of the protocol ends, and a connection's begin does.
            at.extend([0, begin - 1, begin, begin + 1, whole - 6, whole - 5, whole - 1, whole]);
        }
        for n in at {
            let what = format!("{deed:?}, each connection cut {direction:?} at byte {n}");
            // Nothing of a call can be sent before the server has said that it is ready.
            let unsent = n < begin || (direction == ToServer && n == begin);
            gives_up_at(&bench, deed, (direction, n, unsent), &what).await;
        }
    }
    bench.proxy.cuts()
}

async fn gives_up_at(bench: &Bench, deed: Deed, (direction, n, unsent): (Direction, u64, bool), what: &str) {
    let slot = bench.slot();
    let operation = deed.stage(bench, &slot).await.operation;
    // With no connection yet.
    let store = bench.another(|builder| builder.call_deadline(DEADLINE));
    bench.proxy.cut_each_after(direction, n, ending(n));
    let begun = Instant::now();
    let first =
        bench.ledger.call(Client { number: 1, store: &store, tries: Tries::One }, &slot, &operation).await;
    let took = begun.elapsed();
    bench.proxy.pass().unwrap();
    assert!(took < DEADLINE + SLACK, "{what}: {took:?}");
    match &first {
        Ok(answer) => deed.right(answer),
        Err(error) => {
            assert!(error.is_retryable(), "{what}: {error}");
            assert!(!unsent || error.effect() == Effect::NotApplied, "{what}: {error}");
        }
    }
    // S7: what wasn't applied isn't in the history, and whatever comes now must make sense without it.
    let again = bench.clean(&slot, &operation).await;
    deed.right(&again);
    if let Ok(first) = &first {
        assert_eq!(fence(first), fence(&again), "{what}: one grant");
    }
    bench.clean(&slot, &reserve(Token::fresh())).await;
    bench.settle(what);
}

/// What a connection sends and hears before it is of use.
async fn connected(bench: &Bench) -> Exchange {
    bench.at_rest().await;
    let before = bench.seen();
    let store = bench.another(|builder| builder);
    let _connection = store.pool().acquire().await.unwrap();
    let begin = bench.seen().since(before);
    // What the driver has to say at its end comes to nobody's count.
    bench.proxy.reset();
    begin
}

/// The same up to the answer of the first call on it.
async fn first_call(bench: &Bench, deed: Deed) -> Exchange {
    let slot = bench.slot();
    let operation = deed.stage(bench, &slot).await.operation;
    let store = bench.another(|builder| builder);
    let before = bench.seen();
    deed.right(
        &bench
            .ledger
            .call(Client { number: 1, store: &store, tries: Tries::None }, &slot, &operation)
            .await
            .unwrap(),
    );
    let whole = bench.seen().since(before);
    bench.proxy.reset();
    whole
}

/// It isn't made again inside when its effect is unknown: sent twice, it could delete more than it was asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_cut_deletes_no_more_than_it_was_asked_to() {
    let bench = Bench::asking().await;
    let (live, token) = (bench.slot(), Token::fresh());
    let grant = granted(&bench.clean(&live, &reserve(token)).await);
    // Three expire and two may go, by a call that is cut after so many bytes.
    let cut_at = async |cut: Option<(Direction, u64)>| {
        for _ in 0..3 {
            bench.clean(&bench.slot(), &brief(Token::fresh())).await;
        }
        bench.ledger.advance(EXPIRED);
        if let Some((direction, n)) = cut {
            bench.proxy.cut_after(direction, n, ending(n));
        }
        let heard = collect(&bench, 2).await;
        let what = format!("cut {cut:?}");
        if let Err(error) = &heard {
            assert_eq!(error.effect(), Effect::Unknown, "{what}: {error}");
            // A request that arrived whole is carried out a moment later.
            bench.ended().await;
        }
        let left = bench.clean.stats().await.unwrap().expired;
        match &heard {
            Ok(deleted) => assert_eq!((*deleted, left), (2, 1), "{what}"),
            Err(_) => assert!(left == 1 || left == 3, "{what}: {left} of 3 are left"),
        }
        let rest = bench.clean.garbage_collect(NonZeroU32::MAX).await.unwrap();
        assert_eq!((rest, bench.clean.stats().await.unwrap().expired), (left, 0), "{what}");
        // What was cut behind its answer fails once more; then the connection knows the statement again.
        let _ = collect(&bench, 2).await;
        assert_eq!(collect(&bench, 2).await.unwrap(), 0, "{what}");
    };
    cut_at(None).await;
    let before = bench.seen();
    collect(&bench, 2).await.unwrap();
    let exchange = bench.seen().since(before);
    for (direction, bytes) in [(ToServer, exchange.requests), (ToClient, exchange.answers)] {
        for n in 0..=bytes {
            let cuts = bench.proxy.cuts();
            cut_at(Some((direction, n))).await;
            assert_eq!(bench.proxy.cuts(), cuts + 1, "cut {direction:?} at {n}: it wasn't cut");
        }
    }
    assert_eq!(granted(&bench.clean(&live, &reserve(token)).await).fence, grant.fence);
}

async fn collect(bench: &Bench, limit: u32) -> Result<u64, StoreError> {
    let deleted = bench.over.garbage_collect(NonZeroU32::new(limit).unwrap()).await;
    bench.at_rest().await;
    deleted
}
