//! The cases as plain `#[test]` functions, for those who want no test runner but the standard one.

use std::sync::Arc;

use crate::execute::execute;
use crate::harness::Harness;
use crate::mimic::story;
use crate::options::Options;
use crate::registry;
use crate::report::Verdict;

/// One `#[test]` for each case, named by its id, over the harness that the expression makes.
///
/// A case that needs what the store lacks passes, and says on standard error that it was ignored: the
/// standard runner can't ignore a test while it runs. [`main`](crate::main) shows it as ignored.
///
/// ```
/// mod conformance {
///     oncekey_conformance::plain_tests!(oncekey_conformance::MemoryHarness);
/// }
/// ```
#[macro_export]
macro_rules! plain_tests {
    ($harness:expr) => {
        $crate::__each_case!([$crate::__plain_test], $harness);

        /// The tests above are all of the suite's cases.
        #[test]
        fn every_case_is_a_test() {
            $crate::plain_tests_are_complete();
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __plain_test {
    ($harness:expr, $($id:ident)*) => {
        $(#[test]
        fn $id() {
            $crate::plain_test(stringify!($id), $harness);
        })*
    };
}

/// Runs one case, for [`plain_tests!`](crate::plain_tests).
///
/// # Panics
/// When the case fails: that is how a plain test does.
#[doc(hidden)]
#[allow(clippy::panic, reason = "a plain test fails by panicking")]
#[allow(clippy::print_stderr, reason = "the standard runner has no other way to show an ignored case")]
pub fn plain_test(id: &str, harness: impl Harness) {
    let options = Options::from_env().unwrap_or_else(|e| panic!("{e}"));
    let seed = options.seed_or_drawn();
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let Some(case) = registry::cases().into_iter().find(|case| case.id == id) else {
        panic!("no case is called {id}: the list in plain_cases.rs is not the registry's");
    };
    match execute(&harness, &case, seed, options.deadline).verdict {
        Verdict::Passed => {}
        Verdict::Ignored(missing) => eprintln!("{id}: ignored, the store lacks {missing:?}"),
        Verdict::Failed(failure) => panic!("{}", story(&case, &failure, seed)),
    }
}

/// Checks that the macro's list is the registry's.
///
/// # Panics
/// When it isn't, with the list as it should be.
#[doc(hidden)]
#[allow(clippy::panic, reason = "it is a test's body")]
pub fn plain_tests_are_complete() {
    let registry: Vec<_> = registry::cases().iter().map(|case| case.id).collect();
    if plain_cases() != registry {
        let lines: String = registry.iter().map(|id| format!("            {id}\n")).collect();
        panic!("plain_cases.rs is not the registry's list, which is:\n{lines}");
    }
}

/// The ids of the tests that [`plain_tests!`](crate::plain_tests) makes.
pub fn plain_cases() -> Vec<&'static str> {
    macro_rules! names {
        ($harness:expr, $($id:ident)*) => { vec![$(stringify!($id)),*] };
    }
    crate::__each_case!([names], ())
}
