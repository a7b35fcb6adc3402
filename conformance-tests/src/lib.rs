//! The suite that proves an idempotency store right, or wrong by name.

mod case;
mod cases;
mod execute;
mod harness;
pub mod history;
mod kit;
mod mimic;
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
