//! Whether a history has an order that the spec allows: [`check`].

use std::collections::HashMap;
use std::fmt;

use super::call::{Call, Tolerance};
use super::expected::Expected;
use super::names::Names;
use super::record::{Record, Slack, State, micros};
use super::relation::ways;
use super::story;
use super::zone::{Var, Zone};

/// The states that [`check`] visits before it gives up, unless told otherwise. A history of the suite's
/// own takes some thousands at most.
pub const BUDGET: usize = 300_000;

/// What [`check`] found.
#[derive(Clone, Debug)]
#[must_use = "a history that wasn't found legal is a failure"]
pub enum Verdict {
    /// The calls have an order, within their real times, that the spec allows.
    Legal,
    /// They have none (S9).
    Illegal(CounterExample),
    /// The search gave up after so many states: nothing is known, so this is a failure too.
    Undecided {
        /// The states that it visited.
        states: usize,
    },
}

/// Why a history is illegal: the longest order that is legal as far as it goes, and the calls that can't
/// follow it. Its `Display` draws both.
#[derive(Clone, Debug)]
pub struct CounterExample {
    /// The calls of the history, as they were given.
    pub calls: Vec<Call>,
    /// The longest legal beginning: indices of calls, in their order.
    pub prefix: Vec<usize>,
    /// Each call that really could come next, and what would have been right there.
    pub stuck: Vec<(usize, Vec<String>)>,
}

/// Looks for an order of one slot's calls that the spec allows: linearizability (S9), by the algorithm of
/// Wing and Gong with Lowe's memory of the configurations that led nowhere.
///
/// The slot begins unused. The history's time only moves forward. A call without an answer may happen at
/// any time after it was sent, or never. The store's clock is known within the bounds of each call, so a
/// lease whose end falls between them counts as live or lapsed, whichever makes sense of the answers.
///
/// `budget` bounds the states that are visited ([`BUDGET`]).
///
/// ```
/// use std::time::Duration;
/// use oncekey_conformance::history::{BUDGET, Call, Moment, Tolerance, Verdict, check};
/// use oncekey_core::state::{Answer, Operation};
/// use oncekey_core::{Fence, Fingerprint, Grant, Policy, ReservationOutcome, ReserveRequest, Terms, Token};
///
/// // Two callers at once, and both are granted the slot.
/// let request = ReserveRequest::new(Fingerprint::from_bytes([1; 32]), Terms::default());
/// let at = |order| Moment { order, time: Duration::from_millis(order) };
/// let granted = |client: usize, called, answered| {
///     let token = Token::from_bytes([client as u8; 16]);
///     let grant = Grant::new(token, Fence::new(client as u64 + 1), 1, Policy::TakeOver, None);
///     let answer = Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)));
///     let operation = Operation::Reserve { token, request };
///     Call { client, operation, called: at(called), answered: Some((at(answered), answer)) }
/// };
/// let history = [granted(0, 1, 3), granted(1, 2, 4)];
/// let Verdict::Illegal(why) = check(&history, Tolerance::COARSE, BUDGET) else { panic!("S1") };
/// assert_eq!(why.prefix.len(), 1);
/// println!("{why}");
/// ```
pub fn check(calls: &[Call], tolerance: Tolerance, budget: usize) -> Verdict {
    let mut search = Search {
        calls,
        tolerance,
        slack: Slack::of(tolerance),
        order: by_answer(calls),
        twins: twins(calls),
        done: Done(vec![0; calls.len().div_ceil(64)]),
        visited: Visited::of(calls),
    };
    // By the answers that it explains: an unanswered call more explains nothing.
    let mut longest = (0, Vec::new(), State::unused());
    let mut prefix: Vec<usize> = Vec::new();
    // A frame for each call of the prefix, and one for what comes next: the choices that are left, last
    // first.
    let mut frames = vec![search.choices(&State::unused())];
    if search.is_over() {
        return Verdict::Legal;
    }
    while let Some(frame) = frames.last_mut() {
        let Some((index, after)) = frame.pop() else {
            frames.pop();
            if let Some(index) = prefix.pop() {
                search.done.remove(index);
            }
            continue;
        };
        search.done.insert(index);
        if !search.visited.insert(&search.done, &after) {
            search.done.remove(index);
            continue;
        }
        if search.is_over() {
            return Verdict::Legal;
        }
        if search.visited.states > budget {
            return Verdict::Undecided { states: search.visited.states };
        }
        prefix.push(index);
        frames.push(search.choices(&after));
        let answers = prefix.iter().filter(|&&index| calls[index].answered.is_some()).count();
        if answers > longest.0 {
            longest = (answers, prefix.clone(), after);
        }
    }
    search.counter_example(longest.1, &longest.2)
}

struct Search<'a> {
    calls: &'a [Call],
    tolerance: Tolerance,
    slack: Slack,
    /// The calls by their answers, those without one last: the likeliest order.
    order: Vec<usize>,
    /// For each call without an answer, the last one before it that asked the same and has none either.
    twins: Vec<Option<usize>>,
    done: Done,
    visited: Visited,
}

