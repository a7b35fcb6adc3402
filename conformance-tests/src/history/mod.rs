//! Histories: what concurrent clients heard, and whether any order of their calls explains it.
//!
//! Every slot is an object of its own, whose operations take effect at one moment each, between call and
//! answer (S9). [`check`] searches for such moments. What clients can't know, it leaves open: when in a
//! call the store read its clock, which fence a lost answer held, whether an unanswered call took effect.
//!
//! ```text
//!   A  [1 reserve a =======]              [4 complete a ==]
//!   B        [2 reserve b ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~   never answered: later, or never
//!   C              [3 lookup =====]
//! ```
//!
//! The suite's own cases of [`Level::History`](crate::Level::History) record and check themselves. The
//! checker is public for whoever records histories under other faults: a killed server, a cut network.

mod call;
mod expected;
pub(crate) mod names;
mod record;
mod relation;
mod search;
mod story;
mod zone;

pub use call::{Call, Moment, Tolerance};
pub use search::{BUDGET, CounterExample, Verdict, check};
