//! All cases, as one list. The three runners (`main`, `run`, `plain_tests!`) share it.

use std::collections::BTreeMap;

use crate::case::Case;

/// Every case of the suite, in the order of the spec.
pub fn cases() -> Vec<Case> {
    let mut cases = crate::cases::all();
    cases.extend(crate::model::cases());
    cases.extend(crate::history::cases());
    cases
}

/// Which cases test which rule of docs/spec.md.
pub fn rules_covered() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut covered: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for case in cases() {
        for rule in case.rules {
            covered.entry(*rule).or_default().push(case.id);
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::harness::{Harness, MemoryHarness};
    use crate::options::Options;

    #[test]
    fn the_three_runners_have_one_list() {
        let ids: Vec<_> = cases().iter().map(|case| case.id).collect();
        let harness: Arc<dyn Harness> = Arc::new(MemoryHarness);
        let options = Options::default();
        let trials = crate::mimic::trials(&harness, &options);
        assert_eq!(trials.iter().map(|trial| trial.name()).collect::<Vec<_>>(), ids, "main");
        let report = crate::execute::run(&harness, &options);
        assert_eq!(report.results.iter().map(|result| result.case.id).collect::<Vec<_>>(), ids, "run");
        assert!(report.passed(), "{report}");
        crate::plain::plain_tests_are_complete();
    }
}
