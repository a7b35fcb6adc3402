//! What happens to a server in a day, under load: scripts forgotten, clients sent away, a restart, a stop for longer
//! than a lease.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use oncekey_conformance::history::Call;
use oncekey_redis::{IdempotencyStore, RedisStore, Slot, StoreError, Token};
use oncekey_storm::crowd::{Acknowledged, Crowd, Member};
use oncekey_storm::deed::{Deed, LEASE, Stage as _, reserve};
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_storm::rounds::{random, rounds};
use oncekey_testbed::redis::Server;
use oncekey_testbed::wait_until;

use crate::bench::{Bench, answers, nothing_is_lost};

const CLIENTS: usize = 6;

/// A crowd that calls, with leases and deadlines as they are by default.
async fn goes_on_through(name: &str, protocol: &str, mishap: impl Fn(&Server, &Crowd)) {
    goes_on(name, protocol, LEASE, Duration::from_secs(10), rounds(4), mishap).await;
}

/// Does it to the server five times a round while a crowd calls, and nothing is lost.
async fn goes_on(
    name: &str,
    protocol: &str,
    lease: Duration,
    deadline: Duration,
    rounds: u64,
    mishap: impl Fn(&Server, &Crowd),
) {
    let (mut random, server) = (random(), Server::start().unwrap());
    let url = format!("{}{protocol}", server.url(0));
    let store = || RedisStore::builder().connect_lazy(&url).unwrap();
    let member = || {
        let connections = Arc::new(AtomicU64::new(0));
        let builder = RedisStore::builder().call_deadline(deadline);
        let store = builder.counting_connections(Arc::clone(&connections)).connect_lazy(&url);
        Member { store: Arc::new(store.unwrap()), connections: Some(connections) }
    };
    let members: Vec<Member> = (0..CLIENTS).map(|_| member()).collect();
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let crowd = Crowd::new(format!("{name}-{round}"), lease, Ledger::still());
        let mut clients = crowd.start(&members, &mut random);
        tokio::task::block_in_place(|| {
            for _ in 0..5 {
                answers(&crowd, random.u64(20..120));
                mishap(&server, &crowd);
                answers(&crowd, 60);
            }
        });
        crowd.stop();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        nothing_is_lost(name, &crowd, &store(), &mut acknowledged).await;
    }
    println!("{name}: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scripts_that_are_forgotten_are_sent_again() {
    goes_on_through("SCRIPT FLUSH", "", |server, _| drop(server.cli(["script", "flush"]).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_are_sent_away_come_back() {
    let kill = |server: &Server, _: &Crowd| {
        drop(server.cli(["client", "kill", "type", "normal", "skipme", "yes"]).unwrap());
    };
    goes_on_through("CLIENT KILL", "", kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_of_the_newer_protocol_come_back_too() {
    let kill = |server: &Server, _: &Crowd| {
        drop(server.cli(["client", "kill", "type", "normal", "skipme", "yes"]).unwrap());
    };
    goes_on_through("CLIENT KILL, RESP3", "&protocol=resp3", kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_is_waited_for() {
    goes_on_through("restart", "", |server, _| server.restart().unwrap()).await;
}

/// Reserves fail meanwhile and change nothing, and what was granted is completed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_memory_that_is_full_loses_nothing() {
    let refused = |server: &Server| -> Result<u64, String> {
        let stats = server.cli(["info", "errorstats"]).map_err(|error| error.to_string())?;
        let count = stats.lines().find_map(|line| line.strip_prefix("errorstat_OOM:count="));
        count.map_or(Ok(0), |count| count.trim().parse().map_err(|_| stats.clone()))
    };
    let full = |server: &Server, _: &Crowd| {
        let before = refused(server).unwrap();
        server.cli(["config", "set", "maxmemory", "100000"]).unwrap();
        let more = || match refused(server)? {
            count if count >= before + 10 => Ok(()),
            count => Err(format!("{count} after {before}")),
        };
        wait_until("reserves to be refused", Duration::from_secs(60), more).unwrap();
        server.cli(["config", "set", "maxmemory", "0"]).unwrap();
    };
    goes_on_through("maxmemory", "", full).await;
}

/// Calls are given up, every lease ends, and the server goes on and applies what lies in its sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_for_longer_than_every_lease_is_gone_through() {
    // Renewals are for twice as long.
    let (lease, deadline) = (Duration::from_millis(1_400), Duration::from_secs(3));
    let stop = |server: &Server, crowd: &Crowd| {
        server.stop();
        let over = crowd.ledger.before().time + 2 * lease;
        let calls = |(_, calls): (Slot, Vec<Call>)| calls.iter().any(|call| call.called.time > over);
        wait_until("a call behind all leases", Duration::from_secs(60), || {
            if crowd.ledger.all().into_iter().any(calls) { Ok(()) } else { Err("none".to_owned()) }
        })
        .unwrap();
        server.cont();
    };
    goes_on("SIGSTOP", "", lease, deadline, rounds(1), stop).await;
}

/// FAULTS 27: the clients give up, leases end, and the server goes on and applies what lies in its sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stops_for_longer_than_a_lease_makes_no_wrong_answer() {
    let server = Arc::new(Server::builder().setting("appendonly", "no").start().unwrap());
    for deed in Deed::ALL {
        let bench = Bench::before(Arc::clone(&server));
        let slot = bench.slot();
        bench.measure(Deed::Lookup).await;
        let operation = deed.stage(&bench, &slot).await.operation;
        // Two that are connected, and give up.
        let hasty = [(); 2].map(|()| bench.another(|b| b.call_deadline(Duration::from_millis(200))));
        for store in &hasty {
            store.ensure_schema().await.unwrap();
        }
        let by = |number, store| Client { number, store, tries: Tries::One };
        server.stop();
        let told = bench.ledger.call(by(1, &hasty[0]), &slot, &operation).await;
        assert!(told.as_ref().is_err_and(StoreError::is_retryable), "{deed:?}: {told:?}");
        bench.ledger.advance(2 * LEASE);
        let other = reserve(Token::fresh());
        let told = bench.ledger.call(by(2, &hasty[1]), &slot, &other).await;
        assert!(told.as_ref().is_err_and(StoreError::is_retryable), "{deed:?}: {told:?}");
        server.cont();
        bench.clean(&slot, &reserve(Token::fresh())).await;
        bench.clean(&slot, &operation).await;
        bench.settle(&format!("{deed:?}"));
    }
}
