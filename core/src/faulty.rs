//! [`Faulty`]: a store around a store, which breaks calls on purpose.

mod fault;
mod gate;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub use fault::{Fault, Method, Odds};
pub use gate::Gate;

use crate::admin::{Finding, IdempotencyAdmin, Page, Resolution, ResolveOutcome, ScanRequest, Seen, Stats};
use crate::error::{Effect, ErrorKind, StoreError};
use crate::outcome::{CompleteOutcome, ReleaseOutcome, RenewOutcome, ReservationOutcome};
use crate::record::Entry;
use crate::request::{Completion, Renewal, ReserveRequest};
use crate::slot::Slot;
use crate::store::{IdempotencyStore, Limits};
use crate::token::{Fence, Grant, Token};
use crate::watch::Watch;

/// A store for tests of what is built on one: each call goes through to the inner store, unless a fault
/// is due for its method, by script ([`next`](Self::next)) or by chance ([`seeded`](Self::seeded)).
///
/// Clones share their faults, so a test keeps one and gives the other away. Behind the feature
/// `test-util`.
///
/// ```
/// use oncekey_core::*;
///
/// # #[cfg(feature = "runner")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Does our service pay once, when the answer to its `complete` is lost on the way?
/// let store = Faulty::new(MemoryStore::new());
/// store.next(Method::Complete, Fault::AnswerLost);
///
/// let idempotency = Idempotency::at_least_once(store.clone());
/// let slot = Principal::new("shop-17")?.slot("order-4711")?;
/// let call = || idempotency.call(&slot, Fingerprint::builder("pay/v1").part("9 EUR").finish());
/// let pay = async |_held: Held| Ok::<_, std::io::Error>(b"paid".to_vec());
///
/// assert!(matches!(call().run(pay).await?, RunOutcome::Done { how: How::Ran, .. }));
/// assert_eq!(store.calls(Method::Complete), 2, "it was asked again, with the same grant");
/// assert!(matches!(call().run(pay).await?, RunOutcome::Done { how: How::Replayed, .. }));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "runner"))]
/// # fn main() {}
/// ```
pub struct Faulty<S>(Arc<Inner<S>>);

struct Inner<S> {
    store: S,
    state: Mutex<State<S>>,
}

struct State<S> {
    scripts: HashMap<Method, VecDeque<Option<Fault>>>,
    chance: Option<Chance>,
    calls: HashMap<Method, u64>,
    late: Vec<Late<S>>,
}

struct Chance {
    seed: u64,
    random: fastrand::Rng,
    odds: HashMap<Method, Odds>,
}

/// A call that is applied when the test says so. Its answer is heard by nobody.
type Late<S> = Box<dyn FnOnce(Arc<Inner<S>>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

fn late<S, F, A>(call: F) -> Option<Late<S>>
where
    S: Send + Sync + 'static,
    F: FnOnce(Arc<Inner<S>>) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    Some(Box::new(move |inner| Box::pin(call(inner))))
}

impl<S> Faulty<S> {
    /// Around `store`, without a fault until one is asked for.
    pub fn new(store: S) -> Self {
        Self::with(store, None)
    }

    /// Around `store`, with random faults: the same seed and the same order of calls give the same
    /// faults. Nothing fails before [`odds`](Self::odds) are set. Print the seed when a test fails; the
    /// `Debug` of this shows it too.
    ///
    /// ```
    /// use oncekey_core::*;
    /// let store = Faulty::seeded(MemoryStore::new(), 7);
    /// store.odds(Method::ALL, Odds::none().refused(0.1).answer_lost(0.1));
    /// ```
    pub fn seeded(store: S, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self::with(store, Some(Chance { seed, random, odds: HashMap::new() }))
    }

    fn with(store: S, chance: Option<Chance>) -> Self {
        let state = State { scripts: HashMap::new(), chance, calls: HashMap::new(), late: Vec::new() };
        Self(Arc::new(Inner { store, state: Mutex::new(state) }))
    }

    /// How often these methods fail from now on, in a store that is [`seeded`](Self::seeded).
    pub fn odds(&self, methods: impl IntoIterator<Item = Method>, odds: Odds) {
        if let Some(chance) = &mut self.state().chance {
            chance.odds.extend(methods.into_iter().map(|method| (method, odds)));
        }
    }

    /// The next call of `method` meets `fault`; said twice, the one after it too. A script goes before
    /// chance.
    pub fn next(&self, method: Method, fault: Fault) {
        self.state().scripts.entry(method).or_default().push_back(Some(fault));
    }

    /// The next call of `method` goes through: for a script whose fault is due later.
    pub fn next_passes(&self, method: Method) {
        self.state().scripts.entry(method).or_default().push_back(None);
    }

