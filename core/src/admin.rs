//! For operators: [`IdempotencyAdmin`], and what it speaks of.

use std::num::NonZeroU32;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::record::PendingEntry;
use crate::request::{Completion, Policy};
use crate::slot::Slot;
use crate::state::Record;
use crate::store::IdempotencyStore;
use crate::token::Fence;

/// What an operator, or a reconciler, does to a store: settle what is stuck, erase, look around, and ask
/// whether this deployment is safe.
///
/// A store that can't do one of these answers [`Unsupported`](crate::ErrorKind::Unsupported).
#[async_trait]
pub trait IdempotencyAdmin: IdempotencyStore {
    /// Settles a Pending, lapsed record whose fence and lease's end are the ones `seen` (O1), by
    /// somebody who holds no token and has found out what really happened.
    ///
    /// The old holder's `complete` then hears AlreadyStored with this response, or Lost.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the response is over the
    /// [`limits`](IdempotencyStore::limits); otherwise [`StoreError`]. Repeating is safe (S6): the same
    /// resolution answers [`AlreadyDone`](ResolveOutcome::AlreadyDone).
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError>;

    /// Deletes the record whose fence is `fence`, whatever its state, and says whether it did (O2). For
    /// erasure: what it forgets, it forgets, and S4 promises nothing after it.
    ///
    /// True means that this call deleted it. False means that there is no such record now: none was there, or
    /// another fence's is, or a try of this very call deleted it whose answer was lost (S6).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError>;

    /// One page of the live records (Pending and Completed), in a stable order, without holding anything
    /// between pages (O2). A page may hold fewer summaries than the limit, or none, and still have a
    /// next; the last one has none.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a cursor that this store can't have given;
    /// otherwise [`StoreError`].
    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError>;

    /// How many records there are of each kind. It may read them all.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Reads the live settings beneath the store, and says what about this deployment is unsafe (S11).
    /// What it couldn't read is a finding too.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't be reached at all.
    async fn assess(&self) -> Result<Vec<Finding>, StoreError>;
}

/// What an operator saw of a lapsed record, and acts on: if either has changed since, nothing is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seen {
    /// The record's fence.
    pub fence: Fence,
    /// The lease's end.
    pub lease_expires_at: Timestamp,
}

impl PendingEntry {
    /// What [`IdempotencyAdmin::resolve`] compares.
    pub fn seen(&self) -> Seen {
        Seen { fence: self.fence, lease_expires_at: self.lease_expires_at }
    }
}

/// How a lapsed record is settled.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Resolution {
    /// The work was done, and this is its answer.
    Complete(Completion),
    /// The work was not done: the next caller starts anew, as attempt 1.
    Release,
}

/// What `resolve` answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "only Resolved and AlreadyDone mean that the record is settled as asked"]
pub enum ResolveOutcome {
    /// It is settled.
    Resolved,
    /// The same resolution stands already.
    AlreadyDone,
    /// The holder's lease is live.
    NotLapsed,
    /// The record is not the one that was seen.
    Changed,
}

/// Which page of which records.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ScanRequest {
    /// The page after this cursor; none for the first.
    pub after: Option<Cursor>,
    /// At most so many summaries.
    pub limit: NonZeroU32,
    /// Which records.
    pub filter: ScanFilter,
}

impl ScanRequest {
    /// The first page of all records, at most `limit` of them.
    pub fn first(limit: NonZeroU32) -> Self {
        Self { after: None, limit, filter: ScanFilter::All }
    }

    /// Of these records alone.
    #[must_use]
    pub fn only(mut self, filter: ScanFilter) -> Self {
        self.filter = filter;
        self
    }

    /// The page after `cursor`.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

/// Which records a scan shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ScanFilter {
    /// Pending and Completed.
    All,
    /// Pending, lapsed or not.
    Pending,
    /// Pending and lapsed: what is stuck.
    Lapsed,
}

/// Where a page ended. Opaque; good for the store that gave it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor(Bytes);

impl Cursor {
    /// As a store makes it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// As the store made it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One page of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The records, without bodies and checkpoints.
    pub summaries: Vec<Summary>,
    /// Where the next page begins; none when this was the last.
    pub next: Option<Cursor>,
}

