//! What reads every key: a scan, the counts, a collection.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oncekey_redis::{
    ClockOffset, ErrorKind, IdempotencyAdmin, IdempotencyStore, RedisStore, ScanRequest, Stats,
};
use oncekey_testbed::proxy::Direction::ToClient;
use oncekey_testbed::proxy::Proxy;
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;
use tokio::time::timeout;

use crate::kit::{fails, reserve, slot};

/// Some pages of what SCAN shows at a time.
const KEYS: u32 = 6_000;

/// A server that flushes nothing, but keeps its keys through an orderly restart.
fn server() -> Server {
    Server::builder().setting("appendfsync", "no").start().unwrap()
}

/// Puts the record that the store has there once into so many keys more.
async fn copies(server: &Server, store: &RedisStore, more: u32) {
    reserve(store, "one").await;
    copy(server, &server.cli(["--scan"]).unwrap(), more);
}

/// Puts what is in a key into so many more; one of a cluster's servers into those that are its own.
fn copy(server: &Server, key: &str, more: u32) {
    let copy = "local value = redis.call('GET', KEYS[1]) \
        for n = 1, ARGV[1] do \
            local digest = string.format('%016x', n) .. string.rep('0', 48) \
            redis.pcall('SET', KEYS[1]:sub(1, -65) .. digest, value) \
        end";
    server.cli(["eval", copy, "1", key, &more.to_string()]).unwrap();
}

fn live(stats: &Stats) -> u64 {
    stats.live
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_begins_anew_between_two_pages_has_all_of_its_keys_read() {
    let server = server();
    let proxy = Proxy::before(server.socket()).unwrap();
    let url = server.url_by(proxy.address(), 0);
    let store = RedisStore::builder().call_deadline(Duration::from_secs(60)).connect(&url).await.unwrap();
    copies(&server, &store, KEYS - 1).await;
    let before = proxy.seen(ToClient);
    assert_eq!(live(&store.stats().await.unwrap()), u64::from(KEYS));
    let half = (proxy.seen(ToClient) - before) / 2;
    for scanned in [false, true] {
        let from = proxy.seen(ToClient);
        proxy.hold_after(ToClient, half);
        let another = store.clone();
        let walk = tokio::spawn(async move {
            if scanned {
                let all = ScanRequest::first(NonZeroU32::new(2 * KEYS).unwrap());
                u64::try_from(another.scan(&all).await.unwrap().summaries.len()).unwrap()
            } else {
                live(&another.stats().await.unwrap())
            }
        });
        tokio::task::block_in_place(|| {
            proxy.wait_seen(ToClient, from + half).unwrap();
            // It draws another seed for its table, and what it says of the old one's cursors is nonsense.
            server.restart().unwrap();
            proxy.reset();
            proxy.pass().unwrap();
        });
        assert_eq!(walk.await.unwrap(), u64::from(KEYS), "scanned: {scanned}");
    }
}

/// The deadline is for what is sent, and not for all that there is.
#[tokio::test]
async fn as_many_keys_as_there_are_may_take_longer_than_a_calls_deadline() {
    const MANY: u32 = 60_000;
    let (server, offset) = (server(), ClockOffset::shiftable());
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(1)).clock_offset(offset.clone());
    let store = builder.connect(&server.url(0)).await.unwrap();
    copies(&server, &store, MANY - 1).await;
    assert_eq!(live(&store.stats().await.unwrap()), u64::from(MANY));
    let page = store.scan(&ScanRequest::first(NonZeroU32::new(7).unwrap())).await.unwrap();
    assert_eq!((page.summaries.len(), page.next.is_some()), (7, true));
    // Of a limit no more is deleted, however many are asked at a time.
    offset.advance(Duration::from_secs(7_000));
    assert_eq!(store.garbage_collect(NonZeroU32::new(150).unwrap()).await.unwrap(), 150);
    assert_eq!(server.cli(["dbsize"]).unwrap(), (MANY - 150).to_string());
    assert_eq!(store.garbage_collect(NonZeroU32::MAX).await.unwrap(), u64::from(MANY - 150));
    assert_eq!(server.cli(["dbsize"]).unwrap(), "0");
}

const MOVING: &[&str] = &["slots are being moved", "CLUSTER NODES"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_slots_move_in_a_cluster_every_key_is_read_or_it_is_said_that_one_may_be_missed() {
    let cluster = Cluster::start().unwrap();
    let store = RedisStore::connect(&cluster.url()).await.unwrap();
    let keys = 300;
    for n in 0..keys {
        reserve(&store, &n.to_string()).await;
    }
    let (all, done) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let until = Arc::clone(&done);
    let walks = tokio::spawn(async move {
        let (mut read, mut told) = (0, 0);
        while !until.load(Ordering::SeqCst) {
            match all.stats().await {
                Ok(stats) => {
                    assert_eq!(live(&stats), keys);
                    read += 1;
                }
                moving => {
                    fails("stats", moving, ErrorKind::Unavailable, MOVING);
                    told += 1;
                }
            }
        }
        println!("{read} walks, {told} that may have missed a key");
    });
    tokio::task::block_in_place(|| {
        let masters = cluster.masters();
        // To one that is read before, and back to one that is read after.
        for (from, to) in [(2, 0), (0, 1), (1, 2)] {
            cluster.move_slots(1_000, masters[from], masters[to]).unwrap();
        }
        cluster.agrees().unwrap();
    });
    done.store(true, Ordering::SeqCst);
    walks.await.unwrap();
    assert_eq!(live(&store.stats().await.unwrap()), keys);
}

/// By which a walk knows of a slot that came back before it looked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_goes_and_comes_back_raises_an_epoch() {
    let cluster = Cluster::start().unwrap();
    let epochs = || -> Vec<u64> {
        let nodes = cluster.masters()[0].cli(["cluster", "nodes"]).unwrap();
        let mut each: Vec<_> = nodes.lines().map(|line| line.split(' ').collect::<Vec<_>>()).collect();
        each.sort_unstable();
        each.iter().map(|words| words[6].parse().unwrap()).collect()
    };
    let mut before = epochs();
    let masters = cluster.masters();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        for (from, to) in [(from, to), (to, from)] {
            cluster.move_slots(1, masters[from], masters[to]).unwrap();
        }
        cluster.agrees().unwrap();
        let after = epochs();
        assert_ne!(after, before);
        before = after;
    }
}

