//! Writes that wait until replicas or disks have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncekey_redis::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, Fingerprint, Grant, IdempotencyAdmin,
    IdempotencyStore, Policy, Principal, RedisStore, ReleaseOutcome, RenewOutcome, Renewal,
    ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome, Seen, Slot, StoreError, StoredResponse,
    Terms, Timestamp, Token,
};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;
use tokio::task::JoinSet;

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any test takes: what waits so long waits until the test lets it go on.
const LONG: Duration = Duration::from_secs(100);

fn slot(key: impl std::fmt::Display) -> Slot {
    Principal::new("copies").unwrap().slot(key.to_string()).unwrap()
}

async fn grant(store: &RedisStore, slot: &Slot) -> Grant {
    let terms = Terms::new(Policy::TakeOver, HOUR, HOUR).unwrap();
    let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms);
    match store.reserve_or_fetch(slot, Token::fresh(), &request).await {
        Ok(ReservationOutcome::Reserved(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

fn done() -> Completion {
    Completion::new(StoredResponse::new(200, "", "done"))
}

fn pair() -> (Server, Server) {
    let server = || Server::builder().tcp().setting("appendonly", "no");
    let master = server().start().unwrap();
    let replica = server().replica_of(&master).start().unwrap();
    (master, replica)
}

/// How many clients of a server wait.
fn blocked(server: &Server) -> usize {
    let info = server.cli(["info", "clients"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
    line.trim().parse().unwrap()
}

fn until_blocked(servers: &[&Server]) {
    wait_until("a write that waits", LONG, || {
        if servers.iter().any(|server| blocked(server) > 0) { Ok(()) } else { Err("none".to_owned()) }
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_that_waits_keeps_nobody_from_reading() {
    let (master, replica) = pair();
    let connections = Arc::new(AtomicU64::new(0));
    let store = RedisStore::builder()
        .wait_for_replicas(1, LONG)
        .call_deadline(2 * LONG)
        .counting_connections(Arc::clone(&connections))
        .connect(&master.url(0))
        .await
        .unwrap();
    let (slot, other) = (slot("a"), slot("b"));
    let (held, _) = (grant(&store, &slot).await, grant(&store, &other).await);
    replica.stop();
    let made = connections.load(Ordering::SeqCst);
    let writes = {
        let (store, slot) = (store.clone(), slot.clone());
        tokio::spawn(async move { store.complete(&slot, &held, &done()).await })
    };
    tokio::task::block_in_place(|| until_blocked(&[&master]));
    assert!(matches!(store.lookup(&other).await, Ok(Some(Entry::Pending(_)))));
    // What isn't acknowledged is written all the same.
    assert!(matches!(store.lookup(&slot).await, Ok(Some(Entry::Completed(_)))));
    assert!(!writes.is_finished() && blocked(&master) == 1, "it waits still");
    assert_eq!(connections.load(Ordering::SeqCst), made, "and nobody had to connect anew");
    replica.cont();
    assert_eq!(writes.await.unwrap().unwrap(), CompleteOutcome::Stored);
}

fn is_too_few(told: Result<CompleteOutcome, StoreError>) {
    let error = told.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
    assert!(error.to_string().contains("1 replicas were to have it, and 0 did"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_that_too_few_have_may_be_there_and_says_so() {
    let (master, replica) = pair();
    let build = || RedisStore::builder().wait_for_replicas(1, Duration::from_millis(200));
    let patient = build().connect(&master.url(0)).await.unwrap();
    let store = build().call_deadline(Duration::from_secs(1)).connect(&master.url(0)).await.unwrap();
    let mut held = Vec::new();
    for n in 0..40 {
        let slot = slot(n);
        held.push((grant(&patient, &slot).await, slot));
    }
    replica.stop();
    let mut all = JoinSet::new();
    let more = held.split_off(16);
    for (grant, slot) in held.clone() {
        let store = store.clone();
        all.spawn(async move { store.complete(&slot, &grant, &done()).await });
    }
    all.join_all().await.into_iter().for_each(is_too_few);
    let (grant, slot) = &held[0];
    assert!(matches!(store.lookup(slot).await, Ok(Some(Entry::Completed(_)))));
    // Nor is a repeat acknowledged that finds it written and writes nothing.
    is_too_few(store.complete(slot, grant, &done()).await);
    // Nor is a server that waits for longer than others may be silent taken for one that is gone.
    let long = RedisStore::builder().wait_for_replicas(1, Duration::from_secs(3));
    let long = long.call_deadline(Duration::from_secs(4)).connect(&master.url(0)).await.unwrap();
    is_too_few(long.complete(slot, grant, &done()).await);
    replica.cont();
    let told = patient.complete(slot, grant, &done()).await.unwrap();
    assert!(matches!(told, CompleteOutcome::AlreadyStored(_)), "{told:?}");
    // More at once than there are connections.
    let mut all = JoinSet::new();
    for (grant, slot) in more {
        let store = patient.clone();
        all.spawn(async move { store.complete(&slot, &grant, &done()).await.unwrap() });
    }
    assert!(all.join_all().await.iter().all(|told| *told == CompleteOutcome::Stored));
}

/// How often it was asked what it is, which each connection of a store begins with.
fn greetings(server: &Server) -> u64 {
    let said = server.cli(["info", "commandstats"]).unwrap();
    let calls = said.lines().find_map(|line| line.strip_prefix("cmdstat_hello:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_whose_master_becomes_a_replica_while_it_waits_is_made_again() {
    let (master, replica) = pair();
    let build = || RedisStore::builder().wait_for_replicas(1, LONG).call_deadline(2 * LONG);
    let store = build().connect(&master.url(0)).await.unwrap();
    let held = grant(&store, &slot("a")).await;
    replica.stop();
    let writes = {
        let store = store.clone();
        tokio::spawn(async move { store.complete(&slot("a"), &held, &done()).await })
    };
    tokio::task::block_in_place(|| {
        until_blocked(&[&master]);
        // Of a master that isn't there.
        master.cli(["replicaof", "127.0.0.1", "1"]).unwrap();
        // Of which each finds a replica, and is refused.
        let tries = greetings(&master);
        wait_until("another try", LONG, || {
            if greetings(&master) > tries { Ok(()) } else { Err(format!("{} wait", blocked(&master))) }
        })
        .unwrap();
        master.promote().unwrap();
    });
    replica.cont();
    let told = writes.await.unwrap().unwrap();
    assert!(matches!(told, CompleteOutcome::AlreadyStored(_)), "the first try had written: {told:?}");
}

/// What was written since its last snapshot.
fn changes(server: &Server) -> u64 {
    let info = server.cli(["info", "persistence"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:")).unwrap();
    line.trim().parse().unwrap()
}

/// Later servers than Redis 7.0 wait for what the connection wrote, and for nothing where it only read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_finds_all_as_it_is_to_be_writes_that_nothing_was_added() {
    let (master, _replica) = pair();
    let build = || RedisStore::builder().wait_for_replicas(1, LONG).call_deadline(2 * LONG);
    let store = build().connect(&master.url(0)).await.unwrap();
    let terms = Terms::new(Policy::Refuse, HOUR, HOUR).unwrap();
    let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms);
    let another = ReserveRequest::new(Fingerprint::from_bytes([8; 32]), terms);
    let (pending, done_with, given_back, begun) = (slot("p"), slot("c"), slot("r"), slot("b"));
    grant(&store, &pending).await;
    let own = grant(&store, &done_with).await;
    assert_eq!(store.complete(&done_with, &own, &done()).await.unwrap(), CompleteOutcome::Stored);
    let back = grant(&store, &given_back).await;
    assert_eq!(store.release(&given_back, &back).await.unwrap(), ReleaseOutcome::Released);
    let Ok(ReservationOutcome::Reserved(held)) =
        store.reserve_or_fetch(&begun, Token::fresh(), &request).await
    else {
        panic!("it was free");
    };
    // Without an end, which what is added is not to give it.
    let said = store.renew(&begun, &held, &Renewal::extend(HOUR).unwrap()).await.unwrap();
    assert!(matches!(said, RenewOutcome::Renewed(_)), "{said:?}");
    let mut foreign = own.clone();
    foreign.token = Token::fresh();
    let seen = Seen { fence: own.fence, lease_expires_at: Timestamp::ZERO };
    let dump = |slot: &Slot| {
        let key = format!("oncekey:{}", slot.digest());
        let said = ["get", "pexpiretime"].map(|what| master.cli([what, &key]).unwrap());
        (said, master.cli(["exists", &key]).unwrap())
    };
    let slots = [&pending, &done_with, &given_back, &begun];
    let before = slots.map(dump);
    let mut counted = changes(&master);
    let mut wrote = |what: &str| {
        let now = changes(&master);
        assert!(now > counted, "{what} wrote nothing");
        counted = now;
    };
    let fresh = Token::fresh;
    let said = store.reserve_or_fetch(&pending, fresh(), &request).await.unwrap();
    assert!(matches!(said, ReservationOutcome::InFlight(_)), "{said:?}");
    wrote("InFlight");
    let said = store.reserve_or_fetch(&pending, fresh(), &another).await.unwrap();
    assert_eq!(said, ReservationOutcome::Conflict);
    wrote("Conflict");
    for _ in 0..2 {
        let said = store.reserve_or_fetch(&done_with, fresh(), &request).await.unwrap();
        assert!(matches!(said, ReservationOutcome::Replay(_)), "{said:?}");
        wrote("Replay");
    }
    let said = store.complete(&done_with, &own, &done()).await.unwrap();
    assert!(matches!(said, CompleteOutcome::AlreadyStored(_)), "{said:?}");
    wrote("complete");
    let said = store.renew(&done_with, &own, &Renewal::extend(HOUR).unwrap()).await.unwrap();
    assert_eq!(said, RenewOutcome::AlreadyStored);
    wrote("renew");
    assert_eq!(store.release(&done_with, &own).await.unwrap(), ReleaseOutcome::AlreadyStored);
    wrote("release");
    assert_eq!(store.release(&given_back, &back).await.unwrap(), ReleaseOutcome::Released);
    wrote("release again");
    for slot in [&pending, &begun] {
        let said = store.complete(slot, &foreign, &done()).await.unwrap();
        assert!(matches!(said, CompleteOutcome::Lost(_)), "{said:?}");
        wrote("Lost");
    }
    let said = store.resolve(&done_with, seen, &Resolution::Complete(done())).await.unwrap();
    assert_eq!(said, ResolveOutcome::AlreadyDone);
    wrote("resolve");
    assert_eq!(slots.map(dump), before, "and all is as it was");
    let nobodys = slot("nobody's");
    let said = store.complete(&nobodys, &own, &done()).await.unwrap();
    assert!(matches!(said, CompleteOutcome::Lost(_)), "{said:?}");
    wrote("Lost, of nothing");
    assert!(!store.purge(&nobodys, own.fence).await.unwrap());
    wrote("a repeated purge");
    assert_eq!(master.cli(["dbsize"]).unwrap().trim(), "4", "and nothing was made of nothing");
}

/// WAITAOF came with 7.2.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_knows_of_no_disks_says_so() {
    let server = Server::start().unwrap();
    let build = || RedisStore::builder().prefix("disks");
    let within = Duration::from_secs(5);
    let store = build().wait_for_disks(0, within).connect(&server.url(0)).await.unwrap();
    let held = grant(&build().connect(&server.url(0)).await.unwrap(), &slot("disk")).await;
    let told = store.complete(&slot("disk"), &held, &done()).await;
    if server.cli(["command", "info", "waitaof"]).unwrap().trim().is_empty() {
        let error = told.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unsupported, Effect::Unknown), "{error}");
    } else {
        assert_eq!(told.unwrap(), CompleteOutcome::Stored);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_cluster_it_waits_on_the_server_that_has_the_slot() {
    let cluster = Cluster::start().unwrap();
    let build = || RedisStore::builder().wait_for_replicas(1, LONG).call_deadline(2 * LONG);
    let store = build().connect(&cluster.url()).await.unwrap();
    let mut held = Vec::new();
    for n in 0..12 {
        held.push((grant(&store, &slot(n)).await, slot(n)));
    }
    let replicas: Vec<&Server> = cluster
        .servers()
        .iter()
        .filter(|server| server.cli(["role"]).unwrap().starts_with("slave"))
        .collect();
    let masters = cluster.masters();
    for (grant, slot) in held {
        replicas.iter().for_each(|replica| replica.stop());
        let writes = {
            let (store, slot) = (store.clone(), slot.clone());
            tokio::spawn(async move { store.complete(&slot, &grant, &done()).await })
        };
        tokio::task::block_in_place(|| until_blocked(&masters));
        assert!(matches!(store.lookup(&slot).await, Ok(Some(Entry::Completed(_)))));
        assert!(!writes.is_finished());
        let key = format!("oncekey:{}", slot.digest());
        for master in &masters {
            let has_it = master.cli(["exists", &key]).is_ok_and(|there| there.trim() == "1");
            assert_eq!(blocked(master), usize::from(has_it), "{key}");
        }
        replicas.iter().for_each(|replica| replica.cont());
        assert_eq!(writes.await.unwrap().unwrap(), CompleteOutcome::Stored);
    }
}
