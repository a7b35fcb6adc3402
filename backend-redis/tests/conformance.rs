//! The suite, on one server: each client a store of its own, as if in another process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_testbed::redis;

fn main() {
    let url = redis::shared().unwrap().url();
    oncekey_conformance::main(common::suite::Prefixes::of("redis", url));
}
