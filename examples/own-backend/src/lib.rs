//! A store of one's own: oncekey over [redb](https://docs.rs/redb), written with nothing but the docs of
//! `oncekey-core`.
//!
//! A key-value engine with transactions needs no rules of its own. The state machine is a pure function,
//! [`state`]; a store reads a record, lets it decide, writes what it says, and commits, all in one
//! transaction. What is left is the engine: where its blocking work goes, what its errors mean, and what
//! it keeps through a crash. The README beside this goes through it step by step.
//!
//! ```
//! use oncekey_core::*;
//! use oncekey_example_own_backend::RedbStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("oncekey.redb");
//! let idempotency = Idempotency::at_least_once(RedbStore::open(&path)?);
//! let slot = Principal::new("shop-17")?.slot("order-4711")?;
//! let meaning = Fingerprint::builder("pay/v1").part("9 EUR").finish();
//! for _ in 0..2 {
//!     let outcome = idempotency.call(&slot, meaning).run(async |_| Ok::<_, std::io::Error>(b"paid".to_vec())).await?;
//!     assert_eq!(outcome.into_value().as_deref(), Some(&b"paid"[..]));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - **Durable** (S11). An answer is given after redb's commit, whose default durability survives a crash of
//!   the process and a power cut, as far as the disk honours fsync. A failed commit is of unknown effect.
//! - **One process, one handle.** By default redb lets one process have the file, and one `Database` in it:
//!   another client is a clone of this store. A second process gets an error, and never a second grant.
//! - The clock is the host's.

mod error;
mod queue;
mod records;

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use oncekey_core::state::{self, Change, Record, Step};
use oncekey_core::{
    Clock, CompleteOutcome, Completion, Effect, Entry, Fence, Finding, Grant, IdempotencyAdmin,
    IdempotencyStore, Limits, Page, ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome,
    ReserveRequest, Resolution, ResolveOutcome, ScanRequest, Seen, Severity, Slot, Stats, StoreError,
    Timestamp, Token, Watch, Watchers, async_trait,
};
use redb::{Database, ReadableDatabase};

use crate::error::{Fault, gone, store_error};
use crate::queue::Queue;
use crate::records::{Records, Snapshot};

/// Records that one transaction of a garbage collection deletes: others go in between.
const COLLECT: u32 = 1_000;
/// redb keeps values of up to 3 GiB. A record is a response and a little more.
const LARGEST_RESPONSE: usize = 1 << 30;
/// How often a reserve whose commit took longer than its lease is made again.
const AGAIN: u32 = 3;

/// A store in a redb file. Clones share the database, and that is the only way to have a second client.
///
/// Its calls need a tokio runtime: redb blocks, so they run on the runtime's threads for blocking work.
#[derive(Clone)]
pub struct RedbStore {
    db: Arc<Database>,
    writes: Arc<Queue>,
    clock: Clock,
    limits: Limits,
    watchers: Watchers,
}

impl RedbStore {
    /// Opens the file, creating it and its tables if they aren't there. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] that says what to do: the file is open elsewhere, no redb database, or can't be
    /// written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let db = Database::create(path)
            .map_err(|error| store_error("open", Effect::NotApplied, Arc::new(error.into())))?;
        Self::new(Arc::new(db))
    }

    /// Over a database that the program has open for its own tables already: redb gives out no second
    /// handle. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the tables can't be made.
    pub fn new(db: Arc<Database>) -> Result<Self, StoreError> {
        make_tables(&db, "open")?;
        let (writes, clock, limits) = (Arc::default(), Clock::system(), Limits::default());
        Ok(Self { db, writes, clock, limits, watchers: Watchers::new() })
    }

    /// On another clock than the host's, for tests. Before it is cloned: every client has the same one.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// With another limit on responses than 16 MiB, of at most 1 GiB.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Limits::new(limits.response_bytes.min(LARGEST_RESPONSE));
        self
    }

    /// One step of the state machine on one slot, committed when this answers.
    async fn step<A: Send + 'static>(
        &self,
        operation: &'static str,
        slot: &Slot,
        decide: impl FnOnce(Option<&Record>, Timestamp) -> Step<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let at = slot.clone();
        let work = move |records: &mut Records<'_>, now| {
            let mut wakes = false;
            let answer = records.step(&at, |record| {
                let step = decide(record, now);
                wakes = step.change.wakes();
                step
            });
            Ok((answer?, wakes))
        };
        let (answer, wakes) = self.write(operation, work).await?;
        // It is committed. A caller that went away meanwhile wakes nobody: it is a hint (Q2).
        if wakes {
            self.watchers.wake(slot);
        }
        Ok(answer)
    }

    async fn write<A: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Records<'_>, Timestamp) -> Result<A, Fault> + Send + 'static,
    ) -> Result<A, StoreError> {
        self.writes.write(&self.db, &self.clock, operation, work).await
    }

    /// Reads a snapshot. The clock is read before it is taken (S9): a holder that renews in between must
    /// not look lapsed.
    async fn read<A: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Snapshot, Timestamp) -> Result<A, Fault> + Send + 'static,
    ) -> Result<A, StoreError> {
        let (db, clock) = (Arc::clone(&self.db), self.clock.clone());
        let read = move || {
            let now = clock.now();
            work(&Snapshot::open(&db.begin_read()?)?, now)
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|_| gone(operation, Effect::NotApplied))?;
        read.map_err(|fault| fault.in_operation(operation))
    }

    fn check(&self, operation: &'static str, completion: &Completion) -> Result<(), StoreError> {
        self.limits.check(completion).map_err(|invalid| invalid.in_operation(operation))
    }
}

