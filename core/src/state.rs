//! The contract, docs/spec.md, as code, and nothing else: one pure function from a record, an operation and
//! the store's clock to the record's change and the answer.
//!
//! ```text
//!              reserve R1                    complete C1 C2, resolve O1
//!    Absent ───────────────▶ Pending ────────────────────────────────▶ Completed
//!      ▲                     │  ▲  │                                       │
//!      │      release L1, O1 │  │  └──┐ renew W1, retry R3,                │
//!      │      hand over W4 * │  └─────┘ takeover R5, hand over W4, L2      │
//!      │                     ▼                                             │
//!      ├──────────────── Released ──▶ Pending (R1, by another token)       │
//!      └──────────── expires_at <= now, purge O2 ──────────────────────────┘
//!                                              * at-most-once, not begun
//! ```
//!
//! Every store realises this function atomically, by its own means. [`MemoryStore`](crate::MemoryStore)
//! calls it under a lock, and so may any store that can read, decide and write one record in one
//! transaction; the conformance suite compares every store with it. A step whose change is
//! [`Change::Keep`] may be answered from a snapshot, if the clock was read before it was taken: a replay
//! needs no lock. Any other is decided again where it is written.
//!
//! ```
//! use oncekey_core::{Fingerprint, ReservationOutcome, ReserveRequest, Terms, Timestamp, Token};
//! use oncekey_core::state::{self, Change};
//!
//! let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
//! let now = Timestamp::from_micros(1_000_000);
//! let step = state::reserve_or_fetch(None, Token::fresh(), &request, now);
//! assert!(matches!(step.answer, Ok(ReservationOutcome::Reserved(_))));
//! assert!(matches!(step.change, Change::Put(_)));
//! ```

use std::fmt;
use std::time::Duration;

use crate::admin::{Resolution, ResolveOutcome, Seen};
use crate::checkpoint::Checkpoint;
use crate::clock::{Timestamp, micros};
use crate::error::{Effect, ErrorKind, StoreError};
use crate::fingerprint::Fingerprint;
use crate::outcome::{
    CompleteOutcome, InFlight, Lapsed, Loss, ReleaseOutcome, RenewOutcome, Renewed, ReservationOutcome,
};
use crate::record::{Entry, IdempotencyRecord, PendingEntry};
use crate::request::{Completion, Policy, Renewal, ReserveRequest};
use crate::token::{Fence, Grant, Token};

/// What a store keeps for a slot. No record at all is the state Absent, and so is one whose
/// `expires_at` has come.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Record {
    /// Somebody holds the slot, or held it and fell silent.
    Pending(Pending),
    /// The work is done.
    Completed(Completed),
    /// Given back: Absent to everybody, and remembers its last fence and token.
    Released(Released),
}

/// The state Pending.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    /// What the request means.
    pub fingerprint: Fingerprint,
    /// The holder's token.
    pub token: Token,
    /// The holder's fence.
    pub fence: Fence,
    /// 1, and one more with each takeover.
    pub attempt: u32,
    /// What the holder saved or inherited.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the holder has renewed.
    pub begun: bool,
    /// The policy of the record's first grant.
    pub policy: Policy,
    /// How long an answer is kept.
    pub retention: Duration,
    /// When the first holder reserved it.
    pub created_at: Timestamp,
    /// When the holder counts as lapsed; [`Timestamp::ZERO`]: lapsed at once.
    pub lease_expires_at: Timestamp,
    /// When the record is Absent; [`Timestamp::NEVER`] once begun under [`Policy::Refuse`].
    pub expires_at: Timestamp,
}

/// The state Completed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Completed {
    /// The token of the holder that completed it, or that an operator completed it for.
    pub token: Token,
    /// What everybody may see of it.
    pub record: IdempotencyRecord,
}

/// The state Released.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Released {
    /// The last holder's token: its late calls are refused (R11).
    pub token: Token,
    /// The last holder's fence: the next one is larger (S4).
    pub fence: Fence,
    /// When this memory ends.
    pub expires_at: Timestamp,
}

impl Record {
    /// The fence of the last grant.
    pub fn fence(&self) -> Fence {
        match self {
            Self::Pending(p) => p.fence,
            Self::Completed(c) => c.record.fence,
            Self::Released(r) => r.fence,
        }
    }

