//! The calls of a holder, who shows its grant: `complete.sql`, `renew.sql`, `hand_over.sql`, `release.sql`.

use oncekey_core::codec::Corrupt;
use oncekey_core::{Checkpoint, Completion, Fence, Renewed, StoreError, Token};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use super::{Bound, by_number, collect, keys, principals, slot_arguments};
use crate::operation::{Operation, Row};
use crate::row::{Columns, int, response_parts, span};
use crate::statements::Sql;

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
