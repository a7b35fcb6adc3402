//! [`Link`]: the servers of a store, and the connections to them.
//!
//! The driver sends what waits on one connection together, so one to a server is enough. It is made by the first call, and
//! by the first after one was lost: Sentinel is asked for its master each time. A [`Cluster`]'s servers have one each.

mod beside;
mod cluster;
mod fit;
mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use redis::aio::PubSub;
use redis::{Cmd, Value};
use tokio::time::{Instant, timeout_at};

use self::cluster::Cluster;
use self::server::Server;
use crate::address::Address;
use crate::error::Failure;
use crate::source::{Ask, Source};
pub(crate) use crate::source::{Node, text};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    address: Address,
    way: Way,
}

enum Way {
    /// To one server, or to whichever the sentinels call the master.
    Alone(Server),
    Cluster(Arc<Cluster>),
}

/// What is the same for each server.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    /// What a write waits for others at most.
    pub(crate) within: Duration,
    pub(crate) may_evict: bool,
    /// Whether it is there to look at what is wrong: then no server is refused for what it is.
    pub(crate) looks: bool,
    /// Where connections are counted, in tests.
    pub(crate) count: Option<Arc<AtomicU64>>,
}

impl Link {
    pub(crate) fn new(address: Address, terms: Terms) -> Result<Self, Failure> {
        // The driver leaves the choice to whoever is first, and it may be made once.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let alone = |source, terms| Way::Alone(Server::new(source, terms));
        let way = match address.clone() {
            Address::Single(client) => alone(Source::Single(client), terms),
            Address::Sentinel { sentinels, master, login, own } => {
                let source = Source::sentinel(sentinels, master, login, own);
                alone(source.map_err(Failure::no_connection)?, terms)
            }
            Address::Cluster { nodes, login } => Way::Cluster(Cluster::new(nodes, login, terms)?),
        };
        Ok(Self(Arc::new(Inner { address, way })))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.way, Way::Cluster(_))
    }

    /// Sends a command, by `deadline`, to the server that has its key.
    pub(crate) async fn send(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.ask(Ask::one(cmd), false, deadline).await
    }

    /// Sends a command that writes and, right behind it on a connection of their own, one that waits for others to have
    /// what was written. The server's error about the second is its value.
    pub(crate) async fn send_both(
        &self,
        first: &Cmd,
        then: &Cmd,
        deadline: Instant,
    ) -> Result<[Value; 2], Failure> {
        both(self.ask(Ask::two(first, then), true, deadline).await?)
    }

    async fn ask(&self, ask: Ask<'_>, apart: bool, deadline: Instant) -> Result<Value, Failure> {
        match &self.0.way {
            Way::Alone(server) => {
                let turn = server.turn(apart, deadline).await?;
                turn.ready(deadline).await?.ask(&ask, deadline).await
            }
            Way::Cluster(cluster) => cluster.ask(ask, apart, deadline).await,
        }
    }

    /// Sends a command to one of the servers.
    pub(crate) async fn send_to(&self, node: &Node, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let ready = self.server(node)?.ready(deadline).await?;
        ready.ask(&Ask::one(cmd), deadline).await
    }

    /// Each server that has a part of the keys.
    pub(crate) async fn nodes(&self, deadline: Instant) -> Result<Vec<Node>, Failure> {
        self.parts(deadline).await.map(|(nodes, _)| nodes)
    }

    /// The same, and of a cluster how many hash slots they have together.
    pub(crate) async fn parts(&self, deadline: Instant) -> Result<(Vec<Node>, Option<usize>), Failure> {
        let Way::Cluster(cluster) = &self.0.way else { return Ok((vec![Node::Only], None)) };
        let (masters, slots) = cluster.masters(deadline).await?;
        Ok((masters.into_iter().map(|(host, port)| Node::At { host, port }).collect(), Some(slots)))
    }

    /// A connection to hear what is published: of a cluster's any server will do.
    pub(crate) async fn listener(&self, deadline: Instant) -> Result<PubSub, Failure> {
        let listener = async {
            match &self.0.way {
                Way::Alone(server) => server.listener().await,
                Way::Cluster(cluster) => cluster.listener().await,
            }
        };
        timeout_at(deadline, listener).await.unwrap_or_else(|_| Err(Failure::no_connection_yet()))
    }

    fn server(&self, node: &Node) -> Result<Server, Failure> {
        match (&self.0.way, node) {
            (Way::Cluster(cluster), Node::At { host, port }) => cluster.server(&(host.clone(), *port)),
            (Way::Alone(server), _) => Ok(server.clone()),
            (Way::Cluster(_), Node::Only) => unreachable!("a cluster's servers have addresses"),
        }
    }
}

/// Of two that were sent together.
fn both(said: Value) -> Result<[Value; 2], Failure> {
    let Value::Array(values) = said else { return Err(Failure::nonsense()) };
    <[Value; 2]>::try_from(values).map_err(|_| Failure::nonsense())
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0.address {
            Address::Single(_) => "single",
            Address::Sentinel { .. } => "sentinel",
            Address::Cluster { .. } => "cluster",
        };
        f.debug_tuple("Link").field(&kind).finish()
    }
}
