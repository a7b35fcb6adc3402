//! In the caller's own transaction (T1 to T5): the answer and the business write, both or neither.
//!
//! Each of our statements runs behind a savepoint: what fails leaves the transaction as it was, usable, and
//! outside a transaction the savepoint itself is refused. The timeouts that it sets are set back, unless the call is
//! dropped half-way: then the transaction is good for a rollback alone.

use std::fmt;
use std::ops::{Deref, DerefMut};

use oncekey_core::state::{self, Change};
use oncekey_core::{
    CompleteOutcome, Completion, Effect, ErrorKind, Grant, InFlight, InTxError, Loss, ReservationOutcome,
    ReserveRequest, Slot, StoreError, Timestamp, Token,
};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Transaction};
use tokio::time::{Instant, timeout};

use crate::calls::{Own, Reserve, Said};
use crate::connection::statement_timeout;
use crate::error::{Failure, Next, too_late};
use crate::identifier::literal;
use crate::operation::{Operation, Row};
use crate::store::{Ask, PostgresStore};

const RESERVE_IN: &str = "reserve_in";
const COMPLETE_IN: &str = "complete_in";
const ONCE: &str = "once";

impl PostgresStore {
    /// Reserves inside the caller's transaction: the grant exists for others from its commit (T2), and its
    /// lease counts from this call. The answer holds only if the transaction commits.
    ///
    /// A slot that another open transaction holds answers InFlight after the lock timeout (T3): somebody is
    /// at work there. The transaction is at READ COMMITTED (T4); under a stricter isolation a failure that
    /// says so means that the whole transaction is to be made again.
    ///
    /// After this future was dropped half-way the transaction is to be rolled back.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is as it was, and can go on, unless the effect is
    /// [`Unknown`](Effect::Unknown): then the server gave no answer at all, and the transaction is to be rolled back.
    /// [`InvalidInput`](ErrorKind::InvalidInput) where the connection is in no transaction.
    pub async fn reserve_in(
        &self,
        tx: &mut PgConnection,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        self.reserve_numbered(tx, slot, token, request, Whose::Callers).await.map(|(outcome, _)| outcome)
    }

    /// Completes inside the caller's transaction: the answer is stored with the business write, both or
    /// neither (T1).
    ///
    /// What was reserved with [`IdempotencyStore`](oncekey_core::IdempotencyStore) is completed here. Stop the
    /// heartbeat before (T4): it would wait for this transaction's row. Callers that wait are woken by
    /// [`wake`](Self::wake), called once the transaction is committed; without it they find the answer at
    /// their next look. After this future was dropped half-way the transaction is to be rolled back.
    ///
    /// # Errors
    /// [`InTxError`] whenever this call did not store the answer, so that `?` rolls back. After an effect of
    /// [`Unknown`](Effect::Unknown) nothing else will do: the server gave no answer, and a commit might commit it.
    pub async fn complete_in(
        &self,
        tx: &mut PgConnection,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<(), InTxError> {
        self.complete_numbered(tx, slot, grant, completion, Whose::Callers, None).await
    }

    /// Reserves, works and answers in one transaction and one flush: exactly once, as far as the work's
    /// effects are in this database. A crash leaves nothing, and nobody has to wait for a lease.
    ///
    /// Takes a transaction of the caller's, at READ COMMITTED, and never one that was begun within another: the
    /// commit of that one commits nothing, and the driver doesn't tell them apart. `Reserved` gives it back as
    /// [`OnceTx`], which only its own [`commit`](OnceTx::commit) commits; any other outcome has rolled it back, or
    /// given its connection up.
    /// A duplicate waits for a transaction that is under way at most the lock timeout, then hears InFlight, or
    /// the replay. On a connection of the [store's own pool](Self::pool) each statement of the work ends by the
    /// [statement deadline](crate::PostgresStoreBuilder::statement_deadline).
    ///
    /// ```no_run
    /// # async fn pay(store: oncekey_postgres::PostgresStore, bank: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// use oncekey_postgres::*;
    ///
    /// let slot = Principal::new("shop-17")?.slot("order-4711")?;
    /// let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
    ///
    /// match store.once(bank.begin().await?, &slot, &request).await? {
    ///     ReservationOutcome::Reserved(mut once) => {
    ///         sqlx::query("UPDATE accounts SET cents = cents - 900 WHERE id = 17").execute(&mut *once).await?;
    ///         once.commit(&Completion::new(StoredResponse::new(201, "", "paid"))).await?;
    ///     }
    ///     ReservationOutcome::Replay(record) => println!("paid before: {:?}", record.response),
    ///     other => println!("not now: {other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is rolled back.
    pub async fn once<'c>(
        &self,
        mut tx: Transaction<'c, Postgres>,
        slot: &Slot,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome<OnceTx<'c>>, StoreError> {
        let (token, since) = (Token::fresh(), Instant::now());
        match self.reserve_numbered(&mut tx, slot, token, request, Whose::Onces).await? {
            (ReservationOutcome::Reserved(grant), number) => {
                // This process's own calls for the slot go by themselves from the start: no batch waits with
                // them.
                self.inner().bounds.remember(slot);
                let (store, slot, request) = (self.clone(), slot.clone(), *request);
                Ok(ReservationOutcome::Reserved(OnceTx { store, slot, request, grant, since, number, tx }))
            }
            (other, _) => {
                // It wrote nothing, and what was read is true however it ends.
                let ended = timeout(self.inner().link.patience(), tx.rollback()).await;
                drop(ended);
                Ok(without_grant(other))
            }
        }
    }

