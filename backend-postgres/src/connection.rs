//! [`Link`]: the way to the server. Connections of the store's own pool or of the caller's, statements with
//! a deadline, and what a pooler in between changes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Postgres, Row};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Connection, Failure};
use crate::kept::Kept;
use crate::statements::Sql;

/// How long whoever connects waits before it looks whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(100);

/// The server and how to talk to it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) pool: PgPool,
    /// Whether the pool is the store's own, and not the caller's.
    pub(crate) own: bool,
    /// What batches hand on, of a pool of the store's own.
    pub(crate) kept: Kept,
    /// A pooler in transaction mode hands each transaction another connection: nothing may be prepared for
    /// longer than one.
    pub(crate) pooled: bool,
    /// Whether a connection of the pool's is asked if it is free. Behind a pooler a statement's own BEGIN asks.
    pub(crate) asks: bool,
    /// How long the server may take for one statement, locks included. Its own pool's sessions know it.
    pub(crate) statement_deadline: Duration,
    pub(crate) offset: ClockOffset,
}

/// What is added to the server's clock: nothing, but in tests.
#[derive(Clone, Default, Debug)]
#[cfg_attr(not(feature = "test-util"), allow(unreachable_pub, reason = "public where tests may move it"))]
pub struct ClockOffset(Option<Arc<AtomicI64>>);

impl ClockOffset {
    /// An offset that can be moved; clones move together.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn shiftable() -> Self {
        Self(Some(Arc::default()))
    }

    /// Moves the store's clock, for all stores that share this offset.
    #[cfg(feature = "test-util")]
    pub fn advance(&self, by: Duration) {
        self.shift(crate::row::span(by));
    }

    /// Moves it back.
    #[cfg(feature = "test-util")]
    pub fn rewind(&self, by: Duration) {
        self.shift(crate::row::span(by).saturating_neg());
    }

    #[cfg(feature = "test-util")]
    fn shift(&self, micros: i64) {
        if let Some(offset) = &self.0 {
            offset.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// In microseconds.
    pub(crate) fn micros(&self) -> i64 {
        self.0.as_ref().map_or(0, |offset| offset.load(Ordering::SeqCst))
    }
}

/// What our connections ask of their session. A caller's own pool keeps its sessions as they are: every
/// statement is right under other settings too, if slower.
///
/// A batch joins its few rows with the table by the primary key. While the table is small a plan that reads
/// all of it looks cheaper, would be kept with the prepared statement, and be slow for as long as it takes
/// the table to grow and autovacuum to notice. So the ways in which it could are turned off, the plan is
/// made once, and JIT, which would take those for expensive, is off.
const SESSION: [(&str, &str); 8] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    // Under a stricter one, statements that meet are made again (40001).
    ("default_transaction_isolation", "read committed"),
    // A statement's own lock timeout is shorter; this is for a session whose client is gone.
    ("idle_in_transaction_session_timeout", "60000"),
];

/// How long a statement may take, as a setting of the server's. A table's lock comes before any lock timeout that a
/// statement sets itself: without this, a session that nobody waits for any longer would stand in line for as long
/// as somebody else's `VACUUM FULL` takes, and another, and another, until the server has no place left.
pub(crate) fn statement_timeout(deadline: Duration) -> String {
    deadline.as_millis().max(1).to_string()
}

/// A pool of the store's own: at most `connections`, of which none is asked whether it still lives before
/// each use. One that doesn't is found out by its statement, which is made again (S6).
pub(crate) fn own_pool(
    options: PgConnectOptions,
    connections: u32,
    pooled: bool,
    statement_deadline: Duration,
) -> PgPool {
    let mut options = options.extra_float_digits(None).disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name("oncekey");
    }
    if pooled {
        options = options.statement_cache_capacity(0);
    } else {
        // What the caller's URL sets stays as it is.
        let theirs = options.get_options().unwrap_or_default().to_owned();
        let timeout = statement_timeout(statement_deadline);
        let ours = SESSION.into_iter().chain([("statement_timeout", timeout.as_str())]);
        let ours = ours.filter(|(name, _)| !theirs.contains(name));
        options = PgConnectOptions::options(options, ours);
    }
    PgPoolOptions::new().max_connections(connections).test_before_acquire(false).connect_lazy_with(options)
}

