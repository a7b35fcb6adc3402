//! Which cells of the contract's tables a search reached: what it never reached, it says nothing about.

use oncekey_core::state::{Answer, Operation, Record, TokenSpent};
use oncekey_core::{CompleteOutcome, Loss, ReleaseOutcome, RenewOutcome, ReservationOutcome, ResolveOutcome};

use crate::promises::Delivery;

/// The cell that an arrival was.
pub(crate) fn cell(d: &Delivery<'_>) -> Option<&'static str> {
    let shown = d.shown();
    let (lapsed, own) = match shown {
        Some(Record::Pending(p)) => (
            p.is_lapsed(d.now()),
            matches!(d.operation, Operation::Reserve { token, .. } if *token == p.token),
        ),
        _ => (false, false),
    };
    Some(match d.answer {
        Answer::Reserve(Err(TokenSpent)) => "R11",
        Answer::Reserve(Ok(ReservationOutcome::Reserved(_))) if own => "R3",
        Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) if grant.attempt > 1 => "R5",
        Answer::Reserve(Ok(outcome)) => match outcome {
            ReservationOutcome::Reserved(_) => "R1",
            ReservationOutcome::Replay(_) => "R9",
            ReservationOutcome::InFlight(_) => "R4",
            ReservationOutcome::Indeterminate(_) => "R6",
            ReservationOutcome::Conflict => return None,
        },
        Answer::Complete(CompleteOutcome::Stored) => {
            if lapsed {
                "C2"
            } else {
                "C1"
            }
        }
        Answer::Complete(CompleteOutcome::AlreadyStored(_)) => "C3",
        Answer::Complete(CompleteOutcome::Lost(Loss::Gone)) => "C4 gone",
        Answer::Complete(CompleteOutcome::Lost(Loss::TakenOver)) => "C4 taken over",
        Answer::Renew(RenewOutcome::Renewed(_)) => match (d.operation, d.after) {
            (Operation::Renew { renewal, .. }, _) if renewal.lease().is_some() => "W1",
            (_, Some(Record::Released(_))) => "W4 as L1",
            _ => "W4",
        },
        Answer::Renew(RenewOutcome::AlreadyStored) => "W2",
        Answer::Renew(RenewOutcome::Lost(_)) => "W3",
        Answer::Release(ReleaseOutcome::Released) if !d.changed() && shown.is_some() => match shown {
            Some(Record::Released(_)) => "L4",
            _ => "L2",
        },
        Answer::Release(ReleaseOutcome::Released) => match d.after {
            Some(Record::Pending(_)) => "L2",
            _ => "L1",
        },
        Answer::Release(ReleaseOutcome::AlreadyStored) => "L3",
        Answer::Release(ReleaseOutcome::Lost(_)) => "L5",
        Answer::Resolve(ResolveOutcome::Resolved) => "O1 resolved",
        Answer::Resolve(ResolveOutcome::AlreadyDone) => "O1 already done",
        Answer::Resolve(ResolveOutcome::NotLapsed) => "O1 not lapsed",
        Answer::Resolve(ResolveOutcome::Changed) => "O1 changed",
        Answer::Lookup(_) | Answer::Purge(_) => return None,
    })
}
