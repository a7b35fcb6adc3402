//! Wrong where a reserve is its own retry: R3, S6.

use oncekey_core::state::{self, Operation};
use oncekey_core::{Fence, Token};

use crate::bend::{again, pending, shown};
use crate::mutant::Wrong::Decides;
use crate::mutant::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a_repeated_reserve_is_a_strangers",
        "R3, S6, fault 26",
        &["a_reserve_repeated_with_its_token_gets_the_same_grant", "copies_of_one_call_are_granted_once"],
        Decides(|record, call, now| match call {
            Operation::Reserve { .. } => {
                let strangers = shown(record, |p| p.token = Token::from_bytes([0; 16]));
                state::step(strangers.as_ref(), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_repeated_reserve_is_a_second_grant",
        "R3, S6, fault 26",
        &["a_reserve_repeated_with_its_token_gets_the_same_grant", "every_call_may_be_made_twice"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((held, grant)) = again(record, &mut step, now) {
                held.fence = Fence::new(held.fence.get() + 1);
                grant.fence = held.fence;
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_shortens_the_lease",
        "R3, fault 45",
        &["a_repeated_reserve_never_shortens_the_lease", "sequences_of_calls_answer_as_the_state_machine"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Some((held, _))) =
                (call, again(record, &mut step, now))
            {
                held.lease_expires_at = now + request.terms.lease();
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_leaves_the_lease",
        "R3",
        &["a_repeated_reserve_extends_the_lease"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((held, _))) = (pending(record, now), again(record, &mut step, now)) {
                held.lease_expires_at = before.lease_expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_leaves_the_records_end",
        "R3, fault 45",
        &["a_repeated_reserve_raises_the_end_by_the_stored_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(before), Some((held, _))) = (pending(record, now), again(record, &mut step, now)) {
                held.expires_at = before.expires_at;
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_brings_a_retention_of_its_own",
        "R3",
        &["a_repeated_reserve_raises_the_end_by_the_stored_retention"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Operation::Reserve { request, .. }, Some((held, _))) =
                (call, again(record, &mut step, now))
            {
                held.expires_at = held.expires_at.max(held.lease_expires_at + request.terms.retention());
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_hears_no_checkpoint",
        "R3",
        &["a_repeated_reserve_brings_back_the_checkpoint"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((_, grant)) = again(record, &mut step, now) {
                grant.checkpoint = None;
            }
            step
        }),
    ),
    mutant(
        "a_lapsed_holders_repeated_reserve_counts_as_a_takeover",
        "R3",
        &["a_lapsed_holder_reserves_again_with_its_token"],
        Decides(|record, call, now| {
            let lapsed = pending(record, now).is_some_and(|p| p.is_lapsed(now));
            let mut step = state::step(record, call, now);
            if let Some((held, grant)) = again(record, &mut step, now).filter(|_| lapsed) {
                held.attempt += 1;
                grant.attempt = held.attempt;
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_unbegins",
        "R3",
        &["a_repeated_reserve_neither_begins_nor_unbegins"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((held, _)) = again(record, &mut step, now) {
                held.begun = false;
            }
            step
        }),
    ),
    mutant(
        "a_repeated_reserve_begins",
        "R3, fault 50",
        &["a_repeated_reserve_neither_begins_nor_unbegins"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((held, _)) = again(record, &mut step, now) {
                held.begun = true;
            }
            step
        }),
    ),
];
