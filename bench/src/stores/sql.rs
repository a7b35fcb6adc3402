//! What the limit and the sqlx pool share: one file, one table, the same statements and settings.

use oncekey_core::Clock;
use uuid::Uuid;

use crate::load::{Failure, LEASE, RETENTION, fingerprint, key, principal};

pub(crate) const SCHEMA: &str = include_str!("../../sql/schema.sql");
pub(crate) const RESERVE: &str = include_str!("../../sql/reserve.sql");
pub(crate) const COMPLETE: &str = include_str!("../../sql/complete.sql");
pub(crate) const RECORD: &str = include_str!("../../sql/record.sql");

/// Pages in the log before a checkpoint: oncekey-sqlite's setting, given to all.
pub(crate) const AUTOCHECKPOINT: u32 = 10_000;
/// The page cache of a connection, again oncekey-sqlite's.
pub(crate) const CACHE_KIB: u32 = 32 * 1024;

/// A slot and its request.
#[derive(Clone, Debug)]
pub(crate) struct SqlItem {
    pub(crate) principal: String,
    pub(crate) key: String,
    pub(crate) fingerprint: [u8; 32],
}

impl SqlItem {
    pub(crate) fn prepare(n: u64) -> Self {
        Self { principal: principal(n), key: key(n), fingerprint: fingerprint(n) }
    }
}

/// What completing shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SqlGrant {
    pub(crate) token: Uuid,
    pub(crate) fence: i64,
}

/// Times of one reserve, as the columns hold them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: i64,
    pub(crate) lease_expires_at: i64,
    pub(crate) expires_at: i64,
}

impl Times {
    pub(crate) fn now() -> Result<Self, Failure> {
        let now = Clock::system().now();
        let column = |t: oncekey_core::Timestamp| i64::try_from(t.as_micros());
        Ok(Self {
            now: column(now)?,
            lease_expires_at: column(now + LEASE)?,
            expires_at: column(now + LEASE + RETENTION)?,
        })
    }
}
