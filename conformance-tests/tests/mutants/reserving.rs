//! Wrong where nobody has lapsed: R1 to R4, R9 to R11.

use std::time::Duration;

use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{
    Effect, ErrorKind, Fingerprint, InFlight, Lapsed, Policy, ReservationOutcome, ReserveRequest, StoreError,
    Timestamp,
};

use crate::bend::{completing, ending, first, keep, pending, put, releasing, shown};
use crate::mutant::Wrong::{Calls, Decides};
use crate::mutant::{Mutant, mutant};

const HOUR: Duration = Duration::from_secs(3_600);

/// The call, as if it asked for the fingerprint of the record.
fn with_fingerprint(call: &Operation, fingerprint: Fingerprint) -> Operation {
    match call {
        Operation::Reserve { token, request } => {
            Operation::Reserve { token: *token, request: ReserveRequest::new(fingerprint, request.terms) }
        }
        other => other.clone(),
    }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "an_ended_records_attempt_goes_on",
        "R1",
        &["an_ended_record_leaves_nothing_to_the_next"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Pending(ended)), Some((new, grant))) =
                (record, first(record, &mut step, now))
            {
                (new.attempt, grant.attempt) = (ended.attempt, ended.attempt);
            }
            step
        }),
    ),
    mutant(
        "an_ended_records_checkpoint_is_inherited",
        "R1",
        &["an_ended_reservation_is_absent"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Pending(ended)), Some((new, grant))) =
                (record, first(record, &mut step, now))
            {
                new.checkpoint = ended.checkpoint.clone();
                grant.checkpoint = ended.checkpoint.clone();
            }
            step
        }),
    ),
    mutant(
        "a_records_end_is_only_for_the_collector",
        "R1, G2",
        &["an_ended_answer_is_absent", "an_ended_reservation_is_absent"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(living.as_ref(), call, now)
        }),
    ),
    mutant(
        "a_first_grants_end_leaves_out_the_lease",
        "R1",
        &["a_first_reservation_lasts_for_lease_and_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = first(record, &mut step, now) {
                new.expires_at = now + new.retention;
            }
            step
        }),
    ),
    mutant(
        "every_record_is_at_least_once",
        "R1",
        &["an_unknown_slot_is_reserved"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = first(record, &mut step, now) {
                (new.policy, grant.policy) = (Policy::TakeOver, Policy::TakeOver);
            }
            step
        }),
    ),
    mutant(
        "a_grant_counts_as_having_begun",
        "R1, fault 50",
        &[
            "a_reservation_shows_what_was_asked_for",
            "a_refuse_holder_that_had_not_begun_is_taken_over_by_either_policy",
        ],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = first(record, &mut step, now) {
                new.begun = true;
            }
            step
        }),
    ),
    mutant(
        "a_lease_counts_from_the_session",
        "R10, trap 3",
        &["a_lease_counts_from_the_write"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                Ok(client.step_by(slot, |record, now| {
                    let mut step = state::step(record, call, now);
                    if let Some((new, _)) = first(record, &mut step, now) {
                        let lease = new.lease_expires_at - now;
                        new.lease_expires_at = client.connected_at + lease;
                    }
                    step
                }))
            })
        }),
    ),
    mutant(
        "finished_records_skip_the_fingerprint",
        "R2, fault 12",
        &["another_request_conflicts_with_a_finished_record"],
        Decides(|record, call, now| match record {
            Some(Record::Completed(c)) => {
                state::step(record, &with_fingerprint(call, c.record.fingerprint), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "held_records_skip_the_fingerprint",
        "R2",
        &["another_request_under_a_held_key_conflicts"],
        Decides(|record, call, now| match record {
            Some(Record::Pending(p)) if !p.is_lapsed(now) => {
                state::step(record, &with_fingerprint(call, p.fingerprint), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "lapsed_records_skip_the_fingerprint",
        "R2",
        &["another_request_conflicts_when_the_holder_has_lapsed"],
        Decides(|record, call, now| match record {
            Some(Record::Pending(p)) if p.is_lapsed(now) && p.expires_at > now => {
                state::step(record, &with_fingerprint(call, p.fingerprint), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_token_is_compared_before_the_fingerprint",
        "R2, R3",
        &["another_request_conflicts_even_with_the_holders_token"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Pending(p)), Operation::Reserve { token, .. }) if p.token == *token => {
                state::step(record, &with_fingerprint(call, p.fingerprint), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_conflict_is_an_error",
        "R2, S7",
        &["another_request_under_a_held_key_conflicts"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match client.step(slot, call) {
                    Answer::Reserve(Ok(ReservationOutcome::Conflict)) => {
                        let message = "the key is in use for another request";
                        let (kind, effect) = (ErrorKind::Other, Effect::NotApplied);
                        Err(StoreError::new(kind, "reserve_or_fetch", effect, message))
                    }
                    answer => Ok(answer),
                }
            })
        }),
    ),
    mutant(
        "completion_drops_the_fingerprint",
        "R9, fault 11",
        &["a_completed_slot_replays_its_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(done) = completing(&mut step) {
                done.record.fingerprint = Fingerprint::from_bytes([0; 32]);
            }
            step
        }),
    ),
    mutant(
        "a_live_lease_is_taken_over",
        "R4, S1",
        &["a_second_caller_hears_in_flight", "a_live_lease_is_never_taken_over"],
        Decides(|record, call, now| match call {
            Operation::Reserve { .. } => {
                state::step(shown(record, |p| p.lease_expires_at = Timestamp::ZERO).as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_lease_is_read_in_another_time_zone",
        "R4, fault 16",
        &["a_second_caller_hears_in_flight"],
        Decides(|record, call, now| match call {
            Operation::Reserve { .. } => {
                let earlier =
                    |t: Timestamp| Timestamp::from_micros(t.as_micros().saturating_sub(7_200_000_000));
                let ahead = shown(record, |p| p.lease_expires_at = earlier(p.lease_expires_at));
                state::step(ahead.as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_callers_clock_decides",
        "S1, fault 17",
        &["every_client_sees_what_another_did"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let ahead = if client.number % 2 == 1 { HOUR } else { Duration::ZERO };
                Ok(client.step_by(slot, |record, now| state::step(record, call, now + ahead)))
            })
        }),
    ),
    mutant(
        "retry_after_is_rounded_down",
        "R4",
        &["a_second_caller_hears_in_flight"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Answer::Reserve(Ok(ReservationOutcome::InFlight(busy)))) =
                (pending(record, now), &mut step.answer)
            {
                let whole = (held.lease_expires_at - now).as_millis();
                busy.retry_after = Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX));
            }
            step
        }),
    ),
    mutant(
        "retry_after_is_the_whole_lease",
        "R4",
        &["retry_after_is_the_rest_of_the_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Answer::Reserve(Ok(ReservationOutcome::InFlight(busy)))) =
                (pending(record, now), &mut step.answer)
            {
                busy.retry_after = held.lease_expires_at - held.created_at;
            }
            step
        }),
    ),
    mutant(
        "asking_extends_the_holders_lease",
        "R4",
        &["in_flight_changes_nothing"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (&step.answer, shown(record, |p| p.lease_expires_at = p.lease_expires_at + HOUR)) {
                (Answer::Reserve(Ok(ReservationOutcome::InFlight(_))), Some(longer)) => {
                    put(longer, step.answer)
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "a_lease_of_nothing_is_no_lease",
        "R4, R5, fault 13",
        &["handing_over_lapses_at_once"],
        Decides(|record, call, now| {
            let held = pending(record, now).filter(|p| p.lease_expires_at == Timestamp::ZERO);
            match (state::step(record, call, now), held) {
                (mut step, Some(held)) if matches!(call, Operation::Reserve { token, .. } if held.token != *token) =>
                {
                    if step.change != Change::Keep {
                        step = keep(Answer::Reserve(Ok(ReservationOutcome::InFlight(InFlight::new(HOUR)))));
                    }
                    step
                }
                (step, _) => step,
            }
        }),
    ),
    mutant(
        "lease_and_retention_are_one",
        "R5, fault 20",
        &["a_lapsed_holder_is_taken_over"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = first(record, &mut step, now) {
                new.lease_expires_at = new.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_finished_record_is_in_flight",
        "R9, fault 14",
        &["a_completed_slot_replays_its_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Reserve(Ok(ReservationOutcome::Replay(_))) = step.answer {
                step.answer = Answer::Reserve(Ok(ReservationOutcome::InFlight(InFlight::new(HOUR))));
            }
            step
        }),
    ),
    mutant(
        "a_holder_works_again_after_its_answer",
        "R9",
        &["the_holder_itself_hears_the_replay"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Completed(c)), Operation::Reserve { token, .. })
                if c.token == *token && c.record.expires_at > now =>
            {
                state::step(None, call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_replay_keeps_the_answer_for_longer",
        "R9",
        &["a_replay_changes_nothing"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (&step.answer, ending(record, |end| end.max(now + 30 * 24 * HOUR))) {
                (Answer::Reserve(Ok(ReservationOutcome::Replay(_))), Some(longer)) => {
                    put(longer, step.answer)
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "a_refuse_caller_hears_no_replay",
        "R9",
        &["a_replay_is_for_callers_of_either_policy"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Answer::Reserve(Ok(ReservationOutcome::Replay(kept)))) =
                (call, &step.answer)
                && request.terms.policy() == Policy::Refuse
            {
                let lapsed = Lapsed::new(kept.fence, kept.attempt, None, None);
                step.answer = Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed)));
            }
            step
        }),
    ),
    mutant(
        "released_is_forgotten",
        "R11, S4, fault 47",
        &["a_released_token_is_spent", "ghosts_change_nothing_after_a_release"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if releasing(&mut step).is_some() {
                step.change = Change::Delete;
            }
            step
        }),
    ),
    mutant(
        "released_is_remembered_for_ever",
        "R11",
        &["an_ended_release_is_absent"],
        Decides(|record, call, now| match record {
            Some(Record::Released(_)) => {
                state::step(ending(record, |_| Timestamp::NEVER).as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_spent_token_may_have_had_an_effect",
        "R11, S7",
        &["a_released_token_is_spent"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match client.step(slot, call) {
                    Answer::Reserve(Err(spent)) => Err(StoreError::from(spent).or_worse(Effect::Unknown)),
                    answer => Ok(answer),
                }
            })
        }),
    ),
    mutant(
        "a_released_slot_waits_for_its_end",
        "R1, L1",
        &["a_released_slot_is_anybodys_for_any_request"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (record, &step.answer) {
                (Some(Record::Released(r)), Answer::Reserve(Ok(_))) if r.expires_at > now => {
                    keep(Answer::Reserve(Ok(ReservationOutcome::InFlight(InFlight::new(r.expires_at - now)))))
                }
                _ => step,
            }
        }),
    ),
];
