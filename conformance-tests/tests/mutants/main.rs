//! The proof that the suite proves: stores that are wrong in one way each, and the case that must fail each.
//!
//! One test a mutant, named after what it does wrong. The control is the same store without a mutation: it
//! passes every case, `ONCEKEY_ROUNDS` times in a row. With `ONCEKEY_MUTANTS=write` the whole suite is run
//! on each, and docs/conformance.md is written anew (`cargo xtask mutants`).

#![allow(clippy::panic, reason = "a test: its failure is a panic")]

mod bend;
mod completing;
mod failing;
mod fencing;
mod holding;
mod keeping;
mod mutant;
mod operating;
mod racing;
mod releasing;
mod repeating;
mod reserving;
mod store;
mod table;
mod takeovers;
mod waking;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use oncekey_conformance::{Case, Harness, Level, Options, cases, run};

use mutant::{Mutant, Wrong, mutant};

/// Every mutant, by theme.
fn mutants() -> Vec<Mutant> {
    [
        reserving::MUTANTS,
        repeating::MUTANTS,
        takeovers::MUTANTS,
        completing::MUTANTS,
        holding::MUTANTS,
        releasing::MUTANTS,
        operating::MUTANTS,
        fencing::MUTANTS,
        keeping::MUTANTS,
        racing::MUTANTS,
        failing::MUTANTS,
        waking::MUTANTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    if std::env::var("ONCEKEY_MUTANTS").is_ok_and(|what| what == "write") {
        return table::write(&mutants());
    }
    let mut trials = vec![
        Trial::test("a_store_without_a_mutation_passes_every_case", control),
        Trial::test("each_mutant_has_a_name_and_a_case_that_exists", names),
        Trial::test("each_random_case_catches_a_mutant", random_cases),
        Trial::test("docs_conformance_md_is_in_step", || table::check(&mutants())),
    ];
    trials.extend(mutants().into_iter().map(|mutant| Trial::test(mutant.name, move || caught(mutant))));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn control() -> Result<(), Failed> {
    let rounds = std::env::var("ONCEKEY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let harness: Arc<dyn Harness> = Arc::new(mutant("control", "", &[], Wrong::Nothing));
    for round in 1..=rounds {
        let report = run(&harness, &Options::from_env()?);
        if !report.passed() {
            return Err(format!("round {round} of {rounds}: {report}").into());
        }
    }
    Ok(())
}

/// Each of the named cases fails; one that needs luck is given some tries.
fn caught(mutant: Mutant) -> Result<(), Failed> {
    for expected in mutant.caught_by {
        let case = cases().into_iter().find(|case| case.id == *expected);
        let case = case.ok_or_else(|| format!("there is no case {expected}"))?;
        let tries = if case.level >= Level::Race { 10 } else { 1 };
        let failure = (0..tries).find_map(|_| survives(mutant, &case).err());
        let Some(failure) = failure else {
            return Err(format!("survived {expected}").into());
        };
        let hung = failure.contains("no end within");
        if hung != matches!(mutant.wrong, Wrong::Hangs(_)) || failure.starts_with("panicked") {
            return Err(format!("failed {expected}, and for another reason: {failure}").into());
        }
    }
    Ok(())
}

/// Runs the case on the mutant: what the case said, if it failed.
fn survives(mutant: Mutant, case: &Case) -> Result<(), String> {
    let deadline = Duration::from_secs(match mutant.wrong {
        Wrong::Hangs(_) => 1,
        // A case waits for its wake for a part of this.
        Wrong::Watches(_) | Wrong::Wakes(_) | Wrong::WakesEarly => 5,
        _ => 60,
    });
    let options = Options::from_env()?.only(case.id).threads(1).deadline(deadline);
    let harness: Arc<dyn Harness> = Arc::new(mutant);
    let report = run(&harness, &options);
    let failed = report.failures().find(|(failed, _)| failed.id == case.id);
    failed.map_or(Ok(()), |(_, failure)| Err(failure.to_owned()))
}

fn names() -> Result<(), Failed> {
    let ids: BTreeSet<_> = cases().iter().map(|case| case.id).collect();
    let mut names = BTreeSet::new();
    for mutant in mutants() {
        if !names.insert(mutant.name) || ids.contains(mutant.name) {
            return Err(format!("{}: the name is taken", mutant.name).into());
        }
        if mutant.caught_by.is_empty() || mutant.stands_for.is_empty() {
            return Err(format!("{} stands for nothing, or nobody catches it", mutant.name).into());
        }
        if let Some(unknown) = mutant.caught_by.iter().find(|id| !ids.contains(*id)) {
            return Err(format!("{}: there is no case {unknown}", mutant.name).into());
        }
    }
    Ok(())
}

/// Models and histories would pass in silence if they looked at nothing.
fn random_cases() -> Result<(), Failed> {
    let expected: BTreeSet<_> = mutants().iter().flat_map(|mutant| mutant.caught_by).copied().collect();
    let random = cases().into_iter().filter(|case| matches!(case.level, Level::Model | Level::History));
    let idle: Vec<_> = random.map(|case| case.id).filter(|id| !expected.contains(id)).collect();
    if idle.is_empty() { Ok(()) } else { Err(format!("no mutant is caught by {idle:?}").into()) }
}