    /// Wakes whoever waits for `slot`, here and in other processes: after the commit of a transaction with
    /// [`complete_in`](Self::complete_in) or [`reserve_in`](Self::reserve_in).
    pub fn wake(&self, slot: &Slot) {
        self.inner().bounds.forget(slot);
        self.inner().wake.changed(slot);
    }

    /// The outcome, and the number of the transaction if it has one.
    async fn reserve_numbered(
        &self,
        tx: &mut PgConnection,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
        whose: Whose,
    ) -> Result<(ReservationOutcome, Number), StoreError> {
        let inner = self.inner();
        let deadline = self.deadline();
        let asked = Reserve { fingerprint: request.fingerprint, token, terms: request.terms };
        let busy = || ReservationOutcome::InFlight(InFlight::new(inner.settings.lock_timeout));
        while Instant::now() < deadline {
            let said = self
                .in_tx(tx, inner.reserving(), slot, &asked, In { name: RESERVE_IN, whose, number: None })
                .await?;
            let (said, number) = match said {
                Ok(said) => said,
                // T3
                Err(failure) if failure.next == Next::Locked => return Ok((busy(), None)),
                Err(failure) => return Err(failure.into_error(RESERVE_IN, Effect::NotApplied)),
            };
            let (lane, own) = match inner.next(said, token, request) {
                Ask::Answer(answer) => return answer.map(|outcome| (outcome, number)),
                Ask::Look | Ask::LookForOwn => continue,
                Ask::Write { lane, own } => (lane, own),
            };
            match self
                .in_tx(tx, lane.operation(), slot, &asked, In { name: RESERVE_IN, whose, number: None })
                .await?
            {
                Ok((Some(grant), number)) => return Ok((ReservationOutcome::Reserved(grant), number)),
                Ok((None, _)) => {}
                // Its own holder's row, in another transaction: nobody is told to wait for himself.
                Err(failure) if failure.next == Next::Locked && !own => return Ok((busy(), None)),
                Err(failure) => return Err(failure.into_error(RESERVE_IN, Effect::NotApplied)),
            }
        }
        Err(too_late(RESERVE_IN, Effect::NotApplied, None))
    }

    /// Completes, in the transaction of this number if one is given.
    async fn complete_numbered(
        &self,
        tx: &mut PgConnection,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
        whose: Whose,
        number: Option<&str>,
    ) -> Result<(), InTxError> {
        self.check(COMPLETE_IN, completion)?;
        let own = Own { token: grant.token, fence: grant.fence, more: completion.clone() };
        let failed = |failure: Failure| failure.into_error(COMPLETE_IN, Effect::NotApplied);
        let completed = self
            .in_tx(tx, self.inner().completing(), slot, &own, In { name: COMPLETE_IN, whose, number })
            .await?;
        if let (Some(()), _) = completed.map_err(failed)? {
            return Ok(());
        }
        let looked = self
            .in_tx(tx, self.inner().looking(), slot, &(), In { name: COMPLETE_IN, whose, number: None })
            .await?;
        let (record, now) = match looked.map_err(failed)?.0 {
            Said::There { now, record } => (Some(record), now),
            _ => (None, Timestamp::ZERO),
        };
        let step = state::complete(record.as_ref(), grant, completion, now);
        InTxError::unless_stored(match step.change {
            Change::Keep => step.answer,
            // It expired since this transaction began, whose clock the read has.
            Change::Put(_) | Change::Delete => CompleteOutcome::Lost(Loss::Gone),
        })
    }

