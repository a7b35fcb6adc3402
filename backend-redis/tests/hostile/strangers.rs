//! A cluster's address at which somebody else is, and servers that have no part of it.

use std::time::Duration;

use oncekey_redis::{
    Effect, ErrorKind, IdempotencyAdmin, IdempotencyStore, RedisStore, ReservationOutcome, Slot, Token,
};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::kit::{BRIEF, fails, request, reserve, slot};

fn has(server: &Server, slot: &Slot) -> bool {
    server.cli(["exists", &format!("oncekey:{}", slot.digest())]).is_ok()
}

/// Of this master.
fn slots(master: &Server) -> impl Iterator<Item = Slot> {
    (0..).map(|n| slot(&format!("k{n}"))).filter(move |slot| has(master, slot))
}

fn asked_who_has_what(server: &Server) -> u64 {
    let stats = server.cli(["info", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls="));
    line.and_then(|line| line.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

/// `stranger` starts whoever is at that port afterwards.
async fn of_a_stranger_at_a_masters_address<S>(stranger: impl FnOnce(u16) -> S) {
    let cluster = Cluster::start().unwrap();
    let masters = cluster.masters();
    let (failed, well) = (masters[0], masters[1]);
    let [there, elsewhere] = [failed, well].map(|master| slots(master).next().unwrap());
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(20));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let granted = store.reserve_or_fetch(&elsewhere, Token::fresh(), &request()).await.unwrap();
    assert!(matches!(granted, ReservationOutcome::Reserved(_)), "{granted:?}");
    let port = failed.tcp_address().unwrap().port();
    failed.kill().unwrap();
    // It is heard of before another is the master.
    timeout(Duration::from_millis(300), store.lookup(&there)).await.unwrap_err();
    let replaced = || match cluster.masters().len() {
        3 => Ok(()),
        few => Err(format!("{few} masters")),
    };
    wait_until("another master", Duration::from_secs(60), replaced).unwrap();
    cluster.agrees().unwrap();
    let _stranger = stranger(port);
    let reserved = store.reserve_or_fetch(&there, Token::fresh(), &request()).await.unwrap();
    assert!(matches!(reserved, ReservationOutcome::Reserved(_)), "{reserved:?}");
    // By whoever comes next, and of what others have.
    let another = RedisStore::connect(&cluster.url()).await.unwrap();
    for store in [store, another] {
        for slot in [&there, &elsewhere] {
            assert!(store.lookup(slot).await.unwrap().is_some());
        }
    }
}

fn at(port: u16) -> Server {
    Server::builder().setting("port", &port.to_string()).start().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_of_a_stranger_at_a_masters_address() {
    of_a_stranger_at_a_masters_address(at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_a_masters_address_that_refuses_keeps_nobody_from_the_new_master() {
    let refuses = |port| {
        let server = at(port);
        server.cli(["config", "set", "requirepass", "secret"]).unwrap();
        server
    };
    of_a_stranger_at_a_masters_address(refuses).await;
}

/// It is well, and of a later epoch than ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_server_at_a_masters_address_is_not_believed() {
    let of_another = |port| {
        let cluster = Cluster::alone_at(port).unwrap();
        cluster.servers()[0].cli(["cluster", "set-config-epoch", "100"]).unwrap();
        cluster
    };
    of_a_stranger_at_a_masters_address(of_another).await;
}

#[tokio::test]
async fn a_server_alone_is_no_cluster() {
    let server = Server::builder().tcp().start().unwrap();
    let url = format!("redis+cluster://{}", server.tcp_address().unwrap());
    for builder in [RedisStore::builder(), RedisStore::builder().accept_eviction()] {
        let refused = builder.call_deadline(BRIEF).connect(&url).await;
        fails("connect", refused, ErrorKind::Unavailable, &["in no cluster", "redis://"]);
    }
}

/// It says of itself that there are no slots.
#[tokio::test]
async fn one_that_is_in_no_cluster_is_not_believed() {
    let (cluster, nobody) = (Cluster::alone().unwrap(), Cluster::nobody().unwrap());
    let keys = 20;
    let store = RedisStore::connect(&cluster.url()).await.unwrap();
    for n in 0..keys {
        reserve(&store, &n.to_string()).await;
    }
    let nobody = nobody.tcp_address().unwrap();
    let (its, with) = (format!("redis+cluster://{nobody}"), format!("{},{nobody}", cluster.url()));
    for _ in 0..20 {
        let store = RedisStore::connect(&with).await.unwrap();
        assert_eq!(store.stats().await.unwrap().live, keys);
    }
    let alone = RedisStore::builder().call_deadline(BRIEF).connect_lazy(&its).unwrap();
    fails("stats", alone.stats().await, ErrorKind::Unavailable, &["in no cluster"]);
    fails("lookup", alone.lookup(&slot("a")).await, ErrorKind::Unavailable, &["in no cluster"]);
}

/// However many wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_waits_for_a_master_asks_the_others_no_oftener_than_one_does() {
    const CROWD: usize = 300;
    let cluster = Cluster::start().unwrap();
    for server in cluster.servers() {
        server.cli(["config", "set", "cluster-node-timeout", "600000"]).unwrap();
    }
    let masters = cluster.masters();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(3));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let crowd: Vec<Slot> = slots(masters[0]).take(CROWD).collect();
    let before = asked_who_has_what(masters[1]);
    masters[0].kill().unwrap();
    let calls: JoinSet<_> = crowd
        .into_iter()
        .map(|slot| {
            let store = store.clone();
            async move { store.lookup(&slot).await.unwrap_err() }
        })
        .collect();
    for error in calls.join_all().await {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    }
    let asked = asked_who_has_what(masters[1]) - before;
    assert!(asked < 30, "{asked} times in 3 seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_who_takes_a_slot_over_is_told() {
    let cluster = Cluster::start().unwrap();
    for server in cluster.servers() {
        server.cli(["config", "set", "cluster-node-timeout", "600000"]).unwrap();
    }
    let masters = cluster.masters();
    let (from, to) = (masters[0], masters[1]);
    let slot = slots(from).next().unwrap();
    let number = from.cli(["cluster", "keyslot", &format!("oncekey:{}", slot.digest())]).unwrap();
    let [source, target] = [from, to].map(|server| server.cli(["cluster", "myid"]).unwrap());
    to.cli(["cluster", "setslot", &number, "importing", &source]).unwrap();
    from.cli(["cluster", "setslot", &number, "migrating", &target]).unwrap();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(3));
    let store = builder.clone().connect(&cluster.url()).await.unwrap();
    // No script was run there before, and it comes with ASKING all the same.
    assert!(store.lookup(&slot).await.unwrap().is_none());
    to.cli("acl setuser default -asking".split(' ')).unwrap();
    fails("lookup", store.lookup(&slot).await, ErrorKind::Other, &["NOPERM", "asking"]);
    to.cli("acl setuser default +asking".split(' ')).unwrap();
    to.stop();
    let store = builder.connect(&cluster.url()).await.unwrap();
    fails("lookup", store.lookup(&slot).await, ErrorKind::Unavailable, &["can't be reached"]);
    to.cont();
}

/// What was begun on it is begun again elsewhere, in the end.
#[test]
fn a_runtime_that_is_kept_and_not_driven_keeps_no_other_from_a_connection_for_ever() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [idle, driven] = [runtime(), runtime()];
    let (cluster, server) = (Cluster::alone().unwrap(), Server::start().unwrap());
    for url in [cluster.url(), server.url(0)] {
        let builder = RedisStore::builder().call_deadline(Duration::from_secs(60));
        let store = builder.connect_lazy(&url).unwrap();
        idle.block_on(async { timeout(Duration::ZERO, store.lookup(&slot("a"))).await }).unwrap_err();
        assert!(driven.block_on(store.lookup(&slot("a"))).unwrap().is_none());
    }
}

/// A thread goes on after its runtime.
#[test]
fn a_runtime_that_was_shut_down_ends_a_call_and_not_never() {
    let (cluster, server) = (Cluster::alone().unwrap(), Server::start().unwrap());
    for url in [cluster.url(), server.url(0)] {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let store = RedisStore::builder().connect_lazy(&url).unwrap();
        runtime.shutdown_background();
        let asked = std::thread::spawn(move || handle.block_on(store.lookup(&slot("a"))));
        // It is an error, or tokio's own panic where a timer is needed.
        assert!(!matches!(asked.join(), Ok(Ok(_))));
    }
}
