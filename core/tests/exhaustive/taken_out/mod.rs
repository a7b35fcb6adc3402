//! Machines that lack one rule each. The search has to find each out, by the promise that the rule keeps.
//! The numbers are those of the traces that the rules come from.

mod answers;
mod doubt;
mod holders;

use oncekey_core::state::{Answer, Change, Operation, Pending, Record, Step};
use oncekey_core::{Fence, Grant, Policy, ReservationOutcome, Timestamp, Token};

use crate::search::{Search, StepFn};

/// The search finds this machine breaking `promise`.
fn breaks(promise: &'static str, executors: &'static [Policy], step: StepFn) {
    breaks_within(promise, Search { step, ..Search::bounds(executors) });
}

fn breaks_within(promise: &'static str, search: Search) {
    let (broken, story) =
        Search { seeks: Some(promise), ..search }.run(promise).broken.unwrap_or_else(|| {
            panic!("the search let this machine pass, which lacks a rule that keeps {promise:?}")
        });
    println!("{story}");
    assert_eq!(broken, promise);
}

type Answered = Step<Answer>;

/// The step, with the record that it writes changed, if that is Pending.
fn rewrite(mut step: Answered, change: impl FnOnce(&mut Pending)) -> Answered {
    if let Change::Put(Record::Pending(p)) = &mut step.change {
        change(p);
    }
    step
}

/// The Pending record, if there is one and it hasn't expired.
fn pending(record: Option<&Record>, now: Timestamp) -> Option<&Pending> {
    match record {
        Some(Record::Pending(p)) if p.expires_at > now => Some(p),
        _ => None,
    }
}

fn grant_of(operation: &Operation) -> Option<&Grant> {
    match operation {
        Operation::Renew { grant, .. } | Operation::Complete { grant, .. } | Operation::Release { grant } => {
            Some(grant)
        }
        _ => None,
    }
}

/// The same operation by another grant.
fn by(operation: &Operation, token: Token, fence: Fence) -> Operation {
    let mut operation = operation.clone();
    if let Operation::Renew { grant, .. } | Operation::Complete { grant, .. } | Operation::Release { grant } =
        &mut operation
    {
        (grant.token, grant.fence) = (token, fence);
    }
    operation
}

/// The step, with another fence in the grant that it gives.
fn with_fence(mut step: Answered, fence: Fence) -> Answered {
    if let Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) = &mut step.answer
        && let Change::Put(Record::Pending(p)) = &mut step.change
    {
        (grant.fence, p.fence) = (fence, fence);
    }
    step
}
