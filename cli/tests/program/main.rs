//! Drives the real program, as its users do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers and all")]

mod answers;
mod codes;
mod conformance;
mod death;
mod hosts;
mod kit;
mod output;
mod postgres;
mod postgres_refusals;
mod races;
mod redis;
mod rounds;
mod saved;
mod schema;
mod signals;
mod stdin;
mod stores;
