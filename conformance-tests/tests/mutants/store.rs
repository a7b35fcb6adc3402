//! The store of all mutants: records in a map under one lock, decided by the state machine, with a place
//! for each way to be wrong.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oncekey_conformance::{BoxError, Capabilities, Capability, Faults, Harness, Namespace, TimeControl};
use oncekey_core::state::{self, Answer, Change, Operation, Record, Step};
use oncekey_core::{
    Clock, CompleteOutcome, Completion, Cursor, Entry, Fence, Finding, Grant, IdempotencyAdmin,
    IdempotencyStore, Limits, Page, ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome,
    ReserveRequest, Resolution, ResolveOutcome, ScanRequest, Seen, Severity, Slot, Stats, StoreError,
    Summary, Timestamp, Token, Watch, Watchers, async_trait,
};
use tokio::sync::{Semaphore, oneshot};

use crate::mutant::{Mutant, Wrong};

/// Everything that is kept, by the key that it is kept under.
pub(crate) type Records = BTreeMap<Vec<u8>, (Slot, Record)>;
/// A call that waits to be made together with others, and where its answer goes.
pub(crate) type Waiting = (Slot, Operation, oneshot::Sender<Answer>);

/// What the clients of a namespace share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) records: Mutex<Records>,
    /// So many calls were made, or so many are being made, or so many were written.
    pub(crate) count: AtomicUsize,
    /// Calls that wait for a batch.
    pub(crate) batch: Mutex<Vec<Waiting>>,
    /// Tries that were given up, and that may still arrive.
    pub(crate) late: Mutex<Vec<(Slot, Operation)>>,
    /// What is in one hand at a time.
    pub(crate) turn: Semaphore,
    /// Whether calls may fail on the way.
    pub(crate) faulty: AtomicBool,
    pub(crate) watchers: Watchers,
    clients: AtomicUsize,
}

/// One client of a namespace.
#[derive(Debug)]
pub(crate) struct Client {
    mutant: Mutant,
    clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
    pub(crate) connected_at: Timestamp,
    /// What it keeps for itself of what it read or wrote.
    pub(crate) own: Mutex<HashMap<Vec<u8>, Option<Record>>>,
    /// Whether what it writes stays with it.
    pub(crate) apart: Arc<AtomicBool>,
    /// Those who watch through it, where it wakes nobody else.
    pub(crate) watchers: Watchers,
    /// As many calls as it may make at once.
    pub(crate) permits: Semaphore,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    pub(crate) fn now(&self) -> Timestamp {
        match self.mutant.wrong {
            Wrong::StandsStill => self.connected_at,
            _ => self.clock.now(),
        }
    }

    pub(crate) fn key(&self, slot: &Slot) -> Vec<u8> {
        match self.mutant.wrong {
            Wrong::Keys(key) => key(slot),
            _ => slot.to_bytes(),
        }
    }

    pub(crate) fn read(&self, slot: &Slot) -> Option<Record> {
        lock(&self.shared.records).get(&self.key(slot)).map(|(_, record)| record.clone())
    }

    pub(crate) fn write(&self, slot: &Slot, change: Change) {
        self.change(&mut lock(&self.shared.records), slot, change);
    }

    fn change(&self, records: &mut Records, slot: &Slot, change: Change) {
        let wakes = match self.mutant.wrong {
            Wrong::Wakes(wakes) => wakes(&change),
            Wrong::WakesEarly => false,
            _ => change.wakes(),
        };
        match change {
            Change::Keep => {}
            Change::Put(record) => {
                let record = match self.mutant.wrong {
                    Wrong::Keeps(keep) => keep(record),
                    _ => record,
                };
                records.insert(self.key(slot), (slot.clone(), record));
            }
            Change::Delete => drop(records.remove(&self.key(slot))),
        }
        if wakes {
            self.shared.watchers.wake(slot);
            self.watchers.wake(slot);
        }
    }

    /// One atomic step, as it should be but for what the mutant decides.
    pub(crate) fn step(&self, slot: &Slot, call: &Operation) -> Answer {
        let decide = match self.mutant.wrong {
            Wrong::Decides(decide) => decide,
            _ => state::step,
        };
        self.step_by(slot, |record, now| decide(record, call, now))
    }

    pub(crate) fn step_by<A>(
        &self,
        slot: &Slot,
        decide: impl FnOnce(Option<&Record>, Timestamp) -> Step<A>,
    ) -> A {
        let mut records = lock(&self.shared.records);
        let record = records.get(&self.key(slot)).map(|(_, record)| record.clone());
        let step = decide(record.as_ref(), self.now());
        self.change(&mut records, slot, step.change);
        step.answer
    }

    /// Lets others in.
    pub(crate) async fn pause(&self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    async fn call(&self, slot: &Slot, call: Operation) -> Result<Answer, StoreError> {
        match self.mutant.wrong {
            Wrong::Calls(make) | Wrong::Fails(make) | Wrong::Hangs(make) => make(self, slot, &call).await,
            Wrong::WakesEarly if !matches!(call, Operation::Reserve { .. } | Operation::Lookup) => {
                self.shared.watchers.wake(slot);
                self.pause().await;
                Ok(self.step(slot, &call))
            }
            _ => Ok(self.step(slot, &call)),
        }
    }

    fn check(&self, completion: &Completion, operation: &'static str) -> Result<(), StoreError> {
        let limits = self.limits();
        let checked = match self.mutant.wrong {
            Wrong::Checks(check) => check(limits, completion),
            _ => limits.check(completion),
        };
        checked.map_err(|e| e.in_operation(operation))
    }

    /// Deletes up to `limit` records of those that `are_over`.
    pub(crate) fn collect(&self, limit: usize, are_over: impl Fn(&Record, Timestamp) -> bool) -> u64 {
        let mut records = lock(&self.shared.records);
        let now = self.now();
        let over = records.iter().filter(|(_, (_, record))| are_over(record, now));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).take(limit).collect();
        over.iter().filter(|key| records.remove(*key).is_some()).count() as u64
    }
}

