//! [`PostgresStoreBuilder`]: what can be chosen.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use oncekey_core::{Effect, ErrorKind, InvalidInput, Limits, StoreError};
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::bounds::Bounds;
use crate::connection::{ClockOffset, Link, own_pool};
use crate::error::too_late;
use crate::gather::Herd;
use crate::identifier::Table;
use crate::kept::Kept;
use crate::schema::{self, Found, Layout};
use crate::store::{PostgresStore, Settings};

/// The oldest server that is known to do: later ones are accepted.
const OLDEST: u32 = 140_000;
/// Connections of an own pool beside those of batches and single calls: for calls that wait for a lock, and for
/// operators.
const ASIDE: u32 = 6;
/// Statements at a time that wait for locked slots; so many of the connections aside may be theirs. Where more slots
/// are locked, the others are looked at now and then.
const PATIENT: usize = 4;
const MOST_PARTITIONS: u32 = 1_024;
/// A deadline that never comes: the longest that the server has a number of milliseconds for, 24 days.
const FOREVER: Duration = Duration::from_millis(i32::MAX as u64);

/// How a [`PostgresStore`] is set up.
///
/// ```
/// use oncekey_postgres::PostgresStore;
/// use std::time::Duration;
///
/// let builder = PostgresStore::builder()
///     .schema("payments")
///     .table("idempotency")
///     .connections(4)
///     .call_deadline(Duration::from_secs(3));
/// assert!(builder.schema_sql()?.contains(r#"CREATE TABLE "payments"."idempotency""#));
/// # Ok::<(), oncekey_postgres::InvalidInput>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it opens nothing by itself: connect, or from_pool"]
pub struct PostgresStoreBuilder {
    schema: String,
    table: String,
    partitions: Option<u32>,
    connections: u32,
    singles: u32,
    statement_deadline: Duration,
    batch_lock_timeout: Duration,
    lock_timeout: Duration,
    call_deadline: Duration,
    batch_rows: usize,
    batch_bytes: usize,
    limits: Limits,
    transaction_pooler: bool,
    notifications: bool,
    offset: ClockOffset,
    always_batches: bool,
    asks: bool,
    sql_folder: Option<PathBuf>,
}

impl Default for PostgresStoreBuilder {
    fn default() -> Self {
        Self {
            schema: "public".to_owned(),
            table: "oncekey_slots".to_owned(),
            partitions: None,
            connections: 2,
            singles: 4,
            statement_deadline: Duration::from_secs(5),
            batch_lock_timeout: Duration::from_millis(50),
            lock_timeout: Duration::from_secs(1),
            call_deadline: Duration::from_secs(10),
            batch_rows: 256,
            batch_bytes: 4 * 1024 * 1024,
            limits: Limits::default(),
            transaction_pooler: false,
            notifications: true,
            offset: ClockOffset::default(),
            always_batches: false,
            asks: true,
            sql_folder: None,
        }
    }
}

impl PostgresStoreBuilder {
    /// The schema of the table; `public` by default. [`ensure_schema`](oncekey_core::IdempotencyStore::ensure_schema)
    /// makes it where it isn't there.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// The table; `oncekey_slots` by default. Any name, quoted, of at most 51 bytes. Its version is kept in
    /// a table beside it, `oncekey_slots_meta`.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Divides the records by the hash of their slot into so many tables, when the schema is made: for what
    /// outgrows one table's vacuum. A schema that is there stays as it is. 2 to 1 024.
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// How many statements of gathered calls go out at a time; 2 by default. More connections make batches
    /// smaller: measure before you raise it (docs/benchmarks.md). An own pool has some more, for calls that
    /// wait for a lock and for operators. At least 1.
    pub fn connections(mut self, count: u32) -> Self {
        self.connections = count;
        self
    }

    /// How long the server may take for one statement, its locks included; 5 s by default. Then it gives the
    /// statement up (`statement_timeout`, which the store sets in its own sessions unless the URL does), and the call is
    /// made again within its own deadline. A connection on which nothing is heard an eighth of this later is closed.
    ///
    /// The sessions of a [caller's pool](Self::from_pool) keep their own `statement_timeout`: without one, a
    /// statement that nobody waits for any longer stays on the server for as long as somebody locks the table.
    pub fn statement_deadline(mut self, deadline: Duration) -> Self {
        self.statement_deadline = deadline.min(FOREVER);
        self
    }

