//! Each finding, when it is set on a live server, and none when it isn't.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use oncekey_redis::{
    ErrorKind, Finding, IdempotencyAdmin, IdempotencyStore, Principal, RedisStore, Severity,
};
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;

/// A server to whose settings nobody could object, but that it is alone.
fn safe() -> Server {
    Server::builder().setting("maxmemory", "100mb").setting("maxmemory-policy", "noeviction").start().unwrap()
}

async fn findings(url: &str) -> BTreeMap<&'static str, Finding> {
    let store = RedisStore::builder().connect_lazy(url).unwrap();
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

/// A server that may write no file larger than 64 KiB, and hears of it.
fn cramped(folder: &Path) -> Server {
    let script = "#!/bin/sh\ntrap '' XFSZ\nulimit -f 128\nexec redis-server \"$@\"\n";
    let program = folder.join("redis-server");
    std::fs::write(&program, script).unwrap();
    for path in [folder, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let others = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others));
    Server::builder().binaries_in(folders).setting("appendfsync", "everysec").start().unwrap()
}

#[tokio::test]
async fn a_disk_that_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let server = cramped(folder.path());
    assert!(!findings(&server.url(0)).await.contains_key("redis.aof_failing"));
    server.cli(["set", "large", &"x".repeat(80_000)]).unwrap();
    assert_eq!(findings(&server.url(0)).await["redis.aof_failing"].severity, Severity::Danger);
    // docs/guarantees.md: nor is anything read there, where nothing can be written.
    let store =
        RedisStore::builder().call_deadline(Duration::from_secs(1)).connect_lazy(&server.url(0)).unwrap();
    let refused = store.lookup(&Principal::new("p").unwrap().slot("k").unwrap()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Unavailable && refused.to_string().contains("MISCONF"), "{refused}");
}

#[tokio::test]
async fn memory() {
    assert_eq!(found(&[["maxmemory", "0"]], "redis.maxmemory").await.severity, Severity::Info);
    assert_eq!(found(&[["maxmemory", "900000"]], "redis.memory").await.severity, Severity::Warning);
}

#[tokio::test]
async fn a_replica_that_takes_writes() {
    let finding = found(&[["replica-read-only", "no"]], "redis.replica_takes_writes").await;
    assert_eq!(finding.severity, Severity::Danger);
}

#[tokio::test]
async fn flushes_that_wait_for_a_rewrite() {
    let finding = found(&[["no-appendfsync-on-rewrite", "yes"]], "redis.fsync_on_rewrite").await;
    assert_eq!(finding.severity, Severity::Danger);
}

/// Passes on what a server and its clients say, but for its major version, which is 6 to them.
fn of_an_older_version(server: &Server) -> SocketAddr {
    const WORD: &[u8] = b"redis_version:";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, socket) = (listener.local_addr().unwrap(), server.socket());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            std::thread::spawn(move || {
                let (mut bytes, mut matched) = ([0; 4_096], 0);
                while let Ok(count @ 1..) = server.read(&mut bytes) {
                    for byte in &mut bytes[..count] {
                        if matched == WORD.len() {
                            *byte = b'6';
                        }
                        matched = if WORD.get(matched) == Some(byte) { matched + 1 } else { 0 };
                    }
                    if client.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_version_that_is_too_old() {
    let server = safe();
    let mut all = findings(&server.url_by(of_an_older_version(&server), 0)).await;
    let finding = all.remove("redis.version").unwrap();
    assert!(finding.severity == Severity::Danger && finding.message.contains("version 6."), "{finding:?}");
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ALWAYS);
}

/// A master and a replica to whose settings nobody could object.
fn pair() -> [Server; 2] {
    let builder = || {
        let builder = Server::builder().tcp().setting("maxmemory", "100mb");
        builder.setting("min-replicas-to-write", "1").setting("min-replicas-max-lag", "10")
    };
    let master = builder().start().unwrap();
    let replica = builder().replica_of(&master).start().unwrap();
    [master, replica]
}

#[tokio::test]
async fn replicas() {
    let [master, replica] = pair();
    let all = findings(&master.url(0)).await;
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), ["redis.failover"]);
    for [name, value] in [["min-replicas-to-write", "0"], ["min-replicas-max-lag", "0"]] {
        let before = master.cli(["config", "get", name]).unwrap();
        master.cli(["config", "set", name, value]).unwrap();
        let all = findings(&master.url(0)).await;
        assert_eq!(
            all.keys().copied().collect::<Vec<_>>(),
            ["redis.failover", "redis.min_replicas"],
            "{name}"
        );
        let finding = &all["redis.min_replicas"];
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.message.contains(&format!("{name} {value}")), "{finding:?}");
        master.cli(["config", "set", name, before.lines().last().unwrap()]).unwrap();
    }
    // Who names the replica is told, though no store is opened there.
    let store = RedisStore::builder().connect_lazy(&replica.url(0)).unwrap();
    let found = store.assess().await.unwrap();
    assert!(found.iter().any(|f| (f.id, f.severity) == ("redis.replica", Severity::Danger)), "{found:?}");
}

