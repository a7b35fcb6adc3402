//! The whole suite, over a file of its own for each case.

use std::sync::Arc;

use oncekey_conformance::{BoxError, Harness, Namespace, TimeControl};
use oncekey_core::{Clock, async_trait};
use oncekey_example_own_backend::RedbStore;

#[derive(Debug)]
struct Redb;

#[async_trait]
impl Harness for Redb {
    fn name(&self) -> &str {
        "redb"
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let folder = tempfile::tempdir()?;
        let store = RedbStore::open(folder.path().join("oncekey.redb"))?.with_clock(clock.clone());
        // redb has one handle a file: a second client is a clone.
        let client = move || Ok(Arc::new(store.clone()) as _);
        Ok(Namespace::new(TimeControl::clock(clock), client).keeping(folder))
    }
}

fn main() {
    oncekey_conformance::main(Redb);
}
