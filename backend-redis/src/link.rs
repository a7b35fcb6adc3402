//! [`Link`]: the connections of a store: one that all calls share, and some for the writes that wait for others.
//!
//! The driver sends what waits on one connection together, so one is enough. It is made by the first call, and by the
//! first after one was lost: Sentinel is asked for its master each time.
//!
//! A server that was told to WAIT answers nothing else on that connection before it has waited. So a write that waits for
//! replicas or disks has a connection to itself meanwhile, of a few that are made as they are needed, and it is written
//! on the same: WAIT speaks of what came before it there.

mod beside;
mod fit;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::PubSub;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::address::Address;
use crate::error::Failure;
use crate::lane::{Lane, Live, Opener};
use crate::source::{Ask, Connection, Source};
pub(crate) use crate::source::{Node, text};
use crate::topology::{self, Topology};

/// How long it may take until there is a connection, and it was found to be one to a server that is safe.
const OPEN: Duration = Duration::from_secs(10);

/// How many writes wait for others at a time; the rest wait for these.
const WAITING: usize = 32;
/// The same in a cluster, where each needs a connection to every server.
const WAITING_IN_CLUSTER: usize = 8;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    address: Address,
    opening: Arc<Opening>,
    shared: Arc<Lane>,
    /// For writes that wait.
    waiting: Waiting,
}

/// What makes the connections.
struct Opening {
    source: Source,
    may_evict: bool,
    /// Whether it is there to look at what is wrong: then no server is refused for what it is.
    looks: bool,
    /// Where connections are counted, in tests.
    count: Option<Arc<AtomicU64>>,
}

/// Lanes that one call has at a time.
struct Waiting {
    permits: Semaphore,
    /// Those that nobody has: the last one is taken first, so that no more connect than are needed.
    free: Mutex<Vec<Arc<Lane>>>,
}

/// One of them, until this is dropped.
struct Taken<'a> {
    of: &'a Waiting,
    lane: Arc<Lane>,
    /// An answer is on its way that nobody waits for: the next one would come behind it.
    late: bool,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let lane = Arc::clone(&self.lane);
        let mut free = self.of.free.lock().unwrap_or_else(PoisonError::into_inner);
        if self.late {
            free.insert(0, lane);
        } else {
            free.push(lane);
        }
    }
}

impl Waiting {
    fn new(lanes: usize, within: Duration) -> Self {
        let free = (0..lanes).map(|_| Arc::new(Lane::new(within))).collect();
        Self { permits: Semaphore::new(lanes), free: Mutex::new(free) }
    }

    async fn take(&self, deadline: Instant) -> Result<Taken<'_>, Failure> {
        let Ok(Ok(permit)) = timeout_at(deadline, self.permits.acquire()).await else {
            return Err(Failure::no_turn());
        };
        let lane = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // As many as there are permits.
        let lane = lane.ok_or_else(Failure::no_turn)?;
        Ok(Taken { of: self, lane, late: true, _permit: permit })
    }
}

impl Link {
    /// `within` is what a write waits for others, where it does.
    pub(crate) fn new(
        address: Address,
        within: Option<Duration>,
        may_evict: bool,
        count: Option<Arc<AtomicU64>>,
    ) -> Result<Self, Failure> {
        Self::of(address, within, may_evict, false, count)
    }

    fn of(
        address: Address,
        within: Option<Duration>,
        may_evict: bool,
        looks: bool,
        count: Option<Arc<AtomicU64>>,
    ) -> Result<Self, Failure> {
        let within = within.unwrap_or_default();
        let source = Source::new(address.clone(), within).map_err(Failure::no_connection)?;
        let waiting = if matches!(source, Source::Cluster(_)) { WAITING_IN_CLUSTER } else { WAITING };
        let opening = Arc::new(Opening { source, may_evict, looks, count });
        let shared = Arc::new(Lane::new(Duration::ZERO));
        let waiting = Waiting::new(waiting, within);
        Ok(Self(Arc::new(Inner { address, opening, shared, waiting })))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.0.opening.is_cluster()
    }

    /// Sends a command, by `deadline`, to the server that has its key.
    pub(crate) async fn send(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.ask(&self.0.shared, &Ask::One(cmd), deadline).await
    }

