//! All cases, as one list. The three runners (`main`, `run`, `plain_tests!`) share it.

use std::collections::BTreeMap;

use crate::case::Case;

/// Every case of the suite, in the order of the spec.
pub fn cases() -> Vec<Case> {
    crate::cases::all()
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
