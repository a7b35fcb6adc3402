//! [`Server`]: a connection that all calls share, and some for the writes that wait for others.
//!
//! A server that was told to WAIT answers nothing else on that connection before it has waited. So a write that waits for
//! replicas or disks has a connection to itself meanwhile, of a few that are made as they are needed, and it is written
//! on the same: WAIT speaks of what came before it there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{RedisResult, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::Terms;
use crate::error::Failure;
use crate::lane::{Lane, Live, Opener};
use crate::source::{Ask, Source};

/// How long it may take until there is a connection, and it was found to be one to a server that is safe.
const OPEN: Duration = Duration::from_secs(10);

/// How many writes wait for others at a time; the rest wait for these.
const WAITING: usize = 32;

/// Where calls go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) opening: Arc<Opening>,
    shared: Arc<Lane>,
    /// For writes that wait.
    waiting: Arc<Waiting>,
}

/// What makes the connections.
pub(super) struct Opening {
    pub(super) source: Source,
    pub(super) terms: Terms,
}

/// Lanes that one call has at a time.
struct Waiting {
    permits: Arc<Semaphore>,
    /// Those that nobody has: the last one is taken first, so that no more connect than are needed.
    free: Mutex<Vec<Arc<Lane>>>,
}

/// One of them, until this is dropped.
struct Taken {
    of: Arc<Waiting>,
    lane: Arc<Lane>,
    /// An answer is on its way that nobody waits for: the next one would come behind it.
    late: bool,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Taken {
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
    fn new(within: Duration) -> Self {
        let free = (0..WAITING).map(|_| Arc::new(Lane::new(within))).collect();
        Self { permits: Arc::new(Semaphore::new(WAITING)), free: Mutex::new(free) }
    }

    async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Taken, Failure> {
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await else {
            return Err(Failure::no_turn());
        };
        let lane = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // As many as there are permits.
        let lane = lane.ok_or_else(Failure::no_turn)?;
        Ok(Taken { of: Arc::clone(self), lane, late: true, _permit: permit })
    }
}

/// Whoever has this may connect, and ask.
pub(super) struct Turn {
    opening: Arc<Opening>,
    lane: Arc<Lane>,
    taken: Option<Taken>,
}

/// A connection to it, to be asked.
pub(super) struct Ready {
    lane: Arc<Lane>,
    live: Arc<Live>,
    taken: Option<Taken>,
}

impl Server {
    pub(super) fn new(source: Source, terms: Terms) -> Self {
        let shared = Arc::new(Lane::new(Duration::ZERO));
        let waiting = Arc::new(Waiting::new(terms.within));
        Self { opening: Arc::new(Opening { source, terms }), shared, waiting }
    }

    /// On the connection that all share, or on one that nobody else has meanwhile.
    pub(super) async fn turn(&self, apart: bool, deadline: Instant) -> Result<Turn, Failure> {
        let taken = if apart { Some(self.waiting.take(deadline).await?) } else { None };
        let lane = Arc::clone(taken.as_ref().map_or(&self.shared, |taken| &taken.lane));
        Ok(Turn { opening: Arc::clone(&self.opening), lane, taken })
    }

    /// The connection that all share.
    pub(super) async fn ready(&self, deadline: Instant) -> Result<Ready, Failure> {
        self.turn(false, deadline).await?.ready(deadline).await
    }

    /// Whether calls find a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// A connection to hear what is published.
    pub(super) async fn listener(&self) -> Result<PubSub, Failure> {
        self.opening.source.listener().await.map_err(Failure::no_connection)
    }
}

impl Turn {
    pub(super) fn is_connected(&self) -> bool {
        self.lane.is_connected()
    }

    pub(super) async fn ready(self, deadline: Instant) -> Result<Ready, Failure> {
        let live = self.lane.live(&self.opening, deadline).await?;
        Ok(Ready { lane: self.lane, live, taken: self.taken })
    }
}

impl Ready {
    /// Of two the answer is an array, and the server's error about the second is its value.
    pub(super) async fn ask(mut self, ask: &Ask<'_>, deadline: Instant) -> Result<Value, Failure> {
        let said = self.lane.ask(&self.live, ask, deadline).await?;
        let said = match said {
            Ok(Value::Array(values)) if ask.is_two() => match values.first() {
                Some(Value::ServerError(error)) => Err(Failure::of(error.clone().into())),
                _ => Ok(Value::Array(values)),
            },
            said => unless_error(said),
        };
        if let Some(taken) = &mut self.taken {
            // Otherwise perhaps an answer is still on its way.
            taken.late = said.is_err();
        }
        self.unless_broken(said)
    }

    /// What comes back, whatever it is.
    pub(super) async fn hear(&self, ask: &Ask<'_>, deadline: Instant) -> Result<RedisResult<Value>, Failure> {
        self.lane.ask(&self.live, ask, deadline).await
    }

    /// A connection that can't be used any more is made anew by the next call.
    pub(super) fn unless_broken<T>(&self, said: Result<T, Failure>) -> Result<T, Failure> {
        said.inspect_err(|failure| {
            if failure.broken {
                self.lane.leave(&self.live);
            }
        })
    }
}

pub(super) fn unless_error(said: RedisResult<Value>) -> Result<Value, Failure> {
    match said {
        Ok(Value::ServerError(error)) => Err(Failure::of(error.into())),
        said => said.map_err(Failure::of),
    }
}

impl Opener for Opening {
    async fn open(&self) -> Result<MultiplexedConnection, Failure> {
        let open = async {
            let connection = self.source.connect().await?;
            self.fits(&connection).await?;
            if let Some(count) = &self.terms.count {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(connection)
        };
        timeout(OPEN, open).await.unwrap_or_else(|_| Err(Failure::no_connection_yet()))
    }
}
