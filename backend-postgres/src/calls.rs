//! The kinds of call: what each binds, and what its rows say.

mod hold;
mod look;
mod reserve;

use oncekey_core::codec::Corrupt;
use oncekey_core::state::Record;
use oncekey_core::{Fence, Slot, StoreError, Timestamp};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use crate::operation::Row;
use crate::row::Columns;
use crate::statements::Sql;

pub(crate) use hold::{Extend, HandOver, Holding, More, Own, Release};
pub(crate) use look::{Looking, Resolved, resolved};
pub(crate) use reserve::{Granting, Reserve, Reserving};

/// What a read says of one slot.
#[derive(Debug)]
pub(crate) enum Said {
    /// This is there, and the clock with which it was looked at.
    There { now: Timestamp, record: Record },
    /// There was no row to be seen.
    Nothing,
    /// A reserve found no row, and wrote one.
    Fresh(Fence),
    /// A reserve found no row, and wrote some of its batch: perhaps this one, with a fence that it can't tell.
    Perhaps,
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
