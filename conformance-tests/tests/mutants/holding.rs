//! Wrong in renew: W1 to W4.

use std::time::Duration;

use oncekey_core::state::{self, Answer, Change, Operation, Pending, Record, Released};
use oncekey_core::{Loss, Policy, RenewOutcome, Renewed, Timestamp};

use crate::bend::{as_holder, ending, keep, pending, put, putting, releasing};
use crate::mutant::Wrong::Decides;
use crate::mutant::{Mutant, mutant};

const HOUR: Duration = Duration::from_secs(3_600);

/// Whether the call renews, and doesn't hand over.
fn extends(call: &Operation) -> bool {
    matches!(call, Operation::Renew { renewal, .. } if renewal.lease().is_some())
}

fn hands_over(call: &Operation) -> bool {
    matches!(call, Operation::Renew { renewal, .. } if renewal.lease().is_none())
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "renew_asks_for_nothing",
        "W3, S2",
        &["a_renewal_is_lost_after_a_takeover", "a_renewal_is_lost_under_another_fence_or_token"],
        Decides(|record, call, now| match record {
            Some(Record::Pending(_)) if extends(call) => state::step(record, &as_holder(record, call), now),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "hand_over_asks_for_nothing",
        "W3, W4, S2",
        &["a_hand_over_by_nobody_changes_nothing"],
        Decides(|record, call, now| match record {
            Some(Record::Pending(_)) if hands_over(call) => {
                state::step(record, &as_holder(record, call), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_stale_renew_hears_renewed",
        "W3, fault 21",
        &["a_renewal_is_lost_after_a_takeover", "a_renewal_is_lost_after_somebody_elses_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Answer::Renew(RenewOutcome::Lost(_))) =
                (call, &step.answer)
            {
                let left = renewal.lease().unwrap_or_default();
                step.answer = Answer::Renew(RenewOutcome::Renewed(Renewed::new(left, 0)));
            }
            step
        }),
    ),
    mutant(
        "a_lapsed_holder_may_not_renew",
        "W1",
        &["a_lapsed_holder_renews_if_nobody_took_over", "a_holder_that_handed_over_may_come_back"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if extends(call) && held.is_lapsed(now) => {
                keep(Answer::Renew(RenewOutcome::Lost(Loss::TakenOver)))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_renewal_shortens_the_lease",
        "W1, fault 45",
        &["a_renewal_never_shortens_the_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held)) = (call, putting(&mut step))
                && let Some(lease) = renewal.lease()
            {
                held.lease_expires_at = now + lease;
            }
            step
        }),
    ),
    mutant(
        "a_renewal_adds_to_the_lease",
        "W1, S6",
        &["a_renewal_says_how_much_lease_is_left"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held), Some(before)) =
                (call, putting(&mut step), pending(record, now))
                && let Some(lease) = renewal.lease()
                && !before.is_lapsed(now)
            {
                held.lease_expires_at = before.lease_expires_at + lease;
                let left = held.lease_expires_at - now;
                let sequence = held.checkpoint.as_ref().map_or(0, oncekey_core::Checkpoint::sequence);
                step.answer = Answer::Renew(RenewOutcome::Renewed(Renewed::new(left, sequence)));
            }
            step
        }),
    ),
    mutant(
        "a_renewal_leaves_the_lease",
        "W1",
        &["a_renewal_extends_the_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(before)) =
                (extends(call), putting(&mut step), pending(record, now))
            {
                held.lease_expires_at = before.lease_expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_renewal_leaves_the_records_end",
        "W1, fault 45",
        &["a_record_outlives_a_renewed_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(before)) =
                (extends(call), putting(&mut step), pending(record, now))
                && held.expires_at != Timestamp::NEVER
            {
                held.expires_at = before.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_renewal_brings_the_records_end_nearer",
        "W1",
        &["a_renewal_never_brings_the_end_nearer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (extends(call), putting(&mut step))
                && held.expires_at != Timestamp::NEVER
            {
                held.expires_at = held.lease_expires_at + held.retention;
            }
            step
        }),
    ),
    mutant(
        "a_renewal_doesnt_say_that_the_holder_began",
        "W1",
        &["a_renewal_says_that_the_holder_began"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(before)) =
                (extends(call), putting(&mut step), pending(record, now))
            {
                held.begun = before.begun;
            }
            step
        }),
    ),
    mutant(
        "a_take_over_caller_doesnt_begin_a_refuse_record",
        "W1, fault 55",
        &["a_take_over_caller_that_began_on_a_refuse_record_leaves_an_unknown"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (extends(call), putting(&mut step))
                && held.attempt > 1
            {
                held.begun = false;
            }
            step
        }),
    ),
    mutant(
        "the_last_checkpoint_to_arrive_stays",
        "W1, fault 51",
        &["an_older_checkpoint_changes_nothing", "of_many_checkpoints_the_highest_stays"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held)) = (call, putting(&mut step)) {
                held.checkpoint = renewal.checkpoint().cloned().or(held.checkpoint.take());
            }
            step
        }),
    ),
    mutant(
        "a_checkpoint_of_the_same_number_replaces",
        "W1, S6",
        &["an_older_checkpoint_changes_nothing"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held)) = (call, putting(&mut step))
                && let (Some(new), Some(old)) = (renewal.checkpoint(), &held.checkpoint)
                && new.sequence() == old.sequence()
            {
                held.checkpoint = Some(new.clone());
            }
            step
        }),
    ),
    mutant(
        "a_renewal_without_a_checkpoint_clears_it",
        "W1",
        &["a_renewal_without_a_checkpoint_keeps_the_stored_one"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held)) = (call, putting(&mut step))
                && renewal.checkpoint().is_none()
            {
                held.checkpoint = None;
            }
            step
        }),
    ),
    mutant(
        "each_holder_numbers_its_checkpoints_anew",
        "W1, fault 56",
        &["checkpoints_go_on_from_the_inherited_one"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Some(held), Some(before)) =
                (call, putting(&mut step), pending(record, now))
                && !before.begun
            {
                held.checkpoint = renewal.checkpoint().cloned().or(held.checkpoint.take());
            }
            step
        }),
    ),
    mutant(
        "a_renewal_answers_the_number_it_was_sent",
        "W1",
        &["an_older_checkpoint_changes_nothing"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Answer::Renew(RenewOutcome::Renewed(renewed))) =
                (call, &mut step.answer)
                && let Some(sent) = renewal.checkpoint()
            {
                renewed.sequence = sent.sequence();
            }
            step
        }),
    ),
    mutant(
        "a_renewal_answers_the_lease_it_was_asked_for",
        "W1",
        &["a_renewal_never_shortens_the_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Renew { renewal, .. }, Answer::Renew(RenewOutcome::Renewed(renewed))) =
                (call, &mut step.answer)
            {
                renewed.lease_left = renewal.lease().unwrap_or_default();
            }
            step
        }),
    ),
    mutant(
        "a_renewal_after_completion_is_lost",
        "W2",
        &["a_renewal_after_completion_hears_already_stored"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Renew(RenewOutcome::AlreadyStored) = step.answer {
                step.answer = Answer::Renew(RenewOutcome::Lost(Loss::Gone));
            }
            step
        }),
    ),
    mutant(
        "a_renewal_revives_an_ended_record",
        "W3",
        &["a_renewal_is_lost_after_the_record_ended", "an_ended_answer_is_absent"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(if extends(call) { living.as_ref() } else { record }, call, now)
        }),
    ),
    mutant(
        "a_hand_over_revives_an_ended_record",
        "W3, W4",
        &["a_hand_over_is_lost_after_the_record_ended"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(if hands_over(call) { living.as_ref() } else { record }, call, now)
        }),
    ),
    mutant(
        "a_released_holder_may_renew",
        "W3",
        &["a_renewal_is_lost_after_a_release"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Released(r)), Operation::Renew { grant, renewal })
                if r.token == grant.token && r.fence == grant.fence && r.expires_at > now =>
            {
                let lease = renewal.lease().unwrap_or_default();
                let held = Pending {
                    fingerprint: oncekey_core::Fingerprint::from_bytes([1; 32]),
                    token: r.token,
                    fence: r.fence,
                    attempt: grant.attempt,
                    checkpoint: None,
                    begun: true,
                    policy: grant.policy,
                    retention: HOUR,
                    created_at: now,
                    lease_expires_at: now + lease,
                    expires_at: r.expires_at,
                };
                put(Record::Pending(held), Answer::Renew(RenewOutcome::Renewed(Renewed::new(lease, 0))))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_renewal_of_nothing_is_renewed",
        "W3, fault 21",
        &["a_renewal_is_lost_on_an_unknown_slot"],
        Decides(|record, call, now| match (record, call) {
            (None, Operation::Renew { renewal, .. }) => {
                let left = renewal.lease().unwrap_or_default();
                keep(Answer::Renew(RenewOutcome::Renewed(Renewed::new(left, 0))))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "lapsed_at_once_is_stamped_as_now",
        "W4, L2, fault 57",
        &[
            "a_hand_over_outlives_a_step_back_of_the_clock",
            "a_doubtful_release_outlives_a_step_back_of_the_clock",
            "sequences_on_a_clock_that_steps_back_answer_as_the_state_machine",
        ],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some(held) = putting(&mut step)
                && held.lease_expires_at == Timestamp::ZERO
            {
                held.lease_expires_at = now;
            }
            step
        }),
    ),
    mutant(
        "a_hand_over_drops_its_checkpoint",
        "W4",
        &["handing_over_passes_on_the_checkpoint"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(before)) =
                (hands_over(call), putting(&mut step), pending(record, now))
            {
                held.checkpoint = before.checkpoint.clone();
            }
            step
        }),
    ),
    mutant(
        "a_hand_over_frees_the_slot",
        "W4",
        &["handing_over_keeps_the_request", "handing_over_lapses_at_once"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (hands_over(call), putting(&mut step)) {
                let (token, fence, expires_at) = (held.token, held.fence, held.expires_at);
                step.change = Change::Put(Record::Released(Released { token, fence, expires_at }));
            }
            step
        }),
    ),
    mutant(
        "a_hand_over_counts_as_having_begun",
        "W4",
        &["handing_over_lapses_at_once"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (hands_over(call), putting(&mut step)) {
                held.begun = true;
            }
            step
        }),
    ),
    mutant(
        "an_unbegun_hand_over_under_refuse_waits",
        "W4, fault 54",
        &[
            "a_refuse_holder_that_hands_over_unbegun_frees_the_slot",
            "a_late_renewal_after_an_unbegun_hand_over_blocks_nobody",
        ],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(_)) =
                (hands_over(call), pending(record, now), releasing(&mut step))
            {
                let lapsed = Pending { lease_expires_at: Timestamp::ZERO, ..held.clone() };
                step.change = Change::Put(Record::Pending(lapsed));
            }
            step
        }),
    ),
    mutant(
        "a_begun_hand_over_under_refuse_frees_the_slot",
        "W4, R6",
        &["a_begun_refuse_holder_hands_over_an_unknown"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (hands_over(call), putting(&mut step))
                && held.policy == Policy::Refuse
            {
                held.begun = false;
            }
            step
        }),
    ),
    mutant(
        "a_hand_over_answers_a_lease",
        "W4",
        &["handing_over_lapses_at_once"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Answer::Renew(RenewOutcome::Renewed(renewed))) =
                (hands_over(call), pending(record, now), &mut step.answer)
            {
                renewed.lease_left = held.lease_expires_at - now;
            }
            step
        }),
    ),
];