    /// How long a call waits for a row that somebody's open transaction holds, before a reserve answers
    /// InFlight and another call times out (T3); 1 s by default. Keep it far below your leases.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout.min(FOREVER / 2);
        self
    }

    /// How long one call is tried in all; 10 s by default.
    pub fn call_deadline(mut self, deadline: Duration) -> Self {
        self.call_deadline = deadline.min(FOREVER);
        self
    }

    /// How many calls, and how many bytes of bodies and checkpoints, one statement may take; 256 and 4 MiB by
    /// default. A single larger call goes out by itself.
    pub fn batch(mut self, rows: usize, bytes: usize) -> Self {
        self.batch_rows = rows;
        self.batch_bytes = bytes;
        self
    }

    /// The most bytes of headers and body that an answer may have; 16 MiB by default.
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.limits = Limits::new(bytes);
        self
    }

    /// There is a pooler in transaction mode between this program and the server, such as PgBouncer. Nothing
    /// is then prepared for longer than a transaction, which costs three more round trips a statement, and
    /// no session setting is relied on. Nobody is woken by notifications.
    pub fn transaction_pooler(mut self) -> Self {
        self.transaction_pooler = true;
        self.notifications = false;
        self
    }

    /// Never LISTEN or NOTIFY: callers that wait poll. For a server where every connection counts: listening
    /// takes one of its own while somebody waits.
    pub fn without_notifications(mut self) -> Self {
        self.notifications = false;
        self
    }

    /// A clock that a test moves: it is added to the server's, in each statement.
    #[cfg(feature = "test-util")]
    pub fn clock_offset(mut self, offset: ClockOffset) -> Self {
        self.offset = offset;
        self
    }

    /// A call that goes alone takes the statement of a batch, of one row: so that the suite, whose callers mostly
    /// come one by one, looks at those too.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    pub fn always_batches(mut self) -> Self {
        self.always_batches = true;
        self
    }

    /// No connection is asked whether it is free: for tests that count what is sent.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    pub fn unasked(mut self) -> Self {
        self.asks = false;
        self
    }

    /// Statements of other texts, from the files of a folder: for `cargo xtask guards`, which takes their clauses
    /// out one by one.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    pub fn sql_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sql_folder = Some(folder.into());
        self
    }

    /// The SQL that makes schema and tables, for a migration tool of your own.
    /// [`ensure_schema`](oncekey_core::IdempotencyStore::ensure_schema) then finds them, and makes nothing.
    ///
    /// # Errors
    /// [`InvalidInput`] when a name or a number can't be meant.
    pub fn schema_sql(&self) -> Result<String, InvalidInput> {
        Ok(self.layout()?.script())
    }

    fn layout(&self) -> Result<Layout, InvalidInput> {
        let partitions = self.partitions;
        if partitions.is_some_and(|count| !(2..=MOST_PARTITIONS).contains(&count)) {
            return Err(InvalidInput::new("partitions: 2 to 1 024"));
        }
        Ok(Layout { table: Table::new(&self.schema, &self.table)?, partitions })
    }

    fn check(&self) -> Result<Layout, InvalidInput> {
        if self.connections == 0 || self.batch_rows == 0 {
            return Err(InvalidInput::new("connections and rows of a batch: at least 1"));
        }
        let least = Duration::from_millis(1);
        let deadlines = [self.statement_deadline, self.lock_timeout, self.call_deadline];
        if deadlines.into_iter().any(|deadline| deadline < least) {
            return Err(InvalidInput::new("statement, lock and call deadline: at least 1 ms"));
        }
        if self.lock_timeout >= self.statement_deadline {
            return Err(InvalidInput::new("lock_timeout is not below statement_deadline"));
        }
        self.layout()
    }

    /// Connects, with a pool of the store's own, and looks whether the server will do. Makes no table:
    /// [`ensure_schema`](oncekey_core::IdempotencyStore::ensure_schema) does.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a URL or a setting that can't be meant;
    /// [`Unsupported`](ErrorKind::Unsupported) for a server older than PostgreSQL 14;
    /// [`SchemaMissing`](ErrorKind::SchemaMissing) where a newer program made the tables; otherwise
    /// [`StoreError`].
    pub async fn connect(self, url: &str) -> Result<PostgresStore, StoreError> {
        let options = parse(url)?;
        self.connect_with(options).await
    }

    /// As [`connect`](Self::connect), with the driver's options: certificates, a socket, a password that no
    /// URL should hold.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(self, options: PgConnectOptions) -> Result<PostgresStore, StoreError> {
        let pool = self.own_pool(options);
        self.open(pool, true).await
    }

    /// On a pool of the caller's, shared with whatever else uses it: a statement takes one of its connections
    /// for as long as it runs. The sessions stay as they are; what that costs is in docs/benchmarks.md.
    ///
    /// A connection that the pool hands out in a transaction is closed: the driver gives one back so when the future of
    /// a `begin` is dropped half-way (sqlx 0.9), and what was written there would be rolled back. To ask costs a round
    /// trip for each connection that is taken from the pool, which the store's [own](Self::connect) seldom is.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_pool(self, pool: PgPool) -> Result<PostgresStore, StoreError> {
        self.open(pool, false).await
    }

    /// As [`connect`](Self::connect), without looking at the server: it is first reached by the first call, and
    /// what is wrong with it is that call's error. Needs no await.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a URL or a setting that can't be meant.
    pub fn connect_lazy(self, url: &str) -> Result<PostgresStore, StoreError> {
        let options = parse(url)?;
        let pool = self.own_pool(options);
        self.build(pool, true)
    }

    fn own_pool(&self, options: PgConnectOptions) -> PgPool {
        let most = self.connections.saturating_add(self.singles).saturating_add(ASIDE);
        own_pool(options, most, self.transaction_pooler, self.statement_deadline)
    }

    async fn open(self, pool: PgPool, own: bool) -> Result<PostgresStore, StoreError> {
        let store = self.build(pool, own)?;
        let (inner, deadline) = (Arc::clone(store.inner()), store.deadline());
        let looked = tokio::spawn(async move { look(&inner.link, &inner.layout, deadline).await });
        looked.await.map_err(|_| crate::error::gone(NAME, Effect::NotApplied))??;
        Ok(store)
    }

    fn build(self, pool: PgPool, own: bool) -> Result<PostgresStore, StoreError> {
        let layout = self.check().map_err(|invalid| invalid.in_operation(NAME))?;
        let link = Link {
            pool,
            own,
            kept: Kept::default(),
            pooled: self.transaction_pooler,
            asks: self.asks && !self.transaction_pooler,
            statement_deadline: self.statement_deadline,
            offset: self.offset,
        };
        let runners = usize::try_from(self.connections).unwrap_or(usize::MAX);
        let singles = usize::try_from(self.singles).unwrap_or(usize::MAX);
        // Whoever waits for a lock leaves half of a small pool to the others.
        let half = usize::try_from(link.pool.options().get_max_connections() / 2).unwrap_or(PATIENT);
        let patient = PATIENT.min(half);
        let bounds = Arc::new(Bounds {
            batch_rows: self.batch_rows,
            batch_bytes: self.batch_bytes,
            batches: Semaphore::new(runners),
            runners,
            herd: Herd::new(runners),
            lone: AtomicBool::new(false),
            singles: Semaphore::new(singles),
            glances: Semaphore::new((singles / 2).max(1)),
            patient: Semaphore::new(patient),
            batch_lock_timeout: self.batch_lock_timeout.min(self.lock_timeout),
            lock_timeout: self.lock_timeout,
            locked: std::sync::Mutex::default(),
            trouble: std::sync::Mutex::default(),
        });
        let settings = Settings {
            limits: self.limits,
            call_deadline: self.call_deadline.min(FOREVER),
            lock_timeout: self.lock_timeout,
            notifications: self.notifications,
            always_batches: self.always_batches,
            sql_folder: self.sql_folder,
        };
        Ok(PostgresStore::new(link, layout, bounds, settings))
    }
}

