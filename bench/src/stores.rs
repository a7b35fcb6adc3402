//! Who is measured: ours, the limit, the peers.

pub(crate) mod bare_redis;
pub(crate) mod cratestack;
pub(crate) mod idempotent;
pub(crate) mod ours;
pub(crate) mod pgbench;
pub(crate) mod plain_select;
pub(crate) mod raw_sqlite;
pub(crate) mod redis_layouts;
pub(crate) mod sql;
pub(crate) mod sqlx_sqlite;
