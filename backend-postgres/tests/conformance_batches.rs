//! The suite, on the statements of batches: also for a call that goes alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_postgres::PostgresStore;

fn main() {
    let batches = || PostgresStore::builder().always_batches();
    oncekey_conformance::main(common::suite::Tables::shared("postgres, in batches", batches).unwrap());
}
