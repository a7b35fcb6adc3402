//! The store over a broken wire and through kills: connections cut at every byte, requests that arrive late,
//! black holes, a server that is stopped, a server and clients that are killed. Whatever was heard is judged by
//! the suite's own checker of histories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test: its failure is a panic"
)]

mod bench;
mod hole;
mod killed_client;
mod killed_server;
mod late;
mod stopped;
mod suite;
mod wire;
