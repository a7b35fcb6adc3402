//! Which servers a store is opened on.

use std::time::Duration;

use oncekey_redis::{Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, RedisStore};
use oncekey_testbed::redis::{Cluster, Server, Watched};

use crate::kit::{BRIEF, answer, fails, reserve, slot};

/// Of the rights that docs/guarantees.md lists, those without which a store doesn't do its work.
const RIGHTS: &str = "~oncekey:* &oncekey:* -@all +evalsha +eval +get +getrange +set +del +time +getex +publish \
    +subscribe +info";

/// To its user app, and nothing else.
fn allow(server: &Server, rights: &str) {
    let command = format!("acl setuser app reset on >secret {rights}");
    server.cli(command.split_whitespace()).unwrap();
}

/// Q2: it is a hint.
#[test]
fn who_watches_before_there_is_a_runtime_is_refused_nothing() {
    let store = RedisStore::builder().connect_lazy("redis://localhost").unwrap();
    drop(store.watch(&slot("early")));
}

#[tokio::test]
async fn a_user_with_the_rights_that_calls_need_is_enough() {
    let server = Server::start().unwrap();
    let url = format!("{}&user=app&pass=secret", server.url(0));
    let user = |rights: &str| allow(&server, rights);
    user(RIGHTS);
    let store = RedisStore::connect(&url).await.unwrap();
    let grant = reserve(&store, "a").await;
    store.complete(&slot("a"), &grant, &answer()).await.map(drop).unwrap();
    assert!(matches!(store.lookup(&slot("a")).await.unwrap(), Some(Entry::Completed(_))));
    assert!(store.purge(&slot("a"), grant.fence).await.unwrap());
    // For an operator's calls.
    fails("stats", store.stats().await, ErrorKind::Other, &["NOPERM", "scan"]);
    user(&format!("{RIGHTS} +scan"));
    store.stats().await.map(drop).unwrap();
}

