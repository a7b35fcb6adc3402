//! Every reachable state of the state machine, within bounds: a few executors at one slot, a network that
//! loses, repeats and delays their calls, a clock that may step back, an operator. The contract's
//! promises are checked at each step.
//!
//! The search bites: `taken_out/` runs it over machines that lack one rule each, and each must be found
//! out by the promise that the rule keeps.
//!
//! `ONCEKEY_SEARCH=deep` searches two clients with two executors each (`cargo xtask torture`, best in a
//! release build); otherwise the bounds are what a debug build finishes within seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of it is a test")]
#![allow(clippy::print_stdout, reason = "how many states were searched, and the stories that were found")]

mod cells;
mod promises;
mod right;
mod search;
mod taken_out;
mod world;
