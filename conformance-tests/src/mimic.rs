//! Runs the cases as tests: `cargo test` and nextest list, filter and report them one by one.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::case::Case;
use crate::execute::{execute, missing};
use crate::harness::Harness;
use crate::options::{Options, SEED_VARIABLE};
use crate::registry;
use crate::report::Verdict;

/// Runs the suite as the `main` of a test with `harness = false`, and ends the process: with 0 if no case
/// failed.
///
/// It understands what a test binary is told: a filter, `--exact`, `--list`, `--ignored` and the rest.
/// `ONCEKEY_SEED` replays a failure.
pub fn main(harness: impl Harness) -> ! {
    let mut arguments = Arguments::from_args();
    let options = Options::from_env().unwrap_or_else(|e| {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{e}\n").as_bytes());
        std::process::exit(2)
    });
    arguments.test_threads.get_or_insert(options.threads_or_cores());
    let harness: Arc<dyn Harness> = Arc::new(harness);
    libtest_mimic::run(&arguments, trials(&harness, &options)).exit()
}

/// One test for each case, named by its id.
pub(crate) fn trials(harness: &Arc<dyn Harness>, options: &Options) -> Vec<Trial> {
    let (seed, deadline) = (options.seed_or_drawn(), options.deadline);
    let trial = |case: Case| {
        let ignored = !missing(harness, &case).is_empty();
        let harness = Arc::clone(harness);
        // nextest learns from the list what is ignored; `cargo test` prints the reason as well.
        let flagged = ignored && std::env::var_os("NEXTEST").is_some();
        Trial::ignorable_test(case.id, move || attempt(&harness, &case, seed, deadline))
            .with_ignored_flag(flagged)
    };
    registry::cases().into_iter().map(trial).collect()
}

fn attempt(
    harness: &Arc<dyn Harness>,
    case: &Case,
    seed: u64,
    deadline: Duration,
) -> Result<Completion, Failed> {
    match execute(harness, case, seed, deadline).verdict {
        Verdict::Passed => Ok(Completion::Completed),
        Verdict::Ignored(missing) => Ok(Completion::ignored_with(format!("the store lacks {missing:?}"))),
        Verdict::Failed(failure) => Err(Failed::from(story(case, &failure, seed))),
    }
}

/// A failure with all that somebody needs to mend the store.
pub(crate) fn story(case: &Case, failure: &str, seed: u64) -> String {
    format!(
        "{failure}\nrules: {} (docs/spec.md)\nagain: {SEED_VARIABLE}={seed}, and this case's name as the filter",
        case.rules.join(", ")
    )
}
