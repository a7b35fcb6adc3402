//! [`SqliteStore`]: the contract, call by call, on its two threads.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use oncekey_core::{
    Clock, CompleteOutcome, Completion, Cursor, Effect, Entry, ErrorKind, Fence, Finding, Grant,
    IdempotencyAdmin, IdempotencyStore, InFlight, Limits, Page, Phase, ReleaseOutcome, RenewOutcome, Renewal,
    ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome, ScanFilter, ScanRequest, Seen, Slot,
    Stats, StoreError, Summary, Timestamp, Token, Watch, Watchers,
};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::calls::{self, Ran};
use crate::connection::SqliteStoreBuilder;
use crate::error::store_error;
use crate::row::{self, Columns};
use crate::waiting::Waiting;
use crate::worker::{Gathered, Job, Weight, Worker};
use crate::{assess, schema, statements as sql};

/// Records that one transaction of a garbage collection deletes: others go in between.
const COLLECT: u32 = 250;
/// How often a reserve is made whose lease was over before its COMMIT.
const RESERVE_TRIES: u32 = 4;

/// A store in a SQLite file, or in memory. Clones share its threads and connections.
///
/// See the [crate's page](crate) for what it promises.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    writer: Worker,
    reader: Worker,
    path: Option<PathBuf>,
    clock: Clock,
    limits: Limits,
    call_deadline: Duration,
    waiting: Waiting,
    /// The file that was opened, whatever its path leads to later.
    identity: Option<assess::Identity>,
}

