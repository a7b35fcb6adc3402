//! kill -9 of a process of clients, at any instant: what it was told is there, others take over what it held, and all
//! of it makes one history.
//!
//! `cargo xtask torture postgres-client --rounds 500` is the long proof.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use fastrand::Rng;
use oncekey_conformance::history::Tolerance;
use oncekey_postgres::state::{Answer, Operation};
use oncekey_postgres::{
    ClockOffset, CompleteOutcome, IdempotencyStore, PostgresStore, ReservationOutcome, Slot, Token,
};

use crate::bench::server;
use oncekey_storm::crowd::{Acknowledged, Crowd};
use oncekey_storm::deed::{LEASE, complete, granted, reserve};
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::rounds::{random, rounds};

const NAME: &str = "killed_client::what_a_client_was_told_before_it_was_killed_is_there";
const CHILD: &str = "ONCEKEY_CHILD";
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_was_told_before_it_was_killed_is_there() {
    if let Ok(argument) = std::env::var(CHILD) {
        return work(&argument).await;
    }
    let (mut random, rounds) = (random(), rounds(6));
    let url = server().url("postgres");
    let builder = PostgresStore::builder().schema("killed_client").connections(1);
    builder.clone().connect_lazy(&url).unwrap().ensure_schema().await.unwrap();
    let (mut acknowledged, mut taken_over) = (Acknowledged::default(), 0);
    for round in 0..rounds {
        let what = format!("round {round}");
        // Its time moves on once the killed ones are gone.
        let offset = ClockOffset::shiftable();
        let store = builder.clone().clock_offset(offset.clone()).connect_lazy(&url).unwrap();
        let ledger = Ledger::moving(move |by| offset.advance(by));
        let argument = format!("{round} {} {} {url}", random.u64(..), ledger.begun());
        let lines = tokio::task::block_in_place(|| kill_after(&argument, &mut random));
        ledger.read(lines.iter().map(String::as_str));
        for (slot, calls) in ledger.all() {
            taken_over += usize::from(succeed(&ledger, &store, &slot).await);
            let last = Client { number: CLIENTS, store: &store, tries: Tries::None };
            let found = ledger.call(last, &slot, &Operation::Lookup).await.unwrap();
            acknowledged.count(&what, &slot, &calls, &found);
        }
        ledger.settle(&what, Tolerance::COARSE);
    }
    println!("{rounds} kills, {acknowledged}; {taken_over} slots taken over");
}

/// Comes after the killed ones on a slot: replays what they completed, else takes over and completes; whether it took
/// over.
async fn succeed(ledger: &Ledger, store: &PostgresStore, slot: &Slot) -> bool {
    let client = Client { number: CLIENTS, store, tries: Tries::None };
    let token = Token::fresh();
    let mut first = ledger.call(client, slot, &reserve(token)).await.unwrap();
    let in_flight = matches!(first, Answer::Reserve(Ok(ReservationOutcome::InFlight(_))));
    if in_flight {
        ledger.advance(3 * LEASE);
        first = ledger.call(client, slot, &reserve(token)).await.unwrap();
    }
    if matches!(first, Answer::Reserve(Ok(ReservationOutcome::Replay(_)))) {
        return false;
    }
    let grant = granted(&first);
    let done = ledger.call(client, slot, &complete(&grant)).await.unwrap();
    assert_eq!(done, Answer::Complete(CompleteOutcome::Stored), "{}", slot.key());
    grant.attempt > 1
}

/// What a child said that was killed after so many lines, up to its last word.
fn kill_after(argument: &str, random: &mut Rng) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([NAME, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, argument);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines: Vec<String> = output.by_ref().take(random.usize(10..250)).collect();
    // A random moment between two lines as well.
    (0..random.u32(..20_000)).for_each(|_| std::hint::spin_loop());
    child.kill().unwrap();
    child.wait().unwrap();
    // What it was told before it died, and was still in the pipe.
    lines.extend(output);
    lines
}

/// The child: works until it is killed.
async fn work(argument: &str) {
    let mut words = argument.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let (round, seed, begun, url) = (word(), word(), word(), word());
    let mut random = Rng::with_seed(seed.parse().unwrap());
    let builder = PostgresStore::builder().schema("killed_client").connections(1);
    let members: Vec<_> = (0..CLIENTS).map(|_| builder.clone().connect_lazy(url).unwrap().into()).collect();
    let crowd = Crowd::new(round.to_owned(), LEASE, Ledger::telling(begun.parse().unwrap()));
    crowd.start(&members, &mut random).join_all().await;
}
