//! Which servers are reached, as whom, and with which rights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use oncekey_redis::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, Fingerprint, Grant, IdempotencyAdmin,
    IdempotencyStore, Principal, RedisStore, ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome,
    ReserveRequest, ScanRequest, Slot, StoredResponse, Terms, Token,
};
use oncekey_testbed::redis::{Cluster, Server, Watched};
use oncekey_testbed::wait_until;

const SOON: Duration = Duration::from_secs(60);

fn slot(key: &str) -> Slot {
    Principal::new("reach").unwrap().slot(key).unwrap()
}

async fn grant(store: &RedisStore, key: &str) -> Grant {
    let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
    match store.reserve_or_fetch(&slot(key), Token::fresh(), &request).await {
        Ok(ReservationOutcome::Reserved(grant)) => grant,
        other => panic!("{key}: {other:?}"),
    }
}

/// All that a store asks of a server. What is answered with an error is the caller's to look into.
async fn everything(store: &RedisStore) {
    let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
    if let Ok(ReservationOutcome::Reserved(held)) =
        store.reserve_or_fetch(&slot("a"), Token::fresh(), &request).await
    {
        let _ = store.renew(&slot("a"), &held, &Renewal::extend(SOON).unwrap()).await;
        let _ = store.complete(&slot("a"), &held, &Completion::new(StoredResponse::new(200, "", "a"))).await;
        let _ = store.reserve_or_fetch(&slot("a"), Token::fresh(), &request).await;
        let _ = store.lookup(&slot("a")).await;
        let _ = store.purge(&slot("a"), held.fence).await;
    }
    if let Ok(ReservationOutcome::Reserved(held)) =
        store.reserve_or_fetch(&slot("b"), Token::fresh(), &request).await
    {
        let _ = store.release(&slot("b"), &held).await;
    }
    let _ = store.garbage_collect(NonZeroU32::MAX).await;
    let _ = store.scan(&ScanRequest::first(NonZeroU32::MAX)).await;
    let _ = store.stats().await;
    let _ = store.assess().await;
    store.clone().close().await;
}

/// Asks, and gives up before there can be an answer: which is nobody's then, and is asked after.
fn abandon(server: &Server, store: &RedisStore) {
    server.stop();
    assert!(store.lookup(&slot("a")).now_or_never().is_none());
    server.cont();
}

/// The rights that docs/guarantees.md lists, in the line that begins so.
fn documented(what: &str) -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guarantees.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let begin = format!("    {what}");
    let line = docs.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("no {what}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// The commands that a server refused, but for the driver's own introduction, which it may refuse.
fn refused(server: &Server) -> Vec<String> {
    let log = server.cli(["acl", "log"]).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let entries = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1].to_owned());
    entries.filter(|object| !object.starts_with("client")).collect()
}

fn allow(server: &Server, rights: &[String]) {
    let user = ["acl", "setuser", "app", "reset", "on", ">secret"];
    server.cli(user.into_iter().chain(rights.iter().map(String::as_str))).unwrap();
    server.cli(["acl", "log", "reset"]).unwrap();
}