    /// The next call of `method` waits, before it is applied, until the gate opens.
    ///
    /// ```
    /// use oncekey_core::*;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Faulty::new(MemoryStore::new());
    /// let slot = Principal::new("shop-17")?.slot("order-4711")?;
    /// let gate = store.hold_next(Method::Lookup);
    /// let look = tokio::spawn({
    ///     let (store, slot) = (store.clone(), slot.clone());
    ///     async move { store.lookup(&slot).await }
    /// });
    /// gate.reached().await; // the call is there, and waits
    /// gate.open();
    /// assert_eq!(look.await??, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_next(&self, method: Method) -> Gate {
        let gate = Gate::new();
        self.next(method, Fault::Held(gate.clone()));
        gate
    }

    /// The next call of `method` is applied, and waits with its answer until the gate opens.
    pub fn hold_next_answer(&self, method: Method) -> Gate {
        let gate = Gate::new();
        self.next(method, Fault::AnswerHeld(gate.clone()));
        gate
    }

    /// How often `method` was called, whatever became of it.
    pub fn calls(&self, method: Method) -> u64 {
        self.state().calls.get(&method).copied().unwrap_or(0)
    }

    /// How many late calls wait to be delivered.
    pub fn undelivered(&self) -> usize {
        self.state().late.len()
    }

    /// Applies every late call, in the order in which they were made, and says how many.
    pub async fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut self.state().late);
        let count = late.len();
        for call in late {
            call(Arc::clone(&self.0)).await;
        }
        count
    }

    /// The store inside: what is called there meets no fault and is not counted.
    pub fn inner(&self) -> &S {
        &self.0.store
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault_for(&self, method: Method) -> Option<Fault> {
        let mut state = self.state();
        *state.calls.entry(method).or_default() += 1;
        if let Some(scripted) = state.scripts.get_mut(&method).and_then(VecDeque::pop_front) {
            return scripted;
        }
        let Chance { random, odds, .. } = state.chance.as_mut()?;
        odds.get(&method).and_then(|odds| odds.draw(random))
    }

    /// A call through its fault, if one is due. `ghost` is a copy of the call, where it writes.
    async fn through<T>(
        &self,
        method: Method,
        ghost: Option<Late<S>>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let name = method.name();
        let lost = |message| StoreError::new(ErrorKind::Timeout, name, Effect::Unknown, message);
        match self.fault_for(method) {
            None => call.await,
            Some(Fault::Refused(kind)) => Err(StoreError::new(
                kind,
                name,
                Effect::NotApplied,
                "refused on purpose, before it was applied",
            )),
            Some(Fault::AnswerLost) => {
                let _lost = call.await;
                Err(lost("the answer was lost on purpose, after it was applied"))
            }
            Some(Fault::Late) => {
                self.state().late.extend(ghost);
                Err(lost("delayed on purpose: it is applied when the test delivers it"))
            }
            Some(Fault::Ghost) => {
                self.state().late.extend(ghost);
                call.await
            }
            Some(Fault::Held(gate)) => {
                gate.pass().await;
                call.await
            }
            Some(Fault::AnswerHeld(gate)) => {
                let answer = call.await;
                gate.pass().await;
                answer
            }
        }
    }
}

impl<S> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: fmt::Debug> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.state().chance.as_ref().map(|chance| chance.seed);
        f.debug_struct("Faulty").field("store", &self.0.store).field("seed", &seed).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: IdempotencyStore> IdempotencyStore for Faulty<S> {
    fn limits(&self) -> Limits {
        self.0.store.limits()
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.ensure_schema().await));
        self.through(Method::EnsureSchema, ghost, self.0.store.ensure_schema()).await
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        let (at, what) = (slot.clone(), *request);
        let ghost = late(async move |inner: Arc<Inner<S>>| {
            drop(inner.store.reserve_or_fetch(&at, token, &what).await);
        });
        self.through(Method::Reserve, ghost, self.0.store.reserve_or_fetch(slot, token, request)).await
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        let (at, by, what) = (slot.clone(), grant.clone(), renewal.clone());
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.renew(&at, &by, &what).await));
        self.through(Method::Renew, ghost, self.0.store.renew(slot, grant, renewal)).await
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        let (at, by, what) = (slot.clone(), grant.clone(), completion.clone());
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.complete(&at, &by, &what).await));
        self.through(Method::Complete, ghost, self.0.store.complete(slot, grant, completion)).await
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        let (at, by) = (slot.clone(), grant.clone());
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.release(&at, &by).await));
        self.through(Method::Release, ghost, self.0.store.release(slot, grant)).await
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        self.through(Method::Lookup, None, self.0.store.lookup(slot)).await
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.garbage_collect(limit).await));
        self.through(Method::GarbageCollect, ghost, self.0.store.garbage_collect(limit)).await
    }

    /// Meets no fault: it is a hint, which may get lost without one.
    fn watch(&self, slot: &Slot) -> Watch {
        self.0.store.watch(slot)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: IdempotencyAdmin> IdempotencyAdmin for Faulty<S> {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        let (at, what) = (slot.clone(), resolution.clone());
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.resolve(&at, seen, &what).await));
        self.through(Method::Resolve, ghost, self.0.store.resolve(slot, seen, resolution)).await
    }

    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        let at = slot.clone();
        let ghost = late(async move |inner: Arc<Inner<S>>| drop(inner.store.purge(&at, fence).await));
        self.through(Method::Purge, ghost, self.0.store.purge(slot, fence)).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        self.through(Method::Scan, None, self.0.store.scan(request)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.through(Method::Stats, None, self.0.store.stats()).await
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        self.through(Method::Assess, None, self.0.store.assess()).await
    }
}
