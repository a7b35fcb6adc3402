//! A memory store in tokio's time, which keeps a diary of its calls; and the words the tests use.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncekey_core::*;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

/// What was called, and how many milliseconds after the store was made.
pub(crate) type Diary = Vec<(&'static str, u64)>;

/// A memory store whose clock moves with tokio's, so that paused time ends leases too.
#[derive(Clone, Debug)]
pub(crate) struct Timed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: MemoryStore,
    clock: Clock,
    started: Instant,
    moved: Mutex<Duration>,
    diary: Mutex<Diary>,
    hears: Hears,
    watches: AtomicUsize,
}

/// What those who watch a slot hear.
#[derive(Debug)]
pub(crate) enum Hears {
    /// What the store wrote.
    Writes,
    /// Nothing, and it can be seen that they won't.
    Never,
    /// What the test wakes. What it doesn't is lost.
    Test(Watchers),
    /// That something changed, whenever they ask.
    Always,
}

impl Timed {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Hears::Writes)
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(limits, Hears::Writes)
    }

    pub(crate) fn heard(hears: Hears) -> Self {
        Self::with(Limits::default(), hears)
    }

    fn with(limits: Limits, hears: Hears) -> Self {
        let clock = Clock::frozen(Timestamp::from_micros(1_000_000_000));
        let store = MemoryStore::builder().clock(clock.clone()).limits(limits).build();
        let (started, moved, diary) = (Instant::now(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, clock, started, moved, diary, hears, watches: AtomicUsize::new(0) }))
    }

    pub(crate) fn diary(&self) -> Diary {
        self.0.diary.lock().unwrap().clone()
    }

    /// When `method` was called, in milliseconds.
    pub(crate) fn times(&self, method: &str) -> Vec<u64> {
        self.diary().into_iter().filter(|(name, _)| *name == method).map(|(_, at)| at).collect()
    }

    /// How many watches were made.
    pub(crate) fn watches(&self) -> usize {
        self.0.watches.load(Ordering::SeqCst)
    }

    /// Moves the store's clock alone, as if the holder had been asleep.
    pub(crate) fn skew(&self, by: Duration) {
        self.0.clock.advance(by);
    }

    fn tick(&self) -> &MemoryStore {
        let inner = &*self.0;
        let mut moved = inner.moved.lock().unwrap();
        let elapsed = inner.started.elapsed();
        inner.clock.advance(elapsed - *moved);
        *moved = elapsed;
        &inner.store
    }

    fn called(&self, method: &'static str) -> &MemoryStore {
        let at = u64::try_from(self.0.started.elapsed().as_millis()).unwrap();
        self.0.diary.lock().unwrap().push((method, at));
        self.tick()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyStore for Timed {
    fn limits(&self) -> Limits {
        self.0.store.limits()
    }
    async fn ensure_schema(&self) -> Result<(), StoreError> {
        self.tick().ensure_schema().await
    }
    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        self.called("reserve").reserve_or_fetch(slot, token, request).await
    }
    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        let name = if renewal.lease().is_none() { "hand over" } else { "renew" };
        self.called(name).renew(slot, grant, renewal).await
    }
    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.called("complete").complete(slot, grant, completion).await
    }
    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        self.called("release").release(slot, grant).await
    }
    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        self.tick().lookup(slot).await
    }
    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        self.tick().garbage_collect(limit).await
    }
    fn watch(&self, slot: &Slot) -> Watch {
        let made = self.0.watches.fetch_add(1, Ordering::SeqCst);
        assert!(made < 10_000, "it watches without a pause");
        match &self.0.hears {
            Hears::Writes => self.0.store.watch(slot),
            Hears::Never => Watch::never(),
            Hears::Test(watchers) => watchers.watch(slot),
            Hears::Always => {
                let watchers = Watchers::new();
                let watch = watchers.watch(slot);
                watchers.wake_all();
                watch
            }
        }
    }
}

pub(crate) fn slot() -> Slot {
    Principal::new("tests").unwrap().slot("one").unwrap()
}

pub(crate) fn meaning() -> Fingerprint {
    Fingerprint::builder("tests/v1").part("the work").finish()
}

/// The runner of most tests: a lease of 30 s, and calls repeated for 5 s.
pub(crate) fn at_least_once(store: impl IdempotencyStore) -> Idempotency {
    settings(Idempotency::at_least_once(store))
}

pub(crate) fn at_most_once(store: impl IdempotencyStore) -> Idempotency {
    settings(Idempotency::at_most_once(store))
}

