//! Wrong in release: L1 to L5.

use std::time::Duration;

use oncekey_core::state::{self, Answer, Change, Operation, Pending, Record, Released};
use oncekey_core::{Loss, Policy, ReleaseOutcome, Timestamp};

use crate::bend::{as_holder, ending, keep, pending, put, putting, releasing, shown};
use crate::mutant::Wrong::Decides;
use crate::mutant::{Mutant, mutant};

const HOUR: Duration = Duration::from_secs(3_600);

fn is_release(call: &Operation) -> bool {
    matches!(call, Operation::Release { .. })
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "release_asks_for_nothing",
        "L5, S2, fault 7",
        &[
            "a_release_is_lost_after_a_takeover",
            "ghosts_change_nothing_after_a_takeover",
            "a_storm_of_old_calls_changes_nothing",
        ],
        Decides(|record, call, now| match record {
            Some(Record::Pending(_)) if is_release(call) => {
                state::step(record, &as_holder(record, call), now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "release_asks_for_the_token_alone",
        "L5, S2",
        &["a_release_is_lost_under_another_fence_or_token"],
        Decides(|record, call, now| {
            let holders = as_holder(record, call);
            match (call, &holders) {
                (Operation::Release { grant }, Operation::Release { grant: holder })
                    if grant.token == holder.token =>
                {
                    state::step(record, &holders, now)
                }
                _ => state::step(record, call, now),
            }
        }),
    ),
    mutant(
        "release_deletes_a_finished_record",
        "L3, fault 9",
        &["a_finished_record_is_never_released", "ghosts_change_nothing_after_their_own_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Release(ReleaseOutcome::AlreadyStored) = step.answer {
                step.change = Change::Delete;
            }
            step
        }),
    ),
    mutant(
        "a_former_holder_deletes_a_finished_record",
        "L5, S2, fault 9",
        &["a_finished_record_is_never_released_by_its_former_holder"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Completed(_)), Answer::Release(ReleaseOutcome::Lost(_))) =
                (record, &step.answer)
            {
                step.change = Change::Delete;
            }
            step
        }),
    ),
    mutant(
        "a_finished_record_is_said_to_be_released",
        "L3, fault 21",
        &["a_finished_record_is_never_released"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Release(ReleaseOutcome::AlreadyStored) = step.answer {
                step.answer = Answer::Release(ReleaseOutcome::Released);
            }
            step
        }),
    ),
    mutant(
        "a_later_holders_release_forgets_the_doubt",
        "L2, fault 52",
        &["a_later_holders_release_keeps_the_doubt"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (is_release(call), putting(&mut step)) {
                let (token, fence, expires_at) = (held.token, held.fence, held.expires_at);
                step.change = Change::Put(Record::Released(Released { token, fence, expires_at }));
            }
            step
        }),
    ),
    mutant(
        "a_doubtful_release_drops_the_checkpoint",
        "L2",
        &["a_doubtful_release_keeps_request_and_checkpoint"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (is_release(call), putting(&mut step)) {
                held.checkpoint = None;
            }
            step
        }),
    ),
    mutant(
        "a_doubtful_release_takes_its_attempt_back",
        "L2",
        &["a_later_holders_release_keeps_the_doubt"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (is_release(call), putting(&mut step)) {
                held.attempt -= 1;
            }
            step
        }),
    ),
    mutant(
        "a_doubtful_release_spends_its_token",
        "L2, R3",
        &["whoever_released_in_doubt_may_come_back"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held)) = (is_release(call), putting(&mut step)) {
                held.token = oncekey_core::Token::from_bytes([0; 16]);
            }
            step
        }),
    ),
    mutant(
        "a_repeated_doubtful_release_frees_the_slot",
        "L2, S6",
        &["a_doubtful_release_may_be_repeated"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_release(call) && held.lease_expires_at == Timestamp::ZERO => {
                let first = shown(record, |p| p.attempt = 1);
                state::step(first.as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_later_attempt_under_refuse_releases_in_doubt",
        "L1",
        &["a_later_attempt_under_refuse_releases_for_good"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_release(call) && held.policy == Policy::Refuse && held.attempt > 1 => {
                let lapsed = Pending { lease_expires_at: Timestamp::ZERO, ..held.clone() };
                let mut step = state::step(record, call, now);
                if releasing(&mut step).is_some() {
                    step.change = Change::Put(Record::Pending(lapsed));
                }
                step
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_begun_holder_may_not_release",
        "L1",
        &["a_first_holder_releases"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_release(call) && held.begun && held.attempt == 1 => {
                let lapsed = shown(record, |p| p.lease_expires_at = Timestamp::ZERO);
                lapsed.map_or_else(
                    || state::step(record, call, now),
                    |lapsed| put(lapsed, Answer::Release(ReleaseOutcome::Released)),
                )
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_lapsed_holder_may_not_release",
        "L1",
        &["a_lapsed_first_holder_releases"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_release(call) && held.is_lapsed(now) => {
                keep(Answer::Release(ReleaseOutcome::Lost(Loss::Gone)))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_repeated_release_is_lost",
        "L4, S6",
        &["a_release_may_be_repeated"],
        Decides(|record, call, now| match record {
            Some(Record::Released(_)) if is_release(call) => {
                keep(Answer::Release(ReleaseOutcome::Lost(Loss::Gone)))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "whatever_is_free_was_released_by_whoever_asks",
        "L5, fault 21",
        &["a_release_is_lost_after_somebody_elses", "a_release_may_be_repeated"],
        Decides(|record, call, now| match record {
            Some(Record::Released(_)) if is_release(call) => keep(Answer::Release(ReleaseOutcome::Released)),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_release_of_nothing_is_remembered",
        "L5",
        &["a_release_is_lost_on_an_unknown_slot"],
        Decides(|record, call, now| match (record, call) {
            (None, Operation::Release { grant }) => {
                let (token, fence, expires_at) = (grant.token, grant.fence, now + HOUR);
                let answer = Answer::Release(ReleaseOutcome::Lost(Loss::Gone));
                put(Record::Released(Released { token, fence, expires_at }), answer)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_release_after_the_end_is_released",
        "L5",
        &["a_release_is_lost_after_the_record_ended"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(if is_release(call) { living.as_ref() } else { record }, call, now)
        }),
    ),
    mutant(
        "a_release_is_remembered_for_its_lease_alone",
        "L1, R11",
        &["a_release_is_remembered_to_the_records_end"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(held), Some(free)) = (pending(record, now), releasing(&mut step)) {
                free.expires_at = free.expires_at.min(held.lease_expires_at);
            }
            step
        }),
    ),
    mutant(
        "a_released_refuse_record_is_remembered_for_ever",
        "L1, fault 53",
        &["a_released_refuse_record_expires_after_all"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(free)) =
                (is_release(call), pending(record, now), releasing(&mut step))
            {
                free.expires_at = held.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_refuse_record_released_very_late_is_forgotten",
        "L1, R11, fault 53",
        &["a_refuse_record_released_years_late_is_remembered"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(free)) =
                (is_release(call), pending(record, now), releasing(&mut step))
                && held.expires_at == Timestamp::NEVER
            {
                free.expires_at = held.lease_expires_at + held.retention;
            }
            step
        }),
    ),
];
