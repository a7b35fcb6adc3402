//! What a predecessor may have done: attempts, checkpoints, at-most-once.

use oncekey_core::Policy::{Refuse, TakeOver};
use oncekey_core::state::{self, Answer, Change, Operation, Pending, Record, Step};
use oncekey_core::{ReservationOutcome, Timestamp};

use crate::promises::{AT_MOST_ONCE, BLOCKED, CHECKPOINT, DOUBT, NEVER};
use crate::taken_out::{Answered, breaks, pending, rewrite};

#[test]
fn at_most_once_that_marks_begun_at_the_reserve_blocks_for_ever_50() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = state::step(record, operation, now);
        match operation {
            Operation::Reserve { .. } => rewrite(step, |p| p.begun = true),
            _ => step,
        }
    }
    breaks(BLOCKED, &[Refuse, Refuse], step);
}

#[test]
fn a_checkpoint_without_its_sequence_is_overwritten_by_an_older_one_51() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let sent = match operation {
            Operation::Renew { renewal, .. } => renewal.checkpoint().cloned(),
            _ => None,
        };
        rewrite(state::step(record, operation, now), |p| p.checkpoint = sent.or(p.checkpoint.take()))
    }
    breaks(CHECKPOINT, &[TakeOver, TakeOver], step);
}

#[test]
fn a_takeover_without_the_checkpoint_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut step = state::step(record, operation, now);
        if let Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) = &mut step.answer
            && pending(record, now).is_some_and(|p| p.fence != grant.fence)
        {
            grant.checkpoint = None;
            return rewrite(step, |p| p.checkpoint = None);
        }
        step
    }
    breaks(CHECKPOINT, &[TakeOver, TakeOver], step);
}

#[test]
fn a_release_by_a_later_attempt_that_frees_the_slot_forgets_a_doubt_52() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut record = record.cloned();
        if let (Operation::Release { .. }, Some(Record::Pending(p))) = (operation, &mut record) {
            p.attempt = 1;
        }
        state::step(record.as_ref(), operation, now)
    }
    breaks(DOUBT, &[TakeOver, TakeOver], step);
}

#[test]
fn a_takeover_that_does_not_count_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut step = state::step(record, operation, now);
        if let Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) = &mut step.answer {
            grant.attempt = 1;
        }
        rewrite(step, |p| p.attempt = 1)
    }
    breaks(DOUBT, &[TakeOver, TakeOver], step);
}

#[test]
fn a_record_that_left_pending_and_never_expires_is_found_53() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let never = pending(record, now).is_some_and(|p| p.expires_at == Timestamp::NEVER);
        let mut step = state::step(record, operation, now);
        match &mut step.change {
            Change::Put(Record::Completed(c)) if never => c.record.expires_at = Timestamp::NEVER,
            Change::Put(Record::Released(r)) if never => r.expires_at = Timestamp::NEVER,
            _ => {}
        }
        step
    }
    breaks(NEVER, &[Refuse, Refuse], step);
}

#[test]
fn at_most_once_that_expires_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        rewrite(state::step(record, operation, now), |p| {
            p.expires_at = p.expires_at.min(p.lease_expires_at.max(now) + p.retention);
        })
    }
    breaks(DOUBT, &[Refuse, Refuse], step);
}

#[test]
fn an_unbegun_hand_over_that_stays_pending_is_blocked_by_a_late_renew_54() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = state::step(record, operation, now);
        match (operation, step.change, pending(record, now)) {
            (Operation::Renew { .. }, Change::Put(Record::Released(_)), Some(p)) => {
                let lapsed = Pending { lease_expires_at: Timestamp::ZERO, ..p.clone() };
                Step { change: Change::Put(Record::Pending(lapsed)), answer: step.answer }
            }
            (_, change, _) => Step { change, answer: step.answer },
        }
    }
    breaks(BLOCKED, &[Refuse, Refuse], step);
}

#[test]
fn a_grant_that_tells_the_callers_policy_breaks_at_most_once_55() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut step = state::step(record, operation, now);
        if let (
            Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))),
            Operation::Reserve { request, .. },
        ) = (&mut step.answer, operation)
        {
            grant.policy = request.terms.policy();
        }
        step
    }
    breaks(AT_MOST_ONCE, &[TakeOver, Refuse], step);
}

#[test]
fn at_most_once_that_takes_over_what_has_begun_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut record = record.cloned();
        if let (Operation::Reserve { token, .. }, Some(Record::Pending(p))) = (operation, &mut record)
            && *token != p.token
        {
            p.begun = false;
        }
        state::step(record.as_ref(), operation, now)
    }
    breaks(AT_MOST_ONCE, &[Refuse, Refuse], step);
}
