//! What about this deployment is unsafe (S11), read from each of its servers, and from the replicas that would take
//! their places.

mod server;

use oncekey_core::{Finding, Severity, StoreError};
use redis::Cmd;

use self::server::Server;
use crate::call::Call;
use crate::link::{Link, text};
use crate::store::{Inner, RedisStore};

/// A line `name:value` of what INFO says.
pub(crate) fn field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| Some(line.split_once(':').filter(|(n, _)| *n == name)?.1.trim().to_owned()))
}

pub(crate) async fn findings(store: &RedisStore) -> Result<Vec<Finding>, StoreError> {
    let inner = store.inner();
    let call = Call::reading("assess", inner.deadline());
    // A server that no store would be opened on is told of, too.
    let link = inner.link.to_look().map_err(|failure| call.failed(failure))?;
    let nodes = Inner::again(&call, |until| link.nodes(until)).await?;
    if !link.is_cluster() {
        // Whether it is there. Not by PING: that is refused where the append-only file can't be written.
        let mut hello = Cmd::new();
        hello.arg("HELLO");
        Inner::again(&call, |until| link.send(&hello, until)).await?;
    }
    let mut found = Vec::new();
    for node in &nodes {
        let server = Server::read(inner, &link, node).await;
        server.judge(&mut found);
        for replica in server.replicas(&link).await {
            replica.judge(&mut found);
        }
    }
    if link.is_cluster() {
        // Whoever was out has used up the time of the call so far.
        found.push(cluster(&link, &Call::reading("assess", inner.deadline())).await);
    }
    found.push(Finding::new(
        "redis.failover",
        Severity::Info,
        "replication is asynchronous: a failover can lose records that were acknowledged, whatever the settings. What \
         must not be done twice needs a downstream that refuses older fences or dedupes, or a store in PostgreSQL",
    ));
    Ok(found)
}

impl Server {
    fn judge(&self, found: &mut Vec<Finding>) {
        let who = &self.name;
        let mut say = |id, severity, message: String| found.push(Finding::new(id, severity, message));
        let mut unread = Vec::new();
        if self.is_out {
            return say(
                "redis.out",
                Severity::Danger,
                format!(
                    "{who} does not answer: calls for what it has fail until it does, or a replica in its place"
                ),
            );
        }

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
        match (self.setting("appendonly").as_deref(), self.setting("no-appendfsync-on-rewrite").as_deref()) {
            (Some("yes"), Some("yes")) => say(
                "redis.fsync_on_rewrite",
                Severity::Danger,
                format!(
                    "{who} flushes nothing while it rewrites its append-only file (no-appendfsync-on-rewrite yes): a crash \
                     of the machine loses what was acknowledged meanwhile. Set no-appendfsync-on-rewrite no"
                ),
            ),
            (Some("no"), _) | (_, Some(_)) => {}
            (_, None) => unread.push("no-appendfsync-on-rewrite"),
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
        if self.is_beside && self.info.is_none() {
            say(
                "redis.replica_unread",
                Severity::Warning,
                format!(
                    "{who} can't be asked from here, and what it is set to counts when it is promoted: look for yourself"
                ),
            );
        } else if !unread.is_empty() {
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
            Some(_) if self.is_beside => {}
            Some(_) => say(
                "redis.replica",
                Severity::Danger,
                format!(
                    "{who} is a replica: it refuses every call. Name the master, or the sentinels that know it"
                ),
            ),
            None => unread.push("role"),
        }
        match self.setting("replica-read-only").as_deref() {
            Some("no") => say(
                "redis.replica_takes_writes",
                Severity::Danger,
                format!(
                    "{who} takes writes as a replica too (replica-read-only no): demoted by hand, it goes on granting \
                     what the next master grants as well. Set replica-read-only yes"
                ),
            ),
            Some(_) => {}
            None => unread.push("replica-read-only"),
        }
        match self.number("connected_slaves") {
            // It will have some when it is promoted, as its master has.
            _ if self.is_beside => {}
            Some(0) => {
                return say(
                    "redis.no_replica",
                    Severity::Info,
                    format!("{who} has no replica: with its machine go its records"),
                );
            }
            Some(_) => {}
            None => return unread.push("connected_slaves"),
        }
        let cut_off = "cut off, an old master acknowledges what the next one never hears";
        match (
            self.setting("min-replicas-to-write").as_deref(),
            self.setting("min-replicas-max-lag").as_deref(),
        ) {
            (Some("0"), _) => say(
                "redis.min_replicas",
                Severity::Warning,
                format!(
                    "{who} takes writes with no replica at hand (min-replicas-to-write 0): {cut_off}. Set 1, and \
                     min-replicas-max-lag"
                ),
            ),
            (Some(_), Some("0")) => say(
                "redis.min_replicas",
                Severity::Warning,
                format!(
                    "{who} doesn't look at its replicas (min-replicas-max-lag 0 turns min-replicas-to-write off): \
                     {cut_off}. Set min-replicas-max-lag 10"
                ),
            ),
            (Some(_), Some(_)) => {}
            (None, _) => unread.push("min-replicas-to-write"),
            (_, None) => unread.push("min-replicas-max-lag"),
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

async fn cluster(link: &Link, call: &Call) -> Finding {
    let mut cmd = Cmd::new();
    cmd.arg("CLUSTER").arg("INFO");
    let said = Inner::again(call, |until| link.send(&cmd, until)).await.ok().and_then(|said| text(&said));
    // Those that are assigned to a server which is out are not well.
    match said.as_deref().map(|info| (field(info, "cluster_state"), field(info, "cluster_slots_ok"))) {
        Some((Some(state), Some(well))) if state == "ok" && well == "16384" => Finding::new(
            "redis.cluster",
            Severity::Info,
            "the cluster is well, and all of its slots have a server",
        ),
        Some((Some(state), Some(well))) => Finding::new(
            "redis.cluster",
            Severity::Danger,
            format!(
                "the cluster's state is {state}, and {well} of its 16384 slots have a server that is there"
            ),
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
