//! The kinds of call: what each binds, and what its rows say.

use oncekey_core::codec::Corrupt;
use oncekey_core::state::Record;
use oncekey_core::{
    Checkpoint, Completion, Fence, Fingerprint, Grant, Renewed, Slot, StoreError, Terms, Timestamp, Token,
};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use crate::gather::{Operation, Row};
use crate::row::{Columns, int, policy_text, response_parts, span};
use crate::statements::Sql;

/// What a read says of one slot.
#[derive(Debug)]
pub(crate) enum Said {
    /// This is there, and the clock with which it was looked at.
    There { now: Timestamp, record: Record },
    /// There was no row to be seen.
    Nothing,
    /// A reserve found no row, and wrote one.
    Fresh(Fence),
    /// The server is a standby: what it has may be old.
    Standby,
}

/// Of each of `count` rows what `read` makes of the row that begins with its number; none without one.
fn by_number<T>(
    name: &'static str,
    count: usize,
    found: &[PgRow],
    read: impl Fn(&mut Columns<'_>) -> Result<T, Corrupt>,
) -> Vec<Result<Option<T>, StoreError>> {
    let mut all: Vec<_> = (0..count).map(|_| Ok(None)).collect();
    for row in found {
        let mut columns = Columns::of(row);
        let place = columns.number().ok().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
        if let Some(place) = place.and_then(|place| all.get_mut(place)) {
            *place = read(&mut columns).map(Some).map_err(|corrupt| corrupt.in_operation(name));
        }
    }
    all
}

/// now and the record, of a row that has one.
fn there(columns: &mut Columns<'_>) -> Result<Said, Corrupt> {
    let now = columns.time()?;
    Ok(columns.maybe_record()?.map_or(Said::Nothing, |record| Said::There { now, record }))
}

fn principals<'a, A>(rows: &[Row<'a, A>]) -> Vec<&'a str> {
    rows.iter().map(|row| row.slot.principal().as_str()).collect()
}

fn keys<'a, A>(rows: &[Row<'a, A>]) -> Vec<&'a str> {
    rows.iter().map(|row| row.slot.key()).collect()
}

fn collect<'a, A, T>(rows: &'a [Row<'a, A>], f: impl Fn(&'a A) -> T) -> Vec<T> {
    rows.iter().map(|row| f(row.asked)).collect()
}

/// A statement with its arguments.
type Bound<'a> = Result<(&'a Sql, PgArguments), BoxDynError>;

/// The first two arguments of a statement for one slot.
fn slot_arguments(slot: &Slot) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    arguments.add(slot.principal().as_str())?;
    arguments.add(slot.key())?;
    Ok(arguments)
}

/// What a reserve asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) token: Token,
    pub(crate) terms: Terms,
}

const RESERVE: &str = "reserve_or_fetch";

fn bind_reserves(
    rows: &[Row<'_, Reserve>],
    micros: i64,
    lock_timeout: &str,
) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    arguments.add(principals(rows))?;
    arguments.add(keys(rows))?;
    arguments.add(collect(rows, |asked| &asked.fingerprint.as_bytes()[..]))?;
    arguments.add(collect(rows, |asked| &asked.token.as_bytes()[..]))?;
    arguments.add(collect(rows, |asked| policy_text(asked.terms.policy())))?;
    arguments.add(collect(rows, |asked| span(asked.terms.lease())))?;
    arguments.add(collect(rows, |asked| span(asked.terms.retention())))?;
    arguments.add(micros)?;
    arguments.add(lock_timeout)?;
    Ok(arguments)
}

/// `reserve.sql`, and `reserve_one.sql` for a call that goes alone.
#[derive(Debug)]
pub(crate) struct Reserving {
    pub(crate) sql: Sql,
    pub(crate) one: Sql,
}

impl Operation for Reserving {
    type Asked = Reserve;
    type Said = Said;