#[tokio::test]
async fn a_server_that_may_not_say_whether_it_evicts_is_refused_unless_that_is_accepted() {
    let server = Server::start().unwrap();
    let url = format!("{}&user=app&pass=secret", server.url(0));
    let user = |rights: &str| allow(&server, rights);
    user(&format!("{RIGHTS} -info"));
    for policy in ["allkeys-lru", "noeviction"] {
        server.cli(["config", "set", "maxmemory-policy", policy]).unwrap();
        let refused = RedisStore::connect(&url).await;
        fails("connect", refused, ErrorKind::Unsupported, &["+info", "accept_eviction"]);
        let lazy = RedisStore::builder().connect_lazy(&url).unwrap();
        fails("lookup", lazy.lookup(&slot("a")).await, ErrorKind::Unsupported, &["+info", "accept_eviction"]);
    }
    let store = RedisStore::builder().accept_eviction().connect(&url).await.unwrap();
    assert!(store.lookup(&slot("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_policy_that_is_set_later_is_seen_when_the_store_is_asked() {
    let server = Server::start().unwrap();
    let store = RedisStore::connect(&server.url(0)).await.unwrap();
    server.cli(["config", "set", "maxmemory-policy", "volatile-ttl"]).unwrap();
    // docs/guarantees.md: not by the calls themselves.
    reserve(&store, "a").await;
    fails(
        "ensure_schema",
        store.ensure_schema().await,
        ErrorKind::Unsupported,
        &["volatile-ttl", "accept_eviction"],
    );
    let found = store.assess().await.unwrap();
    assert!(found.iter().any(|finding| finding.id == "redis.eviction"), "{found:?}");
    // But by the next connection.
    server.cli(["client", "kill", "type", "normal", "skipme", "yes"]).unwrap();
    fails("lookup", store.lookup(&slot("a")).await, ErrorKind::Unsupported, &["volatile-ttl"]);
}

#[tokio::test]
async fn what_a_master_that_sentinel_promotes_is_set_to_is_seen() {
    let watched = Watched::start().unwrap();
    let store = RedisStore::connect(&watched.url()).await.unwrap();
    let master = watched.master().unwrap();
    let other = watched.servers().iter().find(|server| server.pid() != master.pid()).unwrap();
    other.cli(["config", "set", "maxmemory-policy", "allkeys-random"]).unwrap();
    store.ensure_schema().await.unwrap();
    master.kill().unwrap();
    watched.has_another_master(master).unwrap();
    fails("lookup", store.lookup(&slot("a")).await, ErrorKind::Unsupported, &["allkeys-random"]);
}

/// It may be a master that was replaced, and doesn't know it yet.
#[tokio::test]
async fn a_master_without_the_replicas_that_it_is_to_have_is_not_read_from() {
    let server = Server::builder().setting("min-replicas-to-write", "1").start().unwrap();
    let store = RedisStore::builder().call_deadline(BRIEF).connect(&server.url(0)).await.unwrap();
    fails("lookup", store.lookup(&slot("a")).await, ErrorKind::Unavailable, &["NOREPLICAS"]);
}

#[tokio::test]
async fn of_a_cluster_each_master_is_asked() {
    let cluster = Cluster::start().unwrap();
    for master in cluster.masters() {
        master.cli(["config", "set", "maxmemory-policy", "allkeys-lfu"]).unwrap();
        let refused = RedisStore::connect(&cluster.url()).await;
        fails("connect", refused, ErrorKind::Unsupported, &["allkeys-lfu", "accept_eviction"]);
        master.cli(["config", "set", "maxmemory-policy", "noeviction"]).unwrap();
        RedisStore::connect(&cluster.url()).await.unwrap();
        master.cli("acl setuser default -info".split(' ')).unwrap();
        let refused = RedisStore::connect(&cluster.url()).await;
        fails("connect", refused, ErrorKind::Unsupported, &["+info", "accept_eviction"]);
        master.cli("acl setuser default +info".split(' ')).unwrap();
    }
}

#[tokio::test]
async fn what_a_master_that_a_cluster_promotes_is_set_to_is_seen() {
    let cluster = Cluster::start().unwrap();
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(60));
    let store = builder.connect(&cluster.url()).await.unwrap();
    let masters = cluster.masters();
    let has = |server: &Server, key: &str| {
        server.cli(["exists", &format!("oncekey:{}", slot(key).digest())]).is_ok()
    };
    let [there, elsewhere] =
        [0, 1].map(|n| (0..).map(|n| format!("k{n}")).find(|key| has(masters[n], key)).unwrap());
    for replica in cluster.servers().iter().filter(|server| masters.iter().all(|m| m.pid() != server.pid())) {
        replica.cli(["config", "set", "maxmemory-policy", "allkeys-random"]).unwrap();
    }
    masters[0].kill().unwrap();
    // Once it is the master: until then the call waits.
    fails("lookup", store.lookup(&slot(&there)).await, ErrorKind::Unsupported, &["allkeys-random"]);
    assert!(store.lookup(&slot(&elsewhere)).await.unwrap().is_none());
}

#[tokio::test]
async fn one_of_a_cluster_is_no_server_of_its_own() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.masters()[0].url(0);
    let refused = RedisStore::connect(&url).await;
    fails("connect", refused, ErrorKind::Unsupported, &["redis+cluster://"]);
    // Who doesn't look is told by the calls: of a slot that is on another master, and of all of them.
    let store = RedisStore::builder().accept_eviction().connect(&url).await.unwrap();
    let mut told = 0;
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        match store.lookup(&slot(key)).await {
            Ok(none) => assert!(none.is_none()),
            moved => {
                fails("lookup", moved, ErrorKind::Unsupported, &["redis+cluster://", "MOVED"]);
                told += 1;
            }
        }
    }
    assert!((1..8).contains(&told), "{told} of 8 slots on other masters");
    fails("stats", store.stats().await, ErrorKind::Unsupported, &["redis+cluster://"]);
}