    /// One statement for one slot, behind a savepoint, within the statement deadline. An outer error is one that
    /// leaves the transaction unusable, or none to begin with.
    async fn in_tx<O: Operation>(
        &self,
        tx: &mut PgConnection,
        operation: &O,
        slot: &Slot,
        asked: &O::Asked,
        within: In<'_>,
    ) -> Result<Result<(O::Said, Number), Failure>, StoreError> {
        let saved = self.behind_savepoint(tx, operation, slot, asked, within);
        match timeout(self.inner().link.patience(), saved).await {
            Ok(saved) => saved,
            Err(_) => Err(within.silence()),
        }
    }

    async fn behind_savepoint<O: Operation>(
        &self,
        tx: &mut PgConnection,
        operation: &O,
        slot: &Slot,
        asked: &O::Asked,
        within: In<'_>,
    ) -> Result<Result<(O::Said, Number), Failure>, StoreError> {
        let (inner, name) = (self.inner(), within.name);
        let broken = |failure: Failure| failure.into_error(name, Effect::NotApplied);
        let rows = [Row { slot, asked }];
        let bound = operation.bind(&rows, inner.link.offset.micros(), &inner.bounds.patiently());
        let arguments = bound.map_err(|error| broken(Failure::of(sqlx::Error::Encode(error))))?;

        let before = format!("{BEFORE} = {}", statement_timeout(inner.link.statement_deadline));
        let before = run(tx, before).await.map_err(|failure| not_in_transaction(failure, name))?;
        let before = |column| before.first().and_then(|row| text(row, column));
        if within.number.is_some() && within.number != before(2).as_deref() {
            let message =
                "the transaction that reserved was ended by hand: nothing may be committed in another one";
            return Err(StoreError::new(ErrorKind::InvalidInput, name, Effect::NotApplied, message));
        }
        let theirs = |column| literal(&before(column).unwrap_or_else(|| "0".to_owned()));

        match operation.sql().fetch(tx, arguments, !inner.link.pooled).await {
            Ok(found) => {
                let after = format!(
                    "RELEASE SAVEPOINT oncekey; SELECT pg_current_xact_id_if_assigned()::text, \
                     set_config('lock_timeout', {}, true), set_config('statement_timeout', {}, true)",
                    theirs(0),
                    theirs(1)
                );
                let after = run(tx, after).await.map_err(broken)?;
                let number = after.first().and_then(|row| text(row, 0));
                let said = operation.read(&rows, &found).pop();
                said.unwrap_or_else(|| Err(too_late(name, Effect::NotApplied, None)))
                    .map(|said| Ok((said, number)))
            }
            Err(error) => {
                let failure = Failure::of(error).not_applied();
                // It takes the timeouts back as well.
                run(tx, BACK.to_owned()).await.map_err(broken)?;
                Ok(Err(failure))
            }
        }
    }
}

/// Who may commit a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The caller: also after an error of ours.
    Callers,
    /// [`OnceTx`] alone, which an error ends.
    Onces,
}

/// In which transaction a statement runs, and for which call.
#[derive(Clone, Copy)]
struct In<'a> {
    name: &'static str,
    whose: Whose,
    /// It must be the transaction of this number.
    number: Option<&'a str>,
}

impl In<'_> {
    /// The server says nothing at all, not even that the statement took too long. It may have written, and a commit
    /// would commit that.
    fn silence(&self) -> StoreError {
        let failure = Failure::no_answer();
        match self.whose {
            Whose::Onces => failure.not_applied().into_error(self.name, Effect::NotApplied),
            Whose::Callers => failure.roll_back().into_error(self.name, Effect::Unknown),
        }
    }
}

/// The number of a transaction, once it has written; none before.
type Number = Option<String>;

const BEFORE: &str = "SAVEPOINT oncekey; \
    SELECT current_setting('lock_timeout'), current_setting('statement_timeout'), \
    pg_current_xact_id_if_assigned()::text; SET LOCAL statement_timeout";
const BACK: &str = "ROLLBACK TO SAVEPOINT oncekey; RELEASE SAVEPOINT oncekey";

