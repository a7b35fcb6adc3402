//! [`Cluster`]: how a cluster is connected to: to each of its servers, of which some may be away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::PubSub;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Client, RedisError, RedisResult};
use tokio::time::{Instant, timeout};

use super::{Connection, info, masters, ping, tcp};
use crate::address::Login;
use crate::topology::{self, At, Topology};

/// How long a server may take to be connected to: all are connected to together, and one that hangs is done without.
const CONNECT: Duration = Duration::from_millis(500);
/// How often in a row that is twice as long, where not all of them were reached: they may be far.
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
    /// How often in a row somebody was not reached, or as often as it took.
    in_part: AtomicU32,
}

impl Cluster {
    /// `within` is what a write waits for others at most.
    pub(super) fn new(nodes: Vec<At>, login: Login, within: Duration) -> RedisResult<Self> {
        let known = Mutex::new(nodes.clone());
        let driver = DRIVER.saturating_add(within);
        let cluster = Self { nodes, known, login, driver, in_part: AtomicU32::new(0) };
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
        let (begun, in_part) = (Instant::now(), self.in_part.load(Ordering::Relaxed));
        let connected = self.try_connect(within(in_part)).await;
        let next = match &connected {
            Ok(Connection::Cluster(_, topology)) if topology.is_reached() => {
                // Those that needed the time will need it again.
                if begun.elapsed() < CONNECT { 0 } else { in_part }
            }
            _ => DOUBLED.min(in_part + 1),
        };
        self.in_part.store(next, Ordering::Relaxed);
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

    /// Any server will do; those that hang are passed over.
    pub(super) async fn listener(&self) -> RedisResult<PubSub> {
        let mut last = None;
        for (host, port) in self.known() {
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

/// How long a server may take, after so many times in a row in which not all were reached.
fn within(in_part: u32) -> Duration {
    CONNECT * (1 << in_part)
}
