//! The suite, on one table: each client a store of its own, as if in another process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_postgres::PostgresStore;

fn main() {
    oncekey_conformance::main(common::suite::Tables::shared("postgres", PostgresStore::builder).unwrap());
}