    /// When the record is Absent, whether it is deleted or not.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Pending(p) => p.expires_at,
            Self::Completed(c) => c.record.expires_at,
            Self::Released(r) => r.expires_at,
        }
    }

    /// Whether `expires_at` has come: what [`garbage_collect`](crate::IdempotencyStore::garbage_collect)
    /// deletes (G1).
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at() <= now
    }
}

impl Pending {
    /// Whether this grant is the holder's: token and fence both equal.
    fn is_own(&self, grant: &Grant) -> bool {
        self.token == grant.token && self.fence == grant.fence
    }

    /// Whether the holder was silent for longer than its lease.
    pub fn is_lapsed(&self, now: Timestamp) -> bool {
        self.lease_expires_at <= now
    }

    /// R5: record and caller both `TakeOver`, or record `Refuse` and not begun.
    fn may_be_taken_over(&self, caller: Policy) -> bool {
        match self.policy {
            Policy::TakeOver => caller == Policy::TakeOver,
            Policy::Refuse => !self.begun,
        }
    }

    /// The lease's end moved to `now + lease`, if that is later, and `expires_at` raised with it.
    fn extend(&mut self, lease: Duration, now: Timestamp) {
        self.lease_expires_at = self.lease_expires_at.max(now + lease);
        self.expires_at = self.expires_at.max(self.lease_expires_at + self.retention);
    }

    /// W1: a checkpoint with a higher sequence replaces the stored one; another changes nothing.
    fn save(&mut self, checkpoint: Option<&Checkpoint>) {
        if let Some(new) = checkpoint
            && new.sequence() > self.sequence()
        {
            self.checkpoint = Some(new.clone());
        }
    }

    fn sequence(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, Checkpoint::sequence)
    }

    /// `expires_at` of what this record becomes when it is Pending no longer: *never* becomes the later
    /// of now and the lease's end, plus the retention.
    fn expires_at_leaving(&self, now: Timestamp) -> Timestamp {
        match self.expires_at {
            Timestamp::NEVER => now.max(self.lease_expires_at) + self.retention,
            expires_at => expires_at,
        }
    }

    fn grant(&self) -> Grant {
        Grant::new(self.token, self.fence, self.attempt, self.policy, self.checkpoint.clone())
    }

    /// The state Completed with this answer, by its holder or an operator (C1, C2, C5, O1).
    fn completed(&self, completion: &Completion, now: Timestamp) -> Record {
        let leaving = self.expires_at_leaving(now);
        let expires_at = match completion.retention() {
            Some(retention) => now + retention,                               // C5
            None if self.is_lapsed(now) => leaving.max(now + self.retention), // C2
            None => leaving,                                                  // C1
        };
        let response = completion.response().clone();
        let (fence, attempt, created_at) = (self.fence, self.attempt, self.created_at);
        let record =
            IdempotencyRecord::new(self.fingerprint, fence, attempt, response, created_at, now, expires_at);
        Record::Completed(Completed { token: self.token, record })
    }

    /// The state Released (L1, O1, and W4 under `Refuse` before it has begun).
    fn released(&self, now: Timestamp) -> Record {
        let expires_at = self.expires_at_leaving(now);
        Record::Released(Released { token: self.token, fence: self.fence, expires_at })
    }
}

impl Completed {
    fn is_own(&self, grant: &Grant) -> bool {
        self.token == grant.token && self.record.fence == grant.fence
    }
}

/// What a step does to the record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// Nothing is written.
    Keep,
    /// The record becomes this.
    Put(Record),
    /// The record is deleted.
    Delete,
}

impl Change {
    /// Whether somebody who waits for the holder may go on once this is written (Q2): the record is
    /// completed, released, deleted, or lapsed at once. A grant or a renewal wakes nobody.
    ///
    /// ```
    /// # use oncekey_core::{Fingerprint, Grant, ReserveRequest, Terms, Timestamp, Token, state::{self, Change}};
    /// # let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
    /// # let now = Timestamp::from_micros(1_000_000);
    /// let reserved = state::reserve_or_fetch(None, Token::fresh(), &request, now);
    /// assert!(!reserved.change.wakes());
    /// # let (Change::Put(record), Ok(oncekey_core::ReservationOutcome::Reserved(grant))) =
    /// #     (reserved.change, reserved.answer) else { unreachable!() };
    /// assert!(state::release(Some(&record), &grant, now).change.wakes());
    /// ```
    pub fn wakes(&self) -> bool {
        match self {
            Self::Keep => false,
            Self::Put(Record::Pending(held)) => held.lease_expires_at == Timestamp::ZERO,
            Self::Put(Record::Completed(_) | Record::Released(_)) | Self::Delete => true,
        }
    }
}