/// Of a statement that is planned anew for one transaction, behind a pooler. A client that is gone must not keep its
/// locks: the pooler may not notice.
const BEGIN_POOLED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_bitmapscan = off; \
    SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = 60000";

const IS_FREE: &str = include_str!("../sql/is_free.sql");

fn says_free(rows: &[PgRow]) -> bool {
    let first = rows.first().and_then(|row| row.try_get_raw(0).ok());
    first.is_some_and(|value| value.as_str().is_ok_and(|said| said == "t"))
}

/// A connection that is asked whether it is free. Closed, unless it is taken out.
struct Asked(Option<PoolConnection<Postgres>>);

impl Asked {
    async fn is_free(&mut self) -> Result<bool, Failure> {
        let Some(connection) = &mut self.0 else { return Ok(false) };
        match sqlx::raw_sql(IS_FREE).fetch_all(&mut **connection).await {
            Ok(rows) => Ok(says_free(&rows)),
            Err(error) => match Failure::of(error) {
                // It failed, and nobody rolled it back.
                failure if failure.code().as_deref() == Some("25P02") => Ok(false),
                failure => Err(failure),
            },
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Link {
    /// A connection, by `until`.
    pub(crate) async fn connection(&self, until: Instant) -> Result<PoolConnection<Postgres>, Failure> {
        timeout_at(until, self.free_connection()).await.unwrap_or_else(|_| Err(self.no_connection_yet()))
    }

    /// One that is in no transaction. The driver gives a connection back to its pool in one if a `begin` was dropped
    /// half-way: what is written there is acknowledged, and rolled back later.
    async fn free_connection(&self) -> Result<PoolConnection<Postgres>, Failure> {
        loop {
            let acquired = self.pool.acquire().await.map_err(|error| match error {
                sqlx::Error::PoolTimedOut => self.no_connection_yet(),
                error => Failure::no_connection(error),
            })?;
            if !self.asks {
                return Ok(acquired);
            }
            let mut asked = Asked(Some(acquired));
            match asked.is_free().await {
                Ok(true) => {
                    if let Some(connection) = asked.0.take() {
                        return Ok(connection);
                    }
                }
                Ok(false) => {}
                Err(failure) => {
                    if failure.connection == Connection::Broken {
                        self.let_idle_go();
                    }
                    return Err(failure.not_applied());
                }
            }
        }
    }

    /// A server that went away took all connections along: each would fail one more try.
    fn let_idle_go(&self) {
        for kept in self.kept.take_all() {
            drop(kept.detach());
        }
        while let Some(idle) = self.own.then(|| self.pool.try_acquire()).flatten() {
            drop(idle.detach());
        }
    }

    /// A batch's connection comes from the batch before, if it can.
    pub(crate) fn kept(&self) -> Option<PoolConnection<Postgres>> {
        self.kept.take()
    }

    /// Hands a connection on to the next batch. On a caller's pool somebody else may want it first.
    pub(crate) fn keep(&self, connection: PoolConnection<Postgres>) {
        if self.own && !self.pool.is_closed() {
            self.kept.keep(&self.pool, connection);
        }
    }

    /// A connection, for as long as `wanted` says that somebody waits for it. A server that is far away takes
    /// longer than a look to be reached: a connection that is given up half-way each time never comes.
    pub(crate) async fn connection_while(
        &self,
        wanted: impl Fn(&Failure) -> bool,
    ) -> Result<PoolConnection<Postgres>, Failure> {
        let mut connecting = pin!(self.connection(Instant::now() + self.statement_deadline));
        loop {
            if let Ok(connected) = timeout(LOOK, &mut connecting).await {
                return connected;
            }
            let so_far = self.no_connection_yet();
            if !wanted(&so_far) {
                return Err(so_far);
            }
        }
    }

    fn no_connection_yet(&self) -> Failure {
        let (size, idle) = (usize::try_from(self.pool.size()).unwrap_or(usize::MAX), self.pool.num_idle());
        Failure::no_connection_yet(size.saturating_sub(idle), self.pool.options().get_max_connections())
    }

    /// Whether somebody may wait for the connection that one has: none is idle, and no more may be made.
    pub(crate) fn is_scarce(&self) -> bool {
        self.pool.num_idle() == 0 && self.pool.size() >= self.pool.options().get_max_connections()
    }

    /// How long an answer is waited for: the server gives the statement up at its deadline, and says so. Only from one
    /// that says nothing at all a connection is taken away.
    pub(crate) fn patience(&self) -> Duration {
        self.statement_deadline + self.statement_deadline / 8
    }

    /// Runs one statement in a transaction of its own, and closes the connection where it may not be used
    /// again.
    pub(crate) async fn run(
        &self,
        connection: PoolConnection<Postgres>,
        sql: &Sql,
        arguments: PgArguments,
    ) -> Result<(Vec<PgRow>, PoolConnection<Postgres>), (Failure, Option<PoolConnection<Postgres>>)> {
        let until = Instant::now() + self.patience();
        self.run_until(until, connection, sql, arguments).await
    }

    async fn run_until(
        &self,
        until: Instant,
        mut connection: PoolConnection<Postgres>,
        sql: &Sql,
        arguments: PgArguments,
    ) -> Result<(Vec<PgRow>, PoolConnection<Postgres>), (Failure, Option<PoolConnection<Postgres>>)> {
        let ran = timeout_at(until, self.transact(&mut connection, sql, arguments)).await;
        let failure = match ran {
            Ok(Ok(rows)) => return Ok((rows, connection)),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::no_answer(),
        };
        // What is left of an exchange must not meet the next caller: the pool gets a connection back only
        // from a statement that ended. Behind a pooler an open transaction ends with its connection.
        if failure.connection == Connection::Broken || self.pooled {
            drop(connection.detach());
            self.let_idle_go();
            return Err((failure, None));
        }
        Err((failure, Some(connection)))
    }

    async fn transact(
        &self,
        connection: &mut PoolConnection<Postgres>,
        sql: &Sql,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>, Failure> {
        if !self.pooled {
            return sql.fetch(connection, arguments, true).await.map_err(Failure::of);
        }
        // The statement must reach the connection that it was prepared on, which a pooler promises within
        // a transaction alone.
        let timeout = statement_timeout(self.statement_deadline);
        let begin = format!("{BEGIN_POOLED}; SET LOCAL statement_timeout = {timeout};\n{IS_FREE}");
        let begun = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(&mut **connection).await;
        let is_free = match begun {
            Ok(rows) => says_free(&rows),
            Err(error) => match Failure::of(error) {
                // It failed, or can't become what is asked for.
                stray if matches!(stray.code().as_deref(), Some("25P02" | "25001")) => false,
                failure => return Err(failure.not_applied()),
            },
        };
        if !is_free {
            return Err(Failure::in_transaction());
        }
        let rows = sql.fetch(connection, arguments, false).await.map_err(|e| Failure::of(e).not_applied())?;
        (**connection).execute("COMMIT").await.map_err(Failure::of)?;
        Ok(rows)
    }

    /// Runs one statement on a connection of its own choosing, by `until`.
    pub(crate) async fn once(
        &self,
        sql: &Sql,
        arguments: PgArguments,
        until: Instant,
    ) -> Result<Vec<PgRow>, Failure> {
        let connection = self.connection(until).await?;
        let until = until.min(Instant::now() + self.patience());
        let ran = self.run_until(until, connection, sql, arguments).await;
        ran.map(|(rows, _)| rows).map_err(|(failure, _)| failure)
    }
}
