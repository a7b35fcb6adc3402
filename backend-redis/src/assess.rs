//! What about this deployment is unsafe (S11), read from each of its servers.

use oncekey_core::{Finding, Severity, StoreError};
use redis::{Cmd, Value};

use crate::call::Call;
use crate::link::{Node, text};
use crate::store::RedisStore;

/// A line `name:value` of what INFO says.
pub(crate) fn field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| Some(line.split_once(':').filter(|(n, _)| *n == name)?.1.trim().to_owned()))
}

pub(crate) async fn findings(store: &RedisStore) -> Result<Vec<Finding>, StoreError> {
    let inner = store.inner();
    let call = Call::reading("assess", inner.deadline());
    let nodes = inner.link.nodes(call.deadline).await.map_err(|failure| call.failed(failure))?;
    let mut ping = Cmd::new();
    ping.arg("PING");
    inner.ask(&call, None, &ping).await?;
    let mut found = Vec::new();
    for node in &nodes {
        let server = Server::read(store, &call, node).await;
        server.judge(&mut found);
    }
    if inner.link.is_cluster() {
        found.push(cluster(store, &call).await);
    }
    found.push(Finding::new(
        "redis.failover",
        Severity::Info,
        "replication is asynchronous: a failover can lose records that were acknowledged, whatever the settings. What \
         must not be done twice needs a downstream that refuses older fences or dedupes, or a store in PostgreSQL",
    ));
    Ok(found)
}

/// What a server says of itself. Nothing is what it wouldn't say.
#[derive(Default)]
struct Server {
    name: String,
    info: Option<String>,
    settings: Vec<(&'static str, Option<String>)>,
}

const SETTINGS: [&str; 5] =
    ["maxmemory-policy", "appendonly", "appendfsync", "min-replicas-to-write", "maxmemory"];

impl Server {
    async fn read(store: &RedisStore, call: &Call, node: &Node) -> Self {
        let inner = store.inner();
        let mut info = Cmd::new();
        info.arg("INFO");
        let info = inner.ask(call, Some(node), &info).await.ok().and_then(|said| text(&said));
        let mut settings = Vec::new();
        for name in SETTINGS {
            let mut cmd = Cmd::new();
            cmd.arg("CONFIG").arg("GET").arg(name);
            let said = inner.ask(call, Some(node), &cmd).await.ok();
            settings.push((name, said.as_ref().and_then(setting)));
        }
        let name = match node {
            Node::Only => "the server".to_owned(),
            Node::At { host, port } => format!("{host}:{port}"),
        };
        Self { name, info, settings }
    }

    /// As CONFIG says it; or INFO, where CONFIG is somebody else's business.
    fn setting(&self, name: &str) -> Option<String> {
        let configured =
            self.settings.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
        let info = match name {
            "maxmemory-policy" => self.said("maxmemory_policy"),
            "maxmemory" => self.said("maxmemory"),
            "appendonly" => {
                self.said("aof_enabled").map(|on| if on == "1" { "yes".to_owned() } else { "no".to_owned() })
            }
            _ => None,
        };
        configured.or(info)
    }

    fn said(&self, name: &str) -> Option<String> {
        field(self.info.as_deref()?, name)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.said(name)?.parse().ok()
    }

    fn judge(&self, found: &mut Vec<Finding>) {
        let who = &self.name;
        let mut say = |id, severity, message: String| found.push(Finding::new(id, severity, message));
        let mut unread = Vec::new();

        match self.setting("maxmemory-policy").as_deref() {
            Some("noeviction") => {}
            Some(policy) => say(
                "redis.eviction",
                Severity::Danger,
                format!(
                    "{who} may evict records to make room (maxmemory-policy {policy}), and their work is done twice: \
                     set noeviction"
                ),
            ),
            None => unread.push("maxmemory-policy"),
        }
        match (self.setting("appendonly").as_deref(), self.setting("appendfsync").as_deref()) {
            (Some("no"), _) => say(
                "redis.aof",
                Severity::Danger,
                format!(
                    "{who} keeps no append-only file: a restart loses what came since the last snapshot. Set appendonly yes"
                ),
            ),
            (Some(_), Some("always")) => {}
            (Some(_), Some(other)) => say(
                "redis.fsync",
                if other == "everysec" { Severity::Warning } else { Severity::Danger },
                format!(
                    "{who} flushes its append-only file {} (appendfsync {other}): a crash of the machine loses what \
                     was acknowledged since. Set appendfsync always",
                    if other == "everysec" { "once a second" } else { "when the system likes" }
                ),
            ),
            (Some(_), None) => unread.push("appendfsync"),
            (None, _) => unread.push("appendonly"),
        }
        if self.said("aof_last_write_status").is_some_and(|status| status != "ok") {
            say(
                "redis.aof_failing",
                Severity::Danger,
                format!("{who} can't write its append-only file: look at its log and its disk"),
            );
        }
        self.replication(&mut say, &mut unread);
        self.memory(&mut say, &mut unread);
        match self.said("redis_version").or_else(|| self.said("valkey_version")) {
            Some(version)
                if version
                    .split('.')
                    .next()
                    .and_then(|major| major.parse().ok())
                    .is_none_or(|major: u32| major < 7) =>
            {
                say(
                    "redis.version",
                    Severity::Danger,
                    format!("{who} is version {version}, and the scripts need 7.0: no reserve works there"),
                );
            }
            Some(_) => {}
            None => unread.push("redis_version"),
        }
        if !unread.is_empty() {
            say(
                "redis.unread",
                Severity::Warning,
                format!(
                    "{who} did not say its {}: let this user run INFO and CONFIG GET, or look for yourself",
                    unread.join(", ")
                ),
            );
        }
    }

