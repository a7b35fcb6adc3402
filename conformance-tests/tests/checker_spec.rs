//! The checker's relation is SPEC's: whatever `state::step` does, one call after another on a known clock,
//! the checker allows, and what it would not answer there, the checker refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its failure is a panic")]

mod support;

use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::{BUDGET, Call, Moment, Tolerance, Verdict, check};
use oncekey_core::state::{self, Answer, Operation, Record};
use oncekey_core::{Fence, Fingerprint, Policy, ReservationOutcome, ReserveRequest, Terms, Timestamp};
use support::{BASE, Drawer, TICK, apply, seed, ticks};

const RUNS: u64 = 500;
/// In so many of them each answer is spoilt.
const SPOILT_RUNS: u64 = 120;

/// One call after another, each at a known reading of the clock, with the record that each found.
fn one_after_another(drawer: &mut Drawer, n: usize) -> Vec<(Call, Option<Record>)> {
    let mut record: Option<Record> = None;
    let mut now = 0;
    let mut calls = Vec::new();
    for index in 0..n {
        now += [0, TICK / 4, TICK / 2, TICK, 3 * TICK][drawer.rng.usize(..5)];
        // The first two show the store's clock.
        let operation = match index {
            0 => {
                let terms = Terms::new(Policy::TakeOver, ticks(2), ticks(2)).unwrap();
                let request = ReserveRequest::new(Fingerprint::from_bytes([1; 32]), terms);
                now = 0;
                Operation::Reserve { token: drawer.token(), request }
            }
            1 => {
                now = 0;
                Operation::Lookup
            }
            _ => drawer.operation(),
        };
        let step = state::step(record.as_ref(), &operation, Timestamp::from_micros(BASE + now));
        let found = record.clone();
        apply(&mut record, step.change);
        drawer.hear(&step.answer);
        let at = |order| Moment { order, time: Duration::from_micros(now) };
        let (called, answered) = (at(2 * index as u64), at(2 * index as u64 + 1));
        let call = Call { client: 0, operation, called, answered: Some((answered, step.answer)) };
        calls.push((call, found));
    }
    calls
}

/// Whether the spec leaves it to the store: which fence a new grant gets, as long as it rises, and whether
/// an expired record has been deleted yet.
fn is_the_stores_choice(call: &Call, spoilt: &Answer, found: Option<&Record>) -> bool {
    let Some((at, answer)) = &call.answered else { return false };
    let now = Timestamp::from_micros(BASE + at.time.as_micros() as u64);
    match (answer, spoilt) {
        (
            Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))),
            Answer::Reserve(Ok(ReservationOutcome::Reserved(other))),
        ) => {
            let last = found.map_or(Fence::new(0), Record::fence);
            let mut same = other.clone();
            same.fence = grant.fence;
            same == *grant && other.fence > last && grant.fence > last
        }
        (Answer::Purge(true), Answer::Purge(false)) => found.is_some_and(|record| record.is_expired(now)),
        _ => false,
    }
}

#[test]
fn each_step_of_the_state_machine_is_allowed_and_no_other_answer() {
    let seed = seed();
    let mut refused = 0;
    for run in 0..RUNS {
        let mut drawer = Drawer::new(Rng::with_seed(seed.wrapping_add(run)));
        let story = one_after_another(&mut drawer, 40);
        let calls: Vec<Call> = story.iter().map(|(call, _)| call.clone()).collect();
        match check(&calls, Tolerance::EXACT, BUDGET) {
            Verdict::Legal => {}
            Verdict::Illegal(why) => panic!("seed {seed}, run {run}: {why}\n{:#?}", why.calls),
            Verdict::Undecided { states } => panic!("seed {seed}, run {run}: undecided after {states}"),
        }
        if run >= SPOILT_RUNS {
            continue;
        }
        for index in 2..calls.len() {
            let mut spoilt = calls[..=index].to_vec();
            let Some((_, answer)) = &mut spoilt[index].answered else { continue };
            let right = answer.clone();
            *answer = drawer.spoil(answer);
            let answer = answer.clone();
            let (call, found) = &story[index];
            // S4 rests on the clock after a purge, so nothing is remembered then.
            let purged = calls[..index].iter().any(|c| matches!(c.answered, Some((_, Answer::Purge(true)))));
            // (Never and a bit is never: not every spoilt answer is another one.)
            let choice = answer == right || is_the_stores_choice(call, &answer, found.as_ref());
            if choice || (purged && matches!(answer, Answer::Reserve(Ok(ReservationOutcome::Reserved(_))))) {
                continue;
            }
            let verdict = check(&spoilt, Tolerance::EXACT, BUDGET);
            assert!(
                matches!(verdict, Verdict::Illegal(_)),
                "seed {seed}, run {run}, call {index}: {:?}\nanswered {:?}\nand was believed: {answer:?}\n{found:#?}",
                call.operation,
                call.answered,
            );
            refused += 1;
        }
    }
    assert!(refused > 1_000, "{refused} refused: seed {seed}");
}
