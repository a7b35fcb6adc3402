//! [`Operation`]: one kind of call, as a lane needs it.

use oncekey_core::{Slot, StoreError};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

use crate::statements::Sql;

/// One kind of call: its statement, and what its rows look like.
pub(crate) trait Operation: Send + Sync + 'static {
    /// What a call asks, beside its slot.
    type Asked: Send + Sync + 'static;
    /// What its statement says.
    type Said: Send + 'static;

    /// The trait method's name, for errors.
    fn name(&self) -> &'static str;
    fn sql(&self) -> &Sql;
    /// How many bytes it sends, about.
    fn weight(&self, asked: &Self::Asked) -> usize;
    /// The arguments for these rows, whose slots are in order and all different.
    fn bind(
        &self,
        rows: &[Row<'_, Self::Asked>],
        micros: i64,
        lock_timeout: &str,
    ) -> Result<PgArguments, BoxDynError>;
    /// The statement and arguments of a call that goes alone, where there is one without the machinery of a
    /// batch. Its rows are as the batch's.
    fn alone(
        &self,
        _: &Row<'_, Self::Asked>,
        _: i64,
        _: &str,
    ) -> Option<Result<(&Sql, PgArguments), BoxDynError>> {
        None
    }
    /// What the statement's rows say of each, in the order in which they were bound.
    fn read(&self, rows: &[Row<'_, Self::Asked>], found: &[PgRow]) -> Vec<Result<Self::Said, StoreError>>;
}

/// A call as a row of its batch.
pub(crate) struct Row<'a, A> {
    pub(crate) slot: &'a Slot,
    pub(crate) asked: &'a A,
}
