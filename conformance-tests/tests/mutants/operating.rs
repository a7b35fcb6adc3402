//! Wrong for operators: O1, O2, S11; and in lookup: Q1.

use std::time::Duration;

use oncekey_conformance::Capability;
use oncekey_core::state::{self, Answer, Change, Operation, Pending, Record, Step};
use oncekey_core::{
    Cursor, Finding, Page, Phase, Resolution, ResolveOutcome, ScanFilter, Severity, Stats, Summary,
    Timestamp, Token,
};

use crate::bend::{completing, ending, keep, pending, put, putting, releasing, shown};
use crate::mutant::Wrong::{Assesses, Counts, Decides, Lacks, Scans};
use crate::mutant::{Mutant, mutant};
use crate::store::page;

const HOUR: Duration = Duration::from_secs(3_600);

fn is_resolve(call: &Operation) -> bool {
    matches!(call, Operation::Resolve { .. })
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "an_operator_settles_a_live_holder",
        "O1, S1",
        &["a_live_holder_is_not_resolved"],
        Decides(|record, call, now| match (pending(record, now), call) {
            (Some(held), Operation::Resolve { seen, .. }) if held.fence == seen.fence => {
                let lapsed = shown(record, |p| p.lease_expires_at = Timestamp::ZERO);
                let mut call = call.clone();
                if let Operation::Resolve { seen, .. } = &mut call {
                    seen.lease_expires_at = Timestamp::ZERO;
                }
                if held.is_lapsed(now) {
                    state::step(record, &call, now)
                } else {
                    state::step(lapsed.as_ref(), &call, now)
                }
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "an_operator_needs_not_have_seen_the_lapse",
        "O1",
        &["a_holder_that_came_back_meanwhile_is_not_resolved"],
        Decides(|record, call, now| {
            let mut call = call.clone();
            if let (Some(held), Operation::Resolve { seen, .. }) = (pending(record, now), &mut call) {
                seen.lease_expires_at = held.lease_expires_at;
            }
            state::step(record, &call, now)
        }),
    ),
    mutant(
        "an_operator_needs_not_have_seen_the_fence",
        "O1, S2",
        &["a_second_hand_over_is_not_the_one_that_was_seen"],
        Decides(|record, call, now| {
            let mut call = call.clone();
            if let (Some(held), Operation::Resolve { seen, .. }) = (pending(record, now), &mut call)
                && held.lease_expires_at == seen.lease_expires_at
            {
                seen.fence = held.fence;
            }
            state::step(record, &call, now)
        }),
    ),
    mutant(
        "an_operators_answer_replaces_the_holders",
        "O1, S3",
        &["a_record_that_changed_meanwhile_is_not_resolved", "a_resolution_may_be_repeated"],
        Decides(|record, call, now| match (record, call) {
            (
                Some(Record::Completed(done)),
                Operation::Resolve { seen, resolution: Resolution::Complete(completion) },
            ) if done.record.fence == seen.fence => {
                let mut done = done.clone();
                done.record.response = completion.response().clone();
                put(Record::Completed(done), Answer::Resolve(ResolveOutcome::Resolved))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "an_operators_release_keeps_the_doubt",
        "O1",
        &["an_operator_releases_whatever_the_attempt"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(_)) =
                (is_resolve(call), pending(record, now), releasing(&mut step))
                && held.attempt > 1
            {
                let lapsed = Pending { lease_expires_at: Timestamp::ZERO, ..held.clone() };
                step.change = Change::Put(Record::Pending(lapsed));
            }
            step
        }),
    ),
    mutant(
        "an_operators_release_of_an_unknown_is_remembered_for_ever",
        "O1, fault 53",
        &["what_an_operator_released_ends"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(free)) =
                (is_resolve(call), pending(record, now), releasing(&mut step))
            {
                free.expires_at = held.expires_at;
            }
            step
        }),
    ),
    mutant(
        "an_unknown_settled_by_an_operator_ends_at_once",
        "O1, C2, fault 53",
        &["an_operator_settles_an_unknown"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(done)) =
                (is_resolve(call), pending(record, now), completing(&mut step))
                && held.expires_at == Timestamp::NEVER
            {
                done.record.expires_at = held.lease_expires_at + held.retention;
            }
            step
        }),
    ),
    mutant(
        "what_was_handed_over_is_not_for_operators",
        "O1, W4",
        &["an_operator_settles_what_was_handed_over"],
        Decides(|record, call, now| match pending(record, now) {
            Some(held) if is_resolve(call) && held.lease_expires_at == Timestamp::ZERO => {
                keep(Answer::Resolve(ResolveOutcome::NotLapsed))
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "an_operator_revives_an_ended_record",
        "O1",
        &["what_has_ended_is_not_resolved"],
        Decides(|record, call, now| {
            let living = ending(record, |end| end.max(now + HOUR));
            state::step(if is_resolve(call) { living.as_ref() } else { record }, call, now)
        }),
    ),
    mutant(
        "a_repeated_resolution_has_changed",
        "O1, S6",
        &["a_resolution_may_be_repeated"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Answer::Resolve(ResolveOutcome::AlreadyDone) = step.answer {
                step.answer = Answer::Resolve(ResolveOutcome::Changed);
            }
            step
        }),
    ),
    mutant(
        "an_operators_answer_takes_the_token",
        "O1",
        &["the_silent_holder_hears_the_operators_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(done)) = (is_resolve(call), completing(&mut step)) {
                done.token = Token::from_bytes([0; 16]);
            }
            step
        }),
    ),
    mutant(
        "an_operators_answer_is_kept_no_longer",
        "O1, C2",
        &["a_resolution_is_kept_as_a_late_answer"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(done)) =
                (is_resolve(call), pending(record, now), completing(&mut step))
                && held.expires_at != Timestamp::NEVER
            {
                done.record.expires_at = held.expires_at.min(done.record.expires_at);
            }
            step
        }),
    ),
    mutant(
        "an_operators_own_retention_is_ignored",
        "O1, C5",
        &["a_resolution_may_say_how_long_it_is_kept"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (true, Some(held), Some(done)) =
                (is_resolve(call), pending(record, now), completing(&mut step))
            {
                done.record.expires_at = now + held.retention;
            }
            step
        }),
    ),
    mutant(
        "purge_asks_for_no_fence",
        "O2",
        &["purge_spares_a_record_of_another_fence"],
        Decides(|record, call, now| match (record, call) {
            (Some(_), Operation::Purge { .. }) => {
                Step { change: Change::Delete, answer: Answer::Purge(true) }
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "purge_spares_what_was_released",
        "O2",
        &["purge_deletes_whatever_the_state"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Released(_)), Operation::Purge { .. }) => keep(Answer::Purge(false)),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "purge_spares_a_live_holder",
        "O2",
        &["purge_deletes_whatever_the_state"],
        Decides(|record, call, now| match (pending(record, now), call) {
            (Some(held), Operation::Purge { .. }) if !held.is_lapsed(now) => keep(Answer::Purge(false)),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "purge_says_that_it_deletes_and_keeps",
        "O2",
        &[
            "purge_deletes_whatever_the_state",
            "operators_among_callers_have_an_order",
            "sequences_with_operators_answer_as_the_state_machine",
        ],
        Decides(|record, call, now| match call {
            Operation::Purge { .. } => keep(state::step(record, call, now).answer),
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_scan_begins_again_where_it_ended",
        "O2",
        &["a_scan_shows_each_record_once"],
        Scans(|records, request, now| {
            // The cursor's own record once more: the key before it is the cursor.
            let mut request = request.clone();
            request.after = request.after.map(|after| {
                let mut before = after.as_bytes().to_vec();
                before.pop();
                Cursor::from_bytes(before)
            });
            page(records, &request, |slot, record| Summary::of(slot, record, now, request.filter))
        }),
    ),
    mutant(
        "a_scan_counts_from_the_start",
        "O2",
        &["a_scan_goes_on_through_changes"],
        Scans(|records, request, now| {
            let from = request.after.as_ref().map_or(0, |after| after.as_bytes().len());
            let all = records.values().filter_map(|(slot, r)| Summary::of(slot, r, now, request.filter));
            let limit = request.limit.get() as usize;
            let all: Vec<_> = all.collect();
            let to = (from + limit).min(all.len());
            let next = (to < all.len()).then(|| Cursor::from_bytes(vec![0; to]));
            Page::new(all[from.min(to)..to].to_vec(), next)
        }),
    ),
    mutant(
        "a_scans_page_is_over_its_limit",
        "O2",
        &["a_scan_shows_each_record_once"],
        Scans(|records, request, now| {
            let mut request = request.clone();
            request.limit = request.limit.saturating_add(1);
            page(records, &request, |slot, record| Summary::of(slot, record, now, request.filter))
        }),
    ),
    mutant(
        "a_scans_order_hangs_on_its_pages",
        "O2",
        &["a_scan_has_the_same_order_each_time"],
        Scans(|records, request, now| {
            let mut page = page(records, request, |slot, r| Summary::of(slot, r, now, request.filter));
            page.summaries.reverse();
            page
        }),
    ),
    mutant(
        "a_scan_shows_all_whatever_was_asked_for",
        "O2",
        &["a_scan_shows_what_its_filter_asks_for"],
        Scans(|records, request, now| {
            page(records, request, |slot, record| Summary::of(slot, record, now, ScanFilter::All))
        }),
    ),
    mutant(
        "a_scan_shows_what_has_ended",
        "O2",
        &["a_scan_shows_nothing_that_is_absent"],
        Scans(|records, request, now| {
            page(records, request, |slot, record| {
                let living = ending(Some(record), |end| end.max(now + HOUR));
                living.and_then(|record| Summary::of(slot, &record, now, request.filter))
            })
        }),
    ),
    mutant(
        "a_scan_takes_what_was_begun_for_lapsed",
        "O2",
        &["a_scan_says_what_lookup_says"],
        Scans(|records, request, now| {
            page(records, request, |slot, record| {
                let mut summary = Summary::of(slot, record, now, request.filter)?;
                if let Phase::Pending { begun, lapsed, .. } = &mut summary.phase {
                    *lapsed = *begun;
                }
                Some(summary)
            })
        }),
    ),
    mutant(
        "a_scan_renews_what_it_shows",
        "O2",
        &["a_scan_changes_nothing"],
        Scans(|records, request, now| {
            let seen = page(records, request, |slot, r| Summary::of(slot, r, now, request.filter));
            for (_, record) in records.values_mut() {
                if let Record::Pending(held) = record {
                    held.lease_expires_at = held.lease_expires_at + HOUR;
                }
            }
            seen
        }),
    ),
    mutant(
        "the_lapsed_are_counted_as_live",
        "O2",
        &["stats_count_each_kind"],
        Counts(|records, now| {
            let mut stats = Stats::default();
            records.values().for_each(|(_, record)| stats.count(record, now));
            stats.live += stats.lapsed;
            stats.lapsed = 0;
            stats
        }),
    ),
    mutant(
        "the_released_are_not_counted",
        "O2",
        &["stats_count_each_kind"],
        Counts(|records, now| {
            let mut stats = Stats::default();
            records.values().for_each(|(_, record)| stats.count(record, now));
            stats.released = 0;
            stats
        }),
    ),
    mutant(
        "a_finding_says_nothing",
        "S11",
        &["assess_finds_and_says"],
        Assesses(|| vec![Finding::new("test.durability", Severity::Danger, "")]),
    ),
    mutant(
        "what_it_lacks_answers_all_the_same",
        "S7, O2",
        &["what_is_lacking_answers_unsupported"],
        Lacks(Capability::Purge),
    ),
    mutant(
        "lookup_shows_what_was_released",
        "Q1",
        &["a_first_holder_releases", "a_released_token_is_spent"],
        Decides(|record, call, now| match (record, call) {
            (Some(Record::Released(free)), Operation::Lookup) if free.expires_at > now => {
                let held = Pending {
                    fingerprint: oncekey_core::Fingerprint::from_bytes([1; 32]),
                    token: free.token,
                    fence: free.fence,
                    attempt: 1,
                    checkpoint: None,
                    begun: false,
                    policy: oncekey_core::Policy::TakeOver,
                    retention: HOUR,
                    created_at: now,
                    lease_expires_at: Timestamp::ZERO,
                    expires_at: free.expires_at,
                };
                state::step(Some(&Record::Pending(held)), call, now)
            }
            _ => state::step(record, call, now),
        }),
    ),
    mutant(
        "a_look_begins",
        "Q1",
        &["lookup_changes_nothing"],
        Decides(|record, call, now| {
            let step = state::step(record, call, now);
            match (call, shown(record, |p| p.begun = true)) {
                (Operation::Lookup, Some(begun)) => put(begun, step.answer),
                _ => step,
            }
        }),
    ),
    mutant(
        "a_look_at_nothing_leaves_a_row",
        "Q1",
        &["lookup_finds_nothing_where_nothing_is"],
        Decides(|record, call, now| match (record, call) {
            (None, Operation::Lookup) => {
                let terms = oncekey_core::Terms::default();
                let fingerprint = oncekey_core::Fingerprint::from_bytes([1; 32]);
                let request = oncekey_core::ReserveRequest::new(fingerprint, terms);
                let ghost = Operation::Reserve { token: Token::from_bytes([0; 16]), request };
                let mut step = state::step(None, &ghost, now);
                if let Some(row) = putting(&mut step) {
                    row.lease_expires_at = Timestamp::ZERO;
                }
                Step { change: step.change, answer: Answer::Lookup(None) }
            }
            _ => state::step(record, call, now),
        }),
    ),
];
