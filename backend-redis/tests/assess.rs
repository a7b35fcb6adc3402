//! Each finding, when it is set on a live server, and none when it isn't.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

use std::collections::BTreeMap;

use oncekey_redis::{Finding, IdempotencyAdmin, RedisStore, Severity};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;

/// A server to whose settings nobody could object, but that it is alone.
fn safe() -> Server {
    Server::builder().setting("maxmemory", "100mb").setting("maxmemory-policy", "noeviction").start().unwrap()
}

async fn findings(url: &str) -> BTreeMap<&'static str, Finding> {
    let store = RedisStore::builder().accept_eviction().connect_lazy(url).unwrap();
    store.assess().await.unwrap().into_iter().map(|finding| (finding.id, finding)).collect()
}

/// What is found once this is set, beside what a safe server has.
async fn found(settings: &[[&str; 2]], id: &str) -> Finding {
    let server = safe();
    for [name, value] in settings {
        server.cli(["config", "set", name, value]).unwrap();
    }
    let mut all = findings(&server.url(0)).await;
    let found = all.remove(id).unwrap_or_else(|| panic!("{id} is not among {all:?}"));
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ALWAYS, "beside {id}");
    found
}

/// A failover is no setting, and the safe server is alone.
const ALWAYS: [&str; 2] = ["redis.failover", "redis.no_replica"];

#[tokio::test]
async fn a_safe_server_has_nothing_to_hide() {
    let all = findings(&safe().url(0)).await;
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), ALWAYS);
    assert!(all.values().all(|finding| finding.severity == Severity::Info), "{all:?}");
}

#[tokio::test]
async fn eviction() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let finding = found(&[["maxmemory-policy", policy]], "redis.eviction").await;
        assert_eq!(finding.severity, Severity::Danger);
        assert!(finding.message.contains(policy) && finding.message.contains("noeviction"), "{finding:?}");
    }
}

#[tokio::test]
async fn no_append_only_file() {
    assert_eq!(found(&[["appendonly", "no"]], "redis.aof").await.severity, Severity::Danger);
}

#[tokio::test]
async fn flushes_that_come_later() {
    assert_eq!(found(&[["appendfsync", "everysec"]], "redis.fsync").await.severity, Severity::Warning);
    assert_eq!(found(&[["appendfsync", "no"]], "redis.fsync").await.severity, Severity::Danger);
}

#[tokio::test]
async fn memory() {
    assert_eq!(found(&[["maxmemory", "0"]], "redis.maxmemory").await.severity, Severity::Info);
    assert_eq!(found(&[["maxmemory", "900000"]], "redis.memory").await.severity, Severity::Warning);
}

#[tokio::test]
async fn replicas() {
    let master = Server::builder().tcp().setting("maxmemory", "100mb").start().unwrap();
    let replica = Server::builder().tcp().setting("maxmemory", "100mb").replica_of(&master).start().unwrap();
    let all = findings(&master.url(0)).await;
    assert_eq!(all["redis.min_replicas"].severity, Severity::Warning);
    assert!(!all.contains_key("redis.no_replica"));
    master.cli(["config", "set", "min-replicas-to-write", "1"]).unwrap();
    let all = findings(&master.url(0)).await;
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), ["redis.failover"]);
    // Who names the replica is told.
    let all = findings(&replica.url(0)).await;
    assert_eq!(all["redis.replica"].severity, Severity::Danger);
}

#[tokio::test]
async fn what_it_may_not_read_is_a_finding_too() {
    let server = safe();
    server.cli("acl setuser app on >secret ~oncekey:* &oncekey:* +@all -@dangerous".split(' ')).unwrap();
    let all = findings(&format!("{}&user=app&pass=secret", server.url(0))).await;
    let unread = &all["redis.unread"];
    assert_eq!(unread.severity, Severity::Warning);
    for setting in ["maxmemory-policy", "appendonly", "role", "maxmemory", "redis_version"] {
        assert!(unread.message.contains(setting), "{unread:?}");
    }
}

#[tokio::test]
async fn a_cluster_with_a_hole() {
    let cluster = Cluster::start().unwrap();
    let all = findings(&cluster.url()).await;
    assert_eq!(all["redis.cluster"].severity, Severity::Info);
    for server in cluster.servers() {
        server.cli(["cluster", "delslots", "1"]).unwrap();
    }
    wait_until("the cluster to see it", std::time::Duration::from_secs(30), || {
        let server = &cluster.servers()[0];
        let info = server.cli(["cluster", "info"]).map_err(|error| error.to_string())?;
        if info.contains("cluster_state:fail") { Ok(()) } else { Err(info) }
    })
    .unwrap();
    let all = findings(&cluster.url()).await;
    assert_eq!(all["redis.cluster"].severity, Severity::Danger, "{all:?}");
}
