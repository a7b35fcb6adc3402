//! The cases, one file an operation or a theme.

mod bodies;
mod cancel;
mod capabilities;
mod collect;
mod complete;
mod contests;
mod ends;
mod expiry;
mod faults;
mod fences;
mod ghosts;
mod isolation;
mod lookup;
mod operators;
mod races;
mod refuse;
mod release;
mod renew;
mod reserve;
mod scan;
mod swarm;
mod takeover;
mod waking;
mod watched;

use crate::case::Case;

/// In the order of the spec.
pub(crate) fn all() -> Vec<Case> {
    [
        capabilities::cases(),
        reserve::cases(),
        takeover::cases(),
        refuse::cases(),
        complete::cases(),
        renew::cases(),
        release::cases(),
        expiry::cases(),
        ends::cases(),
        lookup::cases(),
        collect::cases(),
        operators::cases(),
        scan::cases(),
        fences::cases(),
        ghosts::cases(),
        isolation::cases(),
        bodies::cases(),
        cancel::cases(),
        races::cases(),
        contests::cases(),
        watched::cases(),
        waking::cases(),
        swarm::cases(),
        faults::cases(),
    ]
    .concat()
}
