//! A cluster of which one master hangs, or is gone: what the others have is answered as if nothing were.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use oncekey_redis::{
    Effect, Entry, ErrorKind, Fingerprint, IdempotencyStore, Policy, Principal, RedisStore,
    ReservationOutcome, ReserveRequest, Slot, StoreError, Terms, Token,
};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;

use crate::loading;

/// One whose masters stay what they are for longer than a test takes.
fn without_failover() -> Cluster {
    let cluster = Cluster::start().unwrap();
    for server in cluster.servers() {
        for (setting, value) in [("cluster-node-timeout", "600000"), ("cluster-require-full-coverage", "no")]
        {
            server.cli(["config", "set", setting, value]).unwrap();
        }
    }
    cluster
}

/// How a master is out.
#[derive(Clone, Copy)]
enum Out {
    Hangs,
    Gone,
    /// It runs somebody's script, and answers nothing else but that.
    Busy,
    /// It was started again, and reads its data.
    Loads,
}

impl Out {
    fn put(self, master: &Server) {
        match self {
            Self::Hangs => master.stop(),
            Self::Gone => master.kill().unwrap(),
            Self::Loads => loading::begin(master, &key(&of(master))),
            Self::Busy => {
                master.cli(["config", "set", "lua-time-limit", "50"]).unwrap();
                let mut somebody = TcpStream::connect(master.tcp_address().unwrap()).unwrap();
                somebody.write_all(b"EVAL 'while true do end' 0\r\n").unwrap();
                let busy = || match master.cli(["ping"]) {
                    Err(error) if error.to_string().contains("BUSY") => Ok(()),
                    said => Err(format!("{said:?}")),
                };
                wait_until("the server to say that it is busy", Duration::from_secs(60), busy).unwrap();
            }
        }
    }

    fn end(self, master: &Server) {
        match self {
            Self::Hangs => master.cont(),
            // It asks the others before it answers for its slots.
            Self::Gone => {
                master.start_again().unwrap();
                becomes(master, "cluster_state:ok");
            }
            Self::Loads => {
                loading::end(master);
                becomes(master, "cluster_state:ok");
            }
            Self::Busy => drop(master.cli(["script", "kill"]).unwrap()),
        }
    }
}

/// Returns when the server says so of the cluster.
fn becomes(server: &Server, state: &str) {
    let says = || {
        let info = server.cli(["cluster", "info"]).map_err(|error| error.to_string())?;
        if info.contains(state) { Ok(()) } else { Err(info) }
    };
    wait_until("the cluster's state to change", Duration::from_secs(60), says).unwrap();
}

fn key(slot: &Slot) -> String {
    format!("oncekey:{}", slot.digest())
}

/// A slot that this master has.
fn of(master: &Server) -> Slot {
    let at = |n: u32| Principal::new("out").unwrap().slot(n.to_string()).unwrap();
    (0..1_000).map(at).find(|slot| master.cli(["exists", &key(slot)]).is_ok()).unwrap()
}

