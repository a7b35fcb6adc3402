//! Wrong in time and its end: S4, G1, G2, R8, and the clock.

use std::time::Duration;

use oncekey_core::Fence;
use oncekey_core::state::{self, Record};

use crate::bend::{first, granting, over};
use crate::mutant::Wrong::{Collects, Decides, StandsStill};
use crate::mutant::{Mutant, mutant};
use crate::store::lock;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a_fence_is_the_clock_alone",
        "S4, fault 46",
        &[
            "fences_rise_through_a_release_on_a_clock_that_steps_back",
            "fences_rise_through_takeover_on_a_clock_that_steps_back",
        ],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            let held = record.map(Record::fence);
            if let Some((new, grant)) = granting(&mut step).filter(|(new, _)| held != Some(new.fence)) {
                new.fence = Fence::new(now.as_micros());
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "what_was_released_has_no_fence",
        "S4, fault 46",
        &["fences_rise_through_a_release_on_a_clock_that_steps_back"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Released(_)), Some((new, grant))) = (record, first(record, &mut step, now)) {
                new.fence = Fence::new(now.as_micros());
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "what_has_ended_has_no_fence",
        "S4",
        &["fences_rise_through_an_end_on_a_clock_that_steps_back"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let (Some(Record::Pending(_)), Some((new, grant))) = (record, first(record, &mut step, now)) {
                new.fence = Fence::new(now.as_micros());
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "fences_are_counted_from_one",
        "S4, fault 25",
        &["a_fence_is_at_least_the_stores_clock", "fences_rise_through_completion_and_collection"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            let last = record.map_or(0, |record| record.fence().get());
            if let Some((new, grant)) = granting(&mut step).filter(|(new, _)| new.fence.get() != last) {
                new.fence = Fence::new(last + 1);
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "fences_begin_anew_with_each_record",
        "S4, fault 25",
        &["an_ended_answer_is_absent", "fences_rise_through_release"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = first(record, &mut step, now) {
                (new.fence, grant.fence) = (Fence::new(1), Fence::new(1));
            }
            step
        }),
    ),
    mutant(
        "a_fence_loses_its_last_digits",
        "S4",
        &["fences_rise_through_release"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            let held = record.map(Record::fence);
            if let Some((new, grant)) = granting(&mut step).filter(|(new, _)| held != Some(new.fence)) {
                new.fence = Fence::new(new.fence.get() / 10_000 * 10_000);
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "a_takeovers_fence_is_in_milliseconds",
        "S4, S2",
        &["a_lapsed_holder_is_taken_over", "a_slot_has_one_holder_at_a_time"],
        Decides(|record, call, now| {
            let mut step = state::step(record, call, now);
            if let Some((new, grant)) = over(record, &mut step, now) {
                new.fence = Fence::new(now.as_micros() / 1_000);
                grant.fence = new.fence;
            }
            step
        }),
    ),
    mutant(
        "the_clock_stands_still",
        "S1, trap 3",
        &["time_moves_as_the_harness_says", "time_moves_for_every_client"],
        StandsStill,
    ),
    mutant(
        "collection_knows_no_limit",
        "G1",
        &["collection_deletes_at_most_its_limit"],
        Collects(|client, _| Box::pin(async move { Ok(client.collect(usize::MAX, Record::is_expired)) })),
    ),
    mutant(
        "collection_counts_its_limit",
        "G1",
        &["collection_of_nothing_counts_nothing"],
        Collects(|client, limit| {
            Box::pin(async move {
                client.collect(limit, Record::is_expired);
                Ok(limit as u64)
            })
        }),
    ),
    mutant(
        "collection_counts_what_it_saw",
        "G1",
        &["collection_of_nothing_counts_nothing"],
        Collects(|client, limit| {
            Box::pin(async move {
                let seen = lock(&client.shared.records).len().min(limit);
                client.collect(limit, Record::is_expired);
                Ok(seen as u64)
            })
        }),
    ),
    mutant(
        "collection_ends_before_its_limit",
        "G1",
        &["collection_empties_the_store"],
        Collects(|client, limit| {
            Box::pin(async move { Ok(client.collect((limit - 1).max(1), Record::is_expired)) })
        }),
    ),
    mutant(
        "collection_takes_the_lapsed",
        "G1, fault 30",
        &["collection_touches_nothing_that_lives", "collection_beside_takeovers"],
        Collects(|client, limit| {
            Box::pin(async move {
                Ok(client.collect(limit, |record, now| match record {
                    Record::Pending(held) => held.is_lapsed(now),
                    other => other.is_expired(now),
                }))
            })
        }),
    ),
    mutant(
        "collection_takes_what_ends_soon",
        "G1, G2",
        &["collection_spares_what_ends_soon"],
        Collects(|client, limit| {
            Box::pin(async move { Ok(client.collect(limit, |record, now| record.is_expired(now + MINUTE))) })
        }),
    ),
    mutant(
        "collection_takes_what_was_released",
        "G1, G2, R11",
        &["collection_touches_nothing_that_lives", "collection_deletes_what_was_released_once_it_has_ended"],
        Collects(|client, limit| {
            Box::pin(async move {
                Ok(client.collect(limit, |record, now| {
                    record.is_expired(now) || matches!(record, Record::Released(_))
                }))
            })
        }),
    ),
    mutant(
        "collection_leaves_what_was_released",
        "G1",
        &["collection_deletes_what_was_released_once_it_has_ended"],
        Collects(|client, limit| {
            Box::pin(async move {
                Ok(client.collect(limit, |record, now| {
                    record.is_expired(now) && !matches!(record, Record::Released(_))
                }))
            })
        }),
    ),
    mutant(
        "collection_leaves_the_finished",
        "G1",
        &["collection_deletes_what_has_ended"],
        Collects(|client, limit| {
            Box::pin(async move {
                Ok(client.collect(limit, |record, now| {
                    record.is_expired(now) && !matches!(record, Record::Completed(_))
                }))
            })
        }),
    ),
    mutant(
        "collection_takes_unknowns",
        "G1, W1",
        &["an_unknown_never_expires"],
        Collects(|client, limit| {
            Box::pin(async move {
                Ok(client.collect(limit, |record, now| match record {
                    Record::Pending(held) => {
                        held.lease_expires_at + held.retention <= now && held.is_lapsed(now)
                    }
                    other => other.is_expired(now),
                }))
            })
        }),
    ),
    mutant(
        "collection_deletes_by_key_what_it_saw_ended",
        "G2, R8, fault 30",
        &["collection_beside_reserves_of_an_ended_record"],
        Collects(|client, limit| {
            Box::pin(async move {
                let now = client.now();
                let ended = |(_, (_, record)): &(&Vec<u8>, &(_, Record))| record.is_expired(now);
                let ended: Vec<_> = {
                    let records = lock(&client.shared.records);
                    records.iter().filter(ended).map(|(key, _)| key.clone()).take(limit).collect()
                };
                client.pause().await;
                let mut records = lock(&client.shared.records);
                Ok(ended.iter().filter(|key| records.remove(*key).is_some()).count() as u64)
            })
        }),
    ),
];