const NAME: &str = "connect";

/// What the driver says of a bad URL may repeat it, and with it a password.
fn parse(url: &str) -> Result<PgConnectOptions, StoreError> {
    // The driver takes whatever scheme there is, and another database's URL for one of its own.
    let ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    ours.then(|| PgConnectOptions::from_str(url).ok()).flatten().ok_or_else(|| {
        let message = "the URL is not one of PostgreSQL's: postgres://user:password@host:5432/database";
        InvalidInput::new(message).in_operation(NAME)
    })
}

/// Whether the server will do.
async fn look(link: &Link, layout: &Layout, deadline: Instant) -> Result<(), StoreError> {
    let mut connection =
        link.connection(deadline).await.map_err(|failure| failure.into_error(NAME, Effect::NotApplied))?;
    let version = connection.server_version_num();
    if version.is_some_and(|version| version < OLDEST) {
        let message = format!("the server is {version:?}, and PostgreSQL 14 is the oldest that will do");
        return Err(StoreError::new(ErrorKind::Unsupported, NAME, Effect::NotApplied, message));
    }
    let Ok(found) = timeout_at(deadline, schema::found(&mut connection, layout)).await else {
        // It has half an exchange on it.
        drop(connection.detach());
        return Err(too_late(NAME, Effect::NotApplied, None));
    };
    match found.map_err(|failure| failure.into_error(NAME, Effect::NotApplied))? {
        Found::Version(version) if version > schema::VERSION => Err(schema::newer(version)),
        Found::Version(_) | Found::Nothing => Ok(()),
    }
}
