//! `oncekey conformance`: the suite, against the store at a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncekey_conformance::{
    BoxError, Capabilities, Capability, Harness, MemoryHarness, Namespace, Options, TimeControl,
    run as run_suite,
};
use oncekey_core::{Clock, async_trait};
use oncekey_sqlite::SqliteStore;

use crate::args::Conformance;
use crate::exit::{Exit, Trouble};
use crate::keys::Keys;
use crate::location::{Location, folder_of};
use crate::outlet::{Outlet, Stream, say};
use crate::store;
use crate::tables::Tables;

pub(crate) fn run(args: &Conformance) -> Result<Exit, Trouble> {
    let mut options = match args.seed {
        Some(seed) => Options::default().seed(seed),
        None => Options::from_env().map_err(Trouble::usage)?,
    };
    for text in &args.filter {
        options = options.only(text);
    }
    let location = Location::find(&args.store)?;
    let runtime = store::runtime(&location)?;
    let report = match location {
        Location::Memory => run_suite(&(Arc::new(MemoryHarness) as _), &options),
        Location::Sqlite(path) => run_suite(&(Arc::new(Files::beside(&path)?) as _), &options),
        Location::Postgres(database) => {
            let tables = Arc::new(runtime.block_on(Tables::begin(database))?);
            let report = run_suite(&(Arc::clone(&tables) as _), &options);
            if let Err(trouble) = runtime.block_on(tables.end()) {
                say(trouble);
            }
            report
        }
        Location::Redis(keyspace) => {
            let keys = Arc::new(runtime.block_on(Keys::begin(&keyspace))?);
            let report = run_suite(&(Arc::clone(&keys) as _), &options);
            if let Err(trouble) = runtime.block_on(keys.end()) {
                say(trouble);
            }
            report
        }
    };
    if report.results.is_empty() {
        return Err(Trouble::usage("no case has such an id or tests such a rule; without --filter all run"));
    }
    let text = if args.json { report.to_json() } else { report.to_string() };
    let written = Outlet::new(Stream::Out).write(text.as_bytes());
    written.map_err(|e| Trouble::new(Exit::OutputLost, format!("the report could not be written: {e}")))?;
    Ok(if report.passed() { Exit::Code(0) } else { Exit::StoreWrong })
}

/// Files in a temporary folder beside the one that was named: on its disk, with its file system's ways, and
/// without touching it.
#[derive(Debug)]
struct Files {
    name: String,
    folder: tempfile::TempDir,
}

impl Files {
    fn beside(path: &Path) -> Result<Self, Trouble> {
        let beside = folder_of(path);
        let folder =
            tempfile::Builder::new().prefix(".oncekey-conformance-").tempdir_in(beside).map_err(|e| {
                let message = format!("no folder can be made in {}: {e}", beside.display());
                Trouble::new(Exit::StoreUnavailable, message)
            })?;
        Ok(Self { name: format!("sqlite, files in {}", beside.display()), folder })
    }
}

#[async_trait]
impl Harness for Files {
    fn name(&self) -> &str {
        &self.name
    }

    /// A change through another store on the file is found by looking again.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all().without(Capability::Wake)
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let clock = Clock::shiftable();
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let path: PathBuf = folder.path().join("oncekey.db");
        let open = {
            let clock = clock.clone();
            move || Ok(Arc::new(SqliteStore::builder().clock(clock.clone()).open(&path)?) as _)
        };
        Ok(Namespace::new(TimeControl::clock(clock), open).keeping(folder))
    }
}
