//! The limit under PostgreSQL's replays: a caller has a connection to himself, and selects by the key.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::Mutex;

use crate::load::{Contestant, Failure};
use crate::stores::sql::SqlItem;

const RECORD: &str = include_str!("../../sql/postgres/record.sql");

/// One connection. Nobody waits for the lock: there is one caller.
#[derive(Debug)]
pub(crate) struct PlainSelect(Mutex<PgConnection>);

impl PlainSelect {
    /// A connection for each of the callers.
    pub(crate) async fn connect(url: &str, callers: usize) -> Result<Vec<Arc<Self>>, Failure> {
        let mut all = Vec::with_capacity(callers);
        for _ in 0..callers {
            all.push(Arc::new(Self(Mutex::new(PgConnection::connect(url).await?))));
        }
        Ok(all)
    }
}

impl Contestant for PlainSelect {
    type Item = SqlItem;
    type Grant = ();

    fn prepare(n: u64) -> Result<SqlItem, Failure> {
        Ok(SqlItem::prepare(n))
    }

    async fn reserve(&self, _: &SqlItem) -> Result<(), Failure> {
        Err("it only selects".into())
    }

    async fn complete(&self, _: &SqlItem, (): ()) -> Result<(), Failure> {
        Err("it only selects".into())
    }

    async fn replay(&self, item: &SqlItem) -> Result<usize, Failure> {
        let mut connection = self.0.lock().await;
        let query = sqlx::query(RECORD).bind(&item.principal).bind(&item.key);
        let rows = query.fetch_all(&mut *connection).await?;
        let row = rows.first().ok_or("a completed slot has no record")?;
        if row.try_get::<&str, _>(0)? != "completed" || row.try_get::<&[u8], _>(1)? != item.fingerprint {
            return Err("a completed slot's record is another".into());
        }
        Ok(row.try_get::<Vec<u8>, _>(9)?.len())
    }
}
