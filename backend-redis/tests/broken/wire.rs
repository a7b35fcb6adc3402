//! Connections that are cut: behind every byte of every call, in both directions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oncekey_redis::{Effect, Token};
use oncekey_storm::deed::{Deed, Stage as _, fence, reserve};
use oncekey_storm::ledger::{Client, Tries};
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::proxy::Direction::{self, ToClient, ToServer};
use oncekey_testbed::proxy::Ending;
use tokio::task::JoinSet;

use crate::bench::Bench;

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
    let bench = Bench::open();
    let (requests, answers) = bench.measure(deed).await;
    for (direction, bytes) in [(ToServer, requests), (ToClient, answers)] {
        let mut at: Vec<u64> = (0..=bytes).collect();
        if places < bytes {
            random.shuffle(&mut at);
            at.truncate(usize::try_from(places).unwrap());
            at.extend([0, 1, bytes - 2, bytes - 1, bytes]);
        }
        for n in at {
            // A connection that is up.
            bench.measure(Deed::Lookup).await;
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
    // S6: with the same token or grant, no second effect. A number in a request has a digit more or less than in the
    // one that was measured: then this is the call that is cut.
    let again = bench.over(&slot, &operation).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    deed.right(&again);
    assert_eq!(bench.proxy.cuts(), cuts + 1, "{what}: it wasn't cut");
    assert_eq!(fence(&first), fence(&again), "{what}: one grant");
    // Whoever comes next finds one of these, and no ghost.
    bench.clean(&slot, &reserve(Token::fresh())).await;
    bench.settle(&what);
}

/// One of each kind of call at a time, on one connection; all bytes of that: `ONCEKEY_ROUNDS=10000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_whose_connection_is_cut_at_any_byte_are_each_made_again_and_answered() {
    let (mut random, places, bench) = (random(), rounds(24), Arc::new(Bench::open()));
    let mut most = [0; 2];
    for _ in 0..2 {
        bench.measure(Deed::Lookup).await;
        let before = seen(&bench);
        all_at_once(&bench, || {}, "nothing is cut").await;
        let after = seen(&bench);
        most = [after.0 - before.0, after.1 - before.1];
    }
    for (direction, bytes) in [ToServer, ToClient].into_iter().zip(most) {
        let mut at: Vec<u64> = (0..=bytes).collect();
        if places < bytes {
            random.shuffle(&mut at);
            at.truncate(usize::try_from(places).unwrap());
        }
        for n in at {
            let what = format!("all calls, cut {direction:?} at byte {n}");
            // A connection that is up.
            bench.measure(Deed::Lookup).await;
            let cuts = bench.proxy.cuts();
            all_at_once(&bench, || bench.proxy.cut_after(direction, n, ending(n)), &what).await;
            // A number has a digit more or less than when it was measured.
            bench.measure(Deed::Fresh).await;
            assert_eq!(bench.proxy.cuts(), cuts + 1, "{what}: it wasn't cut");
        }
    }
    println!("{} cuts", bench.proxy.cuts());
}

/// Makes a call of each kind, each on a slot of its own, once they are all staged and this is done.
async fn all_at_once(bench: &Arc<Bench>, then: impl FnOnce(), what: &str) {
    let mut staged = Vec::new();
    for deed in Deed::ALL {
        let slot = bench.slot();
        let operation = deed.stage(&**bench, &slot).await.operation;
        staged.push((deed, slot, operation));
    }
    then();
    let mut calls = JoinSet::new();
    for (deed, slot, operation) in staged {
        let bench = Arc::clone(bench);
        calls.spawn(async move { (deed, bench.over(&slot, &operation).await, slot, operation) });
    }
    while let Some(called) = calls.join_next().await {
        let (deed, told, slot, operation) = called.unwrap();
        let first = told.unwrap_or_else(|error| panic!("{what}: {deed:?}: {error}"));
        deed.right(&first);
        let again = bench.clean(&slot, &operation).await;
        deed.right(&again);
        assert_eq!(fence(&first), fence(&again), "{what}: {deed:?}: one grant");
        bench.clean(&slot, &reserve(Token::fresh())).await;
    }
    bench.settle(what);
}

/// How long a call is tried whose every connection is cut: some three times.
const DEADLINE: Duration = Duration::from_millis(60);
/// Longer than that on a machine that does other things besides.
const SLACK: Duration = Duration::from_secs(5);

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
    let bench = Bench::open();
    // A connection's begin, and a call.
    let begin = {
        let (before, store) = (seen(&bench), bench.another(|builder| builder));
        oncekey_redis::IdempotencyStore::ensure_schema(&store).await.unwrap();
        (seen(&bench).0 - before.0, seen(&bench).1 - before.1)
    };
    let (requests, answers) = bench.measure(deed).await;
    for (direction, whole) in [(ToServer, begin.0 + requests), (ToClient, begin.1 + answers)] {
        let mut at: Vec<u64> = (0..=whole).collect();
        if places < whole {
            random.shuffle(&mut at);
            at.truncate(usize::try_from(places).unwrap());
            at.extend([0, 1, whole - 1, whole]);
        }
        for n in at {
            let what = format!("{deed:?}, each connection cut {direction:?} at byte {n}");
            gives_up_at(&bench, deed, direction, n, &what).await;
        }
    }
    bench.proxy.cuts()
}

fn seen(bench: &Bench) -> (u64, u64) {
    (bench.proxy.seen(ToServer), bench.proxy.seen(ToClient))
}

async fn gives_up_at(bench: &Bench, deed: Deed, direction: Direction, n: u64, what: &str) {
    let slot = bench.slot();
    let operation = deed.stage(bench, &slot).await.operation;
    // With no connection yet.
    let store = bench.another(|builder| builder.call_deadline(DEADLINE));
    bench.proxy.cut_each_after(direction, n, ending(n));
    let begun = Instant::now();
    let client = Client { number: 1, store: &store, tries: Tries::One };
    let first = bench.ledger.call(client, &slot, &operation).await;
    let took = begun.elapsed();
    bench.proxy.pass().unwrap();
    assert!(took < DEADLINE + SLACK, "{what}: {took:?}");
    match &first {
        Ok(answer) => deed.right(answer),
        Err(error) => {
            assert!(error.is_retryable(), "{what}: {error}");
            assert!(
                deed.writes() || error.effect() == Effect::NotApplied || deed == Deed::Replay,
                "{what}: {error}"
            );
            assert!(n > 0 || error.effect() == Effect::NotApplied, "{what}: {error}");
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
