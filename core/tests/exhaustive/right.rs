//! The state machine as it is keeps every promise, and the search reaches every cell of its tables.

use std::sync::Mutex;

use oncekey_core::Policy::{self, Refuse, TakeOver};
use oncekey_core::state;

use crate::search::Search;

impl Search {
    /// The bounds from which each search departs.
    pub(crate) fn bounds(executors: &'static [Policy]) -> Self {
        Self {
            executors,
            horizon: 4,
            steps_back: 1,
            operator: false,
            saves: true,
            retention: 1,
            keep_for: None,
            step: state::step,
            seeks: None,
            reached: Mutex::default(),
        }
    }
}

/// Without an operator, under one policy or the other.
const CELLS: [&str; 19] = [
    "R1",
    "R3",
    "R4",
    "R9",
    "R11",
    "C1",
    "C2",
    "C3",
    "C4 gone",
    "C4 taken over",
    "W1",
    "W2",
    "W3",
    "W4",
    "L1",
    "L4",
    "L5",
    "R5",
    "G1",
];

/// Searches to the end, which is within reach of a debug build; or, deep, beyond it.
fn keeps_every_promise(name: &str, search: Search, deep: Search, more_cells: &[&str]) {
    let search = if std::env::var("ONCEKEY_SEARCH").is_ok_and(|v| v == "deep") { deep } else { search };
    let outcome = search.run(name);
    if let Some((promise, story)) = outcome.broken {
        panic!("{name}: {promise}\n{story}");
    }
    let missed: Vec<_> = CELLS.iter().chain(more_cells).filter(|c| !outcome.reached.contains(*c)).collect();
    assert!(missed.is_empty(), "{name}: the search never reached {missed:?}, so it says nothing about them");
}

#[test]
fn at_least_once_keeps_every_promise() {
    let bounds = || Search::bounds(&[TakeOver; 3]);
    let deep = Search { executors: &[TakeOver; 4], ..bounds() };
    keeps_every_promise("at least once", Search { horizon: 3, ..bounds() }, deep, &["L2"]);
}

#[test]
fn at_most_once_keeps_every_promise() {
    let bounds = || Search::bounds(&[Refuse; 3]);
    let deep = Search { executors: &[Refuse; 4], horizon: 5, steps_back: 2, ..bounds() };
    keeps_every_promise("at most once", bounds(), deep, &["R6", "W4 as L1"]);
}

#[test]
fn both_policies_at_one_slot_keep_every_promise() {
    let bounds = || Search::bounds(&[TakeOver, TakeOver, Refuse]);
    let deep = Search { horizon: 5, ..bounds() };
    let cells = ["L2", "R6", "W4 as L1"];
    keeps_every_promise("both policies", Search { horizon: 3, ..bounds() }, deep, &cells);
}

#[test]
fn two_clients_with_two_executors_each_keep_every_promise() {
    let bounds = || Search::bounds(&[TakeOver, TakeOver, Refuse, Refuse]);
    let search = Search { horizon: 3, steps_back: 0, ..bounds() };
    keeps_every_promise("two by two", search, bounds(), &["L2", "R6", "W4 as L1"]);
}

#[test]
fn an_operator_keeps_every_promise() {
    let bounds = || Search { operator: true, ..Search::bounds(&[TakeOver, Refuse]) };
    let deep = Search { executors: &[TakeOver, TakeOver, Refuse], ..bounds() };
    let cells = ["L3", "R6", "O1 resolved", "O1 already done", "O1 not lapsed", "O1 changed"];
    keeps_every_promise("an operator", Search { horizon: 3, ..bounds() }, deep, &cells);
}

#[test]
fn an_answer_kept_for_longer_or_shorter_keeps_every_promise() {
    for ticks in [1, 3] {
        let bounds =
            || Search { retention: 2, keep_for: Some(ticks), ..Search::bounds(&[TakeOver, TakeOver]) };
        let deep = Search { executors: &[TakeOver, TakeOver, Refuse], horizon: 5, ..bounds() };
        keeps_every_promise("kept for longer or shorter", bounds(), deep, &["L2"]);
    }
}
