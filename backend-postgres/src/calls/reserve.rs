//! A reserve: `reserve.sql`, and the statements that write where it found a row.

use oncekey_core::codec::Corrupt;
use oncekey_core::{Fence, Fingerprint, Grant, StoreError, Terms, Token};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use super::{Bound, Said, by_number, collect, keys, principals, slot_arguments, there};
use crate::operation::{Operation, Row};
use crate::row::{Columns, policy_text, span};
use crate::statements::Sql;

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
    pub(crate) one: Option<Sql>,
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

    /// A row with `fresh` says how many rows are new, and their fence: one a statement, for they have one clock.
    /// Where that is not every row that was absent, none of them is known, and each asks again: with its own
    /// token it is told its own grant (R3). So it is where the clock is too old for a fence to be told (R10). Until
    /// then each may have been written (S7).
    fn read(&self, rows: &[Row<'_, Reserve>], found: &[PgRow]) -> Vec<Result<Said, StoreError>> {
        let (mut written, mut fresh) = (0, None);
        let mut all: Vec<_> = (0..rows.len()).map(|_| Ok(Said::Nothing)).collect();
        let mut seen = 0;
        for row in found {
            let mut columns = Columns::of(row);
            let mut read = || {
                let (n, is_fresh) = (columns.number()?, columns.flag()?);
                if !is_fresh {
                    return there(&mut columns).map(|said| (n, Some(said)));
                }
                written = usize::try_from(n).unwrap_or(0);
                // now, state, fingerprint, token
                fresh = columns.skip(4).maybe_signed()?.map(|fence| Fence::new(fence.unsigned_abs()));
                Ok((n, None))
            };
            match read() {
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
        let new = || fresh.map_or(Said::Perhaps, Said::Fresh);
        if written == rows.len() {
            // What `reserve_one.sql` saw beside the row that it wrote was deleted since its snapshot.
            return rows.iter().map(|_| Ok(new())).collect();
        }
        let all_known = written + seen == rows.len();
        if written > 0 {
            for said in all.iter_mut().filter(|said| matches!(said, Ok(Said::Nothing))) {
                *said = Ok(if all_known { new() } else { Said::Perhaps });
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
