//! [`Source`]: how each kind of deployment is connected to, and [`Connection`], what is asked on one.

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Arg, AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, RedisError, RedisResult, Value};

use self::cluster::Cluster;
use crate::address::{Address, Login, Own};
use crate::error::Failure;
use crate::topology::{At, Doubt, Topology};

/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) enum Source {
    Single(Box<Client>),
    Sentinel(Box<Sentinels>),
    Cluster(Cluster),
}

/// Who is asked which server is the master.
pub(crate) struct Sentinels {
    nodes: Vec<At>,
    master: String,
    login: Login,
    own: Own,
}

#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection, Arc<Topology>),
}

/// One of the servers.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Only,
    At { host: String, port: u16 },
}

/// What is asked.
pub(crate) enum Ask<'a> {
    /// Of the server that has the command's key.
    One(&'a Cmd),
    /// Of the same, one right behind the other; answered as an array.
    Two(&'a Cmd, &'a Cmd),
    /// Of one of a cluster's servers.
    Of(&'a str, u16, &'a Cmd),
    /// Of the same, one right behind the other; answered as an array.
    TwoOf(&'a str, u16, &'a Cmd, &'a Cmd),
    /// Of each of a cluster's masters.
    Masters(&'a Cmd),
    /// Whether it answers.
    Whether(&'a Whom),
}

/// Who is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whom {
    /// The only one there is, or any of a cluster's.
    Any,
    /// Who has this key.
    Has(Vec<u8>),
    At(String, u16),
}

impl Ask<'_> {
    /// What is sent, in bytes, more or less.
    pub(crate) fn bytes(&self) -> u64 {
        let (Self::One(cmd)
        | Self::Two(cmd, _)
        | Self::Of(_, _, cmd)
        | Self::TwoOf(_, _, cmd, _)
        | Self::Masters(cmd)) = self
        else {
            return 0;
        };
        let length = |arg| match arg {
            Arg::Simple(bytes) => <[u8]>::len(bytes) as u64,
            _ => 0,
        };
        cmd.args_iter().map(length).sum()
    }

    pub(crate) fn whom(&self) -> Whom {
        match self {
            Self::One(cmd) | Self::Two(cmd, _) => {
                let mut arguments = cmd.args_iter();
                // Of a script's arguments, what it is and how many keys there are come before it.
                let key = match arguments.next() {
                    Some(Arg::Simple(b"EVALSHA" | b"EVAL")) => arguments.nth(2),
                    Some(Arg::Simple(b"GETEX" | b"DEL")) => arguments.next(),
                    _ => None,
                };
                match key {
                    Some(Arg::Simple(key)) => Whom::Has(key.to_vec()),
                    _ => Whom::Any,
                }
            }
            Self::Of(host, port, _) | Self::TwoOf(host, port, ..) => Whom::At((*host).to_owned(), *port),
            Self::Masters(_) => Whom::Any,
            Self::Whether(whom) => (*whom).clone(),
        }
    }
}

impl Source {
    /// `within` is what a write waits for others at most.
    pub(crate) fn new(address: Address, within: Duration) -> Result<Self, RedisError> {
        // The driver leaves the choice to whoever is first, and it may be made once.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(match address {
            Address::Single(client) => Self::Single(client),
            Address::Sentinel { sentinels, master, login, own } => {
                let sentinels = Sentinels { nodes: sentinels, master, login, own };
                sentinels.client()?;
                Self::Sentinel(Box::new(sentinels))
            }
            Address::Cluster { nodes, login } => Self::Cluster(Cluster::new(nodes, login, within)?),
        })
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        // Each call has a deadline of its own.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connected = match self {
            Self::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Self::Sentinel(sentinels) => sentinels.connect(&config).await,
            Self::Cluster(cluster) => cluster.connect().await,
        };
        connected.map_err(Failure::no_connection)
    }

    /// A connection to hear what is published: of a cluster's any server will do.
    pub(crate) async fn listener(&self) -> RedisResult<PubSub> {
        match self {
            Self::Single(client) => client.get_async_pubsub().await,
            Self::Sentinel(sentinels) => {
                sentinels.client()?.async_get_client().await?.get_async_pubsub().await
            }
            Self::Cluster(cluster) => cluster.listener().await,
        }
    }
}

impl Sentinels {
    async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<Connection> {
        self.client()?.get_async_connection_with_config(config).await.map(Connection::One)
    }

    /// One for each connection: with a single one, many that connect would wait for each other, and each for the time
    /// that a sentinel takes which hangs.
    fn client(&self) -> Result<SentinelClient, RedisError> {
        sentinel(&self.nodes, &self.master, &self.login, &self.own)
    }
}

