//! The suite, in memory: what a service's unit tests use.

use std::sync::Arc;

use oncekey_conformance::{BoxError, Harness, Namespace, TimeControl};
use oncekey_sqlite::{Clock, SqliteStore, async_trait};

#[derive(Debug)]
struct InMemory;

#[async_trait]
impl Harness for InMemory {
    fn name(&self) -> &str {
        "sqlite, in memory"
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let store = SqliteStore::builder().clock(clock.clone()).in_memory()?;
        Ok(Namespace::new(TimeControl::clock(clock), move || Ok(Arc::new(store.clone()))))
    }
}

fn main() {
    oncekey_conformance::main(InMemory);
}
