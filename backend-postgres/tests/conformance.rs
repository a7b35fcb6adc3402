//! The suite, on one table: each client a store of its own, as if in another process.

mod common;

use oncekey_postgres::PostgresStore;

fn main() {
    oncekey_conformance::main(common::suite::Tables::shared("postgres", PostgresStore::builder).unwrap());
}
