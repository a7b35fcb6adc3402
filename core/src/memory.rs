//! [`MemoryStore`]: the state machine behind sharded locks.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use crate::admin::{
    Cursor, Finding, IdempotencyAdmin, Page, Resolution, ResolveOutcome, ScanRequest, Seen, Severity, Stats,
    Summary,
};
use crate::checkpoint::Checkpoint;
use crate::clock::{Clock, Timestamp};
use crate::error::{Effect, ErrorKind, StoreError};
use crate::outcome::{CompleteOutcome, ReleaseOutcome, RenewOutcome, ReservationOutcome};
use crate::record::Entry;
use crate::request::{Completion, Renewal, ReserveRequest};
use crate::slot::Slot;
use crate::state::{self, Change, Record, Step};
use crate::store::{IdempotencyStore, Limits};
use crate::token::{Fence, Grant, Token};
use crate::watch::{Watch, Watchers};

const SHARDS: usize = 64;
/// The default capacity, in records.
pub const DEFAULT_CAPACITY: usize = 1_000_000;
/// The default capacity, in bytes of slots, bodies and checkpoints.
pub const DEFAULT_CAPACITY_BYTES: usize = 1024 * 1024 * 1024;

/// A store in this process's memory, for a service of a single process and for unit tests.
///
/// It keeps every rule of the contract but durability: what it holds ends with the process. Its clones
/// share their records. It is bounded: a reserve that would need a new record beyond the capacity, in
/// records or bytes, answers [`Full`](ErrorKind::Full) (expired records make room first); completing
/// what is reserved always works.
///
/// ```
/// use oncekey_core::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let slot = Principal::new("shop-17")?.slot("order-1")?;
/// let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
///
/// let ReservationOutcome::Reserved(grant) = store.reserve_or_fetch(&slot, Token::fresh(), &request).await? else {
///     unreachable!("nobody else holds it");
/// };
/// let paid = StoredResponse::new(201, "", "paid");
/// assert_eq!(store.complete(&slot, &grant, &Completion::new(paid.clone())).await?, CompleteOutcome::Stored);
///
/// let ReservationOutcome::Replay(record) = store.reserve_or_fetch(&slot, Token::fresh(), &request).await? else {
///     unreachable!("it is done");
/// };
/// assert_eq!(record.response, paid);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    clock: Clock,
    limits: Limits,
    capacity: usize,
    capacity_bytes: usize,
    hasher: RandomState,
    shards: Vec<Mutex<HashTable<Stored>>>,
    records: AtomicUsize,
    bytes: AtomicUsize,
    watchers: Watchers,
}

/// A record where it lies, with its slot's hash: a slot is hashed once a call, by a keyed hash, since a
/// stranger may choose the keys.
struct Stored {
    hash: u64,
    slot: Slot,
    record: Record,
}

type Shard<'a> = MutexGuard<'a, HashTable<Stored>>;

/// Sets up a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryStoreBuilder {
    clock: Clock,
    limits: Limits,
    capacity: usize,
    capacity_bytes: usize,
}

impl MemoryStoreBuilder {
    /// The clock that decides; the host's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What a response may be; 16 MiB by default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// At most so many records; a million by default.
    #[must_use]
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// No new reservation once slots, bodies and checkpoints fill so many bytes; 1 GiB by default.
    #[must_use]
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity_bytes = bytes;
        self
    }

    /// The store, empty.
    pub fn build(self) -> MemoryStore {
        let Self { clock, limits, capacity, capacity_bytes } = self;
        MemoryStore(Arc::new(Inner {
            clock,
            limits,
            capacity,
            capacity_bytes,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            watchers: Watchers::new(),
        }))
    }
}

impl MemoryStore {
    /// An empty store on the host's clock, with the default capacities.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// To choose clock, limits and capacities.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            clock: Clock::system(),
            limits: Limits::default(),
            capacity: DEFAULT_CAPACITY,
            capacity_bytes: DEFAULT_CAPACITY_BYTES,
        }
    }

    /// One atomic step on one slot: the clock is read under the slot's lock (S9).
    fn step<A>(&self, slot: &Slot, decide: impl FnOnce(Option<&Record>, Timestamp) -> Step<A>) -> A {
        let inner = &*self.0;
        let hash = inner.hasher.hash_one(slot);
        let wakes;
        let mut shard = inner.shard_of(hash);
        let answer = match shard.entry(hash, |stored| stored.slot == *slot, |stored| stored.hash) {
            TableEntry::Occupied(mut stored) => {
                let step = decide(Some(&stored.get().record), inner.clock.now());
                wakes = step.change.wakes();
                match step.change {
                    Change::Keep => {}
                    Change::Put(record) => {
                        inner.weigh(weight(slot, &record), weight(slot, &stored.get().record));
                        stored.get_mut().record = record;
                    }
                    Change::Delete => inner.forget(&stored.remove().0),
                }
                step.answer
            }
            TableEntry::Vacant(free) => {
                let step = decide(None, inner.clock.now());
                wakes = false; // Nobody waits for a holder that isn't there.
                if let Change::Put(record) = step.change {
                    inner.weigh(weight(slot, &record), 0);
                    inner.records.fetch_add(1, Ordering::Relaxed);
                    free.insert(Stored { hash, slot: slot.clone(), record });
                }
                step.answer
            }
        };
        drop(shard);
        if wakes {
            inner.watchers.wake(slot);
        }
        answer
    }

    /// Reads one slot, under its lock.
    fn read<A>(&self, slot: &Slot, read: impl FnOnce(Option<&Record>, Timestamp) -> A) -> A {
        let hash = self.0.hasher.hash_one(slot);
        let shard = self.0.shard_of(hash);
        let stored = shard.find(hash, |stored| stored.slot == *slot);
        read(stored.map(|stored| &stored.record), self.0.clock.now())
    }

    /// Deletes up to `limit` expired records of one shard.
    fn collect(&self, shard: &mut Shard<'_>, limit: usize) -> usize {
        let now = self.0.clock.now();
        let expired = shard.extract_if(|stored| stored.record.is_expired(now)).take(limit);
        expired.inspect(|stored| self.0.forget(stored)).count()
    }

    fn is_full(&self) -> bool {
        self.0.records.load(Ordering::Relaxed) >= self.0.capacity
            || self.0.bytes.load(Ordering::Relaxed) >= self.0.capacity_bytes
    }

    /// Whether a reserve of `slot` has room: it has a record already, or one more fits, if need be once
    /// the expired ones are gone.
    fn has_room(&self, slot: &Slot) -> bool {
        if !self.is_full() || self.read(slot, |record, _| record.is_some()) {
            return true;
        }
        self.0.shards.iter().any(|shard| {
            let mut shard = lock(shard);
            self.collect(&mut shard, usize::MAX) > 0 && !self.is_full()
        })
    }
}

