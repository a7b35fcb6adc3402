//! The suite that proves an idempotency store right, or wrong by name.
//!
//! A store keeps the contract of [`IdempotencyStore`](oncekey_core::IdempotencyStore): the rules R1, C2,
//! S4 of the project's docs/spec.md. Each rule has cases here that any right store passes, and that a
//! store which gets it wrong fails, with the rule, what was expected, and what was seen. Beside the cells of
//! the spec's tables there are races, old calls that arrive late, random sequences against the state
//! machine, concurrent histories checked for linearizability, and input that tries to break in.
//!
//! # Prove your store in one file
//!
//! In `Cargo.toml`, the suite is a dev-dependency, and the test has no harness of the standard library's:
//!
//! ```toml
//! [dev-dependencies]
//! oncekey-conformance = "0.1"
//!
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! In `tests/conformance.rs`, say how the suite gets at your store:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use oncekey_conformance::{BoxError, Capabilities, Harness, Namespace, TimeControl};
//! use oncekey_core::{Clock, async_trait};
//! # use oncekey_core::MemoryStore;
//! # #[derive(Debug)] struct MyStore;
//! # impl MyStore {
//! #     fn open(_: &std::path::Path, clock: Clock) -> Result<MemoryStore, BoxError> {
//! #         Ok(MemoryStore::builder().clock(clock).build())
//! #     }
//! # }
//! # fn temporary_folder() -> Result<std::path::PathBuf, BoxError> { Ok(std::env::temp_dir()) }
//!
//! #[derive(Debug)]
//! struct Mine;
//!
//! #[async_trait]
//! impl Harness for Mine {
//!     fn name(&self) -> &str {
//!         "my store"
//!     }
//!
//!     /// Everything, unless your store lacks something: `.without(Capability::Scan)`.
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities::all()
//!     }
//!
//!     /// An empty place that nobody else uses. Each case asks for one.
//!     async fn open(&self) -> Result<Namespace, BoxError> {
//!         let (clock, folder) = (Clock::shiftable(), temporary_folder()?);
//!         let (time, path) = (TimeControl::clock(clock.clone()), folder.join("my.db"));
//!         // Called for each client: give it a connection of its own.
//!         let connect = move || Ok(Arc::new(MyStore::open(&path, clock.clone())?) as _);
//!         Ok(Namespace::new(time, connect).keeping(folder))
//!     }
//! }
//!
//! fn main() {
//!     oncekey_conformance::main(Mine)
//! }
//! ```
//!
//! Then `cargo test --test conformance`, or `cargo nextest run`. A filter picks cases by name, and a
//! failure says how to replay it: `ONCEKEY_SEED=.. cargo test --test conformance -- the_cases_name`.
//!
//! # Time
//!
//! Leases must end, and the suite doesn't wait for them: it moves your store's clock, by seconds and by
//! years. Where your store reads the time, let a test add an offset that all clients of a namespace share:
//! a [`Clock::shiftable`](oncekey_core::Clock::shiftable) in this process, or a parameter of your statement
//! or script, behind a [`ShiftTime`] of your own. If neither can be, take [`TimeControl::Wall`] and
//! [leave out](Capabilities::without) [`ShiftTime`](Capability::ShiftTime) and
//! [`RewindTime`](Capability::RewindTime): the suite then works with short leases and waits, and what
//! needs an hour to pass is shown as ignored.
//!
//! # What your store lacks
//!
//! A case that needs a [`Capability`] which the harness leaves out is shown as ignored, with its name. An
//! operation that is left out must answer [`Unsupported`](oncekey_core::ErrorKind::Unsupported), and a case
//! checks that. A harness that promises too much fails, and is told what to declare.
//!
//! # Three ways to run it
//!
//! One list of [`cases`], three runners, and a test that they agree:
//!
//! - [`main`], as above: `cargo test` and nextest show each case as a test.
//! - [`run`] gives a [`Report`]: a table for people, JSON for programs.
//! - [`plain_tests!`] makes a `#[test]` of each case, for those who want nothing but the standard runner.
//!
//! Each case runs in a namespace of its own, on threads of its own, with a deadline: a store that never
//! answers fails the case by name. All of it takes some seconds for a store in memory or in a file.
//!
//! # When a case fails
//!
//! ```text
//! complete: expected Lost(TakenOver), saw Stored [cases/complete.rs:183]
//! rules: C4, S2 (docs/spec.md)
//! again: ONCEKEY_SEED=902804373451, and this case's name as the filter
//! ```
//!
//! The case in that file is a story of some ten lines: read it beside the rule. A case that fails only
//! sometimes found a race; run it by name until it is gone, and mend the store rather than the odds.

mod case;
mod cases;
mod execute;
mod harness;
pub mod history;
mod kit;
mod mimic;
mod model;
mod options;
mod plain;
mod plain_cases;
mod registry;
mod report;

pub use case::{Case, CaseFuture, Context, Failure, Level};
pub use execute::run;
pub use harness::{
    BoxError, Capabilities, Capability, Faults, Harness, MemoryHarness, Namespace, ShiftTime, TimeControl,
};
pub use mimic::main;
pub use options::{Options, SEED_VARIABLE};
pub use plain::{plain_cases, plain_test, plain_tests_are_complete};
pub use registry::{cases, rules_covered};
pub use report::{CaseReport, Report, Verdict};
