//! Wrong where calls are dropped, fail on the way, or never end: S5, S6, S7, S8.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{Effect, ErrorKind, ReservationOutcome, StoreError, StoredResponse, Token};

use crate::mutant::Wrong::{Calls, Fails, Hangs};
use crate::mutant::{Mutant, mutant};
use crate::store::{Client, lock};

/// Does something if it is dropped before it is disarmed: the call was dropped on its way.
struct Dropped<F: FnMut()> {
    then: F,
    armed: bool,
}

impl<F: FnMut()> Dropped<F> {
    fn then(then: F) -> Self {
        Self { then, armed: true }
    }

    fn disarm(mut self) {
        self.armed = false;
    }
}

impl<F: FnMut()> Drop for Dropped<F> {
    fn drop(&mut self) {
        if self.armed {
            (self.then)();
        }
    }
}

/// Every other call that may fail does.
fn fails(client: &Client) -> bool {
    client.shared.faulty.load(Ordering::SeqCst)
        && client.shared.count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
}

fn cut_off(operation: &'static str, effect: Effect) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, operation, effect, "the connection was cut")
}

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a_dropped_call_leaves_its_transaction_open",
        "S8, trap 2",
        &["a_storm_of_dropped_calls_poisons_no_client"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let apart: Arc<AtomicBool> = Arc::clone(&client.apart);
                let dropped = Dropped::then(move || apart.store(true, Ordering::SeqCst));
                client.pause().await;
                dropped.disarm();
                if !client.apart.load(Ordering::SeqCst) {
                    return Ok(client.step(slot, call));
                }
                // Inside a transaction that nobody commits, everything seems to succeed.
                let seen = lock(&client.own).get(&client.key(slot)).cloned();
                let step =
                    state::step(seen.unwrap_or_else(|| client.read(slot)).as_ref(), call, client.now());
                if let Change::Put(record) = step.change {
                    lock(&client.own).insert(client.key(slot), Some(record));
                }
                Ok(step.answer)
            })
        }),
    ),
    mutant(
        "a_dropped_complete_leaves_half_an_answer",
        "S8, S3",
        &["a_dropped_complete_may_be_made_again"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let Operation::Complete { .. } = call else { return Ok(client.step(slot, call)) };
                let answer = client.step_by(slot, |record, now| {
                    let mut step = state::step(record, call, now);
                    if let Change::Put(Record::Completed(done)) = &mut step.change {
                        done.record.response = StoredResponse::new(200, "", "");
                    }
                    step
                });
                client.pause().await;
                let whole = client.read(slot);
                if let (
                    Some(Record::Completed(mut done)),
                    Operation::Complete { completion, .. },
                    Answer::Complete(oncekey_core::CompleteOutcome::Stored),
                ) = (whole, call, &answer)
                {
                    done.record.response = completion.response().clone();
                    client.write(slot, Change::Put(Record::Completed(done)));
                }
                Ok(answer)
            })
        }),
    ),
    mutant(
        "a_dropped_reserve_spends_its_token",
        "S8, S6",
        &["a_dropped_reserve_may_be_made_again"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let Operation::Reserve { token, .. } = call else { return Ok(client.step(slot, call)) };
                let spent = || {
                    let step = state::step(client.read(slot).as_ref(), call, client.now());
                    if let (Change::Put(Record::Pending(held)), None) = (step.change, client.read(slot)) {
                        let (fence, expires_at) = (held.fence, held.expires_at);
                        let free = state::Released { token: *token, fence, expires_at };
                        client.write(slot, Change::Put(Record::Released(free)));
                    }
                };
                let dropped = Dropped::then(spent);
                client.pause().await;
                dropped.disarm();
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_dropped_call_is_applied_to_what_was_there",
        "S8, S9",
        &["dropped_calls_happen_once_later_or_never"],
        Calls(|client, slot, call| {
            Box::pin(async move {
                let seen = client.read(slot);
                let decided = state::step(seen.as_ref(), call, client.now());
                let (shared, key) = (Arc::clone(&client.shared), client.key(slot));
                let (late, at) = (decided.change, slot.clone());
                let dropped = Dropped::then(move || {
                    let (shared, key, late, at) =
                        (Arc::clone(&shared), key.clone(), late.clone(), at.clone());
                    drop(tokio::spawn(async move {
                        for _ in 0..20 {
                            tokio::task::yield_now().await;
                        }
                        if let Change::Put(record) = late {
                            lock(&shared.records).insert(key, (at, record));
                        }
                    }));
                });
                client.pause().await;
                dropped.disarm();
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_dropped_call_keeps_its_connection",
        "S8, fault 32",
        &["a_storm_of_dropped_calls_poisons_no_client"],
        Hangs(|client, slot, call| {
            Box::pin(async move {
                if let Ok(permit) = client.permits.acquire().await {
                    permit.forget();
                }
                client.pause().await;
                client.permits.add_permits(1);
                Ok(client.step(slot, call))
            })
        }),
    ),
    mutant(
        "a_reservation_locks_the_whole_store",
        "S5, fault 18",
        &["a_reservation_held_makes_nobody_else_wait"],
        Hangs(|client, slot, call| {
            Box::pin(async move {
                let reserves = matches!(call, Operation::Reserve { .. });
                if reserves && let Ok(turn) = client.shared.turn.acquire().await {
                    turn.forget();
                }
                let answer = client.step(slot, call);
                let held = matches!(answer, Answer::Reserve(Ok(ReservationOutcome::Reserved(_))));
                let settles = matches!(call, Operation::Complete { .. } | Operation::Release { .. });
                if settles || (reserves && !held) {
                    client.shared.turn.add_permits(1);
                }
                Ok(answer)
            })
        }),
    ),
    mutant(
        "a_reserve_cut_off_had_no_effect_it_says",
        "S7, fault 26",
        &["a_reserve_that_failed_says_whether_it_had_an_effect"],
        Fails(|client, slot, call| {
            Box::pin(async move {
                let answer = client.step(slot, call);
                match call {
                    Operation::Reserve { .. } if fails(client) => {
                        Err(cut_off("reserve_or_fetch", Effect::NotApplied))
                    }
                    _ => Ok(answer),
                }
            })
        }),
    ),
    mutant(
        "a_complete_cut_off_had_no_effect_it_says",
        "S7, fault 34",
        &["a_complete_that_failed_says_whether_it_had_an_effect"],
        Fails(|client, slot, call| {
            Box::pin(async move {
                let answer = client.step(slot, call);
                match call {
                    Operation::Complete { .. } if fails(client) => {
                        Err(cut_off("complete", Effect::NotApplied))
                    }
                    _ => Ok(answer),
                }
            })
        }),
    ),
    mutant(
        "a_reserve_is_tried_again_under_another_token",
        "S6, fault 26",
        &[
            "a_swarm_whose_calls_fail_does_each_thing_once",
            "a_reserve_that_failed_says_whether_it_had_an_effect",
        ],
        Fails(|client, slot, call| {
            Box::pin(async move {
                let answer = client.step(slot, call);
                match call {
                    Operation::Reserve { request, .. } if fails(client) => {
                        let again = Operation::Reserve { token: Token::fresh(), request: *request };
                        Ok(client.step(slot, &again))
                    }
                    _ => Ok(answer),
                }
            })
        }),
    ),
    mutant(
        "an_answer_lost_on_the_way_is_made_up",
        "S6, S7, fault 21",
        &[
            "a_swarm_whose_calls_fail_does_each_thing_once",
            "a_complete_that_failed_says_whether_it_had_an_effect",
        ],
        Fails(|client, slot, call| {
            Box::pin(async move {
                match call {
                    Operation::Complete { .. } if fails(client) => {
                        Ok(Answer::Complete(oncekey_core::CompleteOutcome::Stored))
                    }
                    _ => Ok(client.step(slot, call)),
                }
            })
        }),
    ),
];
