//! The races of each engine.

pub(crate) mod growth;
pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod sqlite;
