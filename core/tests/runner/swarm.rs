//! Many callers, few slots, a store that fails at random: what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

const SLOTS: u64 = 4;
const CALLERS: u64 = 24;

/// What was begun, and what was said, by slot.
#[derive(Default)]
struct Seen {
    began: BTreeMap<u64, usize>,
    /// The answers that are kept, as their callers heard them.
    kept: BTreeMap<u64, BTreeSet<Vec<u8>>>,
}

fn random_odds() -> Odds {
    Odds::none().refused(0.1).answer_lost(0.1).late(0.1).ghost(0.1)
}

async fn swarm(seed: u64, runner: fn(Faulty<Timed>) -> Idempotency) -> (Faulty<Timed>, Idempotency, Seen) {
    let store = Faulty::seeded(Timed::new(), seed);
    store.odds(Method::ALL, random_odds());
    let runner = runner(store.clone());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (name, seen, runner) = (random.u64(0..SLOTS), Arc::clone(&seen), runner.clone());
        let (start, lasts, ending) = (random.u64(0..90_000), random.u64(0..45_000), random.u8(0..10));
        callers.push(tokio::spawn(async move {
            pass(Duration::from_millis(start)).await;
            let slot = Principal::new("swarm").unwrap().slot(format!("{name}")).unwrap();
            let began = Arc::clone(&seen);
            let ran =
                runner.call(&slot, meaning()).wait_up_to(Duration::from_secs(20)).run(async move |_| {
                    *began.lock().unwrap().began.entry(name).or_default() += 1;
                    pass(Duration::from_millis(lasts)).await;
                    match ending {
                        0 => Err(Broken),
                        1 => panic!("at random, on purpose"),
                        _ => Ok(format!("caller {caller}").into_bytes()),
                    }
                });
            // One in ten goes away.
            let patience = if ending == 2 { Duration::from_secs(5) } else { Duration::MAX };
            let ran = tokio::time::timeout(patience, ran).await;
            if let Ok(Ok(RunOutcome::Done { value, how: How::Ran | How::Replayed | How::Superseded })) = ran {
                seen.lock().unwrap().kept.entry(name).or_default().insert(value);
            }
        }));
    }
    for (nth, caller) in callers.into_iter().enumerate() {
        if nth % 4 == 0 {
            store.deliver_late().await;
        }
        caller.await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    // What goes on without its caller ends; then every ghost arrives.
    pass(Duration::from_secs(600)).await;
    store.odds(Method::ALL, Odds::none());
    store.deliver_late().await;
    pass(2 * LEASE).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (store, runner, seen)
}

async fn last_word(runner: &Idempotency, name: u64) -> RunOutcome<Vec<u8>> {
    let slot = Principal::new("swarm").unwrap().slot(format!("{name}")).unwrap();
    runner.call(&slot, meaning()).run(async |_| Ok::<_, Broken>(b"the last".to_vec())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn at_most_once_begins_at_most_once_whatever_fails() {
    for seed in 0..60 {
        let (_store, runner, seen) = swarm(seed, at_most_once).await;
        for (name, began) in &seen.began {
            assert_eq!(*began, 1, "seed {seed}, slot {name}");
            match (last_word(&runner, *name).await, seen.kept.get(name)) {
                (RunOutcome::Done { value, how: How::Replayed }, kept) => {
                    assert!(kept.is_none_or(|k| *k == [value].into()), "seed {seed}, slot {name}: {kept:?}");
                }
                (RunOutcome::Indeterminate(_), None) => {}
                (other, kept) => panic!("seed {seed}, slot {name}: {other:?}, and kept {kept:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_least_once_gives_one_answer_to_everybody_whatever_fails() {
    for seed in 0..60 {
        let (_store, runner, seen) = swarm(seed, at_least_once).await;
        for name in 0..SLOTS {
            let RunOutcome::Done { value, .. } = last_word(&runner, name).await else {
                panic!("seed {seed}, slot {name}: at the end somebody finishes the work");
            };
            if let Some(kept) = seen.kept.get(&name) {
                assert_eq!(*kept, [value].into(), "seed {seed}, slot {name}: S3");
            }
        }
    }
}