/// A change and its answer: one atomic step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "the answer holds once the change is written"]
pub struct Step<A> {
    /// What to write.
    pub change: Change,
    /// What to answer, once it is written.
    pub answer: A,
}

impl<A> Step<A> {
    fn keep(answer: A) -> Self {
        Self { change: Change::Keep, answer }
    }

    fn put(record: Record, answer: A) -> Self {
        Self { change: Change::Put(record), answer }
    }

    /// The same step with its answer in another type.
    pub fn map<B>(self, f: impl FnOnce(A) -> B) -> Step<B> {
        Step { change: self.change, answer: f(self.answer) }
    }
}

/// R11: the token's reservation was released.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TokenSpent;

impl fmt::Display for TokenSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this token's reservation was released: draw a new token")
    }
}

impl std::error::Error for TokenSpent {}

impl From<TokenSpent> for StoreError {
    fn from(spent: TokenSpent) -> Self {
        Self::new(ErrorKind::TokenSpent, "reserve_or_fetch", Effect::NotApplied, spent.to_string())
    }
}

/// A stored record as the clock shows it.
enum Shown<'a> {
    /// No record, or an expired one that still lies there and remembers its fence.
    Absent {
        last_fence: Option<Fence>,
    },
    Pending(&'a Pending),
    Completed(&'a Completed),
    Released(&'a Released),
}

fn shown(record: Option<&Record>, now: Timestamp) -> Shown<'_> {
    match record {
        None => Shown::Absent { last_fence: None },
        Some(expired) if expired.is_expired(now) => Shown::Absent { last_fence: Some(expired.fence()) },
        Some(Record::Pending(p)) => Shown::Pending(p),
        Some(Record::Completed(c)) => Shown::Completed(c),
        Some(Record::Released(r)) => Shown::Released(r),
    }
}

/// S4: `max(previous + 1, server µs)`.
fn next_fence(previous: Option<Fence>, now: Timestamp) -> Fence {
    let above = previous.map_or(0, |fence| fence.get().saturating_add(1));
    Fence::new(above.max(now.as_micros()))
}

/// R1 to R6, R9, R11. Of the rows that fit, the first decides: a fingerprint is compared before a token.
pub fn reserve_or_fetch(
    record: Option<&Record>,
    token: Token,
    request: &ReserveRequest,
    now: Timestamp,
) -> Step<Result<ReservationOutcome, TokenSpent>> {
    use ReservationOutcome::{Conflict, InFlight as Busy, Indeterminate, Replay, Reserved};
    let (terms, fingerprint) = (request.terms, request.fingerprint);

    let first_grant = |last_fence| {
        let lease_expires_at = now + terms.lease();
        let first = Pending {
            fingerprint,
            token,
            fence: next_fence(last_fence, now),
            attempt: 1,
            checkpoint: None,
            begun: false,
            policy: terms.policy(),
            retention: terms.retention(),
            created_at: now,
            lease_expires_at,
            expires_at: lease_expires_at + terms.retention(),
        };
        let grant = first.grant();
        Step::put(Record::Pending(first), Ok(Reserved(grant)))
    };

    match shown(record, now) {
        // R1, R11
        Shown::Absent { last_fence } => first_grant(last_fence),
        Shown::Released(r) if r.token == token => Step::keep(Err(TokenSpent)),
        Shown::Released(r) => first_grant(Some(r.fence)),
        // R2
        Shown::Pending(p) if p.fingerprint != fingerprint => Step::keep(Ok(Conflict)),
        Shown::Completed(c) if c.record.fingerprint != fingerprint => Step::keep(Ok(Conflict)),
        // R9
        Shown::Completed(c) => Step::keep(Ok(Replay(c.record.clone()))),
        // R3
        Shown::Pending(p) if p.token == token => {
            let mut held = p.clone();
            held.extend(terms.lease(), now);
            let grant = held.grant();
            Step::put(Record::Pending(held), Ok(Reserved(grant)))
        }
        // R4
        Shown::Pending(p) if !p.is_lapsed(now) => {
            Step::keep(Ok(Busy(InFlight::new(p.lease_expires_at - now))))
        }
        // R5
        Shown::Pending(p) if p.may_be_taken_over(terms.policy()) => {
            let retention = match p.policy {
                Policy::TakeOver => terms.retention(),
                Policy::Refuse => terms.retention().max(p.retention),
            };
            let lease_expires_at = now + terms.lease();
            let taken = Pending {
                token,
                fence: next_fence(Some(p.fence), now),
                attempt: p.attempt.saturating_add(1),
                begun: false,
                retention,
                lease_expires_at,
                expires_at: p.expires_at.max(lease_expires_at + retention),
                ..p.clone()
            };
            let grant = taken.grant();
            Step::put(Record::Pending(taken), Ok(Reserved(grant)))
        }
        // R6
        Shown::Pending(p) => {
            let lapsed_for = match p.lease_expires_at {
                Timestamp::ZERO => None,
                end => now.since(end),
            };
            let lapsed = Lapsed::new(p.fence, p.attempt, p.checkpoint.clone(), lapsed_for);
            Step::keep(Ok(Indeterminate(lapsed)))
        }
    }
}

/// C1 to C5.
pub fn complete(
    record: Option<&Record>,
    grant: &Grant,
    completion: &Completion,
    now: Timestamp,
) -> Step<CompleteOutcome> {
    match shown(record, now) {
        // C1, C2, C5
        Shown::Pending(p) if p.is_own(grant) => {
            Step::put(p.completed(completion, now), CompleteOutcome::Stored)
        }
        // C3
        Shown::Completed(c) if c.is_own(grant) => {
            Step::keep(CompleteOutcome::AlreadyStored(c.record.clone()))
        }
        // C4
        other => Step::keep(CompleteOutcome::Lost(other.loss())),
    }
}

/// W1 to W4.
pub fn renew(
    record: Option<&Record>,
    grant: &Grant,
    renewal: &Renewal,
    now: Timestamp,
) -> Step<RenewOutcome> {
    match shown(record, now) {
        Shown::Pending(p) if p.is_own(grant) => {
            let mut held = p.clone();
            held.save(renewal.checkpoint());
            let sequence = held.sequence();
            let renewed = |left| RenewOutcome::Renewed(Renewed::new(left, sequence));
            match renewal.lease() {
                // W1
                Some(lease) => {
                    held.begun = true;
                    held.extend(lease, now);
                    if held.policy == Policy::Refuse {
                        held.expires_at = Timestamp::NEVER;
                    }
                    let left = held.lease_expires_at - now;
                    Step::put(Record::Pending(held), renewed(left))
                }
                // W4: nothing was begun under `Refuse`, so nothing is in doubt, and no checkpoint is stored.
                None if held.policy == Policy::Refuse && !held.begun => {
                    let renewed = RenewOutcome::Renewed(Renewed::new(Duration::ZERO, 0));
                    Step::put(held.released(now), renewed)
                }
                // W4
                None => {
                    held.lease_expires_at = Timestamp::ZERO;
                    Step::put(Record::Pending(held), renewed(Duration::ZERO))
                }
            }
        }
        // W2
        Shown::Completed(c) if c.is_own(grant) => Step::keep(RenewOutcome::AlreadyStored),
        // W3
        other => Step::keep(RenewOutcome::Lost(other.loss())),
    }
}

/// L1 to L5.
pub fn release(record: Option<&Record>, grant: &Grant, now: Timestamp) -> Step<ReleaseOutcome> {
    match shown(record, now) {
        // L1
        Shown::Pending(p) if p.is_own(grant) && (p.attempt == 1 || p.policy == Policy::Refuse) => {
            Step::put(p.released(now), ReleaseOutcome::Released)
        }
        // L2
        Shown::Pending(p) if p.is_own(grant) => {
            let lapsed = Pending { lease_expires_at: Timestamp::ZERO, ..p.clone() };
            Step::put(Record::Pending(lapsed), ReleaseOutcome::Released)
        }
        // L3
        Shown::Completed(c) if c.is_own(grant) => Step::keep(ReleaseOutcome::AlreadyStored),
        // L4
        Shown::Released(r) if r.token == grant.token && r.fence == grant.fence => {
            Step::keep(ReleaseOutcome::Released)
        }
        // L5
        other => Step::keep(ReleaseOutcome::Lost(other.loss())),
    }
}

/// Q1.
pub fn lookup(record: Option<&Record>, now: Timestamp) -> Option<Entry> {
    match shown(record, now) {
        Shown::Pending(p) => Some(Entry::Pending(PendingEntry::new(
            p.fingerprint,
            p.fence,
            p.attempt,
            p.policy,
            p.begun,
            p.checkpoint.clone(),
            p.created_at,
            p.lease_expires_at,
            p.expires_at,
            now,
        ))),
        Shown::Completed(c) => Some(Entry::Completed(c.record.clone())),
        Shown::Absent { .. } | Shown::Released(_) => None,
    }
}

/// O1: for an operator, who holds no token.
pub fn resolve(
    record: Option<&Record>,
    seen: Seen,
    resolution: &Resolution,
    now: Timestamp,
) -> Step<ResolveOutcome> {
    match (shown(record, now), resolution) {
        (Shown::Pending(p), _) if p.fence == seen.fence && !p.is_lapsed(now) => {
            Step::keep(ResolveOutcome::NotLapsed)
        }
        (Shown::Pending(p), _) if p.fence == seen.fence && p.lease_expires_at == seen.lease_expires_at => {
            let resolved = match resolution {
                Resolution::Complete(completion) => p.completed(completion, now),
                Resolution::Release => p.released(now),
            };
            Step::put(resolved, ResolveOutcome::Resolved)
        }
        (Shown::Completed(c), Resolution::Complete(completion))
            if c.record.fence == seen.fence && c.record.response == *completion.response() =>
        {
            Step::keep(ResolveOutcome::AlreadyDone)
        }
        (Shown::Released(r), Resolution::Release) if r.fence == seen.fence => {
            Step::keep(ResolveOutcome::AlreadyDone)
        }
        _ => Step::keep(ResolveOutcome::Changed),
    }
}

/// O2: deletes the record whose fence this is, whatever its state; says whether it did.
pub fn purge(record: Option<&Record>, fence: Fence) -> Step<bool> {
    match record {
        Some(record) if record.fence() == fence => Step { change: Change::Delete, answer: true },
        _ => Step::keep(false),
    }
}

impl Shown<'_> {
    /// Why a grant that isn't the record's is held no longer.
    fn loss(&self) -> Loss {
        match self {
            Self::Absent { .. } | Self::Released(_) => Loss::Gone,
            Self::Pending(_) | Self::Completed(_) => Loss::TakenOver,
        }
    }
}

