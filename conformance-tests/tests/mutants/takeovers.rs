//! Wrong where a holder has lapsed: R5, R6; and under at-most-once.

use std::time::Duration;

use oncekey_core::state::{self, Answer, Operation, Record};
use oncekey_core::{Policy, ReservationOutcome, ReserveRequest, Terms, Timestamp};

use crate::bend::{keep, over, pending, put, putting, shown};
use crate::mutant::Wrong::Decides;
use crate::mutant::{Mutant, mutant};

/// The call, as if it asked for this policy.
fn with_policy(call: &Operation, policy: Policy) -> Operation {
    match call {
        Operation::Reserve { token, request } => {
            let (terms, fingerprint) = (request.terms, request.fingerprint);
            let terms = Terms::new(policy, terms.lease(), terms.retention()).unwrap_or(terms);
            Operation::Reserve { token: *token, request: ReserveRequest::new(fingerprint, terms) }
        }
        other => other.clone(),
    }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a_takeover_doesnt_count",
        "R5",
        &["a_lapsed_holder_is_taken_over"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = over(record, &mut step, now) {
                new.attempt -= 1;
                grant.attempt = new.attempt;
            }
            step
        }),
    ),
    mutant(
        "attempts_have_eight_bits",
        "R5",
        &["attempts_outgrow_a_byte"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = over(record, &mut step, now) {
                new.attempt = new.attempt.min(255);
                grant.attempt = new.attempt;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_has_its_predecessors_fence",
        "R5, S2, S4",
        &["a_lapsed_holder_is_taken_over", "fences_rise_through_takeover_on_a_clock_that_steps_back"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((new, grant))) = (pending(record, now), over(record, &mut step, now)) {
                (new.fence, grant.fence) = (before.fence, before.fence);
            }
            step
        }),
    ),
    mutant(
        "a_takeover_drops_the_checkpoint",
        "R5",
        &["takeover_hands_on_the_checkpoint"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = over(record, &mut step, now) {
                (new.checkpoint, grant.checkpoint) = (None, None);
            }
            step
        }),
    ),
    mutant(
        "a_takeover_keeps_the_checkpoint_to_itself",
        "R5",
        &["takeover_hands_on_the_checkpoint"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((_, grant)) = over(record, &mut step, now) {
                grant.checkpoint = None;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_has_its_predecessors_lease",
        "R5, R10",
        &["takeover_starts_a_lease_of_its_own"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((new, _))) = (pending(record, now), over(record, &mut step, now)) {
                new.lease_expires_at = before.lease_expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_counts_as_having_begun",
        "R5, fault 50",
        &["takeover_begins_anew", "a_refuse_holder_that_had_not_begun_is_taken_over_by_either_policy"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = over(record, &mut step, now) {
                new.begun = true;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_makes_the_record_anew",
        "R5",
        &["the_answer_names_the_attempt_that_gave_it"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = over(record, &mut step, now) {
                new.created_at = now;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_keeps_the_first_retention",
        "R5",
        &["takeover_brings_its_own_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((new, _))) = (pending(record, now), over(record, &mut step, now)) {
                new.retention = before.retention;
                new.expires_at = before.expires_at.max(new.lease_expires_at + before.retention);
            }
            step
        }),
    ),
    mutant(
        "a_takeover_brings_the_records_end_nearer",
        "R5",
        &["takeover_never_brings_the_end_nearer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, _)) = over(record, &mut step, now) {
                new.expires_at = new.lease_expires_at + new.retention;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_leaves_the_records_end",
        "R5, fault 45",
        &["takeover_brings_its_own_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((new, _))) = (pending(record, now), over(record, &mut step, now)) {
                new.expires_at = before.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_takeover_under_refuse_brings_its_own_retention",
        "R5",
        &["an_answer_under_refuse_is_kept_for_the_larger_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Some((new, _))) = (call, over(record, &mut step, now))
            {
                new.retention = request.terms.retention();
            }
            step
        }),
    ),
    mutant(
        "a_takeover_under_refuse_keeps_the_first_retention",
        "R5",
        &["takeover_under_refuse_keeps_the_larger_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((new, _))) = (pending(record, now), over(record, &mut step, now))
                && before.policy == Policy::Refuse
            {
                new.retention = before.retention;
                new.expires_at = before.expires_at.max(new.lease_expires_at + before.retention);
            }
            step
        }),
    ),
    mutant(
        "a_takeover_brings_its_own_policy",
        "R5",
        &["a_record_keeps_the_policy_of_its_first_grant"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Some((new, grant))) =
                (call, over(record, &mut step, now))
            {
                new.policy = request.terms.policy();
                grant.policy = new.policy;
            }
            step
        }),
    ),
    mutant(
        "a_grant_says_the_callers_policy",
        "R1, R5, fault 55",
        &["a_record_keeps_the_policy_of_its_first_grant"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Some((_, grant))) =
                (call, over(record, &mut step, now))
            {
                grant.policy = request.terms.policy();
            }
            step
        }),
    ),
    mutant(
        "an_unknown_is_taken_over_by_whoever_would",
        "R6",
        &["a_refuse_holder_that_began_leaves_an_unknown", "nobody_takes_over_an_unknown"],
        Decides(|record, call, now| match call {
            Operation::Reserve { request, .. } if request.terms.policy() == Policy::TakeOver => {
                state::step(shown(record, |p| p.begun = false).as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_refuse_caller_takes_over",
        "R6",
        &["a_refuse_caller_leaves_a_take_over_record_to_others"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if held.policy == Policy::TakeOver => {
                state::step(record, &with_policy(call, Policy::TakeOver), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "under_refuse_nobody_asks_whether_it_began",
        "R5, fault 50",
        &["a_refuse_holder_that_had_not_begun_is_taken_over_by_either_policy"],
        Decides(|record, call, now| match call {
            Operation::Reserve { .. } => {
                let begun = shown(record, |p| p.begun |= p.policy == Policy::Refuse);
                let mut step = state::step(begun.as_ref(), call, now);
                if let (Some(held), Some(before)) = (putting(&mut step), pending(record, now)) {
                    held.begun = before.begun;
                }
                step
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_hand_over_has_lapsed_for_ages",
        "R6",
        &[
            "after_a_hand_over_nobody_lapsed_for_any_time",
            "after_a_doubtful_release_nobody_lapsed_for_any_time",
        ],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed))) = &mut step.answer {
                let age = Duration::from_micros(now.as_micros());
                lapsed.lapsed_for = lapsed.lapsed_for.or(Some(age));
            }
            step
        }),
    ),
    mutant(
        "lapsed_for_counts_from_the_reserve",
        "R6",
        &["indeterminate_says_for_how_long"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed)))) =
                (pending(record, now), &mut step.answer)
            {
                lapsed.lapsed_for = lapsed.lapsed_for.and(now.since(held.created_at));
            }
            step
        }),
    ),
    mutant(
        "an_unknown_tells_no_checkpoint",
        "R6",
        &["a_refuse_holder_that_began_leaves_an_unknown"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed))) = &mut step.answer {
                lapsed.checkpoint = None;
            }
            step
        }),
    ),
    mutant(
        "asking_settles_an_unknown",
        "R6",
        &["a_refuse_holder_that_began_leaves_an_unknown", "nobody_takes_over_an_unknown"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            let settled = shown(record, |p| p.begun = false);
            match (&step.answer, settled) {
                (Answer::Reserve(Ok(ReservationOutcome::Indeterminate(_))), Some(settled)) => {
                    put(settled, step.answer)
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "asking_a_take_over_record_to_refuse_begins_it",
        "R6",
        &["a_refuse_caller_leaves_a_take_over_record_to_others"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (&step.answer, shown(record, |p| p.policy = Policy::Refuse)) {
                (Answer::Reserve(Ok(ReservationOutcome::Indeterminate(_))), Some(refusing)) => {
                    put(refusing, step.answer)
                }
                _ => step,
            }
        }),
    ),
    mutant(
        "an_unknown_expires",
        "W1",
        &["an_unknown_never_expires", "a_repeated_reserve_neither_begins_nor_unbegins"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(held) = putting(&mut step)
                && held.expires_at == Timestamp::NEVER
            {
                held.expires_at = held.lease_expires_at + held.retention;
            }
            step
        }),
    ),
    mutant(
        "every_refuse_record_is_kept_for_ever",
        "R1",
        &["a_refuse_record_that_had_not_begun_expires"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(held) = putting(&mut step)
                && held.policy == Policy::Refuse
            {
                held.expires_at = Timestamp::NEVER;
            }
            step
        }),
    ),
    mutant(
        "a_lapsed_record_never_ends",
        "R1, R5",
        &["a_lapsed_record_ends_too"],
        Decides(|record, call, now| match record {
            Some(Record::Pending(p)) if p.is_lapsed(now) => {
                let living = shown(record, |p| p.expires_at = p.expires_at.max(now + p.retention));
                state::step(living.as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "lookup_hides_the_lapsed",
        "Q1",
        &["lookup_shows_a_lapsed_record"],
        Decides(|record, call, now| match call {
            Operation::Lookup if pending(record, now).is_some_and(|p| p.is_lapsed(now)) => {
                keep(Answer::Lookup(None))
            }
            _ => state::step(record, call, now),
        }),
    ),
];
