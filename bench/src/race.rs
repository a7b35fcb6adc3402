//! A race: entrants that do the same work, measured in turn, and what the first is beside the others.

use crate::load::{Failure, Work};
use crate::stats::{Spread, ratio};

/// What an entrant is to the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Ours,
    Limit,
    Peer,
}

/// A ratio that the project set itself: the first entrant's rate over this one's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Goal {
    pub(crate) id: &'static str,
    pub(crate) at_least: f64,
}

/// One that takes part. `run` does one round and says its operations a second.
pub(crate) struct Entrant<'a> {
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) goal: Option<Goal>,
    pub(crate) run: Box<dyn FnMut() -> Result<f64, Failure> + 'a>,
}

impl<'a> Entrant<'a> {
    pub(crate) fn new(
        label: impl Into<String>,
        role: Role,
        run: impl FnMut() -> Result<f64, Failure> + 'a,
    ) -> Self {
        Self { label: label.into(), role, goal: None, run: Box::new(run) }
    }

    pub(crate) fn goal(mut self, goal: Option<Goal>) -> Self {
        self.goal = goal;
        self
    }
}

/// What came out, the first line's entrant being the one that the others are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) work: Work,
    pub(crate) callers: usize,
    pub(crate) lines: Vec<Line>,
}

/// One entrant's figures.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) rate: Spread,
    /// The first's rate over this one's, round by round; none for the first itself.
    pub(crate) ratio: Option<Spread>,
    pub(crate) goal: Option<Goal>,
}

impl Line {
    /// Whether the goal is reached, if it has one.
    pub(crate) fn reached(&self) -> Option<bool> {
        Some(self.ratio?.median >= self.goal?.at_least)
    }
}

/// Runs each entrant once a round. Each round begins with another one, so that nobody always runs on
/// what the same neighbour left behind.
pub(crate) fn race(
    work: Work,
    callers: usize,
    rounds: usize,
    mut entrants: Vec<Entrant<'_>>,
) -> Result<Outcome, Failure> {
    let mut rates = vec![Vec::new(); entrants.len()];
    for round in 0..rounds {
        for turn in 0..entrants.len() {
            let which = (round + turn) % entrants.len();
            let entrant = &mut entrants[which];
            let rate = (entrant.run)()
                .map_err(|e| format!("{}, {} callers, {}: {e}", work.name(), callers, entrant.label))?;
            rates[which].push(rate);
        }
    }
    let lines = entrants
        .into_iter()
        .zip(&rates)
        .enumerate()
        .map(|(i, (entrant, own))| {
            let ratio = if i == 0 { None } else { Spread::of_ratios(&rates[0], own) };
            let rate = Spread::of(own).ok_or("no rounds")?;
            Ok(Line { label: entrant.label, role: entrant.role, rate, ratio, goal: entrant.goal })
        })
        .collect::<Result<_, Failure>>()?;
    let outcome = Outcome { work, callers, lines };
    eprintln!("{}", outcome.summary());
    Ok(outcome)
}

impl Outcome {
    /// One line for whoever watches.
    fn summary(&self) -> String {
        let lines: Vec<String> = self
            .lines
            .iter()
            .map(|line| {
                let ratio = line.ratio.map_or(String::new(), |r| format!(" (x{})", ratio(r.median)));
                format!("{} {}{ratio}", line.label, crate::stats::rate(line.rate.median))
            })
            .collect();
        format!("{} {}: {}", self.work.name(), self.callers, lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn entrants_run_in_turn_and_a_goal_is_judged_by_the_paired_ratio() {
        let order = RefCell::new(String::new());
        let entrant = |name: char, rate: f64, goal| {
            let order = &order;
            let run = move || {
                order.borrow_mut().push(name);
                Ok(rate)
            };
            Entrant::new(name, Role::Peer, run).goal(goal)
        };
        let goal = |at_least| Some(Goal { id: "P0", at_least });
        let entrants =
            vec![entrant('a', 8.0, None), entrant('b', 4.0, goal(2.0)), entrant('c', 2.0, goal(4.1))];
        let outcome = race(Work::Cycle, 1, 3, entrants).unwrap();
        assert_eq!(order.into_inner(), "abcbcacab");
        let reached: Vec<_> = outcome.lines.iter().map(Line::reached).collect();
        assert_eq!(reached, [None, Some(true), Some(false)]);
    }

    #[test]
    fn a_failure_says_who_failed() {
        let entrants = vec![Entrant::new("the peer", Role::Peer, || Err("no".into()))];
        let failure = race(Work::Replay, 64, 1, entrants).unwrap_err();
        assert_eq!(failure.to_string(), "replay, 64 callers, the peer: no");
    }
}
