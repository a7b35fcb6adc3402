//! The store on servers that it must not believe: replicas, masters that were demoted, servers that began anew between
//! two pages, users who may not say what is asked, answers that are lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test: its failure is a panic"
)]

mod kit;
mod open;
mod purge;
mod replica;
mod strangers;
mod walk;
