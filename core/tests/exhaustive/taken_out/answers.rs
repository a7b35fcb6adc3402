//! What is stored, what it is an answer to, and who may settle it.

use oncekey_core::Policy::TakeOver;
use oncekey_core::state::{self, Answer, Change, Completed, Operation, Record, Released, Step};
use oncekey_core::{CompleteOutcome, Completion, Grant, ReleaseOutcome, Resolution, Timestamp};

use crate::promises::{CONFLICT, KEPT, OPERATOR_BLIND, S3};
use crate::search::Search;
use crate::taken_out::{Answered, breaks, breaks_within, pending};

#[test]
fn a_fingerprint_compared_after_the_token_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut operation = operation.clone();
        if let (Operation::Reserve { token, request }, Some(p)) = (&mut operation, pending(record, now))
            && *token == p.token
        {
            request.fingerprint = p.fingerprint;
        }
        state::step(record, &operation, now)
    }
    breaks(CONFLICT, &[TakeOver, TakeOver], step);
}

#[test]
fn a_second_completion_that_wins_is_found_10() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        if let (Some(Record::Completed(c)), Operation::Complete { grant, completion }) = (record, operation)
            && c.token == grant.token
            && c.record.expires_at > now
            && c.record.response != *completion.response()
        {
            let mut record = c.record.clone();
            record.response = completion.response().clone();
            let change = Change::Put(Record::Completed(Completed { token: c.token, record }));
            return Step { change, answer: Answer::Complete(CompleteOutcome::Stored) };
        }
        state::step(record, operation, now)
    }
    let search = Search { step, operator: true, ..Search::bounds(&[TakeOver]) };
    breaks_within(S3, search);
}

#[test]
fn a_release_that_deletes_a_stored_answer_is_found_9() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        if let (Some(Record::Completed(c)), Operation::Release { grant }) = (record, operation)
            && (c.token, c.record.fence) == (grant.token, grant.fence)
            && c.record.expires_at > now
        {
            let (token, fence, expires_at) = (c.token, c.record.fence, c.record.expires_at);
            let change = Change::Put(Record::Released(Released { token, fence, expires_at }));
            return Step { change, answer: Answer::Release(ReleaseOutcome::Released) };
        }
        state::step(record, operation, now)
    }
    let search = Search { step, operator: true, ..Search::bounds(&[TakeOver, TakeOver]) };
    breaks_within(KEPT, search);
}

#[test]
fn a_late_completion_that_is_not_kept_for_its_retention_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut step = state::step(record, operation, now);
        if let (Change::Put(Record::Completed(c)), Some(p)) = (&mut step.change, pending(record, now)) {
            c.record.expires_at = p.expires_at;
        }
        step
    }
    let search = Search { step, retention: 2, horizon: 5, ..Search::bounds(&[TakeOver]) };
    breaks_within(KEPT, search);
}

#[test]
fn an_operator_that_settles_what_it_has_not_seen_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        let mut operation = operation.clone();
        if let (Operation::Resolve { seen, .. }, Some(p)) = (&mut operation, pending(record, now)) {
            seen.lease_expires_at = p.lease_expires_at;
        }
        state::step(record, &operation, now)
    }
    let search = Search { step, operator: true, ..Search::bounds(&[TakeOver]) };
    breaks_within(OPERATOR_BLIND, search);
}

#[test]
fn an_operator_that_settles_a_live_lease_is_found() {
    fn step(record: Option<&Record>, operation: &Operation, now: Timestamp) -> Answered {
        match (operation, pending(record, now)) {
            (Operation::Resolve { seen, resolution: Resolution::Complete(completion) }, Some(p))
                if seen.fence == p.fence =>
            {
                let grant = Grant::new(p.token, p.fence, p.attempt, p.policy, None);
                let completion = Completion::new(completion.response().clone());
                let step = state::complete(record, &grant, &completion, now);
                step.map(|_| Answer::Resolve(oncekey_core::ResolveOutcome::Resolved))
            }
            _ => state::step(record, operation, now),
        }
    }
    let search = Search { step, operator: true, ..Search::bounds(&[TakeOver]) };
    breaks_within(OPERATOR_BLIND, search);
}