impl SqliteStore {
    /// Opens the file, creating it and its tables if they aren't there: durable, on the host's clock.
    ///
    /// # Errors
    /// As [`SqliteStoreBuilder::open`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("oncekey.db");
    /// use oncekey_sqlite::SqliteStore;
    /// let store = SqliteStore::open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path)
    }

    /// A store in memory, for tests: private, ready, gone with its last clone.
    ///
    /// # Errors
    /// As [`SqliteStoreBuilder::in_memory`].
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::builder().in_memory()
    }

    /// To choose clock, limits, durability and deadline.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::default()
    }

    pub(crate) fn new(
        writer: Worker,
        reader: Worker,
        path: Option<PathBuf>,
        settings: &SqliteStoreBuilder,
    ) -> Self {
        let identity = path.as_deref().and_then(assess::identity);
        Self(Arc::new(Inner {
            writer,
            reader,
            path,
            identity,
            clock: settings.clock.clone(),
            limits: settings.limits,
            call_deadline: settings.call_deadline,
            waiting: Waiting::default(),
        }))
    }

    /// The file; none for a store in memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Answers every call that was accepted, refuses later ones, and closes the connections. Dropping the
    /// last clone does the same without waiting. Only the first of several calls of it waits.
    pub async fn close(&self) {
        self.0.writer.close().await;
        self.0.reader.close().await;
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn writer(&self) -> &Worker {
        &self.0.writer
    }

    pub(crate) fn waiting(&self) -> &Waiting {
        &self.0.waiting
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.call_deadline
    }

    pub(crate) fn check(&self, operation: &'static str, completion: &Completion) -> Result<(), StoreError> {
        self.0.limits.check(completion).map_err(|invalid| invalid.in_operation(operation))
    }

    /// A call that shares the writer's transaction with whatever else waits.
    async fn gathered<A: Send + 'static>(
        &self,
        name: &'static str,
        deadline: Instant,
        weight: Weight<A>,
        run: impl FnMut(&Connection, Timestamp) -> Ran<A> + Send + 'static,
        overdue: impl FnOnce(&Connection, Timestamp) -> Option<Result<A, StoreError>> + Send + 'static,
        wakes: Option<(Watchers, Slot)>,
    ) -> Result<A, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = Gathered { name, deadline, weight, run, overdue, wakes, answer: None, reply };
        self.0.writer.send(name, Job::Call(Box::new(call))).await?;
        answer.await.map_err(|_| crate::error::gone(name))?
    }

    /// A call that writes, and ends the waiting of those who watch `settles`.
    async fn write_call<A: Send + 'static>(
        &self,
        name: &'static str,
        settles: Option<&Slot>,
        weight: usize,
        run: impl FnMut(&Connection, Timestamp) -> Ran<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let weight = Weight { sent: weight, answered: |_| 0 };
        let wakes = settles.map(|slot| (self.0.waiting.watchers.clone(), slot.clone()));
        self.gathered(name, self.deadline(), weight, run, |_, _| None, wakes).await
    }

    /// One reserve, in the writer's next transaction.
    async fn reserve_once(
        &self,
        slot: Slot,
        token: Token,
        request: ReserveRequest,
        deadline: Instant,
    ) -> Result<ReservationOutcome, StoreError> {
        const NAME: &str = "reserve_or_fetch";
        let again = slot.clone();
        // T3: somebody's transaction has held the write lock for the whole deadline. What a read can tell
        // is told; a slot that looks free is one that somebody may be at work on.
        let overdue = move |db: &Connection, now: Timestamp| {
            let read = calls::reserve_without_lock(db, &again, token, &request, now);
            match read {
                Ok(Ok(Some(outcome))) => Some(Ok(outcome)),
                Ok(Ok(None)) => Some(Ok(ReservationOutcome::InFlight(InFlight::new(Duration::from_secs(1))))),
                Ok(Err(error)) => Some(Err(error)),
                Err(_) => None,
            }
        };
        let run =
            move |db: &Connection, now: Timestamp| calls::reserve_or_fetch(db, &slot, token, &request, now);
        let answered = |outcome: &ReservationOutcome| match outcome {
            ReservationOutcome::Replay(record) => record.response.len(),
            _ => 0,
        };
        self.gathered(NAME, deadline, Weight { sent: 0, answered }, run, overdue, None).await
    }

    /// A read of everything: on a connection and a thread of its own, so that no other call waits for it. A
    /// database in memory has but one connection.
    async fn aside<A: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Connection) -> A + Send + 'static,
    ) -> Result<A, StoreError> {
        let Some(path) = &self.0.path else { return self.0.writer.alone(name, |db| read(db)).await };
        let opened = crate::connection::connect_aside(path, self.0.call_deadline);
        let db = opened.map_err(|error| store_error(name, Effect::NotApplied, error))?;
        let worker = Worker::spawn("oncekey-aside", db, self.0.clock.clone()).map_err(|error| {
            StoreError::new(ErrorKind::Unavailable, name, Effect::NotApplied, format!("no thread: {error}"))
        })?;
        worker.alone(name, |db| read(db)).await
    }

    /// A read, on the reader's connection. The clock is read before the snapshot is taken (S9): a holder
    /// that renews in between must not look lapsed.
    pub(crate) async fn read_call<A: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Connection, Timestamp) -> Ran<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let clock = self.0.clock.clone();
        let ran = self.0.reader.alone(name, move |db| read(db, clock.now())).await?;
        ran.unwrap_or_else(|error| Err(store_error(name, Effect::NotApplied, error)))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl IdempotencyStore for SqliteStore {
    fn limits(&self) -> Limits {
        self.0.limits
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        let deadline = self.deadline();
        self.0.writer.alone("ensure_schema", move |db| schema::ensure(db, "ensure_schema", deadline)).await?
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        let deadline = self.deadline();
        let mut tries = 0;
        loop {
            let sent = Instant::now();
            let outcome = self.reserve_once(slot.clone(), token, *request, deadline).await;
            // An earlier try of this very call was committed.
            let outcome =
                outcome.map_err(|error| if tries > 0 { error.or_worse(Effect::Unknown) } else { error })?;
            tries += 1;
            // R10: a COMMIT that took longer than the lease would hand out a lapsed one. Asked again with
            // its own token, the lease counts from now (R3). A disk that is always slower than the lease
            // is the caller's to see: it counts from before it called.
            let lapsed = sent.elapsed() >= request.terms.lease();
            if !lapsed || !matches!(outcome, ReservationOutcome::Reserved(_)) || tries == RESERVE_TRIES {
                return Ok(outcome);
            }
        }
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        let (at, grant, renewal) = (slot.clone(), grant.clone(), renewal.clone());
        let weight = renewal.checkpoint().map_or(0, |c| c.data().len());
        let hands_over = renewal.lease().is_none().then_some(slot);
        let run = move |db: &Connection, now: Timestamp| calls::renew(db, &at, &grant, &renewal, now);
        self.write_call("renew", hands_over, weight, run).await
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.check("complete", completion)?;
        let (at, grant, completion) = (slot.clone(), grant.clone(), completion.clone());
        let weight = completion.response().len();
        let run = move |db: &Connection, now: Timestamp| calls::complete(db, &at, &grant, &completion, now);
        self.write_call("complete", Some(slot), weight, run).await
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        let (at, grant) = (slot.clone(), grant.clone());
        let run = move |db: &Connection, now: Timestamp| calls::release(db, &at, &grant, now);
        self.write_call("release", Some(slot), 0, run).await
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        let slot = slot.clone();
        self.read_call("lookup", move |db, now| calls::lookup(db, &slot, now)).await
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let mut deleted = 0;
        let mut left = limit.get();
        while let Some(chunk) = NonZeroU32::new(left.min(COLLECT)) {
            let run = move |db: &Connection, now: Timestamp| calls::garbage_collect(db, chunk, now);
            let collected = self.write_call("garbage_collect", None, 0, run).await;
            // What earlier transactions deleted is deleted.
            let effect = if deleted > 0 { Effect::Unknown } else { Effect::NotApplied };
            let collected = collected.map_err(|error| error.or_worse(effect))?;
            deleted += collected;
            if collected < u64::from(chunk.get()) {
                break;
            }
            left -= chunk.get();
        }
        Ok(deleted)
    }

    /// Woken by what this store and its clones commit. What another process writes, another store on the
    /// same file, or a transaction of the caller's own ([`complete_in`](SqliteStore::complete_in)), is
    /// found at the next look.
    fn watch(&self, slot: &Slot) -> Watch {
        self.0.waiting.watchers.watch(slot)
    }
}

