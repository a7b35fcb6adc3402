//! Clients that do anything at all to a few slots, through whatever happens to their server, and a ledger of what they
//! asked and heard, which the suite's checker of histories judges. For tests of this project's backends alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "for tests: their failure is a panic"
)]

pub mod crowd;
pub mod deed;
pub mod ledger;
mod line;
pub mod loss;
pub mod rounds;
pub mod sabotage;
pub mod suite;