/// What a replica is set to counts from its promotion on, and then it is too late.
#[tokio::test]
async fn what_a_replica_is_set_to() {
    let [master, replica] = pair();
    let place = replica.tcp_address().unwrap().to_string();
    for ([name, value], id) in [
        (["maxmemory-policy", "allkeys-lru"], "redis.eviction"),
        (["appendonly", "no"], "redis.aof"),
        (["appendfsync", "everysec"], "redis.fsync"),
        (["no-appendfsync-on-rewrite", "yes"], "redis.fsync_on_rewrite"),
        (["min-replicas-to-write", "0"], "redis.min_replicas"),
        (["maxmemory", "0"], "redis.maxmemory"),
    ] {
        let before = replica.cli(["config", "get", name]).unwrap();
        replica.cli(["config", "set", name, value]).unwrap();
        let all = findings(&master.url(0)).await;
        let mut ids = ["redis.failover", id];
        ids.sort_unstable();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), ids, "{name}");
        assert!(all[id].message.contains(&place), "{:?}", all[id]);
        replica.cli(["config", "set", name, before.lines().last().unwrap()]).unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_cant_be_asked() {
    let [master, replica] = pair();
    replica.cli(["config", "set", "requirepass", "another"]).unwrap();
    let all = findings(&master.url(0)).await;
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), ["redis.failover", "redis.replica_unread"]);
    let finding = &all["redis.replica_unread"];
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.message.contains(&replica.tcp_address().unwrap().to_string()), "{finding:?}");
}

#[tokio::test]
async fn what_it_may_not_read_is_a_finding_too() {
    let server = safe();
    server.cli("acl setuser app on >secret ~oncekey:* &oncekey:* +@all -@dangerous".split(' ')).unwrap();
    let all = findings(&format!("{}&user=app&pass=secret", server.url(0))).await;
    let unread = &all["redis.unread"];
    assert_eq!(unread.severity, Severity::Warning);
    for setting in [
        "maxmemory-policy",
        "appendonly",
        "no-appendfsync-on-rewrite",
        "role",
        "connected_slaves",
        "maxmemory",
        "redis_version",
    ] {
        assert!(unread.message.contains(setting), "{unread:?}");
    }
}

#[tokio::test]
async fn a_cluster_with_a_hole() {
    let cluster = Cluster::start().unwrap();
    let all = findings(&cluster.url()).await;
    assert_eq!(all["redis.cluster"].severity, Severity::Info);
    let on_all = |rule: &str| {
        for server in cluster.servers() {
            server.cli(["acl", "setuser", "default", rule]).unwrap();
        }
    };
    on_all("-cluster|info");
    assert_eq!(findings(&cluster.url()).await["redis.cluster"].severity, Severity::Warning);
    on_all("+cluster|info");
    for server in cluster.servers() {
        server.cli(["cluster", "delslots", "1"]).unwrap();
    }
    wait_until("the cluster to see it", Duration::from_secs(30), || {
        let server = &cluster.servers()[0];
        let info = server.cli(["cluster", "info"]).map_err(|error| error.to_string())?;
        if info.contains("cluster_state:fail") { Ok(()) } else { Err(info) }
    })
    .unwrap();
    let all = findings(&cluster.url()).await;
    assert_eq!(all["redis.cluster"].severity, Severity::Danger, "{all:?}");
}

/// Of a master that is out nothing is known but that; what the cluster's other servers say stays to be said.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_master_is_out() {
    for full_coverage in ["yes", "no"] {
        let cluster = Cluster::start().unwrap();
        for server in cluster.servers() {
            server.cli(["config", "set", "cluster-require-full-coverage", full_coverage]).unwrap();
        }
        let out = cluster.masters()[0];
        let id = out.cli(["cluster", "myid"]).unwrap();
        let follows = |server: &&Server| {
            server
                .cli(["cluster", "nodes"])
                .unwrap()
                .lines()
                .any(|l| l.contains("myself") && l.contains(&format!("slave {id}")))
        };
        let replica = cluster.servers().iter().find(follows).unwrap();
        let port = format!(":{}", out.tcp_address().unwrap().port());
        replica.kill().unwrap();
        out.kill().unwrap();
        let builder = RedisStore::builder().call_deadline(Duration::from_secs(5));
        let found = builder.connect_lazy(&cluster.url()).unwrap().assess().await.unwrap();
        let of = |id: &str| found.iter().filter(|finding| finding.id == id).collect::<Vec<_>>();
        let [gone] = of("redis.out")[..] else { panic!("{found:?}") };
        assert!(gone.severity == Severity::Danger && gone.message.contains(&port), "{gone:?}");
        let [state] = of("redis.cluster")[..] else { panic!("{found:?}") };
        assert!(state.severity == Severity::Danger, "{state:?}");
        assert_eq!(of("redis.failover").len(), 1);
        assert!(of("redis.unread").is_empty(), "{found:?}");
    }
}
