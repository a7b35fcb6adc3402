//! A cluster, under load: slots move between masters, and a master fails over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncekey_conformance::history::Call;
use oncekey_redis::state::{Answer, Operation};
use oncekey_redis::{CompleteOutcome, IdempotencyStore, Principal, RedisStore, Slot, Token};
use oncekey_storm::crowd::{Acknowledged, Crowd, Member};
use oncekey_storm::deed::{LEASE, complete_with, granted, renew_for, reserve_for};
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::loss::Lost;
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;
use tokio::task::JoinSet;

use crate::bench::{answers, nothing_is_lost, until_promoted};

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
        });
        for number in 5 * round..5 * round + 5 {
            calls_what_is_half_way(&cluster, &crowd, &store(), number).await;
        }
        tokio::task::block_in_place(|| {
            cluster.agrees().unwrap();
            answers(&crowd, 50);
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        nothing_is_lost("moves", &crowd, &store(), &mut acknowledged).await;
    }
    let [asked, moved] = ["ASK", "MOVED"].map(|word| sent_on(&cluster, word));
    assert!(moved > 0, "no call met a slot that had moved");
    println!("3 000 slots moved a round: {acknowledged}; {asked} calls sent on by ASK, {moved} by MOVED");
}

/// Nobody waits for whoever is sent on, nor for it to be known who has what.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_of_which_some_are_sent_on_is_answered_by_the_connections_that_there_are() {
    let cluster = Cluster::start().unwrap();
    let masters = cluster.masters();
    let url = masters.iter().map(|master| master.tcp_address().unwrap().to_string()).collect::<Vec<_>>();
    let url = format!("redis+cluster://{}", url.join(","));
    let principal = Principal::new("moved").unwrap();
    let crowd: Vec<Slot> = (0..1_200).map(|n| principal.slot(n.to_string()).unwrap()).collect();
    for round in 0..3 {
        let connections = Arc::new(AtomicU64::new(0));
        let builder = RedisStore::builder().counting_connections(Arc::clone(&connections));
        let store = builder.connect(&url).await.unwrap();
        let ask_all = async || {
            let ask = |slot: &Slot| {
                let (store, slot) = (store.clone(), slot.clone());
                async move { store.lookup(&slot).await }
            };
            let calls: JoinSet<_> = crowd.iter().map(ask).collect();
            for said in calls.join_all().await {
                assert!(said.unwrap().is_none());
            }
        };
        ask_all().await;
        let moved = sent_on(&cluster, "MOVED");
        let [from, to] = [round, round + 1].map(|n| masters[n % masters.len()]);
        tokio::task::block_in_place(|| cluster.move_slots(200, from, to).unwrap());
        ask_all().await;
        assert_eq!(connections.load(Ordering::SeqCst), 3, "one to each, and none was given up");
        assert!(sent_on(&cluster, "MOVED") > moved, "nobody was sent on");
    }
}

/// How often the servers sent a call on, by this word.
fn sent_on(cluster: &Cluster, word: &str) -> u64 {
    let begin = format!("errorstat_{word}:count=");
    let of = |server: &Server| -> u64 {
        let stats = server.cli(["info", "errorstats"]).unwrap();
        let count = stats.lines().find_map(|line| line.strip_prefix(&begin));
        count.map_or(0, |count| count.trim().parse().unwrap())
    };
    cluster.servers().iter().map(of).sum()
}

/// Calls for a key whose slot is half-way, and which is where that goes: who has the slot sends them on.
async fn calls_what_is_half_way(cluster: &Cluster, crowd: &Crowd, store: &RedisStore, number: u64) {
    let slot = Principal::new("crowd").unwrap().slot(format!("half-way-{number}")).unwrap();
    let client = Client { number: 98, store, tries: Tries::InTrouble };
    let told = crowd.ledger.call(client, &slot, &reserve_for(LEASE, Token::fresh())).await.unwrap();
    let held = granted(&told);
    let masters = cluster.masters();
    let key = key(&slot);
    let [from, to] = {
        let has = |server: &&&Server| server.cli(["--scan"]).unwrap().contains(&key);
        let from = *masters.iter().find(has).unwrap();
        [from, *masters.iter().find(|master| master.pid() != from.pid()).unwrap()]
    };
    let number = from.cli(["cluster", "keyslot", &key]).unwrap();
    let [source, target] = [from, to].map(|server| server.cli(["cluster", "myid"]).unwrap());
    to.cli(["cluster", "setslot", &number, "importing", &source]).unwrap();
    from.cli(["cluster", "setslot", &number, "migrating", &target]).unwrap();
    let port = to.tcp_address().unwrap().port().to_string();
    // Its own, and whatever else is in the slot.
    for key in from.cli(["cluster", "getkeysinslot", &number, "1000"]).unwrap().lines() {
        from.cli(["migrate", "127.0.0.1", &port, key, "0", "10000"]).unwrap();
    }
    let asked = sent_on(cluster, "ASK");
    for operation in [renew_for(LEASE, &held, 1), complete_with(&held, "done"), Operation::Lookup] {
        crowd.ledger.call(client, &slot, &operation).await.unwrap();
    }
    assert!(sent_on(cluster, "ASK") >= asked + 3);
    for server in [to, from] {
        server.cli(["cluster", "setslot", &number, "node", &target]).unwrap();
    }
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
            answers(&crowd, 2_000);
            let failed = cluster.masters()[0];
            let slots = failed.cli(["cluster", "slots"]).unwrap();
            let (port, slots) = (failed.tcp_address().unwrap().port().to_string(), ranges(&slots));
            let replica = follows(&cluster, failed);
            if round % 2 == 1 {
                failed.forget_replicas().unwrap();
                until_nobody_else_has_it(&crowd, failed);
            }
            failed.kill().unwrap();
            // Whatever was under way there may have been applied, and is not answered before another is the master.
            crowd.ledger.trouble();
            let moment = until_promoted(&crowd, replica);
            cluster.agrees().unwrap();
            answers(&crowd, 2_000);
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
    assert!(as_it_comes.kept() > 0 && cut_off.kept() > 0, "all was lost");
    assert!(!cut_off.slots().is_empty(), "nothing was lost, so nothing was shown");
}

/// The replica of a master.
fn follows<'a>(cluster: &'a Cluster, master: &Server) -> &'a Server {
    let id = master.cli(["cluster", "myid"]).unwrap();
    let own = |server: &&Server| {
        let nodes = server.cli(["cluster", "nodes"]).unwrap();
        nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id))
    };
    cluster.servers().iter().find(own).unwrap()
}

/// Returns when something was completed that a master has, whose replicas were sent away, and which is younger than that.
fn until_nobody_else_has_it(crowd: &Crowd, master: &Server) {
    let cut = crowd.ledger.before();
    let stored = |calls: &[Call]| {
        let is_stored = Answer::Complete(CompleteOutcome::Stored);
        calls.iter().any(|call| call.answered.as_ref().is_some_and(|(_, answer)| *answer == is_stored))
    };
    wait_until("a completion there", Duration::from_secs(120), || {
        let young = |calls: &[Call]| calls.iter().all(|call| call.called.order > cut.order);
        let mut all = crowd.ledger.all().into_iter().filter(|(_, calls)| young(calls) && stored(calls));
        let its = |slot: &Slot| master.cli(["exists", &key(slot)]).is_ok_and(|there| there == "1");
        if all.any(|(slot, _)| its(&slot)) { Ok(()) } else { Err("none".to_owned()) }
    })
    .unwrap();
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
