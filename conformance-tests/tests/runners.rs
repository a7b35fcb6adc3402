//! A run of the suite: what a store lacks is ignored and still checked, and the report says what was seen.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use oncekey_conformance::{
    BoxError, Capabilities, Capability, Harness, MemoryHarness, Namespace, Options, Report, TimeControl,
    Verdict, cases, rules_covered, run,
};
use oncekey_core::*;

fn ids() -> Vec<&'static str> {
    cases().iter().map(|case| case.id).collect()
}

fn report(harness: impl Harness, options: &Options) -> Report {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    run(&harness, options)
}

#[test]
fn each_case_has_a_name_of_its_own_and_a_rule() {
    let names: BTreeSet<_> = ids().into_iter().collect();
    assert_eq!(names.len(), ids().len(), "a name is used twice");
    for case in cases() {
        assert!(!case.rules.is_empty(), "{} tests no rule", case.id);
        for rule in case.rules {
            let number = rule.strip_prefix(['R', 'C', 'W', 'L', 'O', 'Q', 'G', 'S', 'T']);
            assert!(number.is_some_and(|n| n.parse::<u8>().is_ok()), "{}: {rule} is no rule", case.id);
        }
    }
    assert!(rules_covered()["R5"].contains(&"takeover_hands_on_the_checkpoint"));
}

/// A store whose clock nobody moves, and that is no operator's.
#[derive(Debug)]
struct Bare;

#[async_trait]
impl Harness for Bare {
    fn name(&self) -> &str {
        "bare"
    }
    fn capabilities(&self) -> Capabilities {
        use Capability::{Assess, Purge, Resolve, RewindTime, Scan, ShiftTime, Stats};
        let lacks = [Resolve, Purge, Scan, Stats, Assess, ShiftTime, RewindTime];
        lacks.into_iter().fold(Capabilities::all(), Capabilities::without)
    }
    async fn open(&self) -> Result<Namespace, BoxError> {
        let store = MemoryStore::new();
        Ok(Namespace::new(TimeControl::Wall, move || Ok(Arc::new(BareStore(store.clone())))))
    }
}

/// The memory store without what operators need.
#[derive(Debug)]
struct BareStore(MemoryStore);

#[async_trait]
impl IdempotencyStore for BareStore {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    async fn ensure_schema(&self) -> Result<(), StoreError> {
        self.0.ensure_schema().await
    }
    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        self.0.reserve_or_fetch(slot, token, request).await
    }
    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        self.0.renew(slot, grant, renewal).await
    }
    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        it: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.0.complete(slot, grant, it).await
    }
    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        self.0.release(slot, grant).await
    }
    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        self.0.lookup(slot).await
    }
    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        self.0.garbage_collect(limit).await
    }
    fn watch(&self, slot: &Slot) -> Watch {
        self.0.watch(slot)
    }
}

fn lacking<T>(operation: &'static str) -> Result<T, StoreError> {
    Err(StoreError::new(ErrorKind::Unsupported, operation, Effect::NotApplied, "this store can't do that"))
}

#[async_trait]
impl IdempotencyAdmin for BareStore {
    async fn resolve(&self, _: &Slot, _: Seen, _: &Resolution) -> Result<ResolveOutcome, StoreError> {
        lacking("resolve")
    }
    async fn purge(&self, _: &Slot, _: Fence) -> Result<bool, StoreError> {
        lacking("purge")
    }
    async fn scan(&self, _: &ScanRequest) -> Result<Page, StoreError> {
        lacking("scan")
    }
    async fn stats(&self) -> Result<Stats, StoreError> {
        lacking("stats")
    }
    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        lacking("assess")
    }
}

#[test]
fn what_a_store_lacks_is_ignored_and_the_rest_passes_on_a_clock_that_nobody_moves() {
    let report = report(Bare, &Options::default().threads(32));
    assert!(report.passed(), "{report}");
    for result in &report.results {
        let ignored = matches!(result.verdict, Verdict::Ignored(_));
        let lacks = result.case.needs.iter().any(|need| !Bare.capabilities().has(*need));
        assert_eq!(ignored, lacks, "{}: {:?}", result.case.id, result.verdict);
    }
    let text = report.to_string();
    assert!(text.contains("the store lacks [ShiftTime]"), "{text}");
    assert!(report.to_json().contains("\"verdict\":\"ignored\""), "{}", report.to_json());
}

/// Says that it lacks nothing, over a store that does.
#[derive(Debug)]
struct Boaster;

#[async_trait]
impl Harness for Boaster {
    fn name(&self) -> &str {
        "boaster"
    }
    async fn open(&self) -> Result<Namespace, BoxError> {
        Bare.open().await
    }
}

#[test]
fn a_harness_that_promises_too_much_is_told_what_to_declare() {
    let report =
        report(Boaster, &Options::default().only("time_moves_as_the_harness_says").only("retry_after_is"));
    let text = report.to_string();
    assert!(!report.passed(), "{text}");
    assert!(text.contains("declare") && text.contains("without(Capability::ShiftTime)"), "{text}");
    let lacking = self::report(Boaster, &Options::default().only("what_is_lacking"));
    assert!(!lacking.passed(), "{lacking}");
}

/// Says that it lacks everything, over a store that has it.
#[derive(Debug)]
struct Modest;

#[async_trait]
impl Harness for Modest {
    fn name(&self) -> &str {
        "modest"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::all().without(Capability::Scan)
    }
    async fn open(&self) -> Result<Namespace, BoxError> {
        MemoryHarness.open().await
    }
}

#[test]
fn what_a_harness_denies_must_answer_unsupported() {
    let report = report(Modest, &Options::default().only("what_is_lacking"));
    assert!(report.to_string().contains("Unsupported"), "{report}");
}

#[test]
fn a_run_can_stop_at_its_first_failure_and_says_its_seed() {
    let options = Options::default().fail_fast().threads(1).seed(4711).only("what_is_lacking").only("R1");
    let report = report(Modest, &options);
    assert_eq!(report.results.len(), 1, "{report}");
    assert!(report.to_string().contains("ONCEKEY_SEED=4711"), "{report}");
    assert!(report.to_json().contains("\"seed\":4711"), "{}", report.to_json());
}