/// The configurations that the search has been at. One leads nowhere if another did that explains as many answers
/// with fewer unanswered calls, and knows no more.
struct Visited {
    unanswered: Done,
    /// By the answers that are explained and the record: the unanswered calls that happened, and the zone.
    been: HashMap<(Done, Record), Vec<(Done, Zone)>>,
    states: usize,
}

impl Visited {
    fn of(calls: &[Call]) -> Self {
        let mut unanswered = Done(vec![0; calls.len().div_ceil(64)]);
        (0..calls.len()).filter(|&index| calls[index].answered.is_none()).for_each(|i| unanswered.insert(i));
        Self { unanswered, been: HashMap::new(), states: 0 }
    }

    /// Whether it is worth going on from here.
    fn insert(&mut self, done: &Done, state: &State) -> bool {
        let both = |of: fn(u64, u64) -> u64| {
            Done(done.0.iter().zip(&self.unanswered.0).map(|(&done, &open)| of(done, open)).collect())
        };
        let (answered, open) = (both(|done, open| done & !open), both(|done, open| done & open));
        let been = self.been.entry((answered, state.record.clone())).or_default();
        if been.iter().any(|(fewer, zone)| fewer.is_within(&open) && state.zone.is_within(zone)) {
            return false;
        }
        been.push((open, state.zone.clone()));
        self.states += 1;
        true
    }
}

/// Which calls are in the prefix.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| ours & !theirs == 0)
    }
}

fn by_answer(calls: &[Call]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|&index| {
        let call = &calls[index];
        (call.answered.as_ref().map_or(u64::MAX, |(moment, _)| moment.order), call.called.order)
    });
    order
}

/// Of unanswered calls that asked the same, which one happened is all one: they happen in the order in which they
/// were sent. Somebody who repeats a call until it is answered leaves many.
fn twins(calls: &[Call]) -> Vec<Option<usize>> {
    let mut by_sending: Vec<usize> =
        (0..calls.len()).filter(|&index| calls[index].answered.is_none()).collect();
    by_sending.sort_by_key(|&index| calls[index].called.order);
    let mut twins = vec![None; calls.len()];
    let mut last = HashMap::new();
    for index in by_sending {
        twins[index] = last.insert(&calls[index].operation, index);
    }
    twins
}

impl Search<'_> {
    /// Every answer has its place: what is left never happened.
    fn is_over(&self) -> bool {
        (0..self.calls.len()).all(|index| self.done.has(index) || self.calls[index].answered.is_none())
    }

    /// The calls that really may come next: those sent before any other that is left was answered.
    fn next(&self) -> impl Iterator<Item = usize> {
        let left = || self.order.iter().copied().filter(|&index| !self.done.has(index));
        let answers = left().filter_map(|index| Some(self.calls[index].answered.as_ref()?.0.order));
        let first_answer = answers.min().unwrap_or(u64::MAX);
        let first_twin = |&index: &usize| self.twins[index].is_none_or(|twin| self.done.has(twin));
        left().filter(move |&index| self.calls[index].called.order < first_answer).filter(first_twin)
    }

    /// Each next call and state, the likeliest last.
    fn choices(&self, state: &State) -> Vec<(usize, State)> {
        let mut choices: Vec<(usize, State)> = Vec::new();
        for index in self.next() {
            for way in self.ways(state, index) {
                let zone = match &self.calls[index].answered {
                    Some((_, answer)) => way.0.meets(answer, &way.1, self.slack),
                    None => Some(way.1.zone.clone()),
                };
                if let Some(zone) = zone {
                    let after = State { zone: zone.forget(Var::Now), ..way.1 };
                    // Nobody heard of it and nothing is changed: it may as well happen later, or never.
                    if self.calls[index].answered.is_some() || !after.is_within(state) {
                        choices.push((index, after));
                    }
                }
            }
        }
        choices.reverse();
        choices
    }

    fn ways(&self, state: &State, index: usize) -> Vec<(Expected, State)> {
        let call = &self.calls[index];
        let drift = micros(self.tolerance.clock);
        let least = micros(call.called.time).saturating_sub(drift);
        let zone = state.zone.clone().at_least(Var::Now, Var::Base, least);
        let zone = match (&call.answered, zone) {
            (Some((answered, _)), Some(zone)) => {
                let most = micros(answered.time).saturating_add(drift);
                zone.at_most(Var::Now, Var::Base, most)
            }
            (_, zone) => zone,
        };
        let Some(zone) = zone else { return Vec::new() };
        let found = ways(state, zone, &call.operation, self.slack);
        found.into_iter().map(|way| (way.expected, way.after)).collect()
    }

    fn counter_example(&mut self, prefix: Vec<usize>, state: &State) -> Verdict {
        for &index in &prefix {
            self.done.insert(index);
        }
        let names = Names::of(self.calls);
        let mut stuck = Vec::new();
        for index in self.next().filter(|&index| self.calls[index].answered.is_some()) {
            let mut right: Vec<String> = Vec::new();
            for (expected, after) in self.ways(state, index) {
                let text = story::right(&names, expected, &after);
                if !right.contains(&text) {
                    right.push(text);
                }
            }
            stuck.push((index, right));
        }
        Verdict::Illegal(CounterExample { calls: self.calls.to_vec(), prefix, stuck })
    }
}

impl fmt::Display for CounterExample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        story::draw(self, f)
    }
}
