//! [`Source`]: how a server is connected to, and [`Ask`], what is asked on a connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisError, RedisResult, Value,
};

use crate::address::{Login, Own};
use crate::error::Failure;
use crate::topology::At;

/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// The same of one of a cluster's, at first: one that hangs may have a successor soon.
const CONNECT_MEMBER: Duration = Duration::from_millis(500);
/// How often that gets twice as long, while it isn't reached: it may be far.
const DOUBLED: u32 = 2;

pub(crate) enum Source {
    Single(Box<Client>),
    Sentinel(Box<Sentinels>),
    /// One of a cluster's servers.
    Member(Box<Member>),
}

/// Who is asked which server is the master.
pub(crate) struct Sentinels {
    nodes: Vec<At>,
    master: String,
    login: Login,
    own: Own,
}

pub(crate) struct Member {
    client: Client,
    /// How often in a row it was not reached.
    in_vain: AtomicU32,
}

/// One of the servers.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Only,
    At { host: String, port: u16 },
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    cmd: &'a Cmd,
    /// Sent right behind it, and then both are answered, as an array.
    then: Option<&'a Cmd>,
    /// Whether it is about a slot that who is asked takes over, and doesn't have yet.
    asking: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn one(cmd: &'a Cmd) -> Self {
        Self { cmd, then: None, asking: false }
    }

    pub(crate) fn two(cmd: &'a Cmd, then: &'a Cmd) -> Self {
        Self { cmd, then: Some(then), asking: false }
    }

    pub(crate) fn is_two(&self) -> bool {
        self.then.is_some()
    }

    pub(crate) fn asking(self, asking: bool) -> Self {
        Self { asking, ..self }
    }

    /// What is sent, in KiB that are begun, more or less.
    pub(crate) fn kib(&self) -> u32 {
        let length = |arg| match arg {
            Arg::Simple(bytes) => <[u8]>::len(bytes),
            _ => 0,
        };
        let bytes: usize = self.cmd.args_iter().map(length).sum();
        u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX)
    }

    /// The key that it is about.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        let mut arguments = self.cmd.args_iter();
        // Of a script's arguments, what it is and how many keys there are come before it.
        let key = match arguments.next() {
            Some(Arg::Simple(b"EVALSHA" | b"EVAL")) => arguments.nth(2),
            Some(Arg::Simple(b"GETEX" | b"DEL")) => arguments.next(),
            _ => None,
        };
        match key {
            Some(Arg::Simple(key)) => Some(key),
            _ => None,
        }
    }

    pub(crate) async fn on(&self, connection: &MultiplexedConnection) -> RedisResult<Value> {
        let mut connection = connection.clone();
        if self.then.is_none() && !self.asking {
            return connection.send_packed_command(self.cmd).await;
        }
        let mut all = Pipeline::with_capacity(3);
        if self.asking {
            // It speaks of the next command on its connection.
            all.add_command(command("ASKING"));
        }
        all.add_command(self.cmd.clone());
        if let Some(then) = self.then {
            all.add_command(then.clone());
        }
        let count = usize::from(self.asking) + 1 + usize::from(self.then.is_some());
        let mut said = connection.send_packed_commands(&all, 0, count).await?;
        if self.asking {
            let asking = said.remove(0);
            if let Some(first) = said.first_mut().filter(|first| tells_less(first, &asking)) {
                *first = asking;
            }
        }
        match (self.then, said.pop()) {
            (None, Some(one)) => Ok(one),
            (_, last) => Ok(Value::Array(said.into_iter().chain(last).collect())),
        }
    }
}

/// Whether what was said behind ASKING tells less than what was said to that. Refused, it had no effect: whoever has the
/// slot by then does what it is asked all the same (S7), and whoever hasn't sends it on.
fn tells_less(behind: &Value, asking: &Value) -> bool {
    let is_sent_on = matches!(behind, Value::ServerError(error) if error.code() == "MOVED");
    is_sent_on && matches!(asking, Value::ServerError(_))
}

impl Source {
    pub(crate) fn sentinel(
        nodes: Vec<At>,
        master: String,
        login: Login,
        own: Own,
    ) -> Result<Self, RedisError> {
        let sentinels = Sentinels { nodes, master, login, own };
        sentinels.client()?;
        Ok(Self::Sentinel(Box::new(sentinels)))
    }

