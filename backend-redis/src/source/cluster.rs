//! [`Cluster`]: how a cluster is connected to: to each of its servers, of which some may be away.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::PubSub;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Client, RedisError, RedisResult};
use tokio::time::timeout;

use super::{Connection, info, masters, ping, tcp};
use crate::address::Login;
use crate::topology::{self, At, Topology};

/// How long a server may take to be connected to: all are connected to together, and one that hangs is done without. The
/// driver tries that twice.
const CONNECT: Duration = Duration::from_millis(500);
/// How often that gets twice as long, where none of them was reached: they may be far.
const DOUBLED: u32 = 2;

/// How long the driver waits for a server: longer than a connection is kept that says nothing, which is what ends a
/// try. It is for the driver's own questions.
const DRIVER: Duration = Duration::from_secs(30);

/// How often the driver asks again, which it does whenever it is sent on.
const RETRIES: u32 = 6;

pub(crate) struct Cluster {
    /// Of the URL.
    nodes: Vec<At>,
    /// All of them, as the cluster said last: those of the URL may be gone when the next connection is made.
    known: Mutex<Vec<At>>,
    login: Login,
    driver: Duration,
    /// How often in a row nobody was reached.
    in_vain: AtomicU32,
    /// Which of them is asked first by the next who listens.
    turn: AtomicUsize,
}

impl Cluster {
    /// `within` is what a write waits for others at most.
    pub(super) fn new(nodes: Vec<At>, login: Login, within: Duration) -> RedisResult<Self> {
        let known = Mutex::new(nodes.clone());
        let driver = DRIVER.saturating_add(within);
        let cluster =
            Self { nodes, known, login, driver, in_vain: AtomicU32::new(0), turn: AtomicUsize::new(0) };
        cluster.client(CONNECT)?;
        Ok(cluster)
    }

    /// The host of a server that doesn't know its own.
    pub(crate) fn asked(&self) -> &str {
        self.nodes.first().map_or("", |(host, _)| host)
    }

    fn known(&self) -> Vec<At> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        let connected = self.try_connect(within(in_vain)).await;
        match &connected {
            Ok(Connection::Cluster(_, topology)) if topology.is_reached() => {
                self.in_vain.store(0, Ordering::Relaxed);
            }
            // Some are near, and those that hang shall hold up nobody.
            Ok(_) => {}
            Err(_) => self.in_vain.store(DOUBLED.min(in_vain + 1), Ordering::Relaxed),
        }
        connected
    }

    async fn try_connect(&self, within: Duration) -> RedisResult<Connection> {
        let mut driver = self.client(within)?.get_async_connection().await?;
        let mut topology = Topology::default();
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        if let Ok(said) = driver.route_command(topology::question(), any).await {
            topology = Topology::read(&said, self.asked()).unwrap_or_default();
        }
        if let Ok(said) = driver.route_command(ping(), masters()).await {
            topology.reached(&said);
        }
        // Those of the URL too: all that are known now may be gone when the next one is made.
        let mut known: Vec<At> = topology.servers().cloned().collect();
        known.extend(self.nodes.iter().filter(|node| !topology.servers().any(|at| at == *node)).cloned());
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(Connection::Cluster(driver, Arc::new(topology)))
    }

    /// Any server will do. Each try begins with the next one: those that hang shall not keep it from the others for ever.
    pub(super) async fn listener(&self) -> RedisResult<PubSub> {
        let (mut known, mut last) = (self.known(), None);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % known.len().max(1);
        known.rotate_left(turn);
        for (host, port) in known {
            let client = Client::open(info(&self.login, &host, port))?;
            match timeout(within(DOUBLED), client.get_async_pubsub()).await {
                Ok(Ok(heard)) => return Ok(heard),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last
            .unwrap_or_else(|| (redis::ErrorKind::Client, "none of the cluster's servers answers").into()))
    }

    fn client(&self, within: Duration) -> Result<ClusterClient, RedisError> {
        let login = &self.login;
        let known = self.known();
        let mut builder = ClusterClientBuilder::new(known.iter().map(|(host, port)| login.at(host, *port)))
            .connection_timeout(within)
            .response_timeout(self.driver)
            .tcp_settings(tcp())
            // A server that loads, or a cluster that is down, is waited for by us. The driver would wait 1.3 s 16 times,
            // in silence.
            .retries(RETRIES)
            .min_retry_wait(10)
            .max_retry_wait(100)
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
}

/// How long a server may take, after so many times in a row in which none was reached.
fn within(in_vain: u32) -> Duration {
    CONNECT * (1 << in_vain)
}
