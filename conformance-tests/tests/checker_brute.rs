//! The checker against brute force: every order, every reading of the clock, every fence of a lost grant,
//! through `state::step` itself. Both must say the same of every small history.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its failure is a panic")]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::{BUDGET, Call, Tolerance, Verdict, check};
use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{CompleteOutcome, Entry, Fence, ReservationOutcome, Timestamp};
use support::{BASE, Drawer, TICK, apply, legal, seed};

const ROUNDS: usize = 300;

/// Everything that could explain a history, one after another.
struct Brute<'a> {
    calls: &'a [Call],
    /// How finely the clock is read.
    grid: u64,
    /// What the store's clock said at the history's zero.
    base: u64,
    /// No reading later than this makes a difference.
    horizon: u64,
    /// The fences that some call or answer names.
    named: Vec<u64>,
    /// What led nowhere.
    vain: RefCell<HashSet<Place>>,
    /// The steps that are left before it gives up.
    left: &'a Cell<u64>,
}

/// What an answer costs in the worst histories of hundreds; past it, the history is passed over.
const STEPS: u64 = 1_500_000;

/// The calls that are done, the record, and the fence of one that was deleted after it expired and is still
/// remembered (S4).
type Place = (u32, Option<Record>, Option<u64>);

impl Brute<'_> {
    fn explains(&self, place: Place) -> bool {
        if self.vain.borrow().contains(&place) {
            return false;
        }
        let explains = self.goes_on(&place);
        if !explains {
            self.vain.borrow_mut().insert(place);
        }
        explains
    }

    fn goes_on(&self, (done, record, floor): &Place) -> bool {
        let calls = self.calls;
        let left = || (0..calls.len()).filter(|index| done & (1 << index) == 0);
        if left().all(|index| calls[index].answered.is_none()) {
            return true;
        }
        let first_answer = left().filter_map(|i| calls[i].answered.as_ref().map(|(at, _)| at.order)).min();
        left().filter(|&i| calls[i].called.order < first_answer.unwrap_or(u64::MAX)).any(|index| {
            let call = &calls[index];
            let low = call.called.time.as_micros() as u64;
            let high = call.answered.as_ref().map_or(self.horizon, |(at, _)| at.time.as_micros() as u64);
            (low..=high).step_by(self.grid as usize).any(|now| {
                self.left.set(self.left.get().saturating_sub(1));
                if self.left.get() == 0 {
                    return false;
                }
                let now = Timestamp::from_micros(self.base + now);
                self.outcomes(record, *floor, &call.operation, now).into_iter().any(
                    |(answer, after, floor)| {
                        let heard = call.answered.as_ref().is_none_or(|(_, heard)| *heard == answer);
                        heard && self.explains((done | 1 << index, after, floor))
                    },
                )
            })
        })
    }

    fn outcomes(
        &self,
        record: &Option<Record>,
        floor: Option<u64>,
        operation: &Operation,
        now: Timestamp,
    ) -> Vec<(Answer, Option<Record>, Option<u64>)> {
        let expired = record.as_ref().filter(|record| record.is_expired(now));
        let step = state::step(record.as_ref(), operation, now);
        let mut after = record.clone();
        let new_grant = matches!(&step.change, Change::Put(Record::Pending(p))
            if record.as_ref().is_none_or(|old| old.fence() != p.fence));
        apply(&mut after, step.change);
        if let (true, Some(Record::Pending(held))) = (new_grant, &after) {
            let last = record.as_ref().map_or(floor, |old| Some(old.fence().get())).unwrap_or(0);
            return self
                .fences_above(last)
                .map(|fence| {
                    let held = state::Pending { fence: Fence::new(fence), ..held.clone() };
                    let mut answer = step.answer.clone();
                    if let Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) = &mut answer {
                        grant.fence = held.fence;
                    }
                    (answer, Some(Record::Pending(held)), None)
                })
                .collect();
        }
        let mut outcomes = vec![(step.answer, after.clone(), floor)];
        if let Operation::Purge { .. } = operation {
            outcomes[0].2 = if after.is_none() && record.is_some() { None } else { floor };
            if let Some(expired) = expired {
                // It may have been collected before.
                outcomes.push((Answer::Purge(false), None, Some(expired.fence().get())));
            }
        }
        outcomes
    }

    /// The named fences above `last`, and the least that nobody names.
    fn fences_above(&self, last: u64) -> impl Iterator<Item = u64> {
        let unnamed = (last + 1..).find(|fence| !self.named.contains(fence));
        self.named.iter().copied().filter(move |fence| *fence > last).chain(unnamed)
    }
}