/// The connections by which a store calls.
fn callers(server: &Server) -> BTreeSet<String> {
    let clients = server.cli(["client", "list"]).unwrap();
    // Neither a replica, nor somebody who listens; and we ask by its socket.
    let is_one = |line: &&str| line.contains(" flags=N ");
    clients.lines().filter(is_one).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

/// How often it sent somebody on to another server.
fn sent_on(server: &Server) -> u64 {
    let stats = server.cli(["info", "errorstats"]).unwrap();
    let count = stats.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

/// Asks for one slot, and meanwhile for another again and again, which is answered each time.
async fn ask_beside(store: &RedisStore, one: &Slot, other: &Slot) -> Result<Option<Entry>, StoreError> {
    let (another, one) = (store.clone(), one.clone());
    let asked = tokio::spawn(async move { another.lookup(&one).await });
    while !asked.is_finished() {
        assert!(store.lookup(other).await.unwrap().is_none());
    }
    asked.await.unwrap()
}

async fn keeps_the_others_connections(out: Out) {
    let cluster = without_failover();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(3));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let masters = cluster.masters();
    let (there, elsewhere) = (of(masters[0]), of(masters[1]));
    for slot in [&there, &elsewhere] {
        store.lookup(slot).await.unwrap();
    }
    let before = callers(masters[1]);
    assert_eq!(before.len(), 1, "{before:?}");

    out.put(masters[0]);
    ask_beside(&store, &there, &elsewhere).await.unwrap_err();
    // From now on it is known, and nothing is sent there.
    let error = ask_beside(&store, &there, &elsewhere).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    assert_eq!(callers(masters[1]), before, "nobody else is told to connect anew");

    out.end(masters[0]);
    assert!(store.lookup(&there).await.unwrap().is_none(), "as soon as it answers it is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_a_master_hangs_the_others_connections_are_kept() {
    keeps_the_others_connections(Out::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_a_master_is_gone_the_others_connections_are_kept() {
    keeps_the_others_connections(Out::Gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_a_master_is_busy_the_others_connections_are_kept() {
    keeps_the_others_connections(Out::Busy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_a_master_loads_the_others_connections_are_kept() {
    keeps_the_others_connections(Out::Loads).await;
}

/// Nobody waits for as long as it takes to notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_that_hangs_is_noticed_though_each_call_gives_up_early() {
    let cluster = without_failover();
    let masters = cluster.masters();
    let (there, elsewhere) = (of(masters[0]), of(masters[1]));
    let builder = RedisStore::builder().call_deadline(Duration::from_millis(700));
    let store = builder.connect(&cluster.url()).await.unwrap();
    Out::Hangs.put(masters[0]);
    let mut early = 0;
    while ask_beside(&store, &there, &elsewhere).await.unwrap_err().kind() == ErrorKind::Timeout {
        early += 1;
        assert!(early < 100, "nobody notices");
    }
    assert!(early > 0, "it isn't known from the start");
}

async fn serves_the_others_from_the_start(out: Out) {
    let cluster = without_failover();
    let masters = cluster.masters();
    let (there, elsewhere) = (of(masters[0]), of(masters[1]));
    out.put(masters[0]);
    let moved = || -> u64 {
        let runs = cluster.servers().iter().filter(|server| server.pid() != masters[0].pid());
        runs.map(sent_on).sum()
    };
    let before = moved();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(3));
    let store = builder.connect(&cluster.url()).await.unwrap();
    for _ in 0..2 {
        let error = ask_beside(&store, &there, &elsewhere).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    }
    out.end(masters[0]);
    assert!(store.lookup(&there).await.unwrap().is_none(), "as soon as it answers it is asked");
    // Its replica would send on whoever asks there.
    assert_eq!(moved(), before, "nobody is sent to who isn't there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_is_opened_while_a_master_hangs_serves_what_the_others_have() {
    serves_the_others_from_the_start(Out::Hangs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_is_opened_while_a_master_is_gone_serves_what_the_others_have() {
    serves_the_others_from_the_start(Out::Gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_is_opened_while_a_master_is_busy_serves_what_the_others_have() {
    serves_the_others_from_the_start(Out::Busy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_is_opened_while_a_master_loads_serves_what_the_others_have() {
    serves_the_others_from_the_start(Out::Loads).await;
}

/// S7.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_master_refuses_while_it_is_busy_was_not_applied() {
    let cluster = without_failover();
    let master = cluster.masters()[0];
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(2));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let there = of(master);
    store.lookup(&there).await.unwrap();
    Out::Busy.put(master);
    let error = store.reserve_or_fetch(&there, Token::fresh(), &request()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    assert!(error.to_string().contains("BUSY"), "{error}");
    Out::Busy.end(master);
    let reserved = store.reserve_or_fetch(&there, Token::fresh(), &request()).await.unwrap();
    assert!(matches!(reserved, ReservationOutcome::Reserved(_)), "{reserved:?}");
}

/// What it says is told, and isn't taken for silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_that_says_that_the_cluster_is_down_is_asked_until_it_is_up() {
    let cluster = Cluster::start().unwrap();
    let masters = cluster.masters();
    let there = of(masters[0]);
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(4));
    let store = builder.connect(&cluster.url()).await.unwrap();
    store.lookup(&there).await.unwrap();
    let before = callers(masters[0]);
    // One that has no key.
    let number = masters[0].cli(["cluster", "keyslot", &key(&there)]).unwrap();
    masters[0].cli(["cluster", "delslots", &number]).unwrap();
    becomes(masters[0], "cluster_state:fail");
    let error = store.lookup(&there).await.unwrap_err();
    assert!(error.to_string().contains("CLUSTERDOWN"), "{error}");
    masters[0].cli(["cluster", "addslots", &number]).unwrap();
    becomes(masters[0], "cluster_state:ok");
    assert!(store.lookup(&there).await.unwrap().is_none());
    assert_eq!(callers(masters[0]), before, "it answered, and was kept");
}

/// A store runs for longer than the servers that its URL names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_is_made_to_the_servers_that_are_there_and_not_to_those_of_the_url() {
    let cluster = Cluster::start().unwrap();
    let masters = cluster.masters();
    let named = format!("redis+cluster://{}", masters[0].tcp_address().unwrap());
    let builder = RedisStore::builder().wait_for_replicas(1, Duration::from_secs(1));
    let store = builder.call_deadline(Duration::from_secs(20)).connect(&named).await.unwrap();
    let slot = of(masters[1]);
    masters[0].kill().unwrap();
    // A write that waits for replicas is the first of its connection.
    let reserved = store.reserve_or_fetch(&slot, Token::fresh(), &request()).await.unwrap();
    assert!(matches!(reserved, ReservationOutcome::Reserved(_)), "{reserved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_that_hangs_keeps_no_other_masters_slots_from_being_answered() {
    let cluster = Cluster::start().unwrap();
    let store =
        RedisStore::builder().call_deadline(Duration::from_secs(5)).connect(&cluster.url()).await.unwrap();
    let principal = Principal::new("p").unwrap();
    let slots: Vec<Slot> = (0..30).map(|n| principal.slot(format!("k{n}")).unwrap()).collect();
    for slot in &slots {
        let reserved = store.reserve_or_fetch(slot, Token::fresh(), &request()).await.unwrap();
        assert!(matches!(reserved, ReservationOutcome::Reserved(_)), "{reserved:?}");
    }
    let hangs = cluster.masters()[0];
    let its = hangs.cli(["--scan"]).unwrap();
    let (hung, well): (Vec<Slot>, Vec<Slot>) =
        slots.into_iter().partition(|slot| its.contains(&slot.digest().to_string()));
    assert!(!hung.is_empty() && !well.is_empty(), "{its}");

    hangs.stop();
    let (another, one) = (store.clone(), hung[0].clone());
    let waits = tokio::spawn(async move { another.lookup(&one).await });
    while !waits.is_finished() {
        for slot in &well {
            let entry = store.lookup(slot).await.unwrap();
            assert!(matches!(entry, Some(Entry::Pending(_))), "{entry:?}");
        }
    }
    // Its replica has its slots by now, or a little later.
    for slot in &well {
        store.lookup(slot).await.unwrap();
    }
    hangs.cont();
}

fn request() -> ReserveRequest {
    let terms = Terms::new(Policy::TakeOver, Duration::from_secs(600), Duration::from_secs(600)).unwrap();
    ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_that_hangs_is_noticed_while_the_others_talk() {
    let cluster = Cluster::start().unwrap();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(20));
    let store = builder.connect(&cluster.url()).await.unwrap();
    // Or the others would be silent too, until it has another master.
    for server in cluster.servers() {
        server.cli(["config", "set", "cluster-require-full-coverage", "no"]).unwrap();
    }
    let masters = cluster.masters();
    let at = |n: u32| Principal::new("hangs").unwrap().slot(n.to_string()).unwrap();
    let on = |master: &Server, slot: &Slot| master.cli(["exists", &key(slot)]).is_ok();
    let find = |master: &Server| (0..1_000).map(at).find(|slot| on(master, slot)).unwrap();
    let (there, elsewhere) = (find(masters[0]), find(masters[1]));
    store.lookup(&there).await.unwrap();
    masters[0].stop();
    let asked = async { store.lookup(&there).await };
    let others = async {
        loop {
            let _ = store.lookup(&elsewhere).await;
        }
    };
    let told = tokio::select! {
        told = asked => told,
        never = others => never,
    };
    assert!(told.unwrap().is_none(), "its replica was asked, once it was the master");
}