fn make_tables(db: &Database, operation: &'static str) -> Result<(), StoreError> {
    let not_applied = |error| store_error(operation, Effect::NotApplied, Arc::new(error));
    let tx = db.begin_write().map_err(|error| not_applied(error.into()))?;
    drop(Records::open(&tx).map_err(|fault| fault.in_operation(operation))?);
    tx.commit().map_err(|error| store_error(operation, Effect::Unknown, Arc::new(error.into())))
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[async_trait]
impl IdempotencyStore for RedbStore {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        const NAME: &str = "ensure_schema";
        let db = Arc::clone(&self.db);
        let made = tokio::task::spawn_blocking(move || make_tables(&db, NAME)).await;
        made.map_err(|_| gone(NAME, Effect::Unknown))?
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        const NAME: &str = "reserve_or_fetch";
        let request = *request;
        let decide =
            move |record: Option<&Record>, now| state::reserve_or_fetch(record, token, &request, now);
        // A snapshot may say all: a replay needs no lock and no flush. What would change the record is
        // decided again where it is written.
        let peeked = slot.clone();
        let peek =
            self.read(NAME, move |records, now| Ok(decide(records.get(&peeked)?.as_ref(), now))).await?;
        if peek.change == Change::Keep {
            return Ok(peek.answer?);
        }
        for _ in 0..AGAIN {
            let sent = Instant::now();
            let outcome = self.step(NAME, slot, decide).await??;
            let overtaken = sent.elapsed() >= request.terms.lease();
            if !overtaken || !matches!(outcome, ReservationOutcome::Reserved(_)) {
                return Ok(outcome);
            }
            // R10: the flush took longer than the lease. Asked again with its own token, the lease counts
            // from now (R3).
        }
        Ok(self.step(NAME, slot, decide).await??)
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        let (grant, renewal) = (grant.clone(), renewal.clone());
        self.step("renew", slot, move |record, now| state::renew(record, &grant, &renewal, now)).await
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.check("complete", completion)?;
        let (grant, completion) = (grant.clone(), completion.clone());
        self.step("complete", slot, move |record, now| state::complete(record, &grant, &completion, now))
            .await
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        let grant = grant.clone();
        self.step("release", slot, move |record, now| state::release(record, &grant, now)).await
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        let slot = slot.clone();
        self.read("lookup", move |records, now| Ok(state::lookup(records.get(&slot)?.as_ref(), now))).await
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let (mut deleted, mut left) = (0, limit.get());
        while let Some(chunk) = NonZeroU32::new(left.min(COLLECT)) {
            let collect = move |records: &mut Records<'_>, now| records.collect(chunk, now);
            let collected = self.write("garbage_collect", collect).await?;
            deleted += collected;
            if collected < u64::from(chunk.get()) {
                break;
            }
            left -= chunk.get();
        }
        Ok(deleted)
    }

    fn watch(&self, slot: &Slot) -> Watch {
        self.watchers.watch(slot)
    }
}

#[async_trait]
impl IdempotencyAdmin for RedbStore {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        if let Resolution::Complete(completion) = resolution {
            self.check("resolve", completion)?;
        }
        let resolution = resolution.clone();
        self.step("resolve", slot, move |record, now| state::resolve(record, seen, &resolution, now)).await
    }

    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        self.step("purge", slot, move |record, _| state::purge(record, fence)).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        if let Some(cursor) = &request.after {
            Slot::from_bytes(cursor.as_bytes()).map_err(|invalid| invalid.in_operation("scan"))?;
        }
        let request = request.clone();
        self.read("scan", move |records, now| records.scan(&request, now)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.read("stats", |records, now| records.stats(now)).await
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        // That it can be read at all.
        self.read("assess", |_, _| Ok(())).await?;
        let alone = "unless the program opened it otherwise, one process at a time has the file: a service of \
                     several needs another store";
        let unchecked = "not checked for damage: redb does that only for a file that nobody has in use";
        Ok(vec![
            Finding::new("redb.process", Severity::Info, alone),
            Finding::new("redb.integrity", Severity::Warning, unchecked),
        ])
    }
}