/// None where it gave up.
fn brute_force(calls: &[Call], grid: u64) -> Option<bool> {
    let mut named = Vec::new();
    let mut shows_moments = false;
    for call in calls {
        match &call.operation {
            Operation::Renew { grant, .. }
            | Operation::Complete { grant, .. }
            | Operation::Release { grant } => named.push(grant.fence.get()),
            Operation::Resolve { seen, .. } => {
                named.push(seen.fence.get());
                shows_moments = true;
            }
            Operation::Purge { fence } => named.push(fence.get()),
            Operation::Reserve { .. } | Operation::Lookup => {}
        }
        match call.answered.as_ref().map(|(_, answer)| answer) {
            Some(Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)))) => named.push(grant.fence.get()),
            Some(Answer::Reserve(Ok(ReservationOutcome::Indeterminate(lapsed)))) => {
                named.push(lapsed.fence.get());
            }
            Some(Answer::Reserve(Ok(ReservationOutcome::Replay(record))))
            | Some(Answer::Complete(CompleteOutcome::AlreadyStored(record)))
            | Some(Answer::Lookup(Some(Entry::Completed(record)))) => {
                named.push(record.fence.get());
                shows_moments = true;
            }
            Some(Answer::Lookup(Some(Entry::Pending(entry)))) => {
                named.push(entry.fence.get());
                shows_moments = true;
            }
            _ => {}
        }
    }
    named.sort_unstable();
    named.dedup();
    let ends = calls.iter().filter_map(|call| call.answered.as_ref().map(|(at, _)| at.time));
    let horizon = ends.max().unwrap_or(Duration::ZERO).as_micros() as u64 + 7 * TICK;
    // The client knows no more of the store's clock than what answers show.
    let around = if shows_moments { 6 * TICK } else { 0 };
    let bases = (BASE - around..=BASE + around).step_by(grid as usize);
    let left = &Cell::new(STEPS);
    // The true one first: most histories need no other.
    let explained = std::iter::once(BASE).chain(bases).any(|base| {
        let (named, vain) = (named.clone(), RefCell::default());
        Brute { calls, grid, base, horizon, named, vain, left }.explains((0, None, None))
    });
    (explained || left.get() > 0).then_some(explained)
}

/// What the checker says, if brute force says so too: on a grid, or if need be on a finer one. None where
/// brute force gave up.
fn agree(calls: &[Call], seed: u64, round: usize) -> Option<bool> {
    let verdict = check(calls, Tolerance::EXACT, BUDGET);
    let legal = match &verdict {
        Verdict::Legal => true,
        Verdict::Illegal(_) => false,
        Verdict::Undecided { states } => panic!("undecided after {states}: seed {seed}, round {round}"),
    };
    if brute_force(calls, TICK / 2)? != legal && brute_force(calls, TICK / 4)? != legal {
        let brute = if legal { "illegal" } else { "legal" };
        panic!("seed {seed}, round {round}: brute force says {brute}, the checker {verdict:#?}\n{calls:#?}");
    }
    Some(legal)
}

#[test]
fn the_checker_says_what_brute_force_says() {
    let seed = seed();
    let (mut legal_ones, mut illegal_ones, mut given_up) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut drawer = Drawer::new(Rng::with_seed(seed.wrapping_add(round as u64)));
        let n = drawer.rng.usize(2..=5) + usize::from(drawer.rng.u8(..8) == 0);
        let mut calls = legal(&mut drawer, n);
        if round % 3 == 0 {
            let agreed = agree(&calls, seed, round);
            assert!(agreed != Some(false), "a legal history: seed {seed}, round {round}\n{calls:#?}");
            given_up += usize::from(agreed.is_none());
            continue;
        }
        let answered: Vec<usize> = (0..n).filter(|&i| calls[i].answered.is_some()).collect();
        let Some(victim) = drawer.rng.choice(answered) else { continue };
        if drawer.rng.u8(..4) == 0 {
            // Another real-time order: the call was made and answered after all others.
            let moved = calls[victim].called.order + 10_000;
            calls[victim].called.order = moved;
            let end = calls.iter().filter_map(|c| c.answered.as_ref()).map(|(at, _)| at.time).max();
            calls[victim].called.time = end.unwrap_or_default();
            if let Some((at, _)) = &mut calls[victim].answered {
                at.order = moved + 1;
                at.time = end.unwrap_or_default();
            }
        } else if let Some((_, answer)) = &mut calls[victim].answered {
            *answer = drawer.spoil(answer);
        }
        match agree(&calls, seed, round) {
            Some(true) => legal_ones += 1,
            Some(false) => illegal_ones += 1,
            None => given_up += 1,
        }
    }
    assert!(
        legal_ones > ROUNDS / 20 && illegal_ones > ROUNDS / 4 && given_up < ROUNDS / 20,
        "too few of a kind to mean anything: {legal_ones} legal, {illegal_ones} illegal, {given_up} given up, \
         seed {seed}"
    );
}