/// An outcome that holds no grant, for whoever would have held something else.
fn without_grant<H>(outcome: ReservationOutcome) -> ReservationOutcome<H> {
    match outcome {
        ReservationOutcome::Replay(record) => ReservationOutcome::Replay(record),
        ReservationOutcome::Conflict => ReservationOutcome::Conflict,
        ReservationOutcome::Indeterminate(lapsed) => ReservationOutcome::Indeterminate(lapsed),
        ReservationOutcome::InFlight(busy) => ReservationOutcome::InFlight(busy),
        // The caller has taken this one out.
        ReservationOutcome::Reserved(_) => ReservationOutcome::Conflict,
    }
}

async fn run(tx: &mut PgConnection, sql: String) -> Result<Vec<PgRow>, Failure> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(tx).await;
    rows.map_err(|error| Failure::of(error).not_applied())
}

fn text(row: &PgRow, column: usize) -> Option<String> {
    row.try_get_raw(column).ok()?.as_str().ok().map(str::to_owned)
}

/// Why a savepoint could not be set.
fn not_in_transaction(failure: Failure, name: &'static str) -> StoreError {
    let refuse = |message| StoreError::new(ErrorKind::InvalidInput, name, Effect::NotApplied, message);
    match failure.code().as_deref() {
        // Outside, each statement would be committed by itself, and the answer without the business write.
        Some("25P01") => refuse("the connection is in no transaction: begin one, or it was ended already"),
        Some("25P02") => refuse("the transaction has failed already: roll it back"),
        _ => failure.into_error(name, Effect::NotApplied),
    }
}

/// A transaction that holds a reservation: work in it, then [`commit`](Self::commit) the answer with the
/// work. Dropping it rolls everything back, the reservation too.
#[must_use = "dropping it rolls back: commit the answer"]
pub struct OnceTx<'c> {
    store: PostgresStore,
    slot: Slot,
    request: ReserveRequest,
    grant: Grant,
    /// Its record expires no earlier than lease and retention from here.
    since: Instant,
    /// The transaction's number: nothing is committed in another one.
    number: Number,
    tx: Transaction<'c, Postgres>,
}

impl OnceTx<'_> {
    /// What was granted: attempt, fence, a predecessor's checkpoint.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Stores the answer, and commits it with everything that was done in the transaction.
    ///
    /// When the answer to COMMIT is lost, or doesn't come within the statement deadline, it asks the store again
    /// with its own token (T5), which waits for the transaction to end: `Ok` means committed, also then.
    ///
    /// # Errors
    /// [`InTxError`]; nothing is committed, unless its effect is [`Unknown`](Effect::Unknown): then the server
    /// did not tell within the call deadline, or the answer's retention is over. As long as it isn't,
    /// [`PostgresStore::once`] tells later whether the answer is there.
    pub async fn commit(self, completion: &Completion) -> Result<(), InTxError> {
        let Self { store, slot, request, grant, since, number, mut tx } = self;
        let kept_until = match completion.retention() {
            Some(retention) => Instant::now() + retention,
            None => since + request.terms.lease() + request.terms.retention(),
        };
        let (onces, number) = (Whose::Onces, number.as_deref());
        store.complete_numbered(&mut tx, &slot, &grant, completion, onces, number).await?;
        let lost = match timeout(store.inner().link.statement_deadline, tx.commit()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::of(error)),
            Err(_) => Some(Failure::no_answer()),
        };
        match lost {
            None => {}
            Some(refused) if refused.effect == Effect::NotApplied => {
                store.inner().bounds.forget(&slot);
                return Err(refused.into_error(ONCE, Effect::NotApplied).into());
            }
            Some(lost) => store.settle(&slot, &request, &grant, completion, kept_until, lost).await?,
        }
        store.wake(&slot);
        Ok(())
    }

    /// Rolls everything back.
    ///
    /// # Errors
    /// [`StoreError`] when even that failed; nothing is committed all the same.
    pub async fn rollback(self) -> Result<(), StoreError> {
        let Self { store, slot, tx, .. } = self;
        let rolled_back = timeout(store.inner().link.patience(), tx.rollback()).await;
        store.wake(&slot);
        let failure = match rolled_back {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failure::of(error),
            Err(_) => Failure::no_answer(),
        };
        Err(failure.not_applied().into_error(ONCE, Effect::NotApplied))
    }
}

/// To the connection, and not to the transaction: nothing but [`OnceTx::commit`] commits, unless the work
/// executes a `COMMIT` of its own, which `commit` then refuses to build on.
impl Deref for OnceTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for OnceTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

impl fmt::Debug for OnceTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceTx").field("slot", &self.slot).field("grant", &self.grant).finish_non_exhaustive()
    }
}
