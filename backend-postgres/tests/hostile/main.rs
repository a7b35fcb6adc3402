//! The store in deployments that it did not choose: sessions with settings of their own, roles without
//! rights, standbys, poolers, restarts, pools that are empty, callers that go away, rows that were changed by
//! hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test: its failure is a panic"
)]

#[path = "../common/mod.rs"]
mod common;
mod deployments;
mod kit;
mod locks;
