//! A case that hangs fails, and is named; alone in this file, since it takes the process's runtime along.

use std::sync::Arc;
use std::time::Duration;

use oncekey_conformance::{BoxError, Harness, Namespace, Options, run};
use oncekey_core::async_trait;

/// Never opens: it waits, or blocks the thread that it is called on.
#[derive(Debug)]
struct Stuck {
    blocking: bool,
}

#[async_trait]
impl Harness for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }
    async fn open(&self) -> Result<Namespace, BoxError> {
        if self.blocking {
            loop {
                std::thread::park();
            }
        }
        std::future::pending().await
    }
}

#[test]
fn a_case_that_hangs_fails_by_its_deadline_and_is_named() {
    // The second run has as many cases as block every thread of the runtime, and more.
    for blocking in [false, true] {
        let options =
            Options::default().deadline(Duration::from_millis(100)).only("R1").only("R9").threads(32);
        let harness: Arc<dyn Harness> = Arc::new(Stuck { blocking });
        let report = run(&harness, &options);
        assert!(report.results.len() > 8, "{report}");
        assert_eq!(report.failures().count(), report.results.len(), "{report}");
        let named = report.failures().any(|(case, told)| {
            case.id == "an_unknown_slot_is_reserved" && told.contains("no end within 100ms")
        });
        assert!(named, "{report}");
    }
}