fn as_app(server: &Server) -> String {
    format!("{}&user=app&pass=secret", server.url(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_documented_are_those_that_are_used() {
    let server = Server::start().unwrap();
    let rights = documented("ACL SETUSER app ");
    allow(&server, &rights);
    let store = RedisStore::connect(&as_app(&server)).await.unwrap();
    everything(&store).await;
    abandon(&server, &store);
    // Who waits listens, and is told.
    let held = grant(&store, "waited for").await;
    let waits = store.watch(&slot("waited for"));
    tokio::task::block_in_place(|| {
        wait_until("a listener", SOON, || match server.cli(["pubsub", "numsub", "oncekey:wake"]) {
            Ok(said) if said.ends_with('1') => Ok(()),
            said => Err(format!("{said:?}")),
        })
        .unwrap();
    });
    assert_eq!(store.release(&slot("waited for"), &held).await.unwrap(), ReleaseOutcome::Released);
    drop(waits);
    assert_eq!(refused(&server), [""; 0], "all that it asked for is allowed");
    assert!(!store.assess().await.unwrap().iter().any(|finding| finding.id == "redis.unread"));
    // None of them could be left out.
    for (n, right) in rights.iter().enumerate().filter(|(_, right)| right.starts_with('+')) {
        let mut fewer = rights.clone();
        fewer.remove(n);
        allow(&server, &fewer);
        server.cli(["script", "flush"]).unwrap();
        let store = RedisStore::builder().connect_lazy(&as_app(&server)).unwrap();
        everything(&store).await;
        abandon(&server, &store);
        let waits = store.watch(&slot("a"));
        let name = &right[1..];
        tokio::task::block_in_place(|| {
            wait_until(right, SOON, || match refused(&server) {
                refused if refused.iter().any(|object| object == name) => Ok(()),
                refused => Err(format!("{refused:?}")),
            })
            .unwrap();
        });
        drop(waits);
        server.cli(["flushall"]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_and_for_writes_that_wait_it_needs_a_few_more() {
    let cluster = Cluster::start().unwrap();
    let mut rights = documented("ACL SETUSER app ");
    rights.extend(documented("in a cluster: "));
    rights.extend(documented("to wait for replicas: "));
    for server in cluster.servers() {
        allow(server, &rights);
    }
    let url = cluster.url().replacen("://", "://app:secret@", 1);
    let store =
        RedisStore::builder().wait_for_replicas(1, Duration::from_secs(2)).connect(&url).await.unwrap();
    everything(&store).await;
    grant(&store, "c").await;
    for server in cluster.servers() {
        assert_eq!(refused(server), [""; 0]);
    }
}

/// Who may not do what a script begins with is refused before it wrote anything, and is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_may_not_wait_says_whether_it_was_made() {
    let (server, quick) = (Server::start().unwrap(), Duration::from_millis(1));
    let waits = documented("to wait for replicas: ");
    let each = [
        ("+append", ErrorKind::Other, Effect::NotApplied),
        ("+wait", ErrorKind::Unsupported, Effect::Unknown),
    ];
    for (right, kind, effect) in each {
        let rights: Vec<_> =
            documented("ACL SETUSER app ").into_iter().chain(waits.clone()).filter(|r| r != right).collect();
        allow(&server, &rights);
        let held = grant(&RedisStore::connect(&server.url(0)).await.unwrap(), right).await;
        let store =
            RedisStore::builder().wait_for_replicas(1, quick).connect(&as_app(&server)).await.unwrap();
        let done = Completion::new(StoredResponse::new(200, "", "a"));
        let error = store.complete(&slot(right), &held, &done).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{right}: {error}");
        let found = store.lookup(&slot(right)).await.unwrap();
        assert_eq!(matches!(found, Some(Entry::Completed(_))), effect == Effect::Unknown, "{found:?}");
        assert_eq!(refused(&server), [&right[1..]]);
    }
    assert_eq!(waits, ["+wait", "+append"], "each was left out once");

    // Where nothing is, what it begins with has to be deleted again.
    let rights: Vec<_> =
        documented("ACL SETUSER app ").into_iter().chain(waits).filter(|right| right != "+del").collect();
    allow(&server, &rights);
    let held = grant(&RedisStore::connect(&server.url(0)).await.unwrap(), "gone").await;
    server.cli(["flushall"]).unwrap();
    let store = RedisStore::builder().wait_for_replicas(1, quick).connect(&as_app(&server)).await.unwrap();
    let done = Completion::new(StoredResponse::new(200, "", "a"));
    let error = store.complete(&slot("gone"), &held, &done).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Other, Effect::NotApplied), "{error}");
    assert_eq!(server.cli(["dbsize"]).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinel_and_in_another_database_it_needs_one_more_each() {
    let watched = Watched::start().unwrap();
    let url = watched.url().replacen("://", "://app:secret@", 1) + "/3";
    let mut rights = documented("ACL SETUSER app ");
    // As the driver asks, one after the other.
    for (more, refuses) in
        [("", "select"), ("to use another database than 0: ", "role"), ("behind Sentinel: ", "")]
    {
        if !more.is_empty() {
            rights.extend(documented(more));
        }
        for server in watched.servers() {
            allow(server, &rights);
        }
        let store = RedisStore::builder().call_deadline(Duration::from_secs(5)).connect_lazy(&url).unwrap();
        everything(&store).await;
        let refused = refused(watched.master().unwrap());
        assert!(refused.iter().all(|object| object == refuses), "{refused:?}");
        assert_eq!(refused.is_empty(), refuses.is_empty(), "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_that_does_not_know_its_own_address_is_one() {
    let cluster = Cluster::alone().unwrap();
    let store = RedisStore::connect(&cluster.url()).await.unwrap();
    let held = grant(&store, "a").await;
    let renewal = Renewal::extend(SOON).unwrap();
    assert!(matches!(store.renew(&slot("a"), &held, &renewal).await, Ok(RenewOutcome::Renewed(_))));
    let done = Completion::new(StoredResponse::new(200, "", "a"));
    assert_eq!(store.complete(&slot("a"), &held, &done).await.unwrap(), CompleteOutcome::Stored);
    assert_eq!(store.scan(&ScanRequest::first(NonZeroU32::MAX)).await.unwrap().summaries.len(), 1);
    assert!(store.assess().await.unwrap().iter().any(|finding| finding.id == "redis.cluster"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_may_ask_for_a_password_of_their_own() {
    let watched = Watched::guarded("p@ss").unwrap();
    let hasty = || RedisStore::builder().call_deadline(Duration::from_secs(2));
    for (query, reached) in
        [("?sentinel_password=p%40ss", true), ("?sentinel_password=wr0ng", false), ("", false)]
    {
        let told = hasty().connect(&format!("{}{query}", watched.url())).await;
        assert_eq!(told.is_ok(), reached, "{query}: {told:?}");
        if let Err(error) = told {
            assert!(!error.to_string().contains("wr0ng"), "{error}");
            assert_eq!(error.kind(), ErrorKind::Other, "{error}");
        }
    }
}

#[tokio::test]
async fn no_setting_is_too_large() {
    let server = Server::start().unwrap();
    let most = Duration::MAX;
    let build = || RedisStore::builder().call_deadline(most).linger(most);
    let store = build().connect(&server.url(0)).await.unwrap();
    grant(&store, "a").await;
    for builder in [build().wait_for_replicas(u32::MAX, most), build().wait_for_disks(u32::MAX, most)] {
        let error = builder.connect(&server.url(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    // Longer than anything that is asked for.
    let years = Duration::from_secs(9 * 365 * 24 * 60 * 60);
    let store = build().wait_for_replicas(1, years).connect(&server.url(0)).await.unwrap();
    assert!(store.lookup(&slot("a")).await.unwrap().is_some());
}
