//! [`Lost`]: what a failover took back, told from answers that no failover explains.
//!
//! A replica that is promoted has what its master did up to some moment, which nobody is told. So of each slot's answers
//! from before, the last ones may be untrue: as few of them as make sense of all the others are counted as lost. Before
//! the failure every answer has to be right, and behind it too, given what is left:
//!
//! ```text
//!   reserve  renew  complete  │ the master fails
//!   ────────────────────────▶ │
//!   what the replica had ─▶×  │ ─▶ lookup  reserve ..    a history again, from there
//! ```

use std::collections::BTreeSet;
use std::fmt;

use oncekey_conformance::history::{BUDGET, Call, Moment, Tolerance, Verdict, check};
use oncekey_core::state::{Answer, Operation};
use oncekey_core::{CompleteOutcome, Grant, ReservationOutcome, Slot, Token};

use crate::ledger::Ledger;

/// What was lost so far.
#[derive(Default, Debug)]
pub struct Lost {
    answers: u64,
    acknowledged: Counted,
    lost: Counted,
    slots: BTreeSet<Slot>,
}

/// Answers that somebody relies on.
#[derive(Default, Debug)]
struct Counted {
    reserved: u64,
    stored: u64,
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.reserved += other.reserved;
        self.stored += other.stored;
    }

    fn count<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) {
        for call in calls {
            self.reserved += u64::from(granted(call).is_some());
            let stored = Answer::Complete(CompleteOutcome::Stored);
            self.stored += u64::from(call.answered.as_ref().is_some_and(|(_, answer)| *answer == stored));
        }
    }
}

impl Lost {
    /// Judges a ledger during which one master failed, and which nothing is added to any more. `failed` is a moment when
    /// it had answered all that it ever would, and its successor nothing.
    ///
    /// # Panics
    ///
    /// An answer is wrong, whatever was lost.
    pub fn settle(&mut self, what: &str, ledger: &Ledger, failed: Moment) {
        for (slot, calls) in ledger.all() {
            match judged(&calls, failed) {
                Ok(lost) => {
                    self.acknowledged.count(&calls);
                    self.lost.count(lost.iter().map(|&index| &calls[index]));
                    self.answers += lost.len() as u64;
                    if !lost.is_empty() {
                        self.slots.insert(slot);
                    }
                }
                Err(why) => panic!("{what}: slot {}: {why}", slot.key()),
            }
        }
    }

    /// What another one counted, too.
    pub fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.acknowledged.add(&other.acknowledged);
        self.lost.add(&other.lost);
        self.slots.extend(other.slots);
    }

    /// How many completions were acknowledged, and are there.
    pub fn kept(&self) -> u64 {
        self.acknowledged.stored - self.lost.stored
    }

    /// Those of which something was lost.
    pub fn slots(&self) -> &BTreeSet<Slot> {
        &self.slots
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, lost) = (&self.acknowledged, &self.lost);
        write!(
            f,
            "of {} Reserved and {} Stored acknowledged, {} and {} lost, with {} answers in all on {} slots; no other \
             answer wrong",
            all.reserved,
            all.stored,
            lost.reserved,
            lost.stored,
            self.answers,
            self.slots.len()
        )
    }
}

/// The answers that were lost, as few as can be; or why no loss explains what was heard.
fn judged(calls: &[Call], failed: Moment) -> Result<Vec<usize>, String> {
    let is_before = |call: &Call| call.called.order < failed.order;
    // By the successor.
    let heard_late = |call: &Call| call.answered.as_ref().is_some_and(|(at, _)| at.order > failed.order);
    let before = calls.iter().filter(|call| is_before(call));
    let before: Vec<Call> = before
        .filter_map(|call| if heard_late(call) { unanswered(call) } else { Some(call.clone()) })
        .collect();
    match check(&before, Tolerance::COARSE, BUDGET) {
        Verdict::Legal => {}
        Verdict::Illegal(why) => return Err(format!("before anything failed: {why}")),
        Verdict::Undecided { states } => return Err(format!("no verdict after {states} states")),
    }
    let heard = |index: &usize| calls[*index].answered.as_ref().map(|(at, _)| at.order);
    let mut told: Vec<usize> =
        (0..calls.len()).filter(|&n| calls[n].answered.is_some() && !heard_late(&calls[n])).collect();
    told.sort_by_key(heard);
    let (mut undecided, mut story) = (None, String::new());
    // What was lost never happened; or, where calls overlapped, one may have been kept that was heard of later.
    let ways: [Left; 2] = [|_| None, unanswered];
    for way in ways {
        for kept in (0..=told.len()).rev() {
            let lost = &told[kept..];
            let left =
                |(n, call): (usize, &Call)| if lost.contains(&n) { way(call) } else { Some(call.clone()) };
            let left: Vec<Call> = calls.iter().enumerate().filter_map(left).collect();
            match check(&left, Tolerance::COARSE, BUDGET) {
                Verdict::Legal => return new_fences_rise(calls, failed).map(|()| lost.to_vec()),
                Verdict::Illegal(why) => story = why.to_string(),
                Verdict::Undecided { states } => undecided = Some(states),
            }
        }
    }
    Err(undecided.map_or_else(
        || format!("though every answer from before was lost: {story}"),
        |states| format!("no verdict after {states} states"),
    ))
}

/// What becomes of a call whose answer is lost.
type Left = fn(&Call) -> Option<Call>;

fn unanswered(call: &Call) -> Option<Call> {
    Some(Call { answered: None, ..call.clone() })
}

fn granted(call: &Call) -> Option<(&Grant, Moment)> {
    match call.answered.as_ref()? {
        (at, Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)))) => Some((grant, *at)),
        _ => None,
    }
}