    pub(crate) fn member(login: &Login, (host, port): &At) -> Result<Self, RedisError> {
        let client = Client::open(info(login, host, *port))?;
        Ok(Self::Member(Box::new(Member { client, in_vain: AtomicU32::new(0) })))
    }

    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        // Each call has a deadline of its own.
        let within =
            |time| AsyncConnectionConfig::new().set_connection_timeout(Some(time)).set_response_timeout(None);
        let connected = match self {
            Self::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&within(CONNECT)).await
            }
            Self::Sentinel(sentinels) => sentinels.connect(&within(CONNECT)).await,
            Self::Member(member) => {
                let Member { client, in_vain } = &**member;
                let before = in_vain.load(Ordering::Relaxed);
                let config = within(CONNECT_MEMBER * (1 << before));
                let connected = client.get_multiplexed_async_connection_with_config(&config).await;
                in_vain.store(connected.as_ref().map_or(DOUBLED.min(before + 1), |_| 0), Ordering::Relaxed);
                connected
            }
        };
        connected.map_err(Failure::no_connection)
    }

    /// A connection to hear what is published.
    pub(crate) async fn listener(&self) -> RedisResult<PubSub> {
        match self {
            Self::Single(client) => client.get_async_pubsub().await,
            Self::Sentinel(sentinels) => {
                sentinels.client()?.async_get_client().await?.get_async_pubsub().await
            }
            Self::Member(member) => member.client.get_async_pubsub().await,
        }
    }
}

impl Sentinels {
    async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        self.client()?.get_async_connection_with_config(config).await
    }

    /// One for each connection: with a single one, many that connect would wait for each other, and each for the time
    /// that a sentinel takes which hangs.
    fn client(&self) -> Result<SentinelClient, RedisError> {
        sentinel(&self.nodes, &self.master, &self.login, &self.own)
    }
}

pub(crate) fn command(word: &str) -> Cmd {
    let mut cmd = Cmd::new();
    cmd.arg(word);
    cmd
}

/// A bulk or verbatim string.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// A call is small, and one waits for its answer: nothing is gained by holding it back for more.
pub(crate) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

pub(crate) fn info(login: &Login, host: &str, port: u16) -> redis::ConnectionInfo {
    let mut who = redis::RedisConnectionInfo::default().set_db(login.database).set_protocol(login.protocol());
    if let Some(user) = &login.user {
        who = who.set_username(user);
    }
    if let Some(password) = &login.password {
        who = who.set_password(password);
    }
    match login.at(host, port).into_connection_info() {
        Ok(info) => info.set_redis_settings(who).set_tcp_settings(tcp()),
        Err(_) => unreachable!("an address is one"),
    }
}

fn sentinel(
    sentinels: &[(String, u16)],
    master: &str,
    login: &Login,
    own: &Own,
) -> Result<SentinelClient, RedisError> {
    let at = sentinels.iter().map(|(host, port)| login.at(host, *port));
    let mut builder = SentinelClientBuilder::new(at, master, SentinelServerType::Master)?
        .set_client_to_redis_db(login.database)
        .set_client_to_redis_protocol(login.protocol())
        .set_client_to_redis_tcp_settings(tcp());
    if let Some(user) = &own.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &own.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if login.tls {
        builder = builder
            .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::SCRIPTS;

    #[test]
    fn that_asking_was_refused_is_told_of_what_was_not_done_alone() {
        let error = |line: &str| redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let refused = error("NOPERM no");
        assert!(tells_less(&error("MOVED 1 h:1"), &refused));
        assert!(!tells_less(&error("MOVED 1 h:1"), &Value::Okay));
        // It has the slot by now.
        for said in [Value::Int(1), error("NOSCRIPT No matching script"), error("OOM no")] {
            assert!(!tells_less(&said, &refused), "{said:?}");
        }
    }

    #[test]
    fn what_has_a_key_is_asked_of_who_has_it() {
        let cmd = |words: &[&str]| {
            let mut cmd = Cmd::new();
            for word in words {
                cmd.arg(word);
            }
            cmd
        };
        for cmd in
            [cmd(&["GETEX", "k"]), cmd(&["DEL", "k"]), SCRIPTS.lookup.on("k"), SCRIPTS.lookup.in_full("k")]
        {
            assert_eq!(Ask::one(&cmd).key(), Some(&b"k"[..]));
            assert_eq!(Ask::two(&cmd, &command("PING")).key(), Some(&b"k"[..]));
        }
        for words in [&["PING"][..], &["CLUSTER", "SLOTS"], &["PUBLISH", "oncekey:wake", "1"]] {
            assert_eq!(Ask::one(&cmd(words)).key(), None, "{words:?}");
        }
    }
}
