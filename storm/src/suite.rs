//! Some of the suite's cases on a harness that a run of the whole would not suit: a wire that breaks, or is slow.

use std::sync::Arc;
use std::time::Duration;

use oncekey_conformance::{Capability, Case, Harness, Level, Options, Verdict, cases, run};

/// Calls that fail: no run of the whole suite has them.
pub fn needs_faults(case: &Case) -> bool {
    case.needs.contains(&Capability::Faults)
}

/// Races and histories, but for those whose hints may be lost.
pub fn races(case: &Case) -> bool {
    matches!(case.level, Level::Race | Level::History)
        && !needs_faults(case)
        && !case.needs.contains(&Capability::Wake)
}

/// Fails unless each of the wanted cases ran and passed.
pub fn passes(harness: impl Harness + 'static, wanted: impl Fn(&Case) -> bool) {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let wanted: Vec<_> = cases().into_iter().filter(|case| wanted(case)).collect();
    let options = Options::from_env().unwrap().deadline(Duration::from_secs(120));
    let report = run(&harness, &wanted.iter().fold(options, |options, case| options.only(case.id)));
    assert!(report.passed(), "{report}");
    for case in wanted {
        let ran = report.results.iter().any(|r| r.case.id == case.id && r.verdict == Verdict::Passed);
        assert!(ran, "{} didn't run:\n{report}", case.id);
    }
}
