//! Wrong in complete: C1 to C5.

use std::time::Duration;

use oncekey_core::state::{self, Answer, Completed, Operation, Record};
use oncekey_core::{CompleteOutcome, IdempotencyRecord, Loss, Timestamp};

use crate::bend::{as_holder, completing, ending, keep, pending, put, under};
use crate::mutant::Wrong::Decides;
use crate::mutant::{Mutant, mutant};

const HOUR: Duration = Duration::from_secs(3_600);

fn is_complete(call: &Operation) -> bool {
    matches!(call, Operation::Complete { .. })
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "complete_asks_for_nothing",
        "C4, S2, S3, fault 8",
        &["complete_is_lost_after_a_takeover", "a_swarm_that_falls_silent_has_one_answer"],
        Decides(|record, call, now| match call {
            Operation::Complete { .. } => state::step(record, &as_holder(record, call), now),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "complete_asks_for_the_token_alone",
        "C4, S2, fault 44",
        &["a_token_that_takes_over_twice_has_two_grants", "late_copies_of_old_calls_change_nothing"],
        Decides(|record, call, now| match (call, record) {
            (Operation::Complete { .. }, Some(record)) => {
                state::step(Some(record), &under(call, |grant| grant.fence = record.fence()), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "complete_asks_for_the_fence_alone",
        "C4",
        &["complete_is_lost_under_another_token"],
        Decides(|record, call, now| {
            let holders = as_holder(record, call);
            match (call, &holders) {
                (Operation::Complete { grant, .. }, Operation::Complete { grant: holder, .. })
                    if grant.fence == holder.fence =>
                {
                    state::step(record, &holders, now)
                }
                _ => state::step(record, call, now),
            }
        }),
    ),
    mutant(
        "a_lapsed_holder_may_not_complete",
        "C2",
        &[
            "a_lapsed_holder_completes_if_nobody_took_over",
            "a_holder_that_handed_over_may_complete",
            "sequences_in_moving_time_answer_as_the_state_machine",
        ],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_complete(call) && held.is_lapsed(now) => {
                keep(Answer::Complete(CompleteOutcome::Lost(Loss::Gone)))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_late_answer_is_kept_no_longer",
        "C2",
        &["a_late_answer_is_kept_for_its_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Complete { completion, .. }, Some(held), Some(done)) =
                (call, pending(record, now), completing(&mut step))
                && completion.retention().is_none()
                && held.expires_at != Timestamp::NEVER
            {
                done.record.expires_at = held.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_late_answer_brings_the_end_nearer",
        "C2",
        &["a_late_answer_never_brings_the_end_nearer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Complete { completion, .. }, Some(held), Some(done)) =
                (call, pending(record, now), completing(&mut step))
                && completion.retention().is_none()
                && held.is_lapsed(now)
            {
                done.record.expires_at = now + held.retention;
            }
            step
        }),
    ),
    mutant(
        "an_answer_in_the_lease_brings_the_end_nearer",
        "C1",
        &["completing_in_the_lease_keeps_the_records_end"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Complete { completion, .. }, Some(held), Some(done)) =
                (call, pending(record, now), completing(&mut step))
                && completion.retention().is_none()
                && !held.is_lapsed(now)
            {
                done.record.expires_at = now + held.retention;
            }
            step
        }),
    ),
    mutant(
        "an_answer_ends_with_the_lease",
        "C1",
        &["an_answer_is_kept_for_the_retention_at_least"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step)) {
                done.record.expires_at = done.record.expires_at.min(held.lease_expires_at.max(now));
            }
            step
        }),
    ),
    mutant(
        "a_second_answer_replaces_the_first",
        "C3, S3, fault 10",
        &["the_first_answer_stays", "of_many_completions_of_one_grant_the_first_stays"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (record, call, &step.answer) {
                (
                    Some(Record::Completed(done)),
                    Operation::Complete { completion, .. },
                    Answer::Complete(CompleteOutcome::AlreadyStored(_)),
                ) => {
                    let mut done = done.clone();
                    done.record.response = completion.response().clone();
                    put(Record::Completed(done), step.answer)
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "already_stored_brings_the_callers_own",
        "C3",
        &["the_first_answer_stays"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (
                Operation::Complete { completion, .. },
                Answer::Complete(CompleteOutcome::AlreadyStored(kept)),
            ) = (call, &mut step.answer)
            {
                kept.response = completion.response().clone();
            }
            step
        }),
    ),
    mutant(
        "complete_is_an_upsert",
        "C4",
        &["complete_is_lost_on_an_unknown_slot"],
        Decides(|record, call, now| match (record, call) {
            (None, Operation::Complete { grant, completion }) => {
                let (response, kept) = (completion.response().clone(), now + HOUR);
                let fingerprint = oncekey_core::Fingerprint::from_bytes([1; 32]);
                let record = IdempotencyRecord::new(fingerprint, grant.fence, 1, response, now, now, kept);
                let done = Completed { token: grant.token, record };
                put(Record::Completed(done), Answer::Complete(CompleteOutcome::Stored))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_released_holder_may_complete",
        "C4",
        &["complete_is_lost_after_a_release"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Released(r)), Operation::Complete { grant, completion })
                if r.token == grant.token && r.fence == grant.fence && r.expires_at > now =>
            {
                let (response, fingerprint) =
                    (completion.response().clone(), oncekey_core::Fingerprint::from_bytes([1; 32]));
                let kept = IdempotencyRecord::new(fingerprint, r.fence, 1, response, now, now, r.expires_at);
                let done = Completed { token: r.token, record: kept };
                put(Record::Completed(done), Answer::Complete(CompleteOutcome::Stored))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "an_ended_record_is_completed",
        "C4",
        &["complete_is_lost_after_the_record_ended"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(if is_complete(call) { living.as_ref() } else { record }, call, now)
        }),
    ),
    mutant(
        "a_stale_complete_hears_stored",
        "C4, fault 21",
        &["complete_is_lost_under_another_fence", "complete_is_lost_after_a_takeover"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Complete(CompleteOutcome::Lost(_)) = step.answer {
                step.answer = Answer::Complete(CompleteOutcome::Stored);
            }
            step
        }),
    ),
    mutant(
        "what_was_taken_over_is_said_to_be_gone",
        "C4",
        &["complete_is_lost_after_a_takeover", "complete_is_lost_after_the_successors_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Complete(CompleteOutcome::Lost(loss)) = &mut step.answer {
                *loss = Loss::Gone;
            }
            step
        }),
    ),
    mutant(
        "what_is_gone_is_said_to_be_taken_over",
        "C4",
        &["complete_is_lost_on_an_unknown_slot", "complete_is_lost_after_a_release"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Complete(CompleteOutcome::Lost(loss)) = &mut step.answer {
                *loss = Loss::TakenOver;
            }
            step
        }),
    ),
    mutant(
        "an_answers_own_retention_only_shortens",
        "C5",
        &["an_answer_may_be_kept_longer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step)) {
                done.record.expires_at =
                    done.record.expires_at.min(held.expires_at.max(now + held.retention));
            }
            step
        }),
    ),
    mutant(
        "an_answers_own_retention_only_lengthens",
        "C5",
        &["an_answer_may_be_kept_shorter"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step))
                && !held.is_lapsed(now)
            {
                done.record.expires_at = done.record.expires_at.max(held.lease_expires_at + held.retention);
            }
            step
        }),
    ),
    mutant(
        "a_late_answers_own_retention_is_ignored",
        "C5, C2",
        &["a_late_answer_may_be_kept_shorter"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step))
                && held.is_lapsed(now)
                && held.expires_at != Timestamp::NEVER
            {
                done.record.expires_at = held.expires_at.max(now + held.retention);
            }
            step
        }),
    ),
    mutant(
        "a_repeated_complete_changes_how_long_it_is_kept",
        "C3, C5",
        &["a_repeated_complete_doesnt_change_how_long_it_is_kept"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (call, &step.answer) {
                (
                    Operation::Complete { completion, .. },
                    Answer::Complete(CompleteOutcome::AlreadyStored(_)),
                ) => {
                    let kept = |end| completion.retention().map_or(end, |retention| now + retention);
                    match ending(record, kept) {
                        Some(record) => put(record, step.answer),
                        None => step,
                    }
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "a_repeat_after_the_lease_is_lost",
        "C3, S6",
        &["a_repeated_complete_brings_back_the_stored_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Completed(done)), Answer::Complete(CompleteOutcome::AlreadyStored(_))) =
                (record, &step.answer)
                && now > done.record.completed_at + HOUR / 2
            {
                step.answer = Answer::Complete(CompleteOutcome::Lost(Loss::Gone));
            }
            step
        }),
    ),
    mutant(
        "an_at_most_once_answer_is_kept_for_ever",
        "C1, fault 53",
        &["an_at_most_once_answer_expires_after_all"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step))
                && held.expires_at == Timestamp::NEVER
                && !held.is_lapsed(now)
            {
                done.record.expires_at = Timestamp::NEVER;
            }
            step
        }),
    ),
    mutant(
        "a_very_late_at_most_once_answer_ends_at_once",
        "C2, fault 53",
        &["an_at_most_once_answer_given_years_late_is_kept_for_its_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(done)) = (pending(record, now), completing(&mut step))
                && held.expires_at == Timestamp::NEVER
            {
                done.record.expires_at = held.lease_expires_at + held.retention;
            }
            step
        }),
    ),
    mutant(
        "an_answer_is_always_the_first_attempts",
        "C1",
        &["the_answer_names_the_attempt_that_gave_it"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(done) = completing(&mut step) {
                done.record.attempt = 1;
            }
            step
        }),
    ),
    mutant(
        "a_record_is_created_when_it_is_completed",
        "C1",
        &["a_holder_completes"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(done) = completing(&mut step) {
                done.record.created_at = now;
            }
            step
        }),
    ),
    mutant(
        "a_fresh_answer_is_not_found_at_once",
        "R9, S1",
        &["callers_during_a_completion_hear_in_flight_or_its_answer"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Completed(done)), Operation::Reserve { .. })
                if now < done.record.completed_at + HOUR / 3_600 =>
            {
                state::step(None, call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_repeat_is_lost",
        "C3, S6",
        &["a_dropped_complete_may_be_made_again", "every_call_may_be_made_twice"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Complete(CompleteOutcome::AlreadyStored(_)) = step.answer {
                step.answer = Answer::Complete(CompleteOutcome::Lost(Loss::Gone));
            }
            step
        }),
    ),
];
