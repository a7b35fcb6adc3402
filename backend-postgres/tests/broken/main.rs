//! The store over a broken wire and through kills: connections cut at drawn bytes,
//! a server that is stopped, a server and clients that are killed. Whatever was heard is judged by
//! the suite's own checker of histories.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test: its failure is a panic"
)]

mod bench;
mod crowd;
mod deed;
mod killed_client;
mod killed_server;
mod ledger;
mod line;
mod rounds;
mod sabotage;
mod stopped;
mod suite;
mod wire;
