//! Whether a server is one that a store may be opened on, and read from: a master, that may not evict records, and that
//! isn't one of a cluster whose others are not asked.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::server::{Opening, Server, unless_error};
use super::{Link, Node, Way, both, text};
use crate::assess::field;
use crate::error::Failure;
use crate::source::{Ask, Source};

impl Link {
    /// Looks again, on the connections that calls are sent by: they may be to others since.
    pub(crate) async fn fits(&self, deadline: Instant) -> Result<(), Failure> {
        match &self.0.way {
            Way::Alone(server) => server.fits(deadline).await,
            Way::Cluster(cluster) => cluster.fits(deadline).await,
        }
    }

    /// Sends a command that has no key to one of the servers, if that is a master: what it answers, and which process
    /// it is, which Redis draws at its start. Asked behind the command, on its connection: a server that became a
    /// replica before it answered is found out.
    pub(crate) async fn send_to_master(
        &self,
        node: &Node,
        cmd: &Cmd,
        deadline: Instant,
    ) -> Result<(Value, String), Failure> {
        let mut info = Cmd::new();
        info.arg("INFO").arg("server").arg("replication");
        let ready = self.server(node)?.ready(deadline).await?;
        let said = ready.hear(&Ask::two(cmd, &info), deadline).await?;
        let judged = unless_error(said).and_then(both).and_then(|[said, info]| {
            let said = unless_error(Ok(said))?;
            let info = text(&unless_error(Ok(info))?).ok_or_else(Failure::nonsense)?;
            if field(&info, "role").is_some_and(|role| role != "master") {
                return Err(Failure::replica(None));
            }
            if !self.is_cluster() && mode(&info).as_deref() == Some("cluster") {
                return Err(Failure::one_of_several(None));
            }
            Ok((said, field(&info, "run_id").ok_or_else(Failure::nonsense)?))
        });
        ready.unless_broken(judged)
    }
}

impl Server {
    pub(super) async fn fits(&self, deadline: Instant) -> Result<(), Failure> {
        let (ready, questions) = (self.ready(deadline).await?, Questions::new());
        // Perhaps it isn't asked what it is, but whether it is there.
        let Some(ask) = self.opening.asks(&questions) else { return Ok(()) };
        let said = ready.hear(&ask, deadline).await?;
        ready.unless_broken(self.opening.judge(said))
    }
}

/// What a server may be asked of itself.
struct Questions {
    hello: Cmd,
    info: Cmd,
}

impl Questions {
    fn new() -> Self {
        let (mut hello, mut info) = (Cmd::new(), Cmd::new());
        // Whoever may connect may say HELLO.
        hello.arg("HELLO");
        info.arg("INFO").arg("server").arg("memory");
        Self { hello, info }
    }
}

impl Opening {
    /// What a server says of itself when it is connected to.
    pub(super) async fn fits(&self, connection: &MultiplexedConnection) -> Result<(), Failure> {
        match self.asks(&Questions::new()) {
            Some(ask) => self.judge(ask.on(connection).await),
            None => Ok(()),
        }
    }

    /// One of a cluster's sends on whoever asks for a slot that it hasn't: it isn't asked for its role, but whether it is one.
    /// A server alone would do whatever it is sent.
    fn asks<'a>(&self, questions: &'a Questions) -> Option<Ask<'a>> {
        match (self.is_in_cluster(), self.terms.may_evict) {
            _ if self.terms.looks => None,
            (true, false) => Some(Ask::one(&questions.info)),
            (_, true) => Some(Ask::one(&questions.hello)),
            (false, false) => Some(Ask::two(&questions.hello, &questions.info)),
        }
    }

    fn judge(&self, said: RedisResult<Value>) -> Result<(), Failure> {
        match (self.is_in_cluster(), self.terms.may_evict) {
            (true, true) => is_member(said),
            (true, false) => keeps_records(said, true),
            (false, true) => is_master(said),
            (false, false) => {
                let [hello, info] = both(said.map_err(unsure)?)?;
                is_master(Ok(hello))?;
                keeps_records(Ok(info), false)
            }
        }
    }

    fn is_in_cluster(&self) -> bool {
        matches!(self.source, Source::Member(_))
    }
}

/// Whether that is what HELLO says. Whatever doesn't know the command is let pass: no script runs on a replica.
fn is_master(hello: RedisResult<Value>) -> Result<(), Failure> {
    match word(hello, "role")?.as_deref() {
        None | Some("master") => Ok(()),
        Some(_) => Err(Failure::replica(None)),
    }
}

/// The same: whether it is one of a cluster's.
fn is_member(hello: RedisResult<Value>) -> Result<(), Failure> {
    match word(hello, "mode")?.as_deref() {
        None | Some("cluster") => Ok(()),
        Some(_) => Err(Failure::no_member()),
    }
}

/// What HELLO says of that.
fn word(hello: RedisResult<Value>, which: &str) -> Result<Option<String>, Failure> {
    let hello = match hello {
        Ok(Value::ServerError(error)) => Err(error.into()),
        hello => hello,
    };
    let word = match hello {
        Err(error) if error.code() == Some("ERR") => None,
        Err(error) => return Err(unsure(error)),
        Ok(Value::Map(pairs)) => {
            pairs.iter().find(|(name, _)| text(name).as_deref() == Some(which)).map(|(_, word)| text(word))
        }
        Ok(Value::Array(each)) => each
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some(which))
            .map(|pair| text(&pair[1])),
        Ok(_) => None,
    };
    Ok(word.flatten())
}

/// Whether it says that it never evicts what it was given: one that may loses records while it looks well.
fn keeps_records(said: RedisResult<Value>, in_cluster: bool) -> Result<(), Failure> {
    match said {
        Ok(Value::ServerError(error)) => keeps_records(Err(error.into()), in_cluster),
        Ok(info) => {
            let info = text(&info).unwrap_or_default();
            match mode(&info).as_deref() {
                Some("cluster") if !in_cluster => return Err(Failure::one_of_several(None)),
                Some(mode) if in_cluster && mode != "cluster" => return Err(Failure::no_member()),
                _ => {}
            }
            match field(&info, "maxmemory_policy").as_deref() {
                Some("noeviction") => Ok(()),
                Some(policy) => Err(Failure::unsupported(format!(
                    "the server's maxmemory-policy is {policy}: it may evict records, and their work would be done \
                     twice. Set noeviction, or say RedisStoreBuilder::accept_eviction if that may happen"
                ))),
                None => Err(unread("INFO doesn't say it")),
            }
        }
        Err(error) if error.code() == Some("ERR") && error.to_string().contains("syntax error") => {
            Err(Failure::unsupported("Redis 7.0, Valkey 7.2 or later is needed"))
        }
        Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => {
            Err(unread(&Failure::of(error).said()))
        }
        Err(error) => Err(unsure(error)),
    }
}

fn unread(why: &str) -> Failure {
    Failure::unsupported(format!(
        "whether the server may evict records can't be read ({why}): let this user run INFO (ACL SETUSER .. +info), or \
         say RedisStoreBuilder::accept_eviction if records may be evicted, and their work done twice"
    ))
}

/// Valkey has another word for it.
fn mode(info: &str) -> Option<String> {
    ["redis_mode", "server_mode"].iter().find_map(|word| field(info, word))
}

/// Nothing is known of the server yet, and nothing was asked of it but that.
fn unsure(error: RedisError) -> Failure {
    Failure::of(error).not_applied()
}