fn settings(runner: Idempotency) -> Idempotency {
    runner.terms(LEASE, RETENTION).unwrap().call_deadline(Duration::from_secs(5))
}

/// A call of the slot that all tests use.
pub(crate) fn call(runner: &Idempotency) -> Call {
    runner.call(&slot(), meaning())
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

pub(crate) type Ran = Result<RunOutcome<Vec<u8>>, RunError<Broken>>;

/// Work that counts how often it began, and answers with its attempt.
#[derive(Clone, Default)]
pub(crate) struct Work(Arc<AtomicUsize>);

impl Work {
    pub(crate) fn began(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs `call` with this work.
    pub(crate) async fn run<P>(&self, call: Call<P>) -> Ran
    where
        P: ErrorPolicy<Vec<u8>, Broken> + Send + 'static,
    {
        let work = self.clone();
        soon(call.run(async move |held: Held| {
            work.begin();
            Ok(format!("attempt {}", held.attempt()).into_bytes())
        }))
        .await
    }

    /// Runs `call` in a task, with work that waits midway; ends when it is there.
    pub(crate) async fn start(&self, call: Call) -> (JoinHandle<Ran>, Midway) {
        let (work, midway) = (self.clone(), Midway::default());
        let there = midway.clone();
        let ran = tokio::spawn(call.run(async move |held: Held| {
            work.begin();
            there.pass().await;
            Ok(format!("attempt {}", held.attempt()).into_bytes())
        }));
        midway.reached().await;
        (ran, midway)
    }
}

/// A place in the work where the test holds it.
#[derive(Clone, Default)]
pub(crate) struct Midway(Arc<Inside>);

#[derive(Default)]
struct Inside {
    reached: Notify,
    opened: Notify,
}

impl Midway {
    pub(crate) async fn pass(&self) {
        self.0.reached.notify_one();
        self.0.opened.notified().await;
    }
    pub(crate) async fn reached(&self) {
        soon(self.0.reached.notified()).await;
    }
    pub(crate) fn open(&self) {
        self.0.opened.notify_one();
    }
}

pub(crate) fn done(value: impl Into<Vec<u8>>, how: How) -> RunOutcome<Vec<u8>> {
    RunOutcome::Done { value: value.into(), how }
}

/// What a stranger who reserves now hears; the grant is left alone.
pub(crate) async fn stranger(store: &impl IdempotencyStore) -> ReservationOutcome {
    stranger_asking(store, Policy::TakeOver).await
}

pub(crate) async fn stranger_asking(store: &impl IdempotencyStore, policy: Policy) -> ReservationOutcome {
    let terms = Terms::new(policy, LEASE, RETENTION).unwrap();
    store.reserve_or_fetch(&slot(), Token::fresh(), &ReserveRequest::new(meaning(), terms)).await.unwrap()
}

/// The grant of a stranger who must get one.
pub(crate) async fn stranger_granted(store: &impl IdempotencyStore) -> Grant {
    match stranger(store).await {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("a stranger should be granted the slot, but heard {other:?}"),
    }
}

/// A stranger completes its grant with `body`.
pub(crate) async fn stranger_completes(store: &impl IdempotencyStore, grant: &Grant, body: StoredResponse) {
    let outcome = store.complete(&slot(), grant, &Completion::new(body)).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Stored);
}

pub(crate) fn body(bytes: &'static str) -> StoredResponse {
    StoredResponse::new(200, "", bytes)
}

pub(crate) async fn pending(store: &impl IdempotencyStore) -> PendingEntry {
    match store.lookup(&slot()).await.unwrap() {
        Some(Entry::Pending(entry)) => entry,
        other => panic!("expected a pending record, found {other:?}"),
    }
}

pub(crate) async fn completed(store: &impl IdempotencyStore) -> IdempotencyRecord {
    match store.lookup(&slot()).await.unwrap() {
        Some(Entry::Completed(record)) => record,
        other => panic!("expected a completed record, found {other:?}"),
    }
}

/// Waits, at most a minute of paused time, until `met`.
pub(crate) async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !met().await {
        assert!(Instant::now() < deadline, "waited a minute, and still not: {what}");
        pass(Duration::from_millis(1)).await;
    }
}

/// What must come within ten minutes of paused time: a test that waits for ever tells nothing.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), what)
        .await
        .expect("waited ten minutes for what never came")
}

/// Lets paused time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// How often each method was called.
pub(crate) fn counts(diary: &Diary) -> BTreeMap<&'static str, usize> {
    diary.iter().fold(BTreeMap::new(), |mut counts, (name, _)| {
        *counts.entry(*name).or_default() += 1;
        counts
    })
}
