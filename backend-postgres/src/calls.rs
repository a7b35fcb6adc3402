//! The kinds of call: what each binds, and what its rows say.

use oncekey_core::codec::Corrupt;
use oncekey_core::state::Record;
use oncekey_core::{Checkpoint, Completion, Fence, Fingerprint, Slot, StoreError, Terms, Timestamp, Token};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use crate::gather::{Operation, Row};
use crate::row::{Columns, int, policy_text, response_parts, span};
use crate::statements::Sql;

/// What a statement says of one slot.
#[derive(Debug)]
pub(crate) enum Said {
    /// The rule applied, and was written: the record as it is now, where the caller needs it.
    Written { now: Timestamp, record: Option<Record> },
    /// Nothing was written: this is there, and the clock with which it was looked at.
    There { now: Timestamp, record: Record },
    /// There was no row to be seen.
    Nothing,
    /// A reserve found no row, and wrote one.
    Fresh(Fence),
}

/// A row of a statement: n, written, now, the record.
fn said(columns: &mut Columns<'_>) -> Result<Said, Corrupt> {
    let (written, now) = (columns.flag()?, columns.time()?);
    Ok(match (written, columns.maybe_record()?) {
        (true, record) => Said::Written { now, record },
        (false, Some(record)) => Said::There { now, record },
        (false, None) => Said::Nothing,
    })
}

/// What is said of each of `count` rows by the rows that came, each of which begins with its number.
pub(crate) fn said_by_number(
    name: &'static str,
    count: usize,
    found: &[PgRow],
) -> Vec<Result<Said, StoreError>> {
    let mut all: Vec<_> = (0..count).map(|_| Ok(Said::Nothing)).collect();
    for row in found {
        let mut columns = Columns::of(row);
        let place = columns.number().ok().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
        if let Some(place) = place.and_then(|place| all.get_mut(place)) {
            *place = said(&mut columns).map_err(|corrupt| corrupt.in_operation(name));
        }
    }
    all
}

fn principals<A>(rows: &[Row<'_, A>]) -> Vec<String> {
    rows.iter().map(|row| row.slot.principal().as_str().to_owned()).collect()
}

fn keys<A>(rows: &[Row<'_, A>]) -> Vec<String> {
    rows.iter().map(|row| row.slot.key().to_owned()).collect()
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

/// `reserve.sql` and the three statements that write where it found a row; all take the same arguments.
#[derive(Debug)]
pub(crate) struct Reserving {
    pub(crate) sql: Sql,
    /// `reserve_one.sql`, for `reserve.sql` alone, whose new rows come without a number.
    pub(crate) one: Option<Sql>,
}

const RESERVE: &str = "reserve_or_fetch";

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
        let mut arguments = PgArguments::default();
        arguments.add(principals(rows))?;
        arguments.add(keys(rows))?;
        arguments.add(collect(rows, |asked| asked.fingerprint.as_bytes().to_vec()))?;
        arguments.add(collect(rows, |asked| asked.token.as_bytes().to_vec()))?;
        arguments.add(collect(rows, |asked| policy_text(asked.terms.policy())))?;
        arguments.add(collect(rows, |asked| span(asked.terms.lease())))?;
        arguments.add(collect(rows, |asked| span(asked.terms.retention())))?;
        arguments.add(micros)?;
        arguments.add(lock_timeout)?;
        Ok(arguments)
    }

    fn alone(&self, row: &Row<'_, Reserve>, micros: i64, lock_timeout: &str) -> Option<Bound<'_>> {
        let sql = self.one.as_ref()?;
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
            Ok((sql, arguments))
        };
        Some(bind())
    }

    /// Nothing said is a row that was written after the statement's snapshot.
    fn read_alone(&self, found: &[PgRow]) -> Option<Result<Said, StoreError>> {
        let Some(row) = found.first() else { return Some(Ok(Said::Nothing)) };
        let read = || {
            let mut columns = Columns::of(row);
            // of_principal, of_key, n; written, now, state, fingerprint, token
            if columns.skip(3).flag()? {
                return columns.skip(4).fence().map(Said::Fresh);
            }
            said(Columns::of(row).skip(3))
        };
        Some(read().map_err(|corrupt| corrupt.in_operation(RESERVE)))
    }

    fn read(&self, rows: &[Row<'_, Reserve>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        if self.one.is_none() {
            return said_by_number(RESERVE, rows.len(), found);
        }
        let mut all: Vec<_> = (0..rows.len()).map(|_| Ok(Said::Nothing)).collect();
        for row in found {
            if let Some((place, said)) = fresh_row(rows, row) {
                all[place] = said.map_err(|corrupt| corrupt.in_operation(RESERVE));
            }
        }
        all
    }
}

/// A row of `reserve.sql`: of_principal, of_key, n, written, now, the record. A new row is known by its slot.
fn fresh_row(rows: &[Row<'_, Reserve>], row: &PgRow) -> Option<(usize, Result<Said, Corrupt>)> {
    let mut columns = Columns::of(row);
    let slot = (columns.maybe_text().ok()?, columns.maybe_text().ok()?);
    if let (Some(principal), Some(key)) = slot {
        let place = rows
            .binary_search_by(|row| {
                let slot: &Slot = row.slot;
                (slot.principal().as_str(), slot.key()).cmp(&(principal, key))
            })
            .ok()?;
        // written, now, state, fingerprint, token
        columns.skip(6);
        return Some((place, columns.fence().map(Said::Fresh)));
    }
    let place = usize::try_from(columns.number().ok()?).ok()?.checked_sub(1)?;
    (place < rows.len()).then(|| (place, said(&mut columns)))
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
    fn weight(&self) -> usize;
    fn bind(rows: &[Row<'_, Own<Self>>], arguments: &mut PgArguments) -> Result<(), BoxDynError>;
    /// Of one row, not in arrays.
    fn bind_one(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

impl<A: More> Operation for Holding<A> {
    type Asked = Own<A>;
    type Said = Said;

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
        arguments.add(collect(rows, |asked| asked.token.as_bytes().to_vec()))?;
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

    /// Says only that it was written, by its one column: when.
    fn read_alone(&self, found: &[PgRow]) -> Option<Result<Said, StoreError>> {
        let now = Columns::of(found.first()?).time();
        Some(now.map(|now| Said::Written { now, record: None }).map_err(|c| c.in_operation(self.name)))
    }

    fn read(&self, rows: &[Row<'_, Own<A>>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        said_by_number(self.name, rows.len(), found)
    }
}

impl More for Completion {
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

    /// Written means read on a standby here.
    fn read(&self, rows: &[Row<'_, ()>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        said_by_number("lookup", rows.len(), found)
    }
}