/// An operation on one slot, as a value: for models, searches and histories.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "each is the trait method of its name, with that method's arguments")]
pub enum Operation {
    Reserve { token: Token, request: ReserveRequest },
    Renew { grant: Grant, renewal: Renewal },
    Complete { grant: Grant, completion: Completion },
    Release { grant: Grant },
    Lookup,
    Resolve { seen: Seen, resolution: Resolution },
    Purge { fence: Fence },
}

/// The answer to an [`Operation`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "each is what the trait method of its name returns")]
pub enum Answer {
    Reserve(Result<ReservationOutcome, TokenSpent>),
    Renew(RenewOutcome),
    Complete(CompleteOutcome),
    Release(ReleaseOutcome),
    Lookup(Option<Entry>),
    Resolve(ResolveOutcome),
    Purge(bool),
}

/// The state machine: what `operation` does to `record` when the store's clock says `now`.
pub fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Step<Answer> {
    match operation {
        Operation::Reserve { token, request } => {
            reserve_or_fetch(record, *token, request, now).map(Answer::Reserve)
        }
        Operation::Renew { grant, renewal } => renew(record, grant, renewal, now).map(Answer::Renew),
        Operation::Complete { grant, completion } => {
            complete(record, grant, completion, now).map(Answer::Complete)
        }
        Operation::Release { grant } => release(record, grant, now).map(Answer::Release),
        Operation::Lookup => Step::keep(Answer::Lookup(lookup(record, now))),
        Operation::Resolve { seen, resolution } => {
            resolve(record, *seen, resolution, now).map(Answer::Resolve)
        }
        Operation::Purge { fence } => purge(record, *fence).map(Answer::Purge),
    }
}

/// The rest of a lease in whole microseconds; helps a store that keeps its times as numbers.
pub fn micros_of(duration: Duration) -> u64 {
    micros(duration)
}

#[cfg(test)]
mod tests;
