//! Wrong where calls meet: R7, R8, S9. Between its steps a store lets others in, as a network or a thread
//! would.

use std::sync::atomic::Ordering;

use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{Effect, ErrorKind, Grant, Policy, ReservationOutcome, Slot, StoreError, Timestamp};
use tokio::sync::oneshot;

use crate::bend::pending;
use crate::mutant::Wrong::Calls;
use crate::mutant::{Mutant, mutant};
use crate::store::{Client, lock};

/// Reads, lets others in, and writes what was decided on what it read.
async fn torn(client: &Client, slot: &Slot, call: &Operation) -> Answer {
    let (seen, now) = (client.read(slot), client.now());
    client.pause().await;
    let step = state::step(seen.as_ref(), call, now);
    client.write(slot, step.change);
    step.answer
}

/// Reads, lets others in, and decides again if what it read `is_stale`.
async fn rechecked(
    client: &Client,
    slot: &Slot,
    call: &Operation,
    is_stale: fn(&Option<Record>, &Option<Record>) -> bool,
) -> Answer {
    let (seen, now) = (client.read(slot), client.now());
    client.pause().await;
    client.step_by(slot, |record, later| {
        if is_stale(&seen, &record.cloned()) {
            state::step(record, call, later)
        } else {
            state::step(seen.as_ref(), call, now)
        }
    })
}

fn refused(message: &str) -> StoreError {
    StoreError::new(ErrorKind::Other, "reserve_or_fetch", Effect::NotApplied, message)
}

fn is_reserve(call: &Operation) -> bool {
    matches!(call, Operation::Reserve { .. })
}

