//! What a server says of itself, read from it.

use std::time::Duration;

use oncekey_core::ErrorKind;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time::{Instant, timeout_at};

use super::field;
use crate::call::Call;
use crate::link::{Link, Node, text};
use crate::store::Inner;

const SETTINGS: [&str; 8] = [
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "replica-read-only",
    "maxmemory",
];

/// How long a replica may take to be connected to, and to answer: it may be one that is only the master's to reach.
const BESIDE: Duration = Duration::from_secs(2);

/// What a server says of itself. Nothing is what it wouldn't say.
#[derive(Default)]
pub(super) struct Server {
    pub(super) name: String,
    /// Whether it was found at its master.
    pub(super) is_beside: bool,
    /// Whether calls go there, and none is answered.
    pub(super) is_out: bool,
    pub(super) info: Option<String>,
    pub(super) settings: Vec<(&'static str, Option<String>)>,
}

/// Who is asked.
enum Asked<'a> {
    /// One of the servers that calls go to, until then.
    Node(&'a Link, &'a Node, Instant),
    /// A replica of one.
    Beside(MultiplexedConnection),
}

/// Nobody answered in time.
struct Out;

impl Asked<'_> {
    /// Nothing, where it wouldn't say.
    async fn say(&self, words: &[&str]) -> Result<Option<Value>, Out> {
        let mut cmd = Cmd::new();
        cmd.arg(words);
        match self {
            Self::Node(link, node, deadline) => {
                let call = Call::reading("assess", *deadline);
                match Inner::again(&call, |until| link.send_to(node, &cmd, until)).await {
                    Ok(said) => Ok(Some(said)),
                    Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                        Err(Out)
                    }
                    Err(_) => Ok(None),
                }
            }
            Self::Beside(connection) => {
                let mut connection = connection.clone();
                let said = timeout_at(Instant::now() + BESIDE, connection.send_packed_command(&cmd)).await;
                Ok(said.ok().and_then(Result::ok))
            }
        }
    }
}

impl Server {
    pub(super) async fn read(inner: &Inner, link: &Link, node: &Node) -> Self {
        let name = match node {
            Node::Only => "the server".to_owned(),
            Node::At { host, port } => format!("{host}:{port}"),
        };
        Self { name, ..Self::default() }.asked(&Asked::Node(link, node, inner.deadline())).await
    }

    /// Of those that follow it, each where it says that they are; nothing of one that can't be reached from here.
    pub(super) async fn replicas(&self, link: &Link) -> Vec<Self> {
        let mut replicas = Vec::new();
        for (host, port) in self.followers() {
            let replica =
                Self { name: format!("the replica {host}:{port}"), is_beside: true, ..Self::default() };
            replicas.push(match link.beside(&host, port, Instant::now() + BESIDE).await {
                Ok(connection) => replica.asked(&Asked::Beside(connection)).await,
                Err(_) => replica,
            });
        }
        replicas
    }

    async fn asked(mut self, asked: &Asked<'_>) -> Self {
        match asked.say(&["INFO"]).await {
            Ok(said) => self.info = said.and_then(|said| text(&said)),
            Err(Out) => self.is_out = true,
        }
        for name in SETTINGS.into_iter().filter(|_| !self.is_out) {
            let said = asked.say(&["CONFIG", "GET", name]).await.unwrap_or_default();
            self.settings.push((name, said.as_ref().and_then(setting)));
        }
        self
    }

    /// `slave0:ip=10.0.0.2,port=6379,state=online,..`.
    fn followers(&self) -> Vec<(String, u16)> {
        let count = self.number("connected_slaves").unwrap_or(0);
        let each = (0..count).filter_map(|n| {
            let said = self.said(&format!("slave{n}"))?;
            let part = |name| said.split(',').find_map(|part| part.strip_prefix(name));
            Some((part("ip=")?.to_owned(), part("port=")?.parse().ok()?))
        });
        each.collect()
    }

    /// As CONFIG says it; or INFO, where CONFIG is somebody else's business.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
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

    pub(super) fn said(&self, name: &str) -> Option<String> {
        field(self.info.as_deref()?, name)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.said(name)?.parse().ok()
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
