//! [`PostgresStore`]: the contract, call by call.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oncekey_core::state::{self, Change, Record, Step};
use oncekey_core::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, Grant, IdempotencyStore, InFlight, Limits,
    ReleaseOutcome, RenewOutcome, Renewal, Renewed, ReservationOutcome, ReserveRequest, Slot, StoreError,
    Timestamp, Token, Watch,
};
use sqlx::postgres::PgPool;
use tokio::time::Instant;

use crate::builder::PostgresStoreBuilder;
use crate::calls::{Extend, HandOver, Holding, Looking, More, Own, Release, Reserve, Reserving, Said};
use crate::connection::Link;
use crate::error::{gone, read_only, too_late};
use crate::gather::{Bounds, Lane, Refused};
use crate::row::span;
use crate::schema::{self, Layout};
use crate::statements::{Sql, Statements};
use crate::wake::Wake;

const RESERVE: &str = "reserve_or_fetch";
/// How often a reserve is made again whose lease was over before its answer.
const RESERVE_TRIES: u32 = 4;

/// A store in a table of a PostgreSQL database. Clones share its connections and its queues.
///
/// See the [crate's page](crate) for what it promises. Needs a tokio runtime with its timers and I/O on.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) layout: Layout,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) settings: Settings,
    pub(crate) statements: Statements,
    pub(crate) wake: Wake,
    reserve: Lane<Reserving>,
    reserve_again: Lane<Reserving>,
    retry: Lane<Reserving>,
    take_over: Lane<Reserving>,
    complete: Lane<Holding<Completion>>,
    renew: Lane<Holding<Extend>>,
    hand_over: Lane<Holding<HandOver>>,
    release: Lane<Holding<Release>>,
    lookup: Lane<Looking>,
}

/// What a reserve does with what a statement said.
pub(crate) enum Ask<'a> {
    Answer(Result<ReservationOutcome, StoreError>),
    /// Nothing is settled yet: this statement is next.
    Again(&'a Lane<Reserving>),
}

impl Inner {
    /// The answer to a reserve, or the statement that is next.
    pub(crate) fn next(&self, said: Said, token: Token, request: &ReserveRequest) -> Ask<'_> {
        match said {
            Said::Fresh(fence) => {
                let grant = Grant::new(token, fence, 1, request.terms.policy(), None);
                Ask::Answer(Ok(ReservationOutcome::Reserved(grant)))
            }
            Said::Written { record, .. } => Ask::Answer(granted(record)),
            Said::There { now, record } => {
                let step = state::reserve_or_fetch(Some(&record), token, request, now);
                if step.change == Change::Keep {
                    return Ask::Answer(step.answer.map_err(StoreError::from));
                }
                // The statement that may write over such a row looks again, under its lock.
                Ask::Again(match &record {
                    expired if expired.is_expired(now) => &self.reserve_again,
                    Record::Pending(pending) if pending.token == token => &self.retry,
                    Record::Pending(_) => &self.take_over,
                    Record::Completed(_) | Record::Released(_) => &self.reserve_again,
                })
            }
            // R8: written after the statement's snapshot, or deleted before it was locked.
            Said::Nothing => Ask::Again(&self.reserve),
        }
    }

    pub(crate) fn reserving(&self) -> &Reserving {
        self.reserve.operation()
    }

    pub(crate) fn completing(&self) -> &Holding<Completion> {
        self.complete.operation()
    }
}

/// What the builder leaves to the store.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) call_deadline: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) notifications: bool,
}

impl PostgresStore {
    /// Connects with the defaults: the table `public.oncekey_slots`, a pool of the store's own.
    ///
    /// # Errors
    /// As [`PostgresStoreBuilder::connect`].
    ///
    /// ```no_run
    /// # async fn open() -> Result<(), oncekey_postgres::StoreError> {
    /// use oncekey_postgres::{IdempotencyStore, PostgresStore};
    ///
    /// let store = PostgresStore::connect("postgres://app@db.internal/payments").await?;
    /// store.ensure_schema().await?; // or your migration tool, with the SQL of `schema_sql`
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// On a pool that the caller has already, with the defaults.
    ///
    /// # Errors
    /// As [`PostgresStoreBuilder::from_pool`].
    pub async fn from_pool(pool: PgPool) -> Result<Self, StoreError> {
        Self::builder().from_pool(pool).await
    }

