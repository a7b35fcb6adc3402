//! The suite's harness: each case gets tables of its own in one database, each client connections of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_conformance::{BoxError, Harness, Namespace, ShiftTime, TimeControl};
use oncekey_postgres::{ClockOffset, IdempotencyStore, PostgresStore, PostgresStoreBuilder, async_trait};
use oncekey_testbed::postgres;

const STALL: Duration = Duration::from_secs(4);

/// Stores in a database, each with what the builder says.
#[derive(Debug)]
pub struct Tables {
    pub name: &'static str,
    pub url: String,
    pub builder: fn() -> PostgresStoreBuilder,
}

impl Tables {
    /// In the database of the server that all tests of this binary share.
    pub fn shared(name: &'static str, builder: fn() -> PostgresStoreBuilder) -> Result<Self, BoxError> {
        let server = postgres::shared()?;
        Ok(Self { name, url: server.url("postgres"), builder })
    }
}

struct Clock(ClockOffset);

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rewind(&self, by: Duration) -> bool {
        self.0.rewind(by);
        true
    }
}

#[async_trait]
impl Harness for Tables {
    fn name(&self) -> &str {
        self.name
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("suite_{}", std::process::id());
        let table = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = ClockOffset::shiftable();
        let builder = (self.builder)().schema(&schema).table(&table).clock_offset(offset.clone());
        // A busy machine may stall a session that holds a row's lock for longer than the default, and the others
        // hear `InFlight` (T3), which is no answer of the state machine.
        let builder = builder.lock_timeout(STALL);
        // `cargo xtask guards` takes clauses out.
        let builder = match std::env::var_os("ONCEKEY_SQL") {
            Some(folder) => builder.sql_folder(folder),
            None => builder,
        };
        let store = builder.clone().connect_lazy(&self.url)?;
        store.ensure_schema().await?;
        let cleared = Cleared { schema, table };
        let (url, first) = (self.url.clone(), std::sync::Mutex::new(Some(store)));
        let connect = move || {
            let first = first.lock().ok().and_then(|mut first| first.take());
            let store: PostgresStore = match first {
                Some(store) => store,
                None => builder.clone().connect_lazy(&url)?,
            };
            Ok(Arc::new(store) as _)
        };
        Ok(Namespace::new(TimeControl::Shift(Arc::new(Clock(offset))), connect).keeping(cleared))
    }
}

/// Takes the tables away again, where the server is the user's.
struct Cleared {
    schema: String,
    table: String,
}

impl Drop for Cleared {
    fn drop(&mut self) {
        let Self { schema, table } = self;
        if std::env::var_os("DATABASE_URL").is_some()
            && let Ok(server) = postgres::shared()
        {
            let drop = format!(
                "DROP TABLE \"{schema}\".\"{table}\", \"{schema}\".\"{table}_meta\"; DROP SCHEMA IF EXISTS \"{schema}\""
            );
            // The schema goes with its last table.
            let _ = server.psql(&drop);
        }
    }
}