/// Only its servers' word changes, and that without a pause: no slot that has a key moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_ends_though_slots_move_for_ever() {
    let cluster = Cluster::start().unwrap();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(1));
    let store = builder.connect(&cluster.url()).await.unwrap();
    // Many more commands than a slot takes to change hands.
    let keys = 300;
    for n in 0..keys {
        reserve(&store, &n.to_string()).await;
    }
    let masters = cluster.masters();
    let [own, other] = [0, 1].map(|n| masters[n].cli(["cluster", "myid"]).unwrap());
    let nodes = masters[0].cli(["cluster", "nodes"]).unwrap();
    let line = nodes.lines().find(|line| line.contains("myself")).unwrap();
    let (first, last) = line.split(' ').nth(8).unwrap().split_once('-').unwrap();
    let mut its = first.parse::<u32>().unwrap()..=last.parse().unwrap();

    let client = redis::Client::open(format!("redis://{}", masters[0].tcp_address().unwrap())).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let give = async |number: u32, to: &str| {
        let mut give = redis::cmd("CLUSTER");
        give.arg("SETSLOT").arg(number).arg("NODE").arg(to);
        give.exec_async(&mut connection.clone()).await
    };
    let mut given = Vec::new();
    loop {
        let mut walk = std::pin::pin!(timeout(Duration::from_secs(60), store.stats()));
        let walked = loop {
            let number = its.next().expect("a walk is disturbed before all are given away");
            given.push(number);
            tokio::select! {
                walked = &mut walk => break walked.unwrap(),
                // It keeps those that have a key.
                _ = give(number, &other) => {}
            }
        };
        // One that found a moment in which nothing changed has read all.
        match walked {
            Ok(stats) => assert_eq!(live(&stats), keys),
            moving => {
                fails("stats", moving, ErrorKind::Unavailable, MOVING);
                break;
            }
        }
    }
    for number in given {
        give(number, &own).await.unwrap();
    }
    cluster.agrees().unwrap();
    assert_eq!(live(&store.stats().await.unwrap()), keys);
}

#[tokio::test]
async fn a_slot_that_is_left_half_way_is_told_of() {
    let cluster = Cluster::start().unwrap();
    let store = RedisStore::connect(&cluster.url()).await.unwrap();
    reserve(&store, "a").await;
    let key = format!("oncekey:{}", slot("a").digest());
    let masters = cluster.masters();
    let number = masters[0].cli(["cluster", "keyslot", &key]).unwrap();
    let from = masters.iter().position(|m| m.cli(["--scan"]).unwrap().contains(&key)).unwrap();
    let (from, to) = (masters[from], masters[(from + 1) % masters.len()]);
    let [source, target] = [from, to].map(|server| server.cli(["cluster", "myid"]).unwrap());
    to.cli(["cluster", "setslot", &number, "importing", &source]).unwrap();
    from.cli(["cluster", "setslot", &number, "migrating", &target]).unwrap();
    fails("stats", store.stats().await, ErrorKind::Unavailable, MOVING);
    let said = store.scan(&ScanRequest::first(NonZeroU32::MIN)).await;
    fails("scan", said, ErrorKind::Unavailable, MOVING);
    for server in [from, to] {
        server.cli(["cluster", "setslot", &number, "stable"]).unwrap();
    }
    assert_eq!(live(&store.stats().await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_fails_while_another_is_read_is_read_where_its_slots_are_then() {
    let cluster = Cluster::start().unwrap();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(60));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let masters = cluster.masters();
    let sizes = |servers: &[Server]| -> u32 {
        servers.iter().map(|server| server.cli(["dbsize"]).unwrap().parse::<u32>().unwrap()).sum()
    };
    // Any record will do: each master has some, and takes those copies whose keys are its own.
    for n in 0..300 {
        reserve(&store, &n.to_string()).await;
    }
    for master in &masters {
        let key = master.cli(["--scan"]).unwrap().lines().next().unwrap().to_owned();
        copy(master, &key, KEYS * 5);
    }
    let all = 300 + KEYS * 5;
    // Asynchronous replication loses nothing that it had time for.
    wait_until("the replicas to have all", Duration::from_secs(60), || match sizes(cluster.servers()) {
        size if size == 2 * all => Ok(()),
        size => Err(format!("{size} of {}", 2 * all)),
    })
    .unwrap();
    masters.iter().for_each(|master| drop(master.cli(["config", "resetstat"]).unwrap()));
    let walk = tokio::spawn(async move { live(&store.stats().await.unwrap()) });
    tokio::task::block_in_place(|| {
        let is_read =
            |server: &&&Server| server.cli(["info", "commandstats"]).unwrap().contains("cmdstat_scan:");
        let read = wait_until("a master to be read", Duration::from_secs(60), || {
            masters.iter().find(is_read).ok_or_else(|| "none is".to_owned())
        })
        .unwrap();
        masters.iter().find(|master| master.pid() != read.pid()).unwrap().kill().unwrap();
    });
    assert_eq!(walk.await.unwrap(), u64::from(all));
}