    fn name(&self) -> &'static str {
        RESERVE
    }

    fn sql(&self) -> &Sql {
        &self.sql
    }

    fn weight(&self, _: &Reserve) -> usize {
        0
    }

    fn bind(
        &self,
        rows: &[Row<'_, Reserve>],
        micros: i64,
        lock_timeout: &str,
    ) -> Result<PgArguments, BoxDynError> {
        bind_reserves(rows, micros, lock_timeout)
    }

    fn alone(&self, row: &Row<'_, Reserve>, micros: i64, lock_timeout: &str) -> Option<Bound<'_>> {
        let bind = || {
            let Reserve { fingerprint, token, terms } = row.asked;
            let mut arguments = slot_arguments(row.slot)?;
            arguments.add(&fingerprint.as_bytes()[..])?;
            arguments.add(&token.as_bytes()[..])?;
            arguments.add(policy_text(terms.policy()))?;
            arguments.add(span(terms.lease()))?;
            arguments.add(span(terms.retention()))?;
            arguments.add(micros)?;
            arguments.add(lock_timeout)?;
            Ok((&self.one, arguments))
        };
        Some(bind())
    }

    /// A row with `fresh` says how many rows are new, and their fence: one a statement, for they have one clock.
    /// Where that is not every row that was absent, none of them is known, and each asks again: with its own
    /// token it is told its own grant (R3).
    fn read(&self, rows: &[Row<'_, Reserve>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        let mut fresh = None;
        let mut all: Vec<_> = (0..rows.len()).map(|_| Ok(Said::Nothing)).collect();
        let mut seen = 0;
        for row in found {
            let mut columns = Columns::of(row);
            let mut read = || {
                let (n, is_fresh) = (columns.number()?, columns.flag()?);
                if is_fresh {
                    // now, state, fingerprint, token; no fence where no row is new.
                    return Ok((
                        n,
                        columns
                            .skip(4)
                            .maybe_signed()?
                            .map(|fence| Said::Fresh(Fence::new(fence.unsigned_abs()))),
                    ));
                }
                there(&mut columns).map(|said| (n, Some(said)))
            };
            match read() {
                Ok((n, Some(Said::Fresh(fence)))) => fresh = Some((n, fence)),
                Ok((n, Some(said))) => {
                    seen += 1;
                    if let Some(place) = place(&mut all, n) {
                        *place = Ok(said);
                    }
                }
                Ok((_, None)) => {}
                Err(corrupt) => {
                    // Whose row it is stands before what can't be read.
                    seen += 1;
                    if let Some(place) = Columns::of(row).number().ok().and_then(|n| place(&mut all, n)) {
                        *place = Err(Corrupt::in_operation(corrupt, RESERVE));
                    }
                }
            }
        }
        let Some((count, fence)) = fresh else { return all };
        let count = usize::try_from(count).unwrap_or(0);
        if count == rows.len() {
            // What `reserve_one.sql` saw beside the row that it wrote was deleted since its snapshot.
            return rows.iter().map(|_| Ok(Said::Fresh(fence))).collect();
        }
        if count + seen == rows.len() {
            for said in all.iter_mut().filter(|said| matches!(said, Ok(Said::Nothing))) {
                *said = Ok(Said::Fresh(fence));
            }
        }
        all
    }
}

fn place<T>(all: &mut [T], n: u64) -> Option<&mut T> {
    all.get_mut(usize::try_from(n).ok()?.checked_sub(1)?)
}

/// The statements that write where a reserve found a row: `reserve_again.sql`, `retry.sql`, `take_over.sql`.
/// Each says the grant, or nothing where it doesn't apply any longer.
#[derive(Debug)]
pub(crate) struct Granting {
    pub(crate) sql: Sql,
}

impl Operation for Granting {
    type Asked = Reserve;
    type Said = Option<Grant>;

    fn name(&self) -> &'static str {
        RESERVE
    }

    fn sql(&self) -> &Sql {
        &self.sql
    }

    fn weight(&self, _: &Reserve) -> usize {
        0
    }

    fn bind(
        &self,
        rows: &[Row<'_, Reserve>],
        micros: i64,
        lock_timeout: &str,
    ) -> Result<PgArguments, BoxDynError> {
        bind_reserves(rows, micros, lock_timeout)
    }

    fn read(&self, rows: &[Row<'_, Reserve>], found: &[PgRow]) -> Vec<Result<Option<Grant>, StoreError>> {
        let granted = by_number(RESERVE, rows.len(), found, |columns| {
            Ok((columns.fence()?, columns.attempt()?, columns.policy()?, columns.checkpoint()?))
        });
        let of = |(row, granted): (&Row<'_, Reserve>, Result<Option<_>, StoreError>)| {
            let granted = granted?;
            Ok(granted.map(|(fence, attempt, policy, checkpoint)| {
                Grant::new(row.asked.token, fence, attempt, policy, checkpoint)
            }))
        };
        rows.iter().zip(granted).map(of).collect()
    }
}

/// What a holder asks: it shows its grant.
#[derive(Clone, Debug)]
pub(crate) struct Own<A> {
    pub(crate) token: Token,
    pub(crate) fence: Fence,
    pub(crate) more: A,
}

/// One of the statements of a holder.
#[derive(Debug)]
pub(crate) struct Holding<A> {
    pub(crate) name: &'static str,
    pub(crate) sql: Sql,
    /// For a call that goes alone, if there is one.
    pub(crate) one: Option<Sql>,
    pub(crate) more: std::marker::PhantomData<fn(A)>,
}

/// What a holder's statement takes beside its grant.
pub(crate) trait More: Send + Sync + Sized + 'static {
    /// What it says once it is written.
    type Done: Send + 'static;

    /// The columns behind the row's number.
    fn read(columns: &mut Columns<'_>) -> Result<Self::Done, Corrupt>;
    fn weight(&self) -> usize;
    fn bind(rows: &[Row<'_, Own<Self>>], arguments: &mut PgArguments) -> Result<(), BoxDynError>;
    /// Of one row, not in arrays.
    fn bind_one(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

impl<A: More> Operation for Holding<A> {
    type Asked = Own<A>;
    /// None where the record isn't the holder's: nothing was written.
    type Said = Option<A::Done>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn sql(&self) -> &Sql {
        &self.sql
    }

    fn weight(&self, asked: &Own<A>) -> usize {
        asked.more.weight()
    }

    fn bind(
        &self,
        rows: &[Row<'_, Own<A>>],
        micros: i64,
        lock_timeout: &str,
    ) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        arguments.add(principals(rows))?;
        arguments.add(keys(rows))?;
        arguments.add(collect(rows, |asked| &asked.token.as_bytes()[..]))?;
        arguments.add(collect(rows, |asked| int(asked.fence.get())))?;
        A::bind(rows, &mut arguments)?;
        arguments.add(micros)?;
        arguments.add(lock_timeout)?;
        Ok(arguments)
    }

    fn alone(&self, row: &Row<'_, Own<A>>, micros: i64, lock_timeout: &str) -> Option<Bound<'_>> {
        let sql = self.one.as_ref()?;
        let bind = || {
            let mut arguments = slot_arguments(row.slot)?;
            arguments.add(&row.asked.token.as_bytes()[..])?;
            arguments.add(int(row.asked.fence.get()))?;
            row.asked.more.bind_one(&mut arguments)?;
            arguments.add(micros)?;
            arguments.add(lock_timeout)?;
            Ok((sql, arguments))
        };
        Some(bind())
    }

    fn read(&self, rows: &[Row<'_, Own<A>>], found: &[PgRow]) -> Vec<Result<Option<A::Done>, StoreError>> {
        by_number(self.name, rows.len(), found, A::read)
    }
}

impl More for Completion {
    type Done = ();

    fn read(_: &mut Columns<'_>) -> Result<(), Corrupt> {
        Ok(())
    }

    fn weight(&self) -> usize {
        self.response().len()
    }

    fn bind(rows: &[Row<'_, Own<Self>>], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        let parts = || rows.iter().map(|row| response_parts(row.asked.more.response()));
        arguments.add(collect(rows, |asked| asked.more.retention().map(span)))?;
        arguments.add(parts().map(|(status, ..)| status).collect::<Vec<_>>())?;
        arguments.add(parts().map(|(_, headers, ..)| headers).collect::<Vec<_>>())?;
        arguments.add(parts().map(|(_, _, length, _)| length).collect::<Vec<_>>())?;
        arguments.add(parts().map(|(.., body)| body).collect::<Vec<_>>())
    }

    fn bind_one(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        let (status, headers, length, body) = response_parts(self.response());
        arguments.add(self.retention().map(span))?;
        arguments.add(status)?;
        arguments.add(headers)?;
        arguments.add(length)?;
        arguments.add(body)
    }
}

/// A renewal's lease in microseconds, and what it saves.
#[derive(Clone, Debug)]
pub(crate) struct Extend {
    pub(crate) lease: i64,
    pub(crate) checkpoint: Option<Checkpoint>,
}

fn weight_of(checkpoint: Option<&Checkpoint>) -> usize {
    checkpoint.map_or(0, |checkpoint| checkpoint.data().len())
}

fn sequence_of(checkpoint: Option<&Checkpoint>) -> i64 {
    checkpoint.map_or(0, |checkpoint| int(checkpoint.sequence()))
}

impl More for Extend {
    type Done = Renewed;

    fn read(columns: &mut Columns<'_>) -> Result<Renewed, Corrupt> {
        let (now, lease_expires_at) = (columns.time()?, columns.time()?);
        Ok(Renewed::new(lease_expires_at - now, columns.number()?))
    }

    fn weight(&self) -> usize {
        weight_of(self.checkpoint.as_ref())
    }

    fn bind(rows: &[Row<'_, Own<Self>>], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        arguments.add(collect(rows, |asked| asked.more.lease))?;
        arguments.add(collect(rows, |asked| sequence_of(asked.more.checkpoint.as_ref())))?;
        arguments.add(collect(rows, |asked| asked.more.checkpoint.as_ref().map(|c| &c.data()[..])))
    }

    fn bind_one(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        arguments.add(self.lease)?;
        arguments.add(sequence_of(self.checkpoint.as_ref()))?;
        arguments.add(self.checkpoint.as_ref().map(|c| &c.data()[..]))
    }
}

/// What somebody who hands over saves.
#[derive(Clone, Debug)]
pub(crate) struct HandOver(pub(crate) Option<Checkpoint>);

impl More for HandOver {
    type Done = Renewed;

    fn read(columns: &mut Columns<'_>) -> Result<Renewed, Corrupt> {
        let (now, lease_expires_at) = (columns.time()?, columns.time()?);
        Ok(Renewed::new(lease_expires_at - now, columns.number()?))
    }

    fn weight(&self) -> usize {
        weight_of(self.0.as_ref())
    }

    fn bind(rows: &[Row<'_, Own<Self>>], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        arguments.add(collect(rows, |asked| sequence_of(asked.more.0.as_ref())))?;
        arguments.add(collect(rows, |asked| asked.more.0.as_ref().map(|c| &c.data()[..])))
    }

    fn bind_one(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        arguments.add(sequence_of(self.0.as_ref()))?;
        arguments.add(self.0.as_ref().map(|c| &c.data()[..]))
    }
}

/// A release takes nothing beside the grant.
#[derive(Clone, Debug)]
pub(crate) struct Release;

impl More for Release {
    type Done = ();

    fn read(_: &mut Columns<'_>) -> Result<(), Corrupt> {
        Ok(())
    }

    fn weight(&self) -> usize {
        0
    }

    fn bind(_: &[Row<'_, Own<Self>>], _: &mut PgArguments) -> Result<(), BoxDynError> {
        Ok(())
    }

    fn bind_one(&self, _: &mut PgArguments) -> Result<(), BoxDynError> {
        Ok(())
    }
}

/// `lookup.sql`. Its second column says whether it was read on a standby.
#[derive(Debug)]
pub(crate) struct Looking {
    pub(crate) sql: Sql,
}

impl Operation for Looking {
    type Asked = ();
    type Said = Said;

    fn name(&self) -> &'static str {
        "lookup"
    }

    fn sql(&self) -> &Sql {
        &self.sql
    }

    fn weight(&self, (): &()) -> usize {
        0
    }

    fn bind(&self, rows: &[Row<'_, ()>], micros: i64, _: &str) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        arguments.add(principals(rows))?;
        arguments.add(keys(rows))?;
        arguments.add(micros)?;
        Ok(arguments)
    }

    fn read(&self, rows: &[Row<'_, ()>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        let said = by_number("lookup", rows.len(), found, |columns| {
            if columns.flag()? { Ok(Said::Standby) } else { there(columns) }
        });
        said.into_iter().map(|said| said.map(|said| said.unwrap_or(Said::Nothing))).collect()
    }
}

/// What the statement of a `resolve` says: n, whether it was written, now, the record if it wasn't.
pub(crate) enum Resolved {
    Written,
    Not(Option<(Record, Timestamp)>),
}

pub(crate) fn resolved(found: &[PgRow]) -> Result<Resolved, StoreError> {
    let Some(row) = found.first() else { return Ok(Resolved::Not(None)) };
    let read = || {
        let mut columns = Columns::of(row);
        if columns.skip(1).flag()? {
            return Ok(Resolved::Written);
        }
        Ok(Resolved::Not(match there(&mut columns)? {
            Said::There { now, record } => Some((record, now)),
            _ => None,
        }))
    };
    read().map_err(|corrupt: Corrupt| corrupt.in_operation("resolve"))
}
