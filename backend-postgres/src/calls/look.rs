//! What is there: `lookup.sql`, and what an operator's statement says.

use oncekey_core::codec::Corrupt;
use oncekey_core::state::Record;
use oncekey_core::{StoreError, Timestamp};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use super::{Said, by_number, keys, principals, there};
use crate::operation::{Operation, Row};
use crate::row::Columns;
use crate::statements::Sql;

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
