//! [`Link`]: the connection that all calls share, made again when it breaks.
//!
//! The driver sends what waits on one connection together, so one is enough. It is made by the first call, and by the
//! first after one was lost: Sentinel is asked for its master each time. A server that doesn't answer in time is
//! connected to anew, for a network in between may have forgotten the connection without a word.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oncekey_core::{Effect, ErrorKind};
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, Login};
use crate::error::Failure;

/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one of a cluster's may: all are connected to together, well within a try, and one that hangs is done without.
const CONNECT_IN_CLUSTER: Duration = Duration::from_millis(500);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    source: Source,
    current: Mutex<Current>,
    connecting: AsyncMutex<()>,
    may_evict: bool,
    /// Where connections are counted, in tests.
    count: Option<Arc<AtomicU64>>,
}

enum Source {
    Single(Box<Client>),
    Sentinel(AsyncMutex<SentinelClient>),
    Cluster { client: ClusterClient, nodes: Vec<(String, u16)>, login: Login },
}

#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    /// Which of the connections that were made it is.
    number: u64,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One of the servers.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Only,
    At { host: String, port: u16 },
}

impl Link {
    pub(crate) fn new(
        address: Address,
        may_evict: bool,
        count: Option<Arc<AtomicU64>>,
    ) -> Result<Self, Failure> {
        // The driver leaves the choice to whoever is first, and it may be made once.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let source = match address {
            Address::Single(client) => Source::Single(client),
            Address::Sentinel { sentinels, master, login } => {
                let client = sentinel(&sentinels, &master, &login).map_err(Failure::no_connection)?;
                Source::Sentinel(AsyncMutex::new(client))
            }
            Address::Cluster { nodes, login } => {
                let client = cluster(&nodes, &login).map_err(Failure::no_connection)?;
                Source::Cluster { client, nodes, login }
            }
        };
        let (current, connecting) = (Mutex::default(), AsyncMutex::new(()));
        Ok(Self(Arc::new(Inner { source, current, connecting, may_evict, count })))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.source, Source::Cluster { .. })
    }

    /// Sends a command, by `until`, to the server that has its key.
    pub(crate) async fn send(&self, cmd: &Cmd, until: Instant) -> Result<Value, Failure> {
        let (connection, number) = self.connection(until).await?;
        let sent = async {
            match connection {
                Connection::One(mut one) => one.send_packed_command(cmd).await,
                Connection::Cluster(mut cluster) => cluster.req_packed_command(cmd).await,
            }
        };
        self.answered(timeout_at(until, sent).await.ok(), number)
    }

    /// Sends a command and, right behind it on its connection, another that speaks of it.
    pub(crate) async fn send_both(
        &self,
        first: &Cmd,
        then: &Cmd,
        until: Instant,
    ) -> Result<[Value; 2], Failure> {
        let (connection, number) = self.connection(until).await?;
        let mut both = redis::Pipeline::with_capacity(2);
        both.add_command(first.clone()).add_command(then.clone());
        let sent = async {
            match connection {
                Connection::One(mut one) => one.send_packed_commands(&both, 0, 2).await,
                Connection::Cluster(mut cluster) => cluster.req_packed_commands(&both, 0, 2).await,
            }
        };
        let values =
            self.answered(timeout_at(until, sent).await.ok().map(|got| got.map(Value::Array)), number)?;
        let Value::Array(values) = values else { return Err(Failure::nonsense()) };
        let Ok([said, also]) = <[Value; 2]>::try_from(values) else { return Err(Failure::nonsense()) };
        match said {
            Value::ServerError(error) => {
                self.answered(Some(Err(error.into())), number).map(|said| [said, also])
            }
            said => Ok([said, also]),
        }
    }

    /// Sends a command to one of the servers.
    pub(crate) async fn send_to(&self, node: &Node, cmd: &Cmd, until: Instant) -> Result<Value, Failure> {
        let Node::At { host, port } = node else { return self.send(cmd, until).await };
        let (connection, number) = self.connection(until).await?;
        let Connection::Cluster(mut cluster) = connection else { return Err(Failure::nonsense()) };
        let to = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
        let sent = cluster.route_command(cmd.clone(), RoutingInfo::SingleNode(to));
        self.answered(timeout_at(until, sent).await.ok(), number)
    }

    /// Each server that has a part of the keys.
    pub(crate) async fn nodes(&self, until: Instant) -> Result<Vec<Node>, Failure> {
        if !self.is_cluster() {
            return Ok(vec![Node::Only]);
        }
        let mut cmd = Cmd::new();
        cmd.arg("CLUSTER").arg("SLOTS");
        masters(&self.send(&cmd, until).await?).ok_or_else(Failure::nonsense)
    }

    /// A connection to hear what is published: of a cluster's any server will do.
    pub(crate) async fn listener(&self, until: Instant) -> Result<PubSub, Failure> {
        let listen = async {
            match &self.0.source {
                Source::Single(client) => client.get_async_pubsub().await,
                Source::Sentinel(client) => {
                    client.lock().await.async_get_client().await?.get_async_pubsub().await
                }
                Source::Cluster { nodes, login, .. } => {
                    let mut last = None;
                    for (host, port) in nodes {
                        let heard = match Client::open(info(login, host, *port)) {
                            Ok(client) => client.get_async_pubsub().await,
                            Err(error) => Err(error),
                        };
                        match heard {
                            Ok(heard) => return Ok(heard),
                            Err(error) => last = Some(error),
                        }
                    }
                    Err(last.unwrap_or_else(|| (redis::ErrorKind::Client, "a cluster of no servers").into()))
                }
            }
        };
        match timeout_at(until, listen).await {
            Ok(heard) => heard.map_err(Failure::no_connection),
            Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    /// `said` is nothing where the time was over.
    fn answered(&self, said: Option<Result<Value, RedisError>>, number: u64) -> Result<Value, Failure> {
        let failure = match said {
            Some(Ok(Value::ServerError(error))) => self.failure(error.into()),
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => self.failure(error),
            None => Failure::no_answer(),
        };
        if failure.broken {
            let mut current = self.current();
            if current.number == number {
                current.connection = None;
            }
        }
        Err(failure)
    }

    fn failure(&self, error: RedisError) -> Failure {
        if self.is_cluster() { Failure::of_several(error) } else { Failure::of(error) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<(Connection, u64)> {
        let current = self.current();
        current.connection.clone().map(|connection| (connection, current.number))
    }

    /// The connection, and which it is. One call at a time makes it, and the others wait.
    async fn connection(&self, until: Instant) -> Result<(Connection, u64), Failure> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let connect = async {
            let _connecting = self.0.connecting.lock().await;
            if let Some(live) = self.live() {
                return Ok(live);
            }
            let connection = self.connect().await?;
            self.0.is_safe(&connection).await?;
            if let Some(count) = &self.0.count {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let mut current = self.current();
            current.number += 1;
            current.connection = Some(connection.clone());
            Ok((connection, current.number))
        };
        match timeout_at(until, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        // Each call has a deadline of its own.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connected = match &self.0.source {
            Source::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Source::Sentinel(client) => {
                let mut client = client.lock().await;
                client.get_async_connection_with_config(&config).await.map(Connection::One)
            }
            Source::Cluster { client, .. } => client.get_async_connection().await.map(Connection::Cluster),
        };
        connected.map_err(Failure::no_connection)
    }
}

impl Inner {
    /// A server that may evict what it was given loses records while it looks well. What it won't say is let pass,
    /// and is a finding of `assess`.
    async fn is_safe(&self, connection: &Connection) -> Result<(), Failure> {
        if self.may_evict {
            return Ok(());
        }
        let mut info = Cmd::new();
        info.arg("INFO").arg("memory");
        let said = match connection.clone() {
            Connection::One(mut one) => one.send_packed_command(&info).await,
            Connection::Cluster(mut cluster) => cluster.req_packed_command(&info).await,
        };
        match said {
            Ok(said) => match evicting(&said) {
                Some(policy) => Err(Failure::unsupported(format!(
                    "the server's maxmemory-policy is {policy}: it may evict records, and their work would be done \
                     twice. Set noeviction, or say RedisStoreBuilder::accept_eviction if that may happen"
                ))),
                None => Ok(()),
            },
            Err(error) if error.code().is_some() && error.code() != Some("LOADING") => Ok(()),
            Err(error) => {
                let mut failure = Failure::of(error);
                (failure.effect, failure.kind) = (Effect::NotApplied, ErrorKind::Unavailable);
                Err(failure)
            }
        }
    }
}

/// The eviction policy that some server said, if it is one that evicts.
fn evicting(said: &Value) -> Option<String> {
    match said {
        Value::Map(each) => each.iter().find_map(|(_, said)| evicting(said)),
        Value::Array(each) => each.iter().find_map(evicting),
        said => {
            let policy = crate::assess::field(&text(said)?, "maxmemory_policy")?;
            (policy != "noeviction").then_some(policy)
        }
    }
}

/// A bulk or verbatim string.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// What CLUSTER SLOTS says: ranges, each with its master and then its replicas.
fn masters(said: &Value) -> Option<Vec<Node>> {
    let Value::Array(ranges) = said else { return None };
    let mut found: Vec<(String, u16)> = Vec::new();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let Some(Value::Array(master)) = range.get(2) else { return None };
        let host = text(master.first()?)?;
        let Some(Value::Int(port)) = master.get(1) else { return None };
        let at = (host, u16::try_from(*port).ok()?);
        if !found.contains(&at) {
            found.push(at);
        }
    }
    Some(found.into_iter().map(|(host, port)| Node::At { host, port }).collect())
}

fn info(login: &Login, host: &str, port: u16) -> redis::ConnectionInfo {
    let mut who = redis::RedisConnectionInfo::default().set_db(login.database).set_protocol(login.protocol());
    if let Some(user) = &login.user {
        who = who.set_username(user);
    }
    if let Some(password) = &login.password {
        who = who.set_password(password);
    }
    use redis::IntoConnectionInfo;
    match login.at(host, port).into_connection_info() {
        Ok(info) => info.set_redis_settings(who),
        Err(_) => unreachable!("an address is one"),
    }
}

fn sentinel(sentinels: &[(String, u16)], master: &str, login: &Login) -> Result<SentinelClient, RedisError> {
    let at = sentinels.iter().map(|(host, port)| login.at(host, *port));
    let mut builder = SentinelClientBuilder::new(at, master, SentinelServerType::Master)?
        .set_client_to_redis_db(login.database)
        .set_client_to_redis_protocol(login.protocol());
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

fn cluster(nodes: &[(String, u16)], login: &Login) -> Result<ClusterClient, RedisError> {
    let mut builder = ClusterClientBuilder::new(nodes.iter().map(|(host, port)| login.at(host, *port)))
        .connection_timeout(CONNECT_IN_CLUSTER)
        .response_timeout(crate::store::TRY)
        .use_protocol(login.protocol());
    if let Some(user) = &login.user {
        builder = builder.username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.password(password);
    }
    if login.tls {
        builder = builder.tls(redis::TlsMode::Secure);
    }
    builder.build()
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0.source {
            Source::Single(_) => "single",
            Source::Sentinel(_) => "sentinel",
            Source::Cluster { .. } => "cluster",
        };
        f.debug_tuple("Link").field(&kind).finish()
    }
}
