//! [`PostgresStore`]: the contract, call by call.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oncekey_core::state::{self, Change, Record, Step};
use oncekey_core::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, Grant, IdempotencyStore, InFlight, Limits,
    ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome, ReserveRequest, Slot, StoreError, Timestamp,
    Token, Watch,
};
use sqlx::postgres::PgPool;
use tokio::time::Instant;

use crate::bounds::Bounds;
use crate::builder::PostgresStoreBuilder;
use crate::calls::{
    Extend, Granting, HandOver, Holding, Looking, More, Own, Release, Reserve, Reserving, Said,
};
use crate::connection::Link;
use crate::error::{gone, read_only, too_late};
use crate::gather::{Lane, Progress, Refused};
use crate::operation::Operation;
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
    reserve_again: Lane<Granting>,
    retry: Lane<Granting>,
    take_over: Lane<Granting>,
    complete: Lane<Holding<Completion>>,
    renew: Lane<Holding<Extend>>,
    hand_over: Lane<Holding<HandOver>>,
    release: Lane<Holding<Release>>,
    lookup: Lane<Looking>,
}

/// What a reserve does with what its read said.
pub(crate) enum Ask<'a> {
    Answer(Result<ReservationOutcome, StoreError>),
    /// R8: written after the statement's snapshot, by somebody else or by itself.
    Look,
    /// Perhaps written by this statement, which can't tell with which fence.
    LookForOwn,
    /// A row may be written over: by this statement, which looks again under its lock.
    Write {
        lane: &'a Lane<Granting>,
        /// Whether it is this call's own, from an earlier try.
        own: bool,
    },
}

/// What became of a holder's statement.
enum Held<D, T> {
    Written(D),
    /// Nothing was written, and this is the answer.
    Not(T),
}

impl Inner {
    /// The answer to a reserve, or what is next.
    pub(crate) fn next(&self, said: Said, token: Token, request: &ReserveRequest) -> Ask<'_> {
        match said {
            Said::Fresh(fence) => {
                let grant = Grant::new(token, fence, 1, request.terms.policy(), None);
                Ask::Answer(Ok(ReservationOutcome::Reserved(grant)))
            }
            Said::There { now, record } => {
                let step = state::reserve_or_fetch(Some(&record), token, request, now);
                if step.change == Change::Keep {
                    return Ask::Answer(step.answer.map_err(StoreError::from));
                }
                let own = matches!(&record, Record::Pending(pending) if pending.token == token);
                let lane = match &record {
                    expired if expired.is_expired(now) => &self.reserve_again,
                    Record::Pending(_) if own => &self.retry,
                    Record::Pending(_) => &self.take_over,
                    Record::Completed(_) | Record::Released(_) => &self.reserve_again,
                };
                Ask::Write { lane, own }
            }
            Said::Nothing => Ask::Look,
            Said::Perhaps => Ask::LookForOwn,
            Said::Standby => Ask::Answer(Err(on_standby(RESERVE))),
        }
    }

    pub(crate) fn reserving(&self) -> &Reserving {
        self.reserve.operation()
    }

    pub(crate) fn completing(&self) -> &Holding<Completion> {
        self.complete.operation()
    }

    pub(crate) fn looking(&self) -> &Looking {
        self.lookup.operation()
    }
}