#[async_trait]
impl IdempotencyAdmin for SqliteStore {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        let weight = match resolution {
            Resolution::Complete(completion) => {
                self.check("resolve", completion)?;
                completion.response().len()
            }
            Resolution::Release => 0,
        };
        let (at, resolution) = (slot.clone(), resolution.clone());
        let run = move |db: &Connection, now: Timestamp| calls::resolve(db, &at, seen, &resolution, now);
        self.write_call("resolve", Some(slot), weight, run).await
    }

    /// What the record held is overwritten in the file. A copy stays in the WAL until the next checkpoint,
    /// and in backups.
    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        let at = slot.clone();
        self.write_call("purge", Some(slot), 0, move |db, _| calls::purge(db, &at, fence)).await
    }

    /// In the order of principal and key, byte by byte.
    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        let after = request.after.as_ref().map(|cursor| Slot::from_bytes(cursor.as_bytes()));
        let after = after.transpose().map_err(|invalid| invalid.in_operation("scan"))?;
        let (limit, filter) = (request.limit, request.filter);
        self.read_call("scan", move |db, now| scan(db, after.as_ref(), limit, filter, now)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let clock = self.0.clock.clone();
        let counted = self.aside("stats", move |db| stats(db, clock.now())).await?;
        counted.unwrap_or_else(|error| Err(store_error("stats", Effect::NotApplied, error)))
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        let failed = |error| store_error("assess", Effect::NotApplied, error);
        let durable = self.0.path.is_some();
        // On the writer: its settings are the ones that decide what survives.
        let found = self.0.writer.alone("assess", move |db| assess::settings(db, durable)).await?;
        let mut findings = found.map_err(failed)?;
        if let Some(path) = &self.0.path {
            findings.extend(assess::moved(path, self.0.identity));
            findings.extend(assess::file_system(path));
            findings.extend(self.aside("assess", assess::integrity).await?);
        }
        Ok(findings)
    }
}

fn scan(
    db: &Connection,
    after: Option<&Slot>,
    limit: NonZeroU32,
    filter: ScanFilter,
    now: Timestamp,
) -> Ran<Page> {
    // No principal is empty, so the empty pair is before them all.
    let (principal, key) = after.map_or(("", ""), |slot| (slot.principal().as_str(), slot.key()));
    let filter = match filter {
        ScanFilter::Pending => "pending",
        ScanFilter::Lapsed => "lapsed",
        _ => "all",
    };
    let mut statement = db.prepare_cached(sql::SCAN)?;
    let mut rows = statement.query(params![principal, key, row::time(now), filter, limit.get()])?;
    let mut summaries = Vec::new();
    while let Some(row) = rows.next()? {
        match summary(row, now) {
            Ok(summary) => summaries.push(summary),
            Err(error) => return Ok(Err(error)),
        }
    }
    let full = summaries.len() as u64 >= u64::from(limit.get());
    let next = summaries.last().filter(|_| full).map(|last| Cursor::from_bytes(last.slot.to_bytes()));
    Ok(Ok(Page::new(summaries, next)))
}

fn summary(row: &rusqlite::Row<'_>, now: Timestamp) -> Result<Summary, StoreError> {
    use oncekey_core::codec::Corrupt;
    let read = || -> Result<Summary, Corrupt> {
        let mut c = Columns::of(row);
        let slot = oncekey_core::Principal::new(c.text()?)
            .and_then(|principal| principal.slot(c.text().unwrap_or_default()))
            .map_err(|_| Corrupt::new("a slot's parts are not valid"))?;
        let state = c.text()?;
        let fingerprint = c.fingerprint()?;
        let (fence, attempt, policy, begun) = (c.fence()?, c.attempt()?, c.policy()?, c.flag()?);
        let (created_at, lease_expires_at) = (c.time()?, c.time()?);
        let (completed_at, expires_at, status) = (c.maybe_time()?, c.time()?, c.maybe_status()?);
        let phase = match (state, completed_at, status) {
            ("pending", ..) => {
                Phase::Pending { policy, begun, lease_expires_at, lapsed: lease_expires_at <= now }
            }
            (_, Some(completed_at), Some(status)) => Phase::Completed { status, completed_at },
            _ => return Err(Corrupt::new("a completed record lacks its status or time")),
        };
        Ok(Summary::new(slot, fingerprint, fence, attempt, created_at, expires_at, phase))
    };
    read().map_err(|corrupt| corrupt.in_operation("scan"))
}

fn stats(db: &Connection, now: Timestamp) -> Ran<Stats> {
    let mut statement = db.prepare_cached(sql::STATS)?;
    let mut rows = statement.query(params![row::time(now)])?;
    let mut stats = Stats::default();
    while let Some(row) = rows.next()? {
        let count = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        match row.get_ref(0)?.as_str().unwrap_or_default() {
            "expired" => stats.expired = count,
            "lapsed" => stats.lapsed = count,
            "live" => stats.live = count,
            "completed" => stats.completed = count,
            "released" => stats.released = count,
            _ => {
                let message = "a record is in a state that is none of the contract's";
                return Ok(Err(StoreError::new(ErrorKind::Corrupt, "stats", Effect::NotApplied, message)));
            }
        }
    }
    Ok(Ok(stats))
}
