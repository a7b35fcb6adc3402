//! What the author of a store gives the suite: a [`Harness`] that opens namespaces of it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::{Clock, IdempotencyAdmin, MemoryStore, async_trait};

/// Any error of the harness's own: it fails the case, with its text.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// How the suite gets at a store.
///
/// ```
/// use oncekey_conformance::{BoxError, Harness, Namespace, TimeControl};
/// use oncekey_core::{Clock, IdempotencyAdmin, MemoryStore, async_trait};
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct Memory;
///
/// #[async_trait]
/// impl Harness for Memory {
///     fn name(&self) -> &str {
///         "memory"
///     }
///     async fn open(&self) -> Result<Namespace, BoxError> {
///         let clock = Clock::shiftable();
///         let store = MemoryStore::builder().clock(clock.clone()).build();
///         Ok(Namespace::new(TimeControl::clock(clock), move || Ok(Arc::new(store.clone()))))
///     }
/// }
/// ```
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync + 'static {
    /// The store's name, in reports.
    fn name(&self) -> &str;

    /// What the store can do; everything unless said otherwise. Cases that need what it lacks are shown as
    /// ignored, and an operation that it lacks must answer
    /// [`Unsupported`](oncekey_core::ErrorKind::Unsupported).
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    /// Opens a namespace that nobody has used: empty, its schema ready, its clock unmoved. Each case
    /// runs in one of its own.
    ///
    /// # Errors
    /// Whatever went wrong; the case fails with it.
    async fn open(&self) -> Result<Namespace, BoxError>;
}

type Client = Arc<dyn IdempotencyAdmin>;
type Connect = Arc<dyn Fn() -> Result<Client, BoxError> + Send + Sync>;

/// An empty place to keep records in, with the means to reach it and to move its time. Dropping it
/// clears it away.
#[derive(Clone)]
pub struct Namespace {
    time: TimeControl,
    connect: Connect,
    faults: Option<Arc<dyn Faults>>,
    /// Whatever must live as long as the namespace: a temporary folder, say.
    keep: Vec<Arc<dyn Send + Sync>>,
}

impl Namespace {
    /// `connect` opens one more independent client of the namespace: a connection of its own, where the
    /// store has connections. It is called from an async context, and may block.
    pub fn new(
        time: TimeControl,
        connect: impl Fn() -> Result<Client, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { time, connect: Arc::new(connect), faults: None, keep: Vec::new() }
    }

    /// Keeps `thing` until the namespace is dropped.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep.push(Arc::new(thing));
        self
    }

    /// With something that makes calls fail; for a harness whose capabilities have
    /// [`Faults`](Capability::Faults).
    #[must_use]
    pub fn with_faults(mut self, faults: impl Faults) -> Self {
        self.faults = Some(Arc::new(faults));
        self
    }

    /// What makes its calls fail, if anything does.
    pub fn faults(&self) -> Option<&Arc<dyn Faults>> {
        self.faults.as_ref()
    }

    /// One more independent client.
    ///
    /// # Errors
    /// What the harness's `connect` said.
    pub fn client(&self) -> Result<Client, BoxError> {
        (self.connect)()
    }

    /// How its time moves.
    pub fn time(&self) -> &TimeControl {
        &self.time
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("time", &self.time).finish_non_exhaustive()
    }
}

/// How the suite moves a namespace's time.
#[derive(Clone)]
pub enum TimeControl {
    /// The store's clock moves at once, for every client of the namespace.
    Shift(Arc<dyn ShiftTime>),
    /// The store's clock can't be moved: the suite works with short leases and waits.
    Wall,
}

/// Moves a store's clock.
pub trait ShiftTime: Send + Sync + 'static {
    /// Forward.
    fn advance(&self, by: Duration);
    /// Back; says whether it could.
    fn rewind(&self, by: Duration) -> bool;
}

/// Makes calls fail, between a namespace's clients and what they talk to: a proxy that cuts connections,
/// or a [`Faulty`](oncekey_core::Faulty) store. Both methods may be called from an async context.
pub trait Faults: Send + Sync + 'static {
    /// From now on calls may fail in every way that a network has: not sent, cut off before or after they
    /// were applied, applied late.
    fn begin(&self);
    /// Calls go through again. Those that were under way may still arrive.
    fn end(&self);
}

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        Clock::advance(self, by);
    }
    fn rewind(&self, by: Duration) -> bool {
        Clock::rewind(self, by);
        true
    }
}

impl TimeControl {
    /// Time that moves with `clock`, made by [`Clock::shiftable`].
    pub fn clock(clock: Clock) -> Self {
        Self::Shift(Arc::new(clock))
    }
}

impl fmt::Debug for TimeControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shift(_) => "Shift",
            Self::Wall => "Wall",
        })
    }
}

/// Something that a store may lack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Capability {
    /// `resolve` (O1).
    Resolve,
    /// `purge` (O2).
    Purge,
    /// `scan` (O2).
    Scan,
    /// `stats`.
    Stats,
    /// `assess` (S11).
    Assess,
    /// `garbage_collect` deletes, counts what it deleted, and nobody else deletes (G1). Without it, the engine
    /// itself deletes what has expired, when it likes.
    Collect,
    /// A watch made through one client completes soon after another client ended the hold (Q2). Without it,
    /// what another client did is found by asking again, and the store wakes at most its own.
    Wake,
    /// Time that moves at once ([`TimeControl::Shift`]).
    ShiftTime,
    /// Time that moves back as well.
    RewindTime,
    /// Calls that fail when the suite says so ([`Namespace::with_faults`]). Not a store's own ability, so not
    /// among [`Capabilities::all`].
    Faults,
}

/// What a store can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Everything that a store can do by itself.
    pub fn all() -> Self {
        use Capability::{Assess, Collect, Purge, Resolve, RewindTime, Scan, ShiftTime, Stats, Wake};
        Self([Resolve, Purge, Scan, Stats, Assess, Collect, Wake, ShiftTime, RewindTime].into())
    }

    /// All of these but `capability`.
    #[must_use]
    pub fn without(mut self, capability: Capability) -> Self {
        self.0.remove(&capability);
        self
    }

    /// All of these and `capability`.
    #[must_use]
    pub fn with(mut self, capability: Capability) -> Self {
        self.0.insert(capability);
        self
    }

    /// Whether `capability` is among these.
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }
}

/// The harness of [`MemoryStore`]: the reference that every other store is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryHarness;

#[async_trait]
impl Harness for MemoryHarness {
    fn name(&self) -> &str {
        "memory"
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let store = MemoryStore::builder().clock(clock.clone()).build();
        Ok(Namespace::new(TimeControl::clock(clock), move || Ok(Arc::new(store.clone()))))
    }
}
