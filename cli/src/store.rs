//! The store of a run, whichever it is, opened and closed.

use std::sync::Arc;
use std::time::Duration;

use oncekey_core::{IdempotencyStore, Limits};
use oncekey_postgres::PostgresStore;
use oncekey_redis::RedisStore;
use oncekey_sqlite::SqliteStore;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::exit::{Exit, Trouble};
use crate::location::Location;
use crate::reach;
use crate::recorder::HEADERS;

/// How long a call is tried: while another process writes to the same file, while a server starts again.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take for one statement, beside the time that the answer is on its way.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(5);
/// The slowest way to a server on which the longest answer still arrives: 4 MiB a second.
const SLOWEST: usize = 4 << 20;
/// For goodbyes: a server that doesn't hear them loses nothing.
const CLOSE: Duration = Duration::from_secs(1);

/// A store that is open. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Sqlite(SqliteStore),
    Postgres { store: PostgresStore, call_deadline: Duration },
    Redis(RedisStore),
}

/// What a run happens on: one thread, for the command's death signal is bound to the thread that starts it
/// (tether.rs), and whatever else that store needs.
pub(crate) fn runtime(location: &Location) -> Result<Runtime, Trouble> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time();
    if matches!(location, Location::Postgres(_) | Location::Redis(_)) {
        builder.enable_io();
    }
    builder.build().map_err(|e| Trouble::new(Exit::System, format!("nothing is run: {e}")))
}

impl Store {
    /// Opens it for answers of at most so many bytes, and makes what isn't there yet.
    pub(crate) async fn open(location: &Location, max_output: usize) -> Result<Self, Trouble> {
        match location {
            Location::Sqlite(path) => {
                let builder = SqliteStore::builder().limits(Limits::new(max_output + HEADERS));
                let opened = builder.call_deadline(CALL_DEADLINE).open(path);
                opened.map(Self::Sqlite).map_err(|e| Trouble::store(&e))
            }
            Location::Postgres(database) => {
                let seconds = u64::try_from(max_output / SLOWEST).unwrap_or(u64::MAX);
                let on_its_way = Duration::from_secs(seconds);
                let call_deadline = CALL_DEADLINE + on_its_way;
                let builder = database
                    .builder()
                    // One caller: what it asks goes out alone.
                    .connections(1)
                    .response_limit(max_output + HEADERS)
                    .statement_deadline(STATEMENT_DEADLINE + on_its_way)
                    .call_deadline(call_deadline);
                let store = reach::open(database, builder).await?;
                store.ensure_schema().await.map_err(|e| reach::trouble(&e))?;
                Ok(Self::Postgres { store, call_deadline })
            }
            Location::Redis(keyspace) => {
                let builder = keyspace.builder().limits(Limits::new(max_output + HEADERS));
                let opened = builder.call_deadline(CALL_DEADLINE).connect(keyspace.url()).await;
                opened.map(Self::Redis).map_err(|e| Trouble::store(&e))
            }
            Location::Memory => Err(Trouble::usage(
                "a store in memory ends with this process, and no later call would find the answer: give \
                 sqlite:PATH",
            )),
        }
    }

    /// As the runner has it.
    pub(crate) fn shared(&self) -> Arc<dyn IdempotencyStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres { store, .. } => Arc::new(store.clone()),
            Self::Redis(store) => Arc::new(store.clone()),
        }
    }

    /// How long the runner tries a call.
    pub(crate) fn call_deadline(&self) -> Duration {
        match self {
            Self::Sqlite(_) | Self::Redis(_) => CALL_DEADLINE,
            Self::Postgres { call_deadline, .. } => *call_deadline,
        }
    }

    /// Closes it in order: a file then needs no recovery when it is opened next. A server has no connection
    /// that broke in its log, and has heard what wakes those who wait: that statement began behind the answer,
    /// in a task of its own, and has its connection by now, which a pool that closes waits for.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres { store, .. } => drop(timeout(CLOSE, store.pool().close()).await),
            Self::Redis(store) => drop(timeout(CLOSE, store.close()).await),
        }
    }
}