/// S4, over a loss too: who is granted the slot anew has a higher fence than everybody that was told one before, also
/// those whose grant is lost. An earlier grant that was kept keeps its own.
fn new_fences_rise(calls: &[Call], failed: Moment) -> Result<(), String> {
    // By a call that was heard of late, or never, one may have been granted before.
    let in_doubt = |token: Token| {
        let asked =
            |call: &&Call| matches!(&call.operation, Operation::Reserve { token: own, .. } if *own == token);
        let late = |call: &Call| call.answered.as_ref().is_none_or(|(at, _)| at.order > failed.order);
        calls.iter().filter(|call| call.called.order < failed.order).filter(asked).any(late)
    };
    for call in calls.iter().filter(|call| call.called.order > failed.order) {
        let Some((grant, _)) = granted(call).filter(|(grant, _)| !in_doubt(grant.token)) else { continue };
        let before = || calls.iter().filter_map(granted).filter(|(_, at)| at.order < call.called.order);
        if before().any(|(other, _)| (other.token, other.fence) == (grant.token, grant.fence)) {
            continue;
        }
        if let Some((other, _)) = before().find(|(other, _)| other.fence >= grant.fence) {
            return Err(format!("{grant:?} is new, and its fence is not above that of {other:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oncekey_core::{Entry, Fence, Policy};

    use super::*;
    use crate::deed::{LEASE, complete_with, reserve_for};

    fn token(of: u8) -> Token {
        Token::from_bytes([of; 16])
    }

    fn at(order: u64) -> Moment {
        Moment { order, time: Duration::from_micros(order) }
    }

    /// One after the other, each for two moments.
    fn history(calls: Vec<(Operation, Answer)>) -> Vec<Call> {
        let call = |(n, (operation, answer)): (usize, (Operation, Answer))| {
            let called = 10 * n as u64 + 1;
            Call { client: n, operation, called: at(called), answered: Some((at(called + 1), answer)) }
        };
        calls.into_iter().enumerate().map(call).collect()
    }

    fn reserved(of: u8, fence: u64) -> (Operation, Answer) {
        let grant = Grant::new(token(of), Fence::new(fence), 1, Policy::TakeOver, None);
        let answer = Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)));
        (reserve_for(LEASE, token(of)), answer)
    }

    fn stored(of: u8, fence: u64) -> (Operation, Answer) {
        let grant = Grant::new(token(of), Fence::new(fence), 1, Policy::TakeOver, None);
        (complete_with(&grant, "paid"), Answer::Complete(CompleteOutcome::Stored))
    }

    fn nothing() -> (Operation, Answer) {
        (Operation::Lookup, Answer::Lookup(None::<Entry>))
    }

    /// The place of the failure, behind so many calls.
    fn behind(calls: u64) -> Moment {
        at(10 * calls)
    }

    #[test]
    fn the_last_answers_before_may_be_lost_and_are_counted() {
        let calls = history(vec![reserved(1, 10), stored(1, 10), nothing(), reserved(2, 11)]);
        assert_eq!(judged(&calls, behind(2)).unwrap(), [0, 1]);
        // The grant was kept, and its completion was not.
        let calls = history(vec![reserved(1, 10), stored(1, 10), stored(1, 10)]);
        assert_eq!(judged(&calls, behind(2)).unwrap(), [1]);
        let calls = history(vec![reserved(1, 10), stored(1, 10)]);
        assert_eq!(judged(&calls, behind(1)).unwrap(), [0_usize; 0]);
    }

    #[test]
    fn no_failure_explains_two_holders_before_it_or_behind_it() {
        let two = || vec![reserved(1, 10), reserved(2, 11)];
        let [mut first, mut last] = [two(), two()];
        first.push(nothing());
        last.insert(0, nothing());
        assert!(judged(&history(first), behind(2)).unwrap_err().contains("before anything failed"));
        assert!(judged(&history(last), behind(1)).unwrap_err().contains("every answer from before"));
    }

    #[test]
    fn a_new_grant_is_above_those_that_are_lost() {
        let calls = history(vec![reserved(1, 10), reserved(2, 10)]);
        assert!(judged(&calls, behind(1)).unwrap_err().contains("not above"));
        // Its own grant, which was kept, though a later one was lost.
        let calls = history(vec![reserved(1, 10), stored(1, 10), reserved(1, 10)]);
        assert_eq!(judged(&calls, behind(2)).unwrap(), [1]);
    }

    #[test]
    fn of_two_at_once_the_one_that_was_heard_of_first_may_be_lost_alone() {
        let mut calls = history(vec![reserved(1, 10), stored(1, 10), stored(1, 10)]);
        calls[0].answered.as_mut().unwrap().0 = at(15);
        assert_eq!(
            judged(&calls, behind(2)).unwrap(),
            [1, 0],
            "the last of them, up to the one that is untrue"
        );
    }
    #[test]
    fn who_asked_before_and_was_answered_by_the_successor_is_judged() {
        let mut calls = history(vec![reserved(1, 10), stored(1, 10), reserved(2, 12), reserved(3, 13)]);
        calls[2].answered.as_mut().unwrap().0 = at(35);
        // All was lost, and these two hold the slot at once.
        assert!(judged(&calls, behind(3)).unwrap_err().contains("every answer from before"));
        calls.truncate(3);
        assert_eq!(judged(&calls, behind(3)).unwrap(), [0, 1]);
    }

    #[test]
    fn a_grant_by_a_token_that_was_used_before_is_above_those_that_are_lost_too() {
        let calls = history(vec![reserved(1, 10), stored(1, 10), reserved(1, 9)]);
        assert!(judged(&calls, behind(2)).unwrap_err().contains("not above"));
    }
}
