//! placeholder

mod case;
mod harness;

pub use case::{Case, CaseFuture, Context, Failure, Level};
pub use harness::{
    BoxError, Capabilities, Capability, Harness, MemoryHarness, Namespace, ShiftTime, TimeControl,
};
