//! What the tests of this store share: a server, and namespaces of it for the suite.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests: their failure is a panic"
)]

pub mod suite;

use std::time::Duration;

use oncekey_postgres::{
    ClockOffset, Fingerprint, Policy, PostgresStore, PostgresStoreBuilder, Principal, ReserveRequest, Slot,
    Terms,
};

/// A builder for tables of one's own, the shared server's database, and the clock that both move by.
pub fn tables() -> (PostgresStoreBuilder, String, ClockOffset) {
    let server = oncekey_testbed::postgres::shared().unwrap();
    let offset = ClockOffset::shiftable();
    let table = format!("t{}", fastrand::u64(..));
    let builder = PostgresStore::builder().schema("own_tests").table(table).clock_offset(offset.clone());
    (builder, server.url("postgres"), offset)
}

pub fn slot(key: impl AsRef<str>) -> Slot {
    Principal::new("test").unwrap().slot(key).unwrap()
}

pub fn request() -> ReserveRequest {
    let terms = Terms::new(Policy::TakeOver, Duration::from_secs(300), Duration::from_secs(3_600)).unwrap();
    ReserveRequest::new(Fingerprint::builder("test").finish(), terms)
}
