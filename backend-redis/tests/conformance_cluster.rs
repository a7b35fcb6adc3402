//! The suite, on a cluster of three masters with a replica each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use oncekey_testbed::redis::Cluster;

fn main() {
    let cluster = Cluster::start().unwrap();
    oncekey_conformance::main(common::suite::Prefixes::of("redis cluster", cluster.url()));
}
