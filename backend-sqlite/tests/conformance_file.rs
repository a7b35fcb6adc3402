//! The suite, on files: each client a store of its own on the same file, as if in another process.

use std::sync::Arc;

use oncekey_conformance::{BoxError, Capabilities, Capability, Harness, Namespace, TimeControl};
use oncekey_sqlite::{Clock, SqliteStore, async_trait};

#[derive(Debug)]
struct File;

#[async_trait]
impl Harness for File {
    fn name(&self) -> &str {
        "sqlite, a file"
    }

    /// A change through another store on the file is found by looking again.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all().without(Capability::Wake)
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("oncekey.db");
        let open = {
            let clock = clock.clone();
            move || Ok(Arc::new(SqliteStore::builder().clock(clock.clone()).open(&path)?) as _)
        };
        Ok(Namespace::new(TimeControl::clock(clock), open).keeping(folder))
    }
}

fn main() {
    oncekey_conformance::main(File);
}
