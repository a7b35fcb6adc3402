//! What the runner promises, each on a memory store whose clock follows tokio's paused time.
#![cfg(feature = "runner")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod cancel;
mod checkpoints;
mod errors;
mod heartbeat;
mod lost;
mod outcomes;
mod policy;
mod reservation;
mod retry;
mod support;
mod swarm;
mod waiting;