impl Page {
    /// As a store gives it.
    pub fn new(summaries: Vec<Summary>, next: Option<Cursor>) -> Self {
        Self { summaries, next }
    }
}

/// A record in a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Whose it is.
    pub slot: Slot,
    /// What the request means.
    pub fingerprint: Fingerprint,
    /// The fence of the last grant.
    pub fence: Fence,
    /// Which attempt holds or completed it.
    pub attempt: u32,
    /// When the first holder reserved it.
    pub created_at: Timestamp,
    /// When the record ends.
    pub expires_at: Timestamp,
    /// Pending, or Completed.
    pub phase: Phase,
}

/// What is particular to a record's state, in a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reserved.
    Pending {
        /// The record's policy.
        policy: Policy,
        /// Whether the holder has renewed.
        begun: bool,
        /// When the lease ends or ended.
        lease_expires_at: Timestamp,
        /// Whether it had, when the page was read.
        lapsed: bool,
    },
    /// Done.
    Completed {
        /// The answer's status.
        status: u16,
        /// When.
        completed_at: Timestamp,
    },
}

impl Summary {
    /// As a store gives it.
    pub fn new(
        slot: Slot,
        fingerprint: Fingerprint,
        fence: Fence,
        attempt: u32,
        created_at: Timestamp,
        expires_at: Timestamp,
        phase: Phase,
    ) -> Self {
        Self { slot, fingerprint, fence, attempt, created_at, expires_at, phase }
    }

    /// What a scan shows of `record` when the store's clock says `now`: nothing of one that has expired, is
    /// Released, or is not among those of `filter`. For a store that keeps whole records.
    pub fn of(slot: &Slot, record: &Record, now: Timestamp, filter: ScanFilter) -> Option<Self> {
        if record.is_expired(now) {
            return None;
        }
        let (fingerprint, attempt, created_at, phase) = match record {
            Record::Pending(p) if filter != ScanFilter::Lapsed || p.is_lapsed(now) => {
                let (policy, begun, lease_expires_at) = (p.policy, p.begun, p.lease_expires_at);
                let lapsed = p.is_lapsed(now);
                let phase = Phase::Pending { policy, begun, lease_expires_at, lapsed };
                (p.fingerprint, p.attempt, p.created_at, phase)
            }
            Record::Completed(c) if filter == ScanFilter::All => {
                let (status, completed_at) = (c.record.response.status, c.record.completed_at);
                let phase = Phase::Completed { status, completed_at };
                (c.record.fingerprint, c.record.attempt, c.record.created_at, phase)
            }
            _ => return None,
        };
        let (fence, expires_at) = (record.fence(), record.expires_at());
        Some(Self::new(slot.clone(), fingerprint, fence, attempt, created_at, expires_at, phase))
    }
}

/// How many records there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Pending with a live lease.
    pub live: u64,
    /// Pending and lapsed.
    pub lapsed: u64,
    /// Completed.
    pub completed: u64,
    /// Released, and remembered.
    pub released: u64,
    /// Expired, and not yet deleted.
    pub expired: u64,
}

impl Stats {
    /// Counts `record` as what it is when the store's clock says `now`. For a store that keeps whole
    /// records.
    pub fn count(&mut self, record: &Record, now: Timestamp) {
        let count = match record {
            expired if expired.is_expired(now) => &mut self.expired,
            Record::Pending(p) if p.is_lapsed(now) => &mut self.lapsed,
            Record::Pending(_) => &mut self.live,
            Record::Completed(_) => &mut self.completed,
            Record::Released(_) => &mut self.released,
        };
        *count += 1;
    }

    /// All that is stored, expired records too.
    pub fn total(&self) -> u64 {
        self.live + self.lapsed + self.completed + self.released + self.expired
    }
}

/// Something about the deployment that an operator should know.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// A stable name, such as `sqlite.synchronous`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, what it means, and what to do.
    pub message: String,
}

impl Finding {
    /// As a store gives it.
    pub fn new(id: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self { id, severity, message: message.into() }
    }
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Weaker than it could be, or could not be read.
    Warning,
    /// An acknowledged record may be lost, or two callers may work at once.
    Danger,
}
