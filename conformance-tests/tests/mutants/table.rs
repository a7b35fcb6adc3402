//! docs/conformance.md: who catches whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use oncekey_conformance::{Harness, Level, Options, cases, run};

use crate::mutant::{Mutant, Wrong};

const HEAD: &str = "\
# What the conformance suite catches

A suite that passes proves little until it has failed. Here are stores that are wrong in one way each, most
of them a few lines around the state machine, and for each the cases that have to fail it. They do at each
run of `cargo test -p oncekey-conformance --test mutants`: one test a store, named as in the table. A case
that races, or draws its story, is given ten tries. The same store without a mutation passes every case;
`ONCEKEY_ROUNDS=100` in front of the command makes that a hundred times in a row.

This page is written by `cargo xtask mutants`; a test says so when it is out of step.

*Stands for* names the rules of [spec.md](spec.md) that the store breaks. A *fault* or a *trap* with a number
is one of those that the project was designed against: each happened to somebody.

";

const BEYOND: &str = "\
## What a map in memory can't show

A lease that was stamped before the wait for a lock (R10) needs a lock to wait for; a row that was shown and
never committed, a full disk, a kill or a corrupt file (S11) need a file; several processes need a database;
a transaction of the caller's own (T1 to T5) needs an engine that has them. Those are each backend's own
tests: for SQLite they are in [backend-sqlite/tests](../backend-sqlite/tests).

";

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"))
}

fn table(mutants: &[Mutant]) -> String {
    let mut text = String::from("| the store that | stands for | is failed by |\n| --- | --- | --- |\n");
    for mutant in mutants {
        let caught: Vec<_> = mutant.caught_by.iter().map(|id| format!("`{id}`")).collect();
        let (name, stands_for) = (mutant.name, mutant.stands_for);
        let _ = writeln!(text, "| `{name}` | {stands_for} | {} |", caught.join(", "));
    }
    text
}

const IDLE: &str = "\
## Cases that fail none of them

Each case was run on every store above when this page was written; the random ones, models and histories, are
each expected to fail at least one of them.

";

fn page(mutants: &[Mutant], idle: &BTreeSet<&str>) -> String {
    let mut list: String = idle.iter().map(|id| format!("- `{id}`\n")).collect();
    if list.is_empty() {
        list.push_str("There is none.\n");
    }
    let (count, table) = (mutants.len(), table(mutants));
    format!("{HEAD}There are {count} of them.\n\n{table}\n{BEYOND}{IDLE}{list}")
}

/// Whether the page has the mutants of this list. Which cases catch nothing hangs on luck where they race, so
/// of those only what can't be is complained of.
pub(crate) fn check(mutants: &[Mutant]) -> Result<(), Failed> {
    let again = "write it anew: cargo xtask mutants";
    let text = std::fs::read_to_string(path()).map_err(|e| format!("docs/conformance.md: {e}: {again}"))?;
    let (_, idle) =
        text.split_once(IDLE).ok_or_else(|| format!("docs/conformance.md is cut off: {again}"))?;
    let idle: BTreeSet<_> = idle.split('`').skip(1).step_by(2).collect();
    if text != page(mutants, &idle) {
        return Err(format!("docs/conformance.md is out of step with the mutants: {again}").into());
    }
    let known: BTreeSet<_> = cases().iter().map(|case| case.id).collect();
    let expected: BTreeSet<_> = mutants.iter().flat_map(|mutant| mutant.caught_by).copied().collect();
    match idle.iter().find(|id| !known.contains(*id) || expected.contains(*id)) {
        Some(id) => Err(format!("docs/conformance.md says of {id} that it catches nobody: {again}").into()),
        None => Ok(()),
    }
}

/// Runs the suite on each mutant, and writes the page.
#[allow(clippy::print_stderr, reason = "a command that takes minutes says how far it is")]
pub(crate) fn write(mutants: &[Mutant]) -> ExitCode {
    let caught: BTreeMap<_, _> =
        mutants.iter().map(|mutant| (mutant.name, all_that_catch(*mutant))).collect();
    for (name, by) in &caught {
        eprintln!("{name}: {}", by.len());
    }
    let catchers: BTreeSet<_> = caught.into_values().flatten().collect();
    let expected: BTreeSet<_> = mutants.iter().flat_map(|mutant| mutant.caught_by).copied().collect();
    let idle = cases().into_iter().map(|case| case.id);
    let idle = idle.filter(|id| !catchers.contains(id) && !expected.contains(id)).collect();
    match std::fs::write(path(), page(mutants, &idle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("docs/conformance.md: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The cases that fail this store. Models and histories take their time to make a story short, and each of
/// them is some mutant's expected case.
fn all_that_catch(mutant: Mutant) -> Vec<&'static str> {
    let quick = |level| !matches!(level, Level::Model | Level::History);
    let deadline = if matches!(mutant.wrong, Wrong::Hangs(_)) { 1 } else { 60 };
    let mut options = Options::default().deadline(Duration::from_secs(deadline));
    options.only = cases().iter().filter(|case| quick(case.level)).map(|case| case.id.to_owned()).collect();
    let harness: Arc<dyn Harness> = Arc::new(mutant);
    run(&harness, &options).failures().map(|(case, _)| case.id).collect()
}