/// A page of what `show` shows of each record, in the order of the keys, after `after`.
pub(crate) fn page(
    records: &Records,
    request: &ScanRequest,
    show: impl Fn(&Slot, &Record) -> Option<Summary>,
) -> Page {
    let limit = usize::try_from(request.limit.get()).unwrap_or(usize::MAX);
    let after = request.after.as_ref().map(Cursor::as_bytes);
    let rest = records.iter().filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
    let mut found: Vec<_> =
        rest.filter_map(|(key, (slot, record))| Some((key, show(slot, record)?))).take(limit + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(key, _)| Cursor::from_bytes((*key).clone()));
    Page::new(found.into_iter().map(|(_, summary)| summary).collect(), next)
}

/// What a call answers is of the call's own kind.
macro_rules! answer {
    ($kind:ident, $answer:expr) => {
        match $answer {
            Answer::$kind(answer) => Ok(answer),
            other => panic!("{} was answered with {other:?}", stringify!($kind)),
        }
    };
}

#[async_trait]
impl IdempotencyStore for Client {
    fn limits(&self) -> Limits {
        Limits::default()
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        if let Wrong::Ensures(ensure) = self.mutant.wrong {
            ensure(&mut lock(&self.shared.records));
        }
        Ok(())
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        let call = Operation::Reserve { token, request: *request };
        let answer: Result<_, StoreError> = answer!(Reserve, self.call(slot, call).await?);
        Ok(answer??)
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        let call = Operation::Renew { grant: grant.clone(), renewal: renewal.clone() };
        answer!(Renew, self.call(slot, call).await?)
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.check(completion, "complete")?;
        let call = Operation::Complete { grant: grant.clone(), completion: completion.clone() };
        answer!(Complete, self.call(slot, call).await?)
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        answer!(Release, self.call(slot, Operation::Release { grant: grant.clone() }).await?)
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        answer!(Lookup, self.call(slot, Operation::Lookup).await?)
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        match self.mutant.wrong {
            Wrong::Collects(collect) => collect(self, limit).await,
            _ => Ok(self.collect(limit, Record::is_expired)),
        }
    }

    fn watch(&self, slot: &Slot) -> Watch {
        match self.mutant.wrong {
            Wrong::Watches(watch) => watch(self, slot),
            _ => self.shared.watchers.watch(slot),
        }
    }
}

#[async_trait]
impl IdempotencyAdmin for Client {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        if let Resolution::Complete(completion) = resolution {
            self.check(completion, "resolve")?;
        }
        let call = Operation::Resolve { seen, resolution: resolution.clone() };
        answer!(Resolve, self.call(slot, call).await?)
    }

    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        answer!(Purge, self.call(slot, Operation::Purge { fence }).await?)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        let mut records = lock(&self.shared.records);
        let now = self.now();
        Ok(match self.mutant.wrong {
            Wrong::Scans(scan) => scan(&mut records, request, now),
            _ => page(&records, request, |slot, record| Summary::of(slot, record, now, request.filter)),
        })
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let records = lock(&self.shared.records);
        if let Wrong::Counts(count) = self.mutant.wrong {
            return Ok(count(&records, self.now()));
        }
        let mut stats = Stats::default();
        records.values().for_each(|(_, record)| stats.count(record, self.now()));
        Ok(stats)
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(match self.mutant.wrong {
            Wrong::Assesses(assess) => assess(),
            _ => vec![Finding::new("test.durability", Severity::Danger, "records live in a test's memory")],
        })
    }
}

/// Makes a namespace's calls fail on the way.
struct Wire(Arc<Shared>);

impl Faults for Wire {
    fn begin(&self) {
        self.0.faulty.store(true, Ordering::SeqCst);
    }
    fn end(&self) {
        self.0.faulty.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl Harness for Mutant {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        match self.wrong {
            Wrong::Lacks(capability) => Capabilities::all().without(capability),
            Wrong::Fails(_) => Capabilities::all().with(Capability::Faults),
            _ => Capabilities::all(),
        }
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let (mutant, clock) = (*self, Clock::shiftable());
        let shared = Arc::new(Shared {
            records: Mutex::default(),
            count: AtomicUsize::new(0),
            batch: Mutex::default(),
            late: Mutex::default(),
            turn: Semaphore::new(1),
            faulty: AtomicBool::new(false),
            watchers: Watchers::new(),
            clients: AtomicUsize::new(0),
        });
        let (faults, time) = (Arc::clone(&shared), TimeControl::clock(clock.clone()));
        let connect = move || -> Result<Arc<dyn IdempotencyAdmin>, BoxError> {
            Ok(Arc::new(Client {
                mutant,
                clock: clock.clone(),
                shared: Arc::clone(&shared),
                number: shared.clients.fetch_add(1, Ordering::SeqCst),
                connected_at: clock.now(),
                own: Mutex::default(),
                apart: Arc::default(),
                watchers: Watchers::new(),
                permits: Semaphore::new(3),
            }))
        };
        Ok(Namespace::new(time, connect).with_faults(Wire(faults)))
    }
}
