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

mod assess;
mod cancel;
mod connect;
mod crowds;
mod effects;
mod ended;
mod judged_anew;
mod kit;
mod locks;
mod pool;
mod pooler;
mod restarts;
mod roles;
mod rows;
mod schema;
mod sessions;
mod silent;
mod standby;
mod strays;
mod suite;
