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
//! The suite's own cases of [histories](crate::Level::History) record and check themselves. The
//! checker is public for whoever records histories under other faults: a killed server, a cut network.

mod call;
mod crowd;
mod expected;
pub(crate) mod names;
mod record;
pub(crate) mod recorder;
mod relation;
mod search;
mod story;
pub(crate) mod time;
mod zone;

pub use call::{Call, Moment, Tolerance};
pub use recorder::perform;
pub use search::{BUDGET, CounterExample, Verdict, check};

use crate::case::{Case, Level};
use crate::harness::Capability;
use crowd::Crowd;

/// The suite's cases of this kind.
pub(crate) fn cases() -> Vec<Case> {
    let case = |id, rules, needs, run| Case { id, rules, level: Level::History, needs, run };
    vec![
        case("concurrent_calls_have_an_order", &["S9", "R7", "S3"], &[], |context| {
            Box::pin(Crowd { ghosts: true, ..Crowd::default() }.run(context))
        }),
        case("dropped_calls_happen_once_later_or_never", &["S8", "S9", "S6"], &[], |context| {
            Box::pin(Crowd { drops: true, ..Crowd::default() }.run(context))
        }),
        case(
            "concurrent_calls_have_an_order_while_leases_end",
            &["S9", "S1", "S4", "R5", "R8", "G2"],
            &[Capability::ShiftTime],
            |context| Box::pin(Crowd { moves_time: true, drops: true, ..Crowd::default() }.run(context)),
        ),
        case(
            "late_copies_of_old_calls_change_nothing",
            &["S2", "S6", "S9", "R3", "C3"],
            &[Capability::ShiftTime],
            |context| Box::pin(Crowd { moves_time: true, ghosts: true, ..Crowd::default() }.run(context)),
        ),
        case(
            "operators_among_callers_have_an_order",
            &["O1", "O2", "S9"],
            &[Capability::ShiftTime, Capability::Resolve, Capability::Purge],
            |context| Box::pin(Crowd { moves_time: true, operators: true, ..Crowd::default() }.run(context)),
        ),
    ]
}
