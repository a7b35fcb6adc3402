//! The statements, one a file in `sql/`, each with the rules that its clauses keep.

pub(crate) const RESERVE: &str = include_str!("../sql/reserve.sql");
pub(crate) const TAKE_OVER: &str = include_str!("../sql/take_over.sql");
pub(crate) const RETRY: &str = include_str!("../sql/retry.sql");
pub(crate) const COMPLETE: &str = include_str!("../sql/complete.sql");
pub(crate) const RENEW: &str = include_str!("../sql/renew.sql");
pub(crate) const HAND_OVER: &str = include_str!("../sql/hand_over.sql");
pub(crate) const RELEASE: &str = include_str!("../sql/release.sql");
pub(crate) const RESOLVE_COMPLETE: &str = include_str!("../sql/resolve_complete.sql");
pub(crate) const RESOLVE_RELEASE: &str = include_str!("../sql/resolve_release.sql");
/// Inside a caller's transaction, before the clock is read.
pub(crate) const LOCK: &str = include_str!("../sql/lock.sql");
pub(crate) const PURGE: &str = include_str!("../sql/purge.sql");
pub(crate) const RECORD: &str = include_str!("../sql/record.sql");
pub(crate) const GARBAGE_COLLECT: &str = include_str!("../sql/garbage_collect.sql");
pub(crate) const SCAN: &str = include_str!("../sql/scan.sql");
pub(crate) const STATS: &str = include_str!("../sql/stats.sql");

/// The schema, version by version: entry `n` leads from version `n` to `n + 1`.
pub(crate) const SCHEMA: [&str; 2] =
    [include_str!("../sql/schema_1.sql"), include_str!("../sql/schema_2.sql")];
pub(crate) const SCHEMA_META: &str = include_str!("../sql/schema_meta.sql");
pub(crate) const SCHEMA_VERSION: &str = include_str!("../sql/schema_version.sql");
pub(crate) const SET_SCHEMA_VERSION: &str = include_str!("../sql/set_schema_version.sql");
pub(crate) const HAS_TABLE: &str = include_str!("../sql/has_table.sql");
