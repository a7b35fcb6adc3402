//! kill -9 of the server, at any instant of a load, with `appendfsync always`: what it acknowledged is there when it
//! has started again, and all that was heard before and after makes one history.
//!
//! `cargo xtask torture redis-server --rounds 500` is the long proof.

use std::time::{Duration, Instant};

use oncekey_redis::RedisStore;
use oncekey_storm::crowd::{Acknowledged, Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::Ledger;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Server;

use crate::bench::{answers, nothing_is_lost};

const CLIENTS: usize = 6;
/// Answers of a round after its kill.
const AFTERWARDS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_server_acknowledged_is_there_after_it_was_killed() {
    let (mut random, rounds, server) = (random(), rounds(3), Server::start().unwrap());
    // Half of them wait for the server to come back, inside their call; the others make it again.
    let store =
        |deadline| RedisStore::builder().call_deadline(deadline).connect_lazy(&server.url(0)).unwrap();
    let (patient, hasty) = (Duration::from_secs(60), Duration::from_millis(150));
    let members: Vec<Member> =
        (0..CLIENTS).map(|n| store(if n % 2 == 0 { patient } else { hasty }).into()).collect();
    let last = store(patient);
    let (mut acknowledged, mut down) = (Acknowledged::default(), Duration::ZERO);
    for round in 0..rounds {
        let what = format!("round {round}");
        let crowd = Crowd::new(what.replace(' ', "-"), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        let (before, spins) = (random.u64(5..150), random.u32(..20_000));
        down += tokio::task::block_in_place(|| {
            answers(&crowd, before);
            // A random moment between two answers as well.
            (0..spins).for_each(|_| std::hint::spin_loop());
            server.kill().unwrap();
            // Whatever was under way then may have been applied, and is not answered before the server is back.
            crowd.ledger.trouble();
            let begun = Instant::now();
            server.start_again().unwrap();
            let down = begun.elapsed();
            answers(&crowd, AFTERWARDS);
            down
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        nothing_is_lost(&what, &crowd, &last, &mut acknowledged).await;
    }
    println!("{rounds} kills, {acknowledged}; down for {:?} each", down / u32::try_from(rounds).unwrap());
}