impl Inner {
    fn shard_of(&self, hash: u64) -> Shard<'_> {
        // Neither the low bits nor the highest seven, which place a slot within its shard's table.
        let index = usize::try_from((hash >> 48) % SHARDS as u64).unwrap_or(0);
        lock(&self.shards[index])
    }

    /// Counts a record that weighs `new` in the place of one that weighed `old`.
    fn weigh(&self, new: usize, old: usize) {
        if new != old {
            self.bytes.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        }
    }

    /// Counts a record that was deleted.
    fn forget(&self, stored: &Stored) {
        self.weigh(0, weight(&stored.slot, &stored.record));
        self.records.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes that count against the capacity.
fn weight(slot: &Slot, record: &Record) -> usize {
    let payload = match record {
        Record::Pending(p) => p.checkpoint.as_ref().map_or(0, |c: &Checkpoint| c.data().len()),
        Record::Completed(c) => c.record.response.len(),
        Record::Released(_) => 0,
    };
    slot.principal().as_str().len() + slot.key().len() + payload
}

/// A step never panics half-way, so a poisoned shard is whole.
fn lock(shard: &Mutex<HashTable<Stored>>) -> Shard<'_> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.0.records.load(Ordering::Relaxed);
        f.debug_struct("MemoryStore").field("records", &records).finish_non_exhaustive()
    }
}

#[async_trait]
impl IdempotencyStore for MemoryStore {
    fn limits(&self) -> Limits {
        self.0.limits
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        if !self.has_room(slot) {
            let message =
                "the memory store is at its capacity: raise it, shorten the retention, or use a database";
            return Err(StoreError::new(ErrorKind::Full, "reserve_or_fetch", Effect::NotApplied, message));
        }
        Ok(self.step(slot, |record, now| state::reserve_or_fetch(record, token, request, now))?)
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        Ok(self.step(slot, |record, now| state::renew(record, grant, renewal, now)))
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.0.limits.check(completion).map_err(|e| e.in_operation("complete"))?;
        Ok(self.step(slot, |record, now| state::complete(record, grant, completion, now)))
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        Ok(self.step(slot, |record, now| state::release(record, grant, now)))
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        Ok(self.read(slot, state::lookup))
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let mut deleted = 0;
        for shard in &self.0.shards {
            deleted += self.collect(&mut lock(shard), limit - deleted);
        }
        Ok(deleted as u64)
    }

    fn watch(&self, slot: &Slot) -> Watch {
        self.0.watchers.watch(slot)
    }
}

#[async_trait]
impl IdempotencyAdmin for MemoryStore {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        if let Resolution::Complete(completion) = resolution {
            self.0.limits.check(completion).map_err(|e| e.in_operation("resolve"))?;
        }
        Ok(self.step(slot, |record, now| state::resolve(record, seen, resolution, now)))
    }

    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        Ok(self.step(slot, |record, _| state::purge(record, fence)))
    }

    /// In the order of [`Slot`]; each page reads every key.
    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        let after = request
            .after
            .as_ref()
            .map(|cursor| Slot::from_bytes(cursor.as_bytes()).map_err(|e| e.in_operation("scan")))
            .transpose()?;
        let mut found: Vec<Summary> = Vec::new();
        for shard in &self.0.shards {
            let shard = lock(shard);
            let now = self.0.clock.now();
            found.extend(
                shard
                    .iter()
                    .filter(|stored| after.as_ref().is_none_or(|after| stored.slot > *after))
                    .filter_map(|stored| Summary::of(&stored.slot, &stored.record, now, request.filter)),
            );
        }
        found.sort_unstable_by(|a, b| a.slot.cmp(&b.slot));
        let limit = usize::try_from(request.limit.get()).unwrap_or(usize::MAX);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| Cursor::from_bytes(last.slot.to_bytes()));
        Ok(Page::new(found, next))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats::default();
        for shard in &self.0.shards {
            let shard = lock(shard);
            let now = self.0.clock.now();
            shard.iter().for_each(|stored| stats.count(&stored.record, now));
        }
        Ok(stats)
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        let message = "records live in this process's memory: a restart forgets every answer, and a second \
                       process shares none. Use a database where a retry may outlive the process";
        Ok(vec![Finding::new("memory.durability", Severity::Danger, message)])
    }
}

#[cfg(test)]
mod tests;
