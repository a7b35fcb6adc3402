//! Wrong in watch: Q2.

use oncekey_core::state::{Change, Record};
use oncekey_core::{Timestamp, Watch};

use crate::mutant::Wrong::{Wakes, WakesEarly, Watches};
use crate::mutant::{Mutant, mutant};
use crate::store::lock;

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "it_never_wakes",
        "Q2",
        &[
            "a_watch_completes_when_the_work_is_done",
            "a_watch_completes_when_the_holder_releases",
            "a_watch_completes_when_the_holder_hands_over",
            "a_watch_completes_when_an_operator_resolves",
            "a_watch_completes_when_the_record_is_purged",
            "all_who_wait_are_woken_to_the_answer",
            "a_slot_goes_round_to_all_who_wait",
        ],
        Watches(|_, _| Watch::never()),
    ),
    mutant(
        "a_client_wakes_its_own_callers_alone",
        "Q2",
        &["a_watch_completes_when_the_work_is_done", "all_who_wait_are_woken_to_the_answer"],
        Watches(|client, slot| client.watchers.watch(slot)),
    ),
    mutant(
        "one_may_watch_at_a_time",
        "Q2",
        &["all_who_wait_are_woken_to_the_answer", "a_slot_goes_round_to_all_who_wait"],
        Watches(|client, slot| match client.shared.watchers.is_empty() {
            true => client.shared.watchers.watch(slot),
            false => Watch::never(),
        }),
    ),
    mutant(
        "a_first_holder_alone_is_watched",
        "Q2",
        &["a_watch_completes_when_the_holder_releases", "a_slot_goes_round_to_all_who_wait"],
        Watches(|client, slot| match client.read(slot) {
            Some(Record::Pending(held)) if held.attempt > 1 => Watch::never(),
            _ => client.shared.watchers.watch(slot),
        }),
    ),
    mutant(
        "it_wakes_before_it_writes",
        "Q2",
        &["all_who_wait_are_woken_to_the_answer", "a_slot_goes_round_to_all_who_wait"],
        WakesEarly,
    ),
    mutant(
        "an_answer_wakes_nobody",
        "Q2, C1, O1",
        &["a_watch_completes_when_the_work_is_done", "a_watch_completes_when_an_operator_resolves"],
        Wakes(|change| change.wakes() && !matches!(change, Change::Put(Record::Completed(_)))),
    ),
    mutant(
        "a_release_wakes_nobody",
        "Q2, L1",
        &["a_watch_completes_when_the_holder_releases"],
        Wakes(|change| change.wakes() && !matches!(change, Change::Put(Record::Released(_)))),
    ),
    mutant(
        "a_record_that_stays_wakes_nobody",
        "Q2, L2, W4",
        &[
            "a_watch_completes_when_the_holder_releases",
            "a_watch_completes_when_the_holder_hands_over",
            "a_slot_goes_round_to_all_who_wait",
        ],
        Wakes(|change| change.wakes() && !matches!(change, Change::Put(Record::Pending(_)))),
    ),
    mutant(
        "a_purge_wakes_nobody",
        "Q2, O2",
        &["a_watch_completes_when_the_record_is_purged"],
        Wakes(|change| change.wakes() && *change != Change::Delete),
    ),
    mutant(
        "to_be_watched_ends_the_lease",
        "Q2",
        &["watching_changes_nothing"],
        Watches(|client, slot| {
            if let Some((_, Record::Pending(held))) = lock(&client.shared.records).get_mut(&client.key(slot))
            {
                held.lease_expires_at = Timestamp::ZERO;
            }
            client.shared.watchers.watch(slot)
        }),
    ),
];