fn is_ended(record: Option<&Record>, now: Timestamp) -> bool {
    record.is_some_and(|record| record.is_expired(now))
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "it_reads_then_writes",
        "R7, S9",
        &["concurrent_calls_have_an_order", "a_swarm_does_each_of_many_things_once"],
        Calls(|client, slot, call| Box::pin(async move { Ok(torn(client, slot, call).await) })),
    ),
    mutant(
        "it_checks_then_inserts",
        "R7, fault 6",
        &[
            "of_many_callers_of_an_absent_slot_one_is_granted",
            "of_many_requests_under_one_key_one_is_granted",
        ],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if is_reserve(call) && client.read(slot).is_none() {
                    return Ok(torn(client, slot, call).await);
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "it_checks_then_replaces_what_has_ended",
        "R7, fault 6",
        &["of_many_callers_of_an_ended_record_one_is_granted"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if is_reserve(call) && is_ended(client.read(slot).as_ref(), client.now()) {
                    return Ok(torn(client, slot, call).await);
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "it_checks_then_takes_what_was_released",
        "R7, L1",
        &["of_many_callers_of_a_released_slot_one_is_granted"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if is_reserve(call) && matches!(client.read(slot), Some(Record::Released(_))) {
                    return Ok(torn(client, slot, call).await);
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "it_checks_then_takes_over",
        "R7, R5, S1",
        &[
            "of_many_callers_of_a_lapsed_slot_one_takes_over",
            "concurrent_calls_have_an_order_while_leases_end",
        ],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let seen = client.read(slot);
                let lapsed = pending(seen.as_ref(), client.now()).is_some_and(|p| p.is_lapsed(client.now()));
                if is_reserve(call) && lapsed {
                    return Ok(torn(client, slot, call).await);
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_takeover_rechecks_the_token_alone",
        "R8, S1, fault 49",
        &["a_renewal_and_takeovers_have_one_winner"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if !is_reserve(call) {
                    return Ok(client.step(slot, call));
                }
                Ok(rechecked(client, slot, call, |seen, record| match (seen, record) {
                    (Some(Record::Pending(seen)), Some(Record::Pending(held))) => {
                        (seen.token, seen.fence) != (held.token, held.fence)
                    }
                    (seen, record) => seen != record,
                })
                .await)
            })
        }),
    ),
    mutant(
        "two_copies_of_a_call_are_two_grants_if_they_meet",
        "R7, R3, S6, fault 26",
        &["copies_of_one_call_are_granted_once"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let Operation::Reserve { token, .. } = call else { return Ok(client.step(slot, call)) };
                Ok(rechecked(client, slot, call, |seen, record| seen.is_some() || record.is_none()).await)
                    .map(|answer| match answer {
                        Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) if grant.token != *token => {
                            Answer::Reserve(Ok(ReservationOutcome::Conflict))
                        }
                        answer => answer,
                    })
            })
        }),
    ),
    mutant(
        "complete_checks_then_writes",
        "R8, C2, S2, S3",
        &[
            "of_many_completions_of_one_grant_the_first_stays",
            "a_late_completion_and_takeovers_have_one_winner",
        ],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match call {
                    Operation::Complete { .. } => Ok(torn(client, slot, call).await),
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
    mutant(
        "renew_writes_the_whole_record_back",
        "R8, W1",
        &["of_many_checkpoints_the_highest_stays"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match call {
                    Operation::Renew { .. } => Ok(torn(client, slot, call).await),
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
    mutant(
        "release_checks_then_writes",
        "R8, L1, S2",
        &["a_late_release_and_takeovers_have_one_winner"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match call {
                    Operation::Release { .. } => Ok(torn(client, slot, call).await),
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
    mutant(
        "resolve_checks_then_writes",
        "O1, R8",
        &["an_operator_and_the_holder_have_one_winner"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                match call {
                    Operation::Resolve { .. } => Ok(torn(client, slot, call).await),
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
    mutant(
        "whoever_finds_the_holder_gone_works_without_a_reservation",
        "R8, fault 15",
        &["callers_during_a_release_are_granted_once_at_most"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let answer = client.step(slot, call);
                let Operation::Reserve { token, .. } = call else { return Ok(answer) };
                if let Answer::Reserve(Ok(ReservationOutcome::InFlight(_))) = answer {
                    client.pause().await;
                    if let Some(Record::Released(free)) = client.read(slot) {
                        let grant = Grant::new(*token, free.fence, 1, Policy::TakeOver, None);
                        return Ok(Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))));
                    }
                }
                Ok(answer)
            })
        }),
    ),
    mutant(
        "a_duplicate_key_reaches_the_caller",
        "S7, fault 22",
        &["of_many_callers_of_an_absent_slot_one_is_granted"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if is_reserve(call) && client.read(slot).is_none() {
                    client.pause().await;
                    if client.read(slot).is_some() {
                        return Err(refused("duplicate key value violates unique constraint"));
                    }
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_serialization_failure_reaches_the_caller",
        "S7, fault 28",
        &["of_many_callers_of_a_lapsed_slot_one_takes_over"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let seen = client.read(slot);
                client.pause().await;
                if seen.is_some() && client.read(slot) != seen {
                    return Err(refused("could not serialize access due to concurrent update"));
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_busy_store_says_so",
        "S7, fault 29",
        &["a_swarm_does_each_of_many_things_once"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let Ok(_turn) = client.shared.turn.try_acquire() else {
                    let (kind, effect) = (ErrorKind::Unavailable, Effect::NotApplied);
                    return Err(StoreError::new(kind, "call", effect, "database is locked"));
                };
                client.pause().await;
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_read_takes_the_clock_after_its_snapshot",
        "S9, fault 48",
        &["a_holder_that_renews_in_time_never_looks_lapsed"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let seen = client.read(slot);
                client.pause().await;
                let late = state::step(seen.as_ref(), call, client.now());
                match late.change {
                    Change::Keep => Ok(late.answer),
                    // A write decides again, where it writes.
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
    mutant(
        "a_client_remembers_what_it_read",
        "S9",
        &["every_client_sees_what_another_did", "a_grant_is_good_through_every_client"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let seen = lock(&client.own).get(&client.key(slot)).cloned();
                let step =
                    state::step(seen.unwrap_or_else(|| client.read(slot)).as_ref(), call, client.now());
                let answer = match step.change {
                    Change::Keep => step.answer,
                    _ => client.step(slot, call),
                };
                lock(&client.own).insert(client.key(slot), client.read(slot));
                Ok(answer)
            })
        }),
    ),
    mutant(
        "a_look_reads_from_a_replica_that_lags",
        "S9",
        &["every_client_sees_what_another_did", "lookup_shows_the_life_of_a_record"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if let Operation::Lookup = call {
                    let seen = lock(&client.own).get(&client.key(slot)).cloned().flatten();
                    lock(&client.own).insert(client.key(slot), client.read(slot));
                    return Ok(state::step(seen.as_ref(), call, client.now()).answer);
                }
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "it_answers_before_it_has_written",
        "S9, trap 1",
        &["every_client_sees_what_another_did"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let step = state::step(client.read(slot).as_ref(), call, client.now());
                if step.change != Change::Keep {
                    let (shared, key, slot) = (client.shared.clone(), client.key(slot), slot.clone());
                    drop(tokio::spawn(async move {
                        for _ in 0..200 {
                            tokio::task::yield_now().await;
                        }
                        if let Change::Put(record) = step.change {
                            lock(&shared.records).insert(key, (slot, record));
                        }
                    }));
                }
                Ok(step.answer)
            })
        }),
    ),
    mutant(
        "every_fifth_write_is_answered_and_lost",
        "S9, S11, traps 1 and 4, fault 31",
        &["every_client_sees_what_another_did", "a_swarm_does_each_of_many_things_once"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                Ok(client.step_by(slot, |record, now| {
                    let mut step = state::step(record, call, now);
                    let count = &client.shared.count;
                    if step.change != Change::Keep && count.fetch_add(1, Ordering::SeqCst) % 5 == 4 {
                        step.change = Change::Keep;
                    }
                    step
                }))
            })
        }),
    ),
    mutant(
        "a_batch_answers_the_wrong_callers",
        "R7, S5, S9",
        &["a_swarm_does_each_of_many_things_once"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                if !is_reserve(call) {
                    return Ok(client.step(slot, call));
                }
                let (tell, told) = oneshot::channel();
                let waiting = (slot.clone(), call.clone(), tell);
                let leads = {
                    let mut batch = lock(&client.shared.batch);
                    batch.push(waiting);
                    batch.len() == 1
                };
                if leads {
                    client.pause().await;
                    let batch = std::mem::take(&mut *lock(&client.shared.batch));
                    let mut answers: Vec<_> =
                        batch.iter().map(|(slot, call, _)| client.step(slot, call)).collect();
                    answers.rotate_left(1);
                    for ((_, _, tell), answer) in batch.into_iter().zip(answers) {
                        let _gone = tell.send(answer);
                    }
                }
                told.await.map_err(|_| refused("the batch is gone"))
            })
        }),
    ),
    mutant(
        "a_try_that_was_given_up_is_granted_to_nobody",
        "S9, S6, faults 27 and 58",
        &[
            "sequences_of_calls_answer_as_the_state_machine",
            "of_many_callers_of_a_released_slot_one_is_granted",
        ],
        Calls(|client, slot, call| {
            Box::pin(async move {
                // Tries of this slot that were in flight arrive now, if it is free.
                let arrives = |(at, _): &mut (Slot, Operation)| {
                    at == slot && matches!(client.read(slot), Some(Record::Released(_)))
                };
                let late: Vec<_> = lock(&client.shared.late).extract_if(.., arrives).collect();
                for (slot, late) in late {
                    client.step(&slot, &late);
                }
                let answer = client.step(slot, call);
                if let Answer::Reserve(Ok(ReservationOutcome::InFlight(_))) = answer {
                    lock(&client.shared.late).push((slot.clone(), call.clone()));
                }
                Ok(answer)
            })
        }),
    ),
];
