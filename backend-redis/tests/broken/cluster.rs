//! A cluster, under load: slots move between masters, and a master fails over.

use std::sync::Arc;

use oncekey_redis::state::Operation;
use oncekey_redis::{RedisStore, Slot};
use oncekey_storm::crowd::{Acknowledged, Crowd, Member};
use oncekey_storm::deed::LEASE;
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::loss::Lost;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Cluster;

use crate::bench::{answers, nothing_is_lost};

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_slots_move_no_answer_is_wrong_and_nothing_is_lost() {
    let (mut random, cluster) = (random(), Cluster::start().unwrap());
    let store = || RedisStore::builder().connect_lazy(&cluster.url()).unwrap();
    let members: Vec<Member> = (0..CLIENTS).map(|_| store().into()).collect();
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds(2) {
        let crowd = Crowd::new(format!("moves-{round}"), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        tokio::task::block_in_place(|| {
            answers(&crowd, 50);
            let masters = cluster.masters();
            let [from, to] = [masters[0], masters[1]];
            // There and back again, with whatever keys are in them.
            for (from, to) in [(from, to), (to, from)] {
                // A call that is sent on to where its slot is now was not applied before.
                cluster.move_slots(1_500, from, to).unwrap();
            }
            cluster.agrees().unwrap();
            answers(&crowd, 50);
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        nothing_is_lost("moves", &crowd, &store(), &mut acknowledged).await;
    }
    println!("6 000 slots moved a round: {acknowledged}");
}

fn key(slot: &Slot) -> String {
    format!("oncekey:{}", slot.digest())
}

/// Replication is asynchronous, and docs/guarantees.md says so: what was acknowledged may be gone, on the master that
/// failed and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_failover_loses_is_what_its_master_had_and_nothing_else_is_wrong() {
    let mut random = random();
    let (mut as_it_comes, mut cut_off) = (Lost::default(), Lost::default());
    for round in 0..2 * rounds(1) {
        let cluster = Arc::new(Cluster::start().unwrap());
        let store = || RedisStore::builder().connect_lazy(&cluster.url()).unwrap();
        let members: Vec<Member> = (0..CLIENTS).map(|_| store().into()).collect();
        let crowd = Crowd::new("failover".to_owned(), LEASE, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        let (moment, slots_of_the_failed) = tokio::task::block_in_place(|| {
            answers(&crowd, 300);
            let failed = cluster.masters()[0];
            let slots = failed.cli(["cluster", "slots"]).unwrap();
            let (port, slots) = (failed.tcp_address().unwrap().port().to_string(), ranges(&slots));
            if round % 2 == 1 {
                failed.forget_replicas().unwrap();
                answers(&crowd, 100);
            }
            failed.kill().unwrap();
            // Whatever was under way there may have been applied, and is not answered before another is the master.
            let moment = crowd.ledger.before();
            crowd.ledger.trouble();
            cluster.agrees().unwrap();
            answers(&crowd, 300);
            (moment, slots.into_iter().filter(|(_, _, master)| *master == port).collect::<Vec<_>>())
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        look_at_all(&crowd, &store()).await;
        let mut lost = Lost::default();
        lost.settle("failover", &crowd.ledger, moment);
        let alive = cluster.masters()[0];
        for slot in lost.slots() {
            let key = key(slot);
            let slot: u32 = alive.cli(["cluster", "keyslot", &key]).unwrap().parse().unwrap();
            let its = slots_of_the_failed.iter().any(|(first, last, _)| (*first..=*last).contains(&slot));
            assert!(its, "{key} was on a master that didn't fail");
        }
        if round % 2 == 1 { &mut cut_off } else { &mut as_it_comes }.add(lost);
    }
    println!("failovers: {as_it_comes}\nof a master that was cut off from its replica: {cut_off}");
    assert!(!cut_off.slots().is_empty(), "nothing was lost, so nothing was shown");
}

/// What became of each slot in the end.
pub async fn look_at_all(crowd: &Crowd, store: &RedisStore) {
    for (slot, _) in crowd.ledger.all() {
        let last = Client { number: 99, store, tries: Tries::None };
        crowd.ledger.call(last, &slot, &Operation::Lookup).await.unwrap();
    }
}

/// First and last slot, and the port of their master, of what CLUSTER SLOTS prints line by line.
fn ranges(said: &str) -> Vec<(u32, u32, String)> {
    let lines: Vec<_> = said.lines().collect();
    let number = |n: usize| lines.get(n).and_then(|line| line.parse::<u32>().ok());
    let begins = (0..lines.len()).filter(|n| lines.get(n + 2) == Some(&"127.0.0.1") && number(*n).is_some());
    begins
        .filter_map(|n| Some((number(n)?, number(n + 1)?, (*lines.get(n + 3)?).to_owned())))
        .filter(|(first, last, _)| first <= last && *last < 16_384)
        .collect()
}
