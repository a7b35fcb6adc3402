//! A server that stands still, for longer than its callers wait and for longer than a lease, and goes on.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use oncekey_conformance::history::Tolerance;
use oncekey_postgres::state::{Answer, Operation};
use oncekey_postgres::{
    Effect, Entry, IdempotencyStore, PostgresStore, ReservationOutcome, Slot, Timestamp, Token,
};
use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Direction::ToClient;
use oncekey_testbed::wait_until;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::bench::{Bench, SLACK, statements};
use oncekey_storm::crowd::{Crowd, Member};
use oncekey_storm::deed::{Deed, LEASE, Stage as _, granted, reserve, reserve_for};
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::rounds::{random, rounds};

const DEADLINE: Duration = Duration::from_millis(250);

/// A server for one of these tests at a time.
async fn alone() -> (&'static Server, MutexGuard<'static, ()>) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static IN_USE: Mutex<()> = Mutex::const_new(());
    let guard = IN_USE.lock().await;
    (SERVER.get_or_init(|| Server::builder().setting("fsync", "off").start().unwrap()), guard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_server_that_stands_still_hear_it_by_their_deadline() {
    let (server, _guard) = alone().await;
    for deed in Deed::ALL {
        let bench = Bench::before(server).await;
        bench.warm(deed).await;
        let (slot, other) = (bench.slot(), bench.slot());
        let operation = deed.stage(&bench, &slot).await.operation;
        let unconnected = bench.builder.clone().call_deadline(DEADLINE);
        let unconnected = unconnected.connect_lazy(&server.url("postgres")).unwrap();
        let hasty = bench.hasty(DEADLINE, |builder| builder).await;

        server.stop();
        let begun = Instant::now();
        let new = Client { number: 2, store: &unconnected, tries: Tries::None };
        let fresh = reserve(Token::fresh());
        let (sent, unsent) =
            tokio::join!(bench.by(&hasty, &slot, &operation), bench.ledger.call(new, &other, &fresh));
        let took = begun.elapsed();
        server.cont();

        assert!(took < DEADLINE + SLACK, "{deed:?}: {took:?}");
        let (sent, unsent) = (sent.expect_err("nobody answers"), unsent.expect_err("nobody answers"));
        assert!(sent.is_retryable() && unsent.is_retryable(), "{deed:?}: {sent}; {unsent}");
        assert_eq!((sent.effect(), unsent.effect()), (Effect::Unknown, Effect::NotApplied), "{deed:?}");
        // FAULTS 27: the server carries out what its client has given up.
        deed.right(&bench.clean(&slot, &operation).await);
        bench.clean(&slot, &reserve(Token::fresh())).await;
        bench.settle(&format!("{deed:?} on a server that stood still"));
    }
}

/// R10. What was written in time comes when its lease is over.
///
/// ```text
///   caller  reserve ──▶ ┌─ granted, its lease runs ────────┐ over    ┌ the answer arrives: it is asked again
///   server              └──────────── the answer is held ════════════╪═▶
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_longer_on_its_way_than_its_lease_comes_renewed_or_not_at_all() {
    let mut all = JoinSet::new();
    for deed in [Deed::Fresh, Deed::TakeOver, Deed::Retry, Deed::Again] {
        for superseded in [false, true] {
            all.spawn(long_on_its_way(deed, superseded));
        }
    }
    all.join_all().await;
}

async fn long_on_its_way(deed: Deed, superseded: bool) {
    let what = format!("{deed:?}, taken over: {superseded}");
    let bench = Bench::open().await;
    let before = if statements(deed) == 2 { look_answered(&bench).await } else { 0 };
    bench.warm(deed).await;
    let slot = bench.slot();
    let Operation::Reserve { token, .. } = deed.stage(&bench, &slot).await.operation else { unreachable!() };
    if deed == Deed::Retry {
        // What is left of the first lease would last.
        bench.ledger.advance(2 * LEASE);
    }
    let staged = end_of_lease(&bench, &slot).await;
    bench.proxy.hold_after(ToClient, before);
    let caller = async {
        let heard = bench.over(&slot, &reserve_for(Duration::from_millis(1_500), token)).await;
        (heard.unwrap_or_else(|error| panic!("{what}: {error}")), bench.clean.lookup(&slot).await.unwrap())
    };
    let network = async {
        over(&bench, &slot, staged).await;
        let theirs = match superseded {
            true => Some(bench.clean(&slot, &reserve(Token::fresh())).await),
            false => None,
        };
        bench.proxy.pass().unwrap();
        theirs
    };
    let ((heard, found), theirs) = tokio::join!(caller, network);
    let Some(Entry::Pending(found)) = found else { panic!("{what}: {found:?}") };
    assert!(!found.is_lapsed(), "{what}: {found:?}");
    match theirs {
        None => assert_eq!(granted(&heard).fence, found.fence, "{what}"),
        Some(theirs) => {
            let busy = matches!(heard, Answer::Reserve(Ok(ReservationOutcome::InFlight(_))));
            assert!(busy, "{what}: {heard:?}");
            assert_eq!(granted(&theirs).fence, found.fence, "{what}");
        }
    }
    bench.settle(&what);
}

/// The bytes of an answer that only says who holds the slot: a reserve's first.
async fn look_answered(bench: &Bench) -> u64 {
    let slot = bench.slot();
    granted(&bench.clean(&slot, &reserve(Token::fresh())).await);
    let mut answered = 0;
    for _ in 0..2 {
        let before = bench.seen();
        bench.over(&slot, &reserve(Token::fresh())).await.unwrap();
        answered = bench.seen().since(before).answers;
    }
    answered
}

/// Returns when a lease with another end was written, and is over.
async fn over(bench: &Bench, slot: &Slot, before: Option<Timestamp>) {
    let begun = Instant::now();
    loop {
        let found = end_of_lease(bench, slot).await;
        if found != before && bench.clean.lookup(slot).await.is_ok_and(|found| has_lapsed(found.as_ref())) {
            return;
        }
        assert!(begun.elapsed() < SLACK, "{found:?}");
        tokio::task::yield_now().await;
    }
}

fn has_lapsed(found: Option<&Entry>) -> bool {
    matches!(found, Some(Entry::Pending(entry)) if entry.is_lapsed())
}

async fn end_of_lease(bench: &Bench, slot: &Slot) -> Option<Timestamp> {
    match bench.clean.lookup(slot).await.unwrap()? {
        Entry::Pending(entry) => Some(entry.lease_expires_at),
        other => panic!("{other:?}"),
    }
}

/// Leases are short here and the server stands still for longer than they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_is_one_holder_at_a_time_through_stops_that_outlast_leases() {
    let (mut random, rounds) = (random(), rounds(2));
    let (server, _guard) = alone().await;
    let builder = PostgresStore::builder().connections(1);
    let url = server.url("postgres");
    let members: Vec<Member> = (0..4).map(|_| builder.clone().connect_lazy(&url).unwrap().into()).collect();
    members[0].store.ensure_schema().await.unwrap();
    let (lease, stop) = (Duration::from_millis(500), Duration::from_millis(1_300));
    for round in 0..rounds {
        let ledger = Ledger::still();
        let crowd = Crowd::new(format!("{round}"), lease, ledger);
        let mut clients = crowd.start(&members, &mut random);
        let wait = |answers| {
            let look = || match crowd.answers() {
                n if n >= answers => Ok(()),
                n => Err(format!("{n} of {answers}")),
            };
            tokio::task::block_in_place(|| wait_until("answers to the crowd", SLACK * 6, look)).unwrap();
        };
        wait(random.u64(5..100));
        // Whoever calls before the server goes on may be granted what is over, and ask again (R10).
        crowd.ledger.trouble();
        server.stop();
        crowd.ledger.trouble();
        // Time is all that this waits for: nothing else goes on.
        let begun = Instant::now();
        let over = || if begun.elapsed() >= stop { Ok(()) } else { Err(String::new()) };
        tokio::task::block_in_place(|| wait_until("the end of the stop", SLACK, over)).unwrap();
        crowd.ledger.trouble();
        server.cont();
        wait(crowd.answers() + 60);
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        // One clock for all, and one that nobody moves.
        let tolerance = Tolerance { clock: Duration::from_millis(50), reckoning: Duration::from_millis(50) };
        crowd.ledger.settle(&format!("round {round}"), tolerance);
    }
}
