//! kill -9 of the server, at any instant of a load: what it acknowledged is there when it has started again, and all
//! that was heard before and after makes one history.
//!
//! `cargo xtask torture postgres-server --rounds 500` is the long proof.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oncekey_conformance::history::Tolerance;
use oncekey_postgres::state::Operation;
use oncekey_postgres::{IdempotencyStore, PostgresStore};
use oncekey_testbed::postgres::Server;
use oncekey_testbed::wait_until;

use oncekey_storm::crowd::{Acknowledged, Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::rounds::{random, rounds};

const CLIENTS: usize = 6;
/// Answers of a round after its kill.
const AFTERWARDS: u64 = 60;

/// As durable as the defaults, and quick to recover: there is little to read, and nothing else to do.
fn server() -> Server {
    let settings = [
        ("shared_buffers", "4MB"),
        ("max_connections", "40"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("recovery_init_sync_method", "syncfs"),
        ("autovacuum", "off"),
    ];
    settings.into_iter().fold(Server::builder(), |b, (name, value)| b.setting(name, value)).start().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_server_acknowledged_is_there_after_it_was_killed() {
    let (mut random, rounds, server) = (random(), rounds(3), Arc::new(server()));
    let url = server.url("postgres");
    // Half of them wait for the server to come back, inside their call; the others make it again.
    let store = |deadline| {
        PostgresStore::builder().connections(1).call_deadline(deadline).connect_lazy(&url).unwrap()
    };
    let (patient, hasty) = (Duration::from_secs(60), Duration::from_millis(150));
    let members: Vec<Member> =
        (0..CLIENTS).map(|n| store(if n % 2 == 0 { patient } else { hasty }).into()).collect();
    members[0].store.ensure_schema().await.unwrap();
    let (mut acknowledged, mut down) = (Acknowledged::default(), Duration::ZERO);
    for round in 0..rounds {
        let what = format!("round {round}");
        let crowd = Crowd::new(what.replace(' ', "-"), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        let (answers, spins) = (random.u64(5..150), random.u32(..20_000));
        down += tokio::task::block_in_place(|| kill_after(&server, &crowd, answers, spins));
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        for (slot, calls) in crowd.ledger.all() {
            let last = Client { number: CLIENTS, store: &members[0].store, tries: Tries::None };
            let found = crowd.ledger.call(last, &slot, &Operation::Lookup).await.unwrap();
            acknowledged.count(&what, &slot, &calls, &found);
        }
        crowd.ledger.settle(&what, Tolerance::COARSE);
    }
    println!("{rounds} kills, {acknowledged}; down for {:?} each", down / u32::try_from(rounds).unwrap());
}

/// Kills the server once so many answers have come, starts it again, and returns when the clients have gone on for a
/// while; how long it was down.
fn kill_after(server: &Server, crowd: &Crowd, answers: u64, spins: u32) -> Duration {
    let wait = |answers| {
        wait_until("answers to the crowd", Duration::from_secs(60), || match crowd.answers() {
            n if n >= answers => Ok(()),
            n => Err(format!("{n} of {answers}")),
        })
        .unwrap();
    };
    wait(answers);
    // A random moment between two answers as well.
    (0..spins).for_each(|_| std::hint::spin_loop());
    crowd.ledger.trouble();
    server.kill().unwrap();
    crowd.ledger.trouble();
    let begun = Instant::now();
    server.start_again().unwrap();
    let down = begun.elapsed();
    wait(crowd.answers() + AFTERWARDS);
    down
}