    /// Sends a command that writes and, right behind it on a connection of their own, one that waits for others to have
    /// what was written. The server's error about the second is its value.
    pub(crate) async fn send_both(
        &self,
        first: &Cmd,
        then: &Cmd,
        deadline: Instant,
    ) -> Result<[Value; 2], Failure> {
        let mut taken = self.0.waiting.take(deadline).await?;
        let lane = Arc::clone(&taken.lane);
        let both = self.ask_both(&lane, &Ask::Two(first, then), deadline).await;
        // Otherwise perhaps an answer is still on its way.
        taken.late = both.is_err();
        both.map(|(both, _)| both)
    }

    /// Sends a command to one of the servers.
    pub(crate) async fn send_to(&self, node: &Node, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let ask = match node {
            Node::Only => Ask::One(cmd),
            Node::At { host, port } => Ask::Of(host, *port, cmd),
        };
        self.ask(&self.0.shared, &ask, deadline).await
    }

    /// Each server that has a part of the keys.
    pub(crate) async fn nodes(&self, deadline: Instant) -> Result<Vec<Node>, Failure> {
        let Source::Cluster(cluster) = &self.0.opening.source else { return Ok(vec![Node::Only]) };
        let said = self.send(&topology::question(), deadline).await?;
        let topology = Topology::read(&said, cluster.asked()).ok_or_else(Failure::nonsense)?;
        Ok(topology.masters().into_iter().map(|(host, port)| Node::At { host, port }).collect())
    }

    /// A connection to hear what is published.
    pub(crate) async fn listener(&self, deadline: Instant) -> Result<PubSub, Failure> {
        match timeout_at(deadline, self.0.opening.source.listener()).await {
            Ok(heard) => heard.map_err(Failure::no_connection),
            Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    async fn ask(&self, lane: &Arc<Lane>, ask: &Ask<'_>, deadline: Instant) -> Result<Value, Failure> {
        let (said, live) = lane.ask(&self.0.opening, ask, deadline).await?;
        unless_broken(self.said(said), lane, &live, ask)
    }

    /// Asks two, and the server's error about the second is its value.
    async fn ask_both(
        &self,
        lane: &Arc<Lane>,
        ask: &Ask<'_>,
        deadline: Instant,
    ) -> Result<([Value; 2], Arc<Live>), Failure> {
        let (said, live) = lane.ask(&self.0.opening, ask, deadline).await?;
        let both = self.said(said).and_then(|values| {
            let Value::Array(values) = values else { return Err(Failure::nonsense()) };
            let Ok([said, also]) = <[Value; 2]>::try_from(values) else { return Err(Failure::nonsense()) };
            Ok([self.said(Ok(said))?, also])
        });
        unless_broken(both, lane, &live, ask).map(|both| (both, live))
    }

    fn said(&self, said: RedisResult<Value>) -> Result<Value, Failure> {
        match said {
            Ok(Value::ServerError(error)) => Err(self.failure(error.into())),
            said => said.map_err(|error| self.failure(error)),
        }
    }

    fn failure(&self, error: RedisError) -> Failure {
        if self.is_cluster() { Failure::of_several(error) } else { Failure::of(error) }
    }
}

/// A connection that can't be used any more is made anew by the next call.
fn unless_broken<T>(
    said: Result<T, Failure>,
    lane: &Lane,
    live: &Arc<Live>,
    ask: &Ask<'_>,
) -> Result<T, Failure> {
    said.inspect_err(|failure| {
        if failure.broken {
            lane.leave(live, ask);
        }
    })
}

impl Opener for Opening {
    async fn open(&self) -> Result<Connection, Failure> {
        let open = async {
            let connection = self.source.connect().await?;
            self.fits(&connection).await?;
            if let Some(count) = &self.count {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(connection)
        };
        timeout(OPEN, open).await.unwrap_or_else(|_| Err(Failure::no_connection_yet()))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0.opening.source {
            Source::Single(_) => "single",
            Source::Sentinel(_) => "sentinel",
            Source::Cluster(_) => "cluster",
        };
        f.debug_tuple("Link").field(&kind).finish()
    }
}
