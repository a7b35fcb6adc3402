//! Who holds the slot, until when, and under which fence.

use oncekey_core::Policy::TakeOver;
use oncekey_core::state::{self, Answer, Change, Operation, Record, Step};
use oncekey_core::{Fence, ReleaseOutcome, Timestamp, Token};

use crate::promises::{LAPSED, NEVER, S1, S2, S4, S6, SPENT};
use crate::taken_out::{Answered, breaks, by, grant_of, pending, rewrite, with_fence};

#[test]
fn ownership_by_token_alone_lets_an_old_holder_in_44() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        match (record, grant_of(operation)) {
            (Some(r), Some(grant)) => state::step(record, &by(operation, grant.token, r.fence()), now),
            _ => state::step(record, operation, now),
        }
    }
    breaks(S2, &[TakeOver, TakeOver], step);
}

#[test]
fn a_retried_reserve_without_the_later_of_shortens_a_lease_45() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let own = |token: &Token| pending(record, now).is_some_and(|p| p.token == *token);
        match operation {
            Operation::Reserve { token, request } if own(token) => {
                let lease = request.terms.lease();
                rewrite(state::step(record, operation, now), |p| p.lease_expires_at = now + lease)
            }
            _ => state::step(record, operation, now),
        }
    }
    breaks(S1, &[TakeOver, TakeOver], step);
}

#[test]
fn a_late_renew_without_the_later_of_shortens_a_lease_45() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let lease = match operation {
            Operation::Renew { renewal, .. } => renewal.lease(),
            _ => None,
        };
        rewrite(state::step(record, operation, now), |p| {
            p.lease_expires_at = lease.map_or(p.lease_expires_at, |lease| now + lease);
        })
    }
    breaks(S1, &[TakeOver, TakeOver], step);
}

#[test]
fn a_lease_that_outlives_its_record_is_found_45() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let old = pending(record, now).map(|p| p.expires_at);
        rewrite(state::step(record, operation, now), |p| p.expires_at = old.unwrap_or(p.expires_at))
    }
    breaks(NEVER, &[TakeOver, TakeOver], step);
}

#[test]
fn a_release_that_is_forgotten_repeats_a_fence_46_47() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut step = state::step(record, operation, now);
        if let Change::Put(Record::Released(_)) = step.change {
            step.change = Change::Delete;
        }
        step
    }
    /// And the repeat of a release says Released, as if it were remembered: S6 sees nothing then.
    fn agreeable(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        match operation {
            Operation::Release { .. } if record.is_none() => {
                Step { change: Change::Keep, answer: Answer::Release(ReleaseOutcome::Released) }
            }
            _ => step(record, operation, now),
        }
    }
    breaks(S6, &[TakeOver, TakeOver], step);
    breaks(S4, &[TakeOver, TakeOver], agreeable);
}

#[test]
fn a_fence_without_the_clock_or_without_its_predecessor_repeats_46() {
    fn counted(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = state::step(record, operation, now);
        if record.is_none() { with_fence(step, Fence::new(1)) } else { step }
    }
    fn clocked(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = state::step(record, operation, now);
        let same = pending(record, now)
            .is_some_and(|p| matches!(operation, Operation::Reserve { token, .. } if *token == p.token));
        if same { step } else { with_fence(step, Fence::new(now.as_micros())) }
    }
    breaks(S4, &[TakeOver, TakeOver], counted);
    breaks(S4, &[TakeOver, TakeOver], clocked);
}

#[test]
fn a_spent_token_that_is_granted_again_is_found_47() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut record = record.cloned();
        if let (Operation::Reserve { .. }, Some(Record::Released(r))) = (operation, &mut record) {
            r.token = Token::from_bytes([0; 16]);
        }
        state::step(record.as_ref(), operation, now)
    }
    breaks(SPENT, &[TakeOver, TakeOver], step);
}

#[test]
fn lapsed_at_once_stamped_as_now_comes_to_life_when_the_clock_steps_back_57() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        rewrite(state::step(record, operation, now), |p| {
            if p.lease_expires_at == Timestamp::ZERO {
                p.lease_expires_at = now;
            }
        })
    }
    breaks(LAPSED, &[TakeOver, TakeOver], step);
}

#[test]
fn a_takeover_of_a_live_lease_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut record = record.cloned();
        if let (Operation::Reserve { token, .. }, Some(Record::Pending(p))) = (operation, &mut record)
            && *token != p.token
        {
            p.lease_expires_at = Timestamp::ZERO;
        }
        state::step(record.as_ref(), operation, now)
    }
    breaks(S1, &[TakeOver, TakeOver], step);
}

#[test]
fn unfenced_calls_of_an_old_holder_are_found_7_8() {
    fn unfenced(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let operation = match record {
            Some(Record::Pending(p)) => by(operation, p.token, p.fence),
            Some(Record::Completed(c)) => by(operation, c.token, c.record.fence),
            Some(Record::Released(r)) => by(operation, r.token, r.fence),
            None => operation.clone(),
        };
        state::step(record, &operation, now)
    }
    fn release(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = if let Operation::Release { .. } = operation { unfenced } else { state::step };
        step(record, operation, now)
    }
    fn complete(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let step = if let Operation::Complete { .. } = operation { unfenced } else { state::step };
        step(record, operation, now)
    }
    breaks(S2, &[TakeOver, TakeOver], release);
    breaks(S2, &[TakeOver, TakeOver], complete);
}
