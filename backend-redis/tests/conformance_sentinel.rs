//! The suite, on a master that sentinels watch over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_testbed::redis::Watched;

fn main() {
    let watched = Watched::start().unwrap();
    oncekey_conformance::main(common::suite::Prefixes::of("redis behind sentinel", watched.url()));
}