    fn replication(
        &self,
        say: &mut impl FnMut(&'static str, Severity, String),
        unread: &mut Vec<&'static str>,
    ) {
        let who = &self.name;
        match self.said("role").as_deref() {
            Some("master") => {}
            Some(_) => say(
                "redis.replica",
                Severity::Danger,
                format!(
                    "{who} is a replica: it refuses writes. Name the master, or the sentinels that know it"
                ),
            ),
            None => unread.push("role"),
        }
        match (self.number("connected_slaves"), self.setting("min-replicas-to-write").as_deref()) {
            (Some(0), _) => say(
                "redis.no_replica",
                Severity::Info,
                format!("{who} has no replica: with its machine go its records"),
            ),
            (Some(_), Some("0")) => say(
                "redis.min_replicas",
                Severity::Warning,
                format!(
                    "{who} takes writes with no replica at hand (min-replicas-to-write 0): cut off, an old master \
                     acknowledges what the next one never hears. Set 1, and min-replicas-max-lag"
                ),
            ),
            (Some(_), Some(_)) => {}
            (Some(_), None) => unread.push("min-replicas-to-write"),
            (None, _) => unread.push("connected_slaves"),
        }
    }

    fn memory(&self, say: &mut impl FnMut(&'static str, Severity, String), unread: &mut Vec<&'static str>) {
        let who = &self.name;
        let most = self.setting("maxmemory").and_then(|most| most.parse::<u64>().ok());
        match (most, self.number("used_memory")) {
            (Some(0), _) => say(
                "redis.maxmemory",
                Severity::Info,
                format!(
                    "{who} takes memory without limit: the system ends it when there is no more. Set maxmemory"
                ),
            ),
            (Some(most), Some(used)) if used >= most / 10 * 9 => say(
                "redis.memory",
                Severity::Warning,
                format!(
                    "{who} uses {used} of {most} bytes: soon it refuses new reservations. Give it more, or keep answers \
                     for a shorter time"
                ),
            ),
            (Some(_), Some(_)) => {}
            _ => unread.push("maxmemory"),
        }
    }
}

/// The value in CONFIG GET's answer: a map, or names and values in turn.
fn setting(said: &Value) -> Option<String> {
    match said {
        Value::Map(pairs) => text(&pairs.first()?.1),
        Value::Array(each) => text(each.get(1)?),
        _ => None,
    }
}

async fn cluster(store: &RedisStore, call: &Call) -> Finding {
    let mut cmd = Cmd::new();
    cmd.arg("CLUSTER").arg("INFO");
    let said = store.inner().ask(call, None, &cmd).await.ok().and_then(|said| text(&said));
    match said.as_deref().map(|info| (field(info, "cluster_state"), field(info, "cluster_slots_assigned"))) {
        Some((Some(state), Some(assigned))) if state == "ok" && assigned == "16384" => Finding::new(
            "redis.cluster",
            Severity::Info,
            "the cluster is well, and all of its slots have a server",
        ),
        Some((Some(state), Some(assigned))) => Finding::new(
            "redis.cluster",
            Severity::Danger,
            format!("the cluster's state is {state}, and {assigned} of its 16384 slots have a server"),
        ),
        _ => Finding::new("redis.cluster", Severity::Warning, "the cluster did not say how it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can't be set on a server that starts.
    #[test]
    fn a_disk_that_refuses_and_a_version_that_is_too_old() {
        let found = |info: &str| {
            let mut found = Vec::new();
            let server = Server { info: Some(info.to_owned()), ..Server::default() };
            server.judge(&mut found);
            found.into_iter().map(|finding| (finding.id, finding.severity)).collect::<Vec<_>>()
        };
        let well = "role:master\r\nredis_version:7.0.15\r\naof_last_write_status:ok\r\n";
        assert!(!found(well).iter().any(|(id, _)| matches!(*id, "redis.version" | "redis.aof_failing")));
        assert!(found("redis_version:6.2.14\r\n").contains(&("redis.version", Severity::Danger)));
        assert!(found("aof_last_write_status:err\r\n").contains(&("redis.aof_failing", Severity::Danger)));
    }
}