/// What the builder leaves to the store.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) call_deadline: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) notifications: bool,
    /// For tests: a call that goes alone takes the batch's statement too.
    pub(crate) always_batches: bool,
    /// For tests: statements of other texts.
    pub(crate) sql_folder: Option<PathBuf>,
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
        let statements = Statements::new(&layout.table, settings.sql_folder.as_deref());
        let alone = |sql: &Sql| (!settings.always_batches).then(|| sql.clone());
        let granting =
            |sql: &Sql| Lane::new(Granting { sql: sql.clone() }, link.clone(), Arc::clone(&bounds));
        let reserving = Reserving { sql: statements.reserve.clone(), one: alone(&statements.reserve_one) };
        let inner = Inner {
            reserve: Lane::new(reserving, link.clone(), Arc::clone(&bounds)),
            reserve_again: granting(&statements.reserve_again),
            retry: granting(&statements.retry),
            take_over: granting(&statements.take_over),
            complete: holding(
                "complete",
                &statements.complete,
                alone(&statements.complete_one),
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

    /// The store's connections: its own, or the caller's pool. Its own have settings for its own statements: few plans
    /// to choose from, and the [statement deadline](PostgresStoreBuilder::statement_deadline) as their
    /// `statement_timeout`. For other work of any size have a pool beside it.
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
        let progress = Progress::default();
        let refused = |refused, own: bool| match refused {
            // T3: somebody is at work there, in an open transaction. But not where it may be a try of this very
            // call, whose answer was lost: nobody is told to wait for himself.
            Refused::Locked(_) if !own && progress.effect() == Effect::NotApplied => {
                Ok(ReservationOutcome::InFlight(InFlight::new(inner.settings.lock_timeout)))
            }
            Refused::Locked(error) | Refused::Failed(error) => Err(error),
        };
        while Instant::now() < deadline {
            let said = match inner.reserve.call(slot, asked, deadline, &progress).await {
                Ok(said) => said,
                Err(error) => return refused(error, false),
            };
            let (lane, own) = match inner.next(said, token, request) {
                Ask::Answer(answer) => return answer,
                Ask::Look => continue,
                Ask::LookForOwn => {
                    // S7: what fails from here on leaves a reservation that may be there.
                    progress.set(Effect::Unknown);
                    continue;
                }
                Ask::Write { lane, own } => (lane, own),
            };
            match lane.call(slot, asked, deadline, &progress).await {
                Ok(Some(grant)) => return Ok(ReservationOutcome::Reserved(grant)),
                // R8: it applies no longer.
                Ok(None) => {}
                Err(error) => return refused(error, own),
            }
        }
        Err(too_late(RESERVE, progress.effect(), None))
    }

    /// One statement of a holder; and what is there instead, where nothing was written.
    async fn hold<A: More + Clone, T>(
        &self,
        lane: &Lane<Holding<A>>,
        slot: &Slot,
        grant: &Grant,
        more: A,
        classify: impl Fn(Option<&Record>, Timestamp) -> Step<T>,
    ) -> Result<Held<A::Done, T>, StoreError> {
        let (deadline, progress) = (self.deadline(), Progress::default());
        while Instant::now() < deadline {
            let own = Own { token: grant.token, fence: grant.fence, more: more.clone() };
            if let Some(done) = lane.call(slot, own, deadline, &progress).await? {
                return Ok(Held::Written(done));
            }
            let (record, now) = self.look(slot, deadline, &progress).await?;
            let step = classify(record.as_ref(), now);
            if step.change == Change::Keep {
                return Ok(Held::Not(step.answer));
            }
            // R8: it would be written now. The clock stepped back, or it was changed by hand.
        }
        Err(too_late(lane.operation().name(), progress.effect(), None))
    }

    /// What is there, and the clock with which it was looked at.
    async fn look(
        &self,
        slot: &Slot,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<(Option<Record>, Timestamp), StoreError> {
        match self.0.lookup.call(slot, (), deadline, progress).await? {
            Said::There { now, record } => Ok((Some(record), now)),
            Said::Nothing | Said::Fresh(_) | Said::Perhaps => Ok((None, Timestamp::ZERO)),
            Said::Standby => Err(on_standby("lookup")),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.settings.call_deadline
    }
}

fn holding<A: More>(
    name: &'static str,
    sql: &Sql,
    one: Option<Sql>,
    link: &Link,
    bounds: &Arc<Bounds>,
) -> Lane<Holding<A>> {
    let operation = Holding { name, sql: sql.clone(), one, more: std::marker::PhantomData };
    Lane::new(operation, link.clone(), Arc::clone(bounds))
}

/// The answer of a step that a statement found nothing to write for.
pub(crate) fn kept<A>(step: Step<A>, operation: &'static str) -> Result<A, StoreError> {
    if step.change == Change::Keep { Ok(step.answer) } else { Err(disagree(operation)) }
}

fn disagree(operation: &'static str) -> StoreError {
    let message = "the statement and the state machine disagree about this row: it was changed by hand, or this is a bug";
    StoreError::new(ErrorKind::Corrupt, operation, Effect::NotApplied, message)
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
        let checkpoint = renewal.checkpoint().cloned();
        let classify = |record: Option<&Record>, now| state::renew(record, grant, renewal, now);
        let held = match renewal.lease() {
            Some(lease) => {
                let more = Extend { lease: span(lease), checkpoint };
                self.hold(&self.0.renew, slot, grant, more, classify).await?
            }
            None => {
                let held = self.hold(&self.0.hand_over, slot, grant, HandOver(checkpoint), classify).await?;
                self.0.wake.changed(slot);
                held
            }
        };
        Ok(match held {
            Held::Written(renewed) => RenewOutcome::Renewed(renewed),
            Held::Not(outcome) => outcome,
        })
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.check("complete", completion)?;
        let classify = |record: Option<&Record>, now| state::complete(record, grant, completion, now);
        let held = self.hold(&self.0.complete, slot, grant, completion.clone(), classify).await?;
        Ok(match held {
            Held::Written(()) => {
                self.0.wake.changed(slot);
                CompleteOutcome::Stored
            }
            Held::Not(outcome) => outcome,
        })
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        let classify = |record: Option<&Record>, now| state::release(record, grant, now);
        let held = self.hold(&self.0.release, slot, grant, Release, classify).await?;
        Ok(match held {
            Held::Written(()) => {
                self.0.wake.changed(slot);
                ReleaseOutcome::Released
            }
            Held::Not(outcome) => outcome,
        })
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        let (record, now) = self.look(slot, self.deadline(), &Progress::default()).await?;
        Ok(state::lookup(record.as_ref(), now))
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