impl Connection {
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// Which of a cluster's masters is asked, if that is known.
    pub(crate) fn master(&self, whom: &Whom) -> Option<&At> {
        match self {
            Self::One(_) => None,
            Self::Cluster(_, topology) => topology.part(whom).map(|part| &part.master),
        }
    }

    /// Of what each of a cluster's masters answered, what those did that are reached.
    pub(crate) fn of_reached(&self, said: Value) -> Value {
        match self {
            Self::One(_) => said,
            Self::Cluster(_, topology) => topology.of_reached(said),
        }
    }

    /// Those that nobody is to be sent to by it.
    pub(crate) fn doubt(&self) -> Doubt {
        match self {
            Self::One(_) => Doubt::default(),
            Self::Cluster(_, topology) => topology.doubt(),
        }
    }

    pub(crate) async fn say(&self, ask: &Ask<'_>) -> RedisResult<Value> {
        match (self.clone(), ask) {
            (Self::One(mut one), Ask::One(cmd) | Ask::Of(_, _, cmd) | Ask::Masters(cmd)) => {
                one.send_packed_command(cmd).await
            }
            (Self::Cluster(mut cluster, _), Ask::One(cmd)) => cluster.req_packed_command(cmd).await,
            (Self::One(mut one), Ask::Two(first, then) | Ask::TwoOf(_, _, first, then)) => {
                one.send_packed_commands(&both(first, then), 0, 2).await.map(Value::Array)
            }
            // The driver sends both by the first one's key, on one connection, and both again where it is sent on.
            (Self::Cluster(mut cluster, _), Ask::Two(first, then)) => {
                cluster.req_packed_commands(&both(first, then), 0, 2).await.map(Value::Array)
            }
            (Self::Cluster(mut cluster, _), Ask::Of(host, port, cmd)) => {
                cluster.route_command((*cmd).clone(), RoutingInfo::SingleNode(at(host, *port))).await
            }
            (Self::Cluster(mut cluster, _), Ask::TwoOf(host, port, first, then)) => {
                let both = both(first, then);
                cluster.route_pipeline(both, 0, 2, at(host, *port)).await.map(Value::Array)
            }
            (Self::Cluster(mut cluster, _), Ask::Masters(cmd)) => {
                cluster.route_command((*cmd).clone(), masters()).await
            }
            (Self::One(mut one), Ask::Whether(_)) => one.send_packed_command(&ping()).await,
            (Self::Cluster(mut cluster, _), Ask::Whether(whom)) => match whom {
                Whom::Any => {
                    let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                    cluster.route_command(ping(), any).await
                }
                // A replica, which is asked in a master's place where there is no connection to that, sends on whoever
                // asks for a key.
                Whom::Has(key) => {
                    let mut cmd = Cmd::new();
                    cmd.arg("EVAL").arg("return 1").arg("1").arg(key);
                    cluster.req_packed_command(&cmd).await
                }
                Whom::At(host, port) => {
                    cluster.route_command(ping(), RoutingInfo::SingleNode(at(host, *port))).await
                }
            },
        }
    }
}

/// Each of those that there is a connection to, and each one's answer.
fn masters() -> RoutingInfo {
    RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None))
}

fn ping() -> Cmd {
    let mut cmd = Cmd::new();
    cmd.arg("PING");
    cmd
}

fn at(host: &str, port: u16) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port }
}

fn both(first: &Cmd, then: &Cmd) -> redis::Pipeline {
    let mut both = redis::Pipeline::with_capacity(2);
    both.add_command(first.clone()).add_command(then.clone());
    both
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
    fn what_has_a_key_is_asked_of_who_has_it() {
        let of = |words: &[&str]| {
            let mut cmd = Cmd::new();
            for word in words {
                cmd.arg(word);
            }
            Ask::One(&cmd).whom()
        };
        let has = Whom::Has(b"k".to_vec());
        assert_eq!(of(&["GETEX", "k"]), has);
        assert_eq!(of(&["DEL", "k"]), has);
        assert_eq!(Ask::One(&SCRIPTS.lookup.on("k")).whom(), has);
        assert_eq!(Ask::One(&SCRIPTS.lookup.in_full("k")).whom(), has);
        assert_eq!(Ask::Two(&SCRIPTS.reserve.on("k"), &ping()).whom(), has);
        for words in [&["PING"][..], &["CLUSTER", "SLOTS"], &["PUBLISH", "oncekey:wake", "1"]] {
            assert_eq!(of(words), Whom::Any, "{words:?}");
        }
    }
}
