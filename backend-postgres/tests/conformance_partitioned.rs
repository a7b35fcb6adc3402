//! The suite, on a table that is divided by the hash of the slot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_postgres::PostgresStore;

fn main() {
    let partitioned = || PostgresStore::builder().partitions(4);
    oncekey_conformance::main(common::suite::Tables::shared("postgres, partitioned", partitioned).unwrap());
}
