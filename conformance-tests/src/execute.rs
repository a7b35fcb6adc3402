//! Runs a case: in a namespace of its own, with a deadline that holds even when the case blocks.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::case::{Case, Context, Failure};
use crate::harness::{Capability, Harness};
use crate::options::Options;
use crate::registry;
use crate::report::{CaseReport, Report, Verdict};

/// Runs the suite and reports. It blocks the calling thread, inside an async runtime too: the cases run
/// on a runtime of their own.
///
/// ```
/// use oncekey_conformance::{Harness, MemoryHarness, Options, run};
/// use std::sync::Arc;
///
/// let harness: Arc<dyn Harness> = Arc::new(MemoryHarness);
/// let report = run(&harness, &Options::default().only("R1"));
/// assert!(report.passed(), "{report}");
/// ```
#[allow(clippy::missing_panics_doc, reason = "the lock is never poisoned: nothing under it panics")]
pub fn run(harness: &Arc<dyn Harness>, options: &Options) -> Report {
    let begun = Instant::now();
    let seed = options.seed_or_drawn();
    let cases: Vec<Case> = registry::cases().into_iter().filter(|case| options.wants(case)).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..options.threads_or_cores().min(cases.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    let result = execute(harness, case, seed, options.deadline);
                    if options.fail_fast && matches!(result.verdict, Verdict::Failed(_)) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    Report::new(harness.name().to_owned(), seed, begun.elapsed(), results)
}

/// Runs one case, or says what the store lacks for it.
pub(crate) fn execute(harness: &Arc<dyn Harness>, case: &Case, seed: u64, deadline: Duration) -> CaseReport {
    let begun = Instant::now();
    let missing = missing(harness, case);
    let verdict = if missing.is_empty() {
        match settle(harness, case, seed, deadline) {
            Ok(()) => Verdict::Passed,
            Err(failure) => Verdict::Failed(failure.0),
        }
    } else {
        Verdict::Ignored(missing)
    };
    CaseReport { case: *case, verdict, elapsed: begun.elapsed() }
}

/// What the case needs and the store lacks.
pub(crate) fn missing(harness: &Arc<dyn Harness>, case: &Case) -> Vec<Capability> {
    let capabilities = harness.capabilities();
    case.needs.iter().copied().filter(|need| !capabilities.has(*need)).collect()
}

/// The case's own result, its panic, or its deadline.
///
/// The wait is for a thread's channel and not for a timer of the runtime: a case that blocks every worker
/// of the runtime still fails by its deadline.
fn settle(harness: &Arc<dyn Harness>, case: &Case, seed: u64, deadline: Duration) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (tell, told) = mpsc::channel();
    let (harness, case) = (Arc::clone(harness), *case);
    let task = runtime.spawn(async move {
        let namespace = harness
            .open()
            .await
            .map_err(|e| Failure(format!("the harness couldn't open a namespace: {e}")))?;
        let capabilities = Arc::new(harness.capabilities());
        (case.run)(Context { namespace, seed, capabilities, deadline }).await
    });
    let abort = task.abort_handle();
    runtime.spawn(async move {
        let result = match task.await {
            Ok(result) => result,
            Err(ended) => Err(Failure(match ended.try_into_panic() {
                Ok(panic) => format!("panicked: {}", panic_text(&*panic)),
                Err(ended) => ended.to_string(),
            })),
        };
        // Nobody listens after the deadline.
        let _ = tell.send(result);
    });
    told.recv_timeout(deadline).unwrap_or_else(|_| {
        abort.abort();
        Err(Failure(format!(
            "no end within {deadline:?}: a call of the store's never answered, or waits for another"
        )))
    })
}

/// One runtime for the whole process: a harness may keep connections that belong to it.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        // Races need threads that really run at once, even where there are fewer cores.
        let workers = std::thread::available_parallelism().map_or(1, usize::from).max(4);
        Builder::new_multi_thread().worker_threads(workers).enable_all().thread_name("conformance").build()
    });
    made.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with something that is no text")
}
