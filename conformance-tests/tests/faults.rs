//! The suite on the memory store, with a network between that loses, repeats and delays calls.

use std::sync::Arc;

use oncekey_conformance::{
    BoxError, Capabilities, Capability, Faults, Harness, Namespace, Options, TimeControl, run,
};
use oncekey_core::{Clock, Faulty, MemoryStore, Method, Odds, async_trait};

#[derive(Debug)]
struct Wire(Faulty<MemoryStore>);

impl Faults for Wire {
    fn begin(&self) {
        self.0.odds(Method::ALL, Odds::none().refused(0.2).answer_lost(0.2).late(0.2).ghost(0.2));
    }
    fn end(&self) {
        self.0.odds(Method::ALL, Odds::none());
        // What was under way arrives now, beside whatever comes next.
        let late = self.0.clone();
        drop(tokio::spawn(async move { late.deliver_late().await }));
    }
}

#[derive(Debug)]
struct OverAWire;

#[async_trait]
impl Harness for OverAWire {
    fn name(&self) -> &str {
        "memory, over a wire"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::all().with(Capability::Faults)
    }
    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let store = Faulty::seeded(MemoryStore::builder().clock(clock.clone()).build(), fastrand::u64(..));
        let wire = Wire(store.clone());
        Ok(Namespace::new(TimeControl::clock(clock), move || Ok(Arc::new(store.clone()))).with_faults(wire))
    }
}

#[test]
fn calls_that_fail_on_the_way_say_their_effect_and_may_be_repeated() {
    let harness: Arc<dyn Harness> = Arc::new(OverAWire);
    let report = run(&harness, &Options::default().only("fail"));
    assert!(report.passed(), "{report}");
    assert!(report.results.len() >= 3, "{report}");
}
