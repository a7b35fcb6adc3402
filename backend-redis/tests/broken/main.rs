//! The store through what happens to servers and networks: connections cut at every byte, kills, stops, restarts, a
//! memory that is full under load, slots that move, masters that fail. Whatever was heard is judged by the suite's own checker of
//! histories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test: its failure is a panic"
)]

mod bench;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod copies;
mod killed;
mod loading;
mod mishaps;
mod out;
mod sentinel;
mod slow;
mod suite;
mod wire;
