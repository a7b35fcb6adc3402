//! A mutant as data: what it is called, what it stands for, who must catch it, and how it is wrong.

use std::future::Future;
use std::pin::Pin;

use oncekey_conformance::Capability;
use oncekey_core::state::{Answer, Change, Operation, Record, Step};
use oncekey_core::{
    Completion, Finding, InvalidInput, Limits, Page, ScanRequest, Slot, Stats, StoreError, Timestamp, Watch,
};

use crate::store::{Client, Records};

/// A store that is wrong in one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// What it does wrong, and the name of its test: `complete_asks_for_the_token_alone`.
    pub(crate) name: &'static str,
    /// The rules of docs/spec.md that it breaks, and the faults in others' stores that it repeats.
    pub(crate) stands_for: &'static str,
    /// The cases that must fail, each of them.
    pub(crate) caught_by: &'static [&'static str],
    /// How it is wrong.
    pub(crate) wrong: Wrong,
}

/// For lists of them.
pub(crate) const fn mutant(
    name: &'static str,
    stands_for: &'static str,
    caught_by: &'static [&'static str],
    wrong: Wrong,
) -> Mutant {
    Mutant { name, stands_for, caught_by, wrong }
}

/// What a call does to the record: `oncekey_core::state::step`, or something like it.
pub(crate) type Decide = fn(Option<&Record>, &Operation, Timestamp) -> Step<Answer>;
/// A call on its way.
pub(crate) type Called<'a, A> = Pin<Box<dyn Future<Output = Result<A, StoreError>> + Send + 'a>>;
/// How a client makes a call.
pub(crate) type Call = for<'a> fn(&'a Client, &'a Slot, &'a Operation) -> Called<'a, Answer>;
/// How a client collects at most so many records.
pub(crate) type Collect = for<'a> fn(&'a Client, usize) -> Called<'a, u64>;

/// The one thing that is not as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// Nothing: the control, which passes every case.
    Nothing,
    /// It decides otherwise than the state machine.
    Decides(Decide),
    /// It keeps a slot's record under another key.
    Keys(fn(&Slot) -> Vec<u8>),
    /// What it keeps is not what was to be kept.
    Keeps(fn(Record) -> Record),
    /// Its calls are no atomic steps, or lose, mix up or repeat something.
    Calls(Call),
    /// The same, of calls that fail on the way once the suite says so.
    Fails(Call),
    /// It hangs: the case fails by its deadline.
    Hangs(Call),
    /// It collects otherwise.
    Collects(Collect),
    /// It pages otherwise.
    Scans(fn(&mut Records, &ScanRequest, Timestamp) -> Page),
    /// It counts otherwise.
    Counts(fn(&Records, Timestamp) -> Stats),
    /// What it finds of its deployment.
    Assesses(fn() -> Vec<Finding>),
    /// It checks its limits otherwise.
    Checks(fn(Limits, &Completion) -> Result<(), InvalidInput>),
    /// Its schema is ensured otherwise.
    Ensures(fn(&mut Records)),
    /// Its harness says that it lacks this, and it answers all the same.
    Lacks(Capability),
    /// Its watches are not as they should be.
    Watches(fn(&Client, &Slot) -> Watch),
    /// It wakes after other changes.
    Wakes(fn(&Change) -> bool),
    /// It wakes before it writes, and not after.
    WakesEarly,
    /// It looks at the clock once, when a client connects.
    StandsStill,
}
