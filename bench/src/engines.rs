//! The races of each engine.

pub(crate) mod growth;
pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod postgres_growth;
pub(crate) mod postgres_layouts;
pub(crate) mod redis;
pub(crate) mod redis_growth;
pub(crate) mod redis_layouts;
pub(crate) mod sqlite;
