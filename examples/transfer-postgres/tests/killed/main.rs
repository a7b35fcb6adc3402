//! The program, killed (SIGKILL) at every step and at random moments, and its server with it now and then: the
//! money is whole, each transfer is made exactly once, and its first answer stays.
//!
//! ONCEKEY_ROUNDS: how many rounds of random kills (6 unless told otherwise). ONCEKEY_SEED: the seed of all
//! that is random; a failure prints it. A power cut is another matter: a killed server leaves its writes to the
//! system.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod kit;
mod rounds;
mod steps;
