//! The peer under SQLite: a pool of sqlx-sqlite, one autocommit statement an operation.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use crate::load::{BODY_BYTES, Contestant, Failure};
use crate::stores::sql::{
    AUTOCHECKPOINT, CACHE_KIB, COMPLETE, RECORD, RESERVE, SCHEMA, SqlGrant, SqlItem, Times,
};

#[derive(Debug)]
pub(crate) struct Pool {
    pool: SqlitePool,
    body: Bytes,
}

impl Pool {
    /// A pool of `connections` over the file, which may hold the table already.
    pub(crate) async fn open(path: &Path, connections: u32) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT.to_string())
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .busy_timeout(Duration::from_secs(60));
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(60))
            // Its ping before each use is a round trip that nobody needs on a file.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let tables =
            sqlx::query("SELECT name FROM sqlite_schema WHERE name = 'slots'").fetch_all(&pool).await?;
        if tables.is_empty() {
            sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        }
        Ok(Self { pool, body: Bytes::from(vec![b'x'; BODY_BYTES]) })
    }

    /// The library that sqlx speaks to: its version and the hash of its source.
    pub(crate) async fn library(&self) -> Result<(String, String), Failure> {
        let rows = sqlx::query("SELECT sqlite_version(), sqlite_source_id()").fetch_all(&self.pool).await?;
        let row = rows.first().ok_or("no version")?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Contestant for Pool {
    type Item = SqlItem;
    type Grant = SqlGrant;

    fn prepare(n: u64) -> Result<SqlItem, Failure> {
        Ok(SqlItem::prepare(n))
    }

    /// `fetch_all`, because a RETURNING row is not a commit.
    async fn reserve(&self, item: &SqlItem) -> Result<SqlGrant, Failure> {
        let token = Uuid::new_v4();
        let Times { now, lease_expires_at, expires_at } = Times::now()?;
        let rows = sqlx::query(RESERVE)
            .bind(&item.principal)
            .bind(&item.key)
            .bind(&item.fingerprint[..])
            .bind(&token.as_bytes()[..])
            .bind(now)
            .bind(lease_expires_at)
            .bind(expires_at)
            .fetch_all(&self.pool)
            .await?;
        let fence = rows.first().ok_or("a fresh slot was taken")?.try_get(0)?;
        Ok(SqlGrant { token, fence })
    }

    async fn complete(&self, item: &SqlItem, grant: SqlGrant) -> Result<(), Failure> {
        let now = Times::now()?.now;
        let done = sqlx::query(COMPLETE)
            .bind(&item.principal)
            .bind(&item.key)
            .bind(&grant.token.as_bytes()[..])
            .bind(grant.fence)
            .bind(now)
            .bind(200)
            .bind(&self.body[..])
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err("completing wrote nothing".into()) }
    }

    async fn replay(&self, item: &SqlItem) -> Result<usize, Failure> {
        let now = Times::now()?.now;
        let rows = sqlx::query(RECORD).bind(&item.principal).bind(&item.key).fetch_all(&self.pool).await?;
        let row = rows.first().ok_or("a completed slot has no record")?;
        let (state, expires_at): (i64, i64) = (row.try_get(0)?, row.try_get(6)?);
        if state != 1 || expires_at <= now || row.try_get::<&[u8], _>(1)? != item.fingerprint {
            return Err("a completed slot's record is another".into());
        }
        Ok(row.try_get::<Vec<u8>, _>(8)?.len())
    }
}