    /// To choose schema and table, connections, deadlines and bounds.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::default()
    }

    pub(crate) fn new(link: Link, layout: Layout, bounds: Arc<Bounds>, settings: Settings) -> Self {
        let statements = Statements::new(&layout.table);
        let reserving = |sql: &Sql, one: Option<&Sql>| {
            Lane::new(Reserving { sql: sql.clone(), one: one.cloned() }, link.clone(), Arc::clone(&bounds))
        };
        let inner = Inner {
            reserve: reserving(&statements.reserve, Some(&statements.reserve_one)),
            reserve_again: reserving(&statements.reserve_again, None),
            retry: reserving(&statements.retry, None),
            take_over: reserving(&statements.take_over, None),
            complete: holding(
                "complete",
                &statements.complete,
                Some(&statements.complete_one),
                &link,
                &bounds,
            ),
            renew: holding("renew", &statements.renew, None, &link, &bounds),
            hand_over: holding("renew", &statements.hand_over, None, &link, &bounds),
            release: holding("release", &statements.release, None, &link, &bounds),
            lookup: Lane::new(Looking { sql: statements.lookup.clone() }, link.clone(), Arc::clone(&bounds)),
            wake: Wake::new(&link, &layout.table, &statements.notify, settings.notifications),
            statements,
            link,
            layout,
            bounds,
            settings,
        };
        Self(Arc::new(inner))
    }

    /// The store's connections: its own, or the caller's pool.
    pub fn pool(&self) -> &PgPool {
        &self.0.link.pool
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn check(&self, operation: &'static str, completion: &Completion) -> Result<(), StoreError> {
        self.0.settings.limits.check(completion).map_err(|invalid| invalid.in_operation(operation))
    }

    /// Reserves, by as many statements as it takes: one for a fresh slot, and for what is answered from a
    /// read; a second one where a row that is there is written.
    async fn reserve(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
        deadline: Instant,
    ) -> Result<ReservationOutcome, StoreError> {
        let asked = Reserve { fingerprint: request.fingerprint, token, terms: request.terms };
        let inner = &self.0;
        let mut lane = &inner.reserve;
        while Instant::now() < deadline {
            let said = match lane.call(slot, asked, deadline).await {
                Ok(said) => said,
                // T3: somebody is at work there, in an open transaction.
                Err(Refused::Locked(_)) => {
                    return Ok(ReservationOutcome::InFlight(InFlight::new(inner.settings.lock_timeout)));
                }
                Err(Refused::Failed(error)) => return Err(error),
            };
            match inner.next(said, token, request) {
                Ask::Answer(answer) => return answer,
                Ask::Again(other) => lane = other,
            }
        }
        Err(too_late(RESERVE, Effect::NotApplied))
    }

    /// One statement of a holder; what it says.
    async fn hold<A: More>(
        &self,
        lane: &Lane<Holding<A>>,
        slot: &Slot,
        grant: &Grant,
        more: A,
    ) -> Result<Said, StoreError> {
        let own = Own { token: grant.token, fence: grant.fence, more };
        match lane.call(slot, own, self.deadline()).await {
            Ok(said) => Ok(said),
            Err(Refused::Locked(error) | Refused::Failed(error)) => Err(error),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.settings.call_deadline
    }
}

fn holding<A: More>(
    name: &'static str,
    sql: &Sql,
    one: Option<&Sql>,
    link: &Link,
    bounds: &Arc<Bounds>,
) -> Lane<Holding<A>> {
    let operation = Holding { name, sql: sql.clone(), one: one.cloned(), more: std::marker::PhantomData };
    Lane::new(operation, link.clone(), Arc::clone(bounds))
}

/// The grant of a record that a statement has just written.
fn granted(record: Option<Record>) -> Result<ReservationOutcome, StoreError> {
    match record {
        Some(Record::Pending(p)) => {
            let grant = Grant::new(p.token, p.fence, p.attempt, p.policy, p.checkpoint);
            Ok(ReservationOutcome::Reserved(grant))
        }
        _ => Err(disagree(RESERVE)),
    }
}

/// The answer of a step that a statement found nothing to write for.
pub(crate) fn kept<A>(step: Step<A>, operation: &'static str) -> Result<A, StoreError> {
    if step.change == Change::Keep { Ok(step.answer) } else { Err(disagree(operation)) }
}

fn disagree(operation: &'static str) -> StoreError {
    let message = "the statement and the state machine disagree about this row: it was changed by hand, or this is a bug";
    StoreError::new(ErrorKind::Corrupt, operation, Effect::NotApplied, message)
}

/// What a statement that wrote nothing has seen: a record and the clock under its lock, or no row.
pub(crate) fn seen(said: Said) -> (Option<Record>, Timestamp) {
    match said {
        Said::There { now, record } => (Some(record), now),
        _ => (None, Timestamp::ZERO),
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.0.layout.table.quoted()).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyStore for PostgresStore {
    fn limits(&self) -> Limits {
        self.0.settings.limits
    }

    async fn ensure_schema(&self) -> Result<(), StoreError> {
        let (link, layout, deadline) = (self.0.link.clone(), self.0.layout.clone(), self.deadline());
        let made = tokio::spawn(async move { schema::ensure(&link, &layout, deadline).await });
        made.await.map_err(|_| gone("ensure_schema", Effect::Unknown))?
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
            let outcome = self.reserve(slot, token, request, deadline).await;
            // An earlier try of this very call was committed.
            let outcome =
                outcome.map_err(|error| if tries > 0 { error.or_worse(Effect::Unknown) } else { error })?;
            tries += 1;
            // R10: a lock or a flush that took longer than the lease would hand out a lapsed one. Asked again
            // with its own token, the lease counts from now (R3).
            let lapsed = sent.elapsed() >= request.terms.lease();
            if !lapsed || !matches!(outcome, ReservationOutcome::Reserved(_)) || tries == RESERVE_TRIES {
                return Ok(outcome);
            }
        }
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        const NAME: &str = "renew";
        let checkpoint = renewal.checkpoint().cloned();
        let said = match renewal.lease() {
            Some(lease) => {
                let more = Extend { lease: span(lease), checkpoint };
                self.hold(&self.0.renew, slot, grant, more).await?
            }
            None => {
                let said = self.hold(&self.0.hand_over, slot, grant, HandOver(checkpoint)).await?;
                self.0.wake.changed(slot);
                said
            }
        };
        match said {
            Said::Written { now, record: Some(Record::Pending(p)) } => {
                let sequence = p.checkpoint.as_ref().map_or(0, oncekey_core::Checkpoint::sequence);
                Ok(RenewOutcome::Renewed(Renewed::new(p.lease_expires_at - now, sequence)))
            }
            // W4 as L1: a released record keeps no checkpoint.
            Said::Written { .. } => Ok(RenewOutcome::Renewed(Renewed::new(Duration::ZERO, 0))),
            said => {
                let (record, now) = seen(said);
                kept(state::renew(record.as_ref(), grant, renewal, now), NAME)
            }
        }
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.check("complete", completion)?;
        let said = self.hold(&self.0.complete, slot, grant, completion.clone()).await?;
        if matches!(said, Said::Written { .. }) {
            self.0.wake.changed(slot);
            return Ok(CompleteOutcome::Stored);
        }
        let (record, now) = seen(said);
        kept(state::complete(record.as_ref(), grant, completion, now), "complete")
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        let said = self.hold(&self.0.release, slot, grant, Release).await?;
        if matches!(said, Said::Written { .. }) {
            self.0.wake.changed(slot);
            return Ok(ReleaseOutcome::Released);
        }
        let (record, now) = seen(said);
        kept(state::release(record.as_ref(), grant, now), "release")
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        match self.0.lookup.call(slot, (), self.deadline()).await {
            Ok(Said::There { now, record }) => Ok(state::lookup(Some(&record), now)),
            Ok(Said::Nothing) => Ok(None),
            Ok(Said::Written { .. } | Said::Fresh(_)) => Err(on_standby("lookup")),
            Err(Refused::Locked(error) | Refused::Failed(error)) => Err(error),
        }
    }

    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        self.collect(limit).await
    }

    /// Woken by what this store commits, and by what others do, as far as notifications arrive. What is
    /// completed in a transaction of the caller's own ([`complete_in`](Self::complete_in)) is found at the
    /// next look, unless the caller says [`wake`](Self::wake).
    fn watch(&self, slot: &Slot) -> Watch {
        self.0.wake.watch(slot)
    }
}

/// Nothing is read from a standby.
pub(crate) fn on_standby(operation: &'static str) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, operation, Effect::NotApplied, read_only())
}
