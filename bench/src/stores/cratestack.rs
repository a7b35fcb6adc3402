//! The idempotency store of `cratestack-sqlx` 0.8, on a pool as its README makes one.

use std::time::{Duration, SystemTime};

use cratestack_core::{IdempotencyStore, ReservationOutcome};
use cratestack_sqlx::SqlxIdempotencyStore;
use cratestack_sqlx::sqlx::PgPool;
use cratestack_sqlx::sqlx::postgres::PgPoolOptions;
use oncekey_core::Clock;
use uuid::Uuid;

use crate::load::{BODY_BYTES, Contestant, Failure, LEASE, RETENTION};
use crate::stores::sql::SqlItem;

/// Its connections. More don't help on two cores.
pub(crate) const CONNECTIONS: u32 = 32;

pub(crate) struct Peer {
    store: SqlxIdempotencyStore,
    pool: PgPool,
    body: Vec<u8>,
}

impl Peer {
    /// With all its connections open, as they are in a service that has run for a while.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(pool.acquire().await?);
        }
        drop(connections);
        Ok(Self { store: SqlxIdempotencyStore::new(pool.clone()), pool, body: vec![b'x'; BODY_BYTES] })
    }

    pub(crate) async fn ensure_schema(&self) -> Result<(), Failure> {
        Ok(self.store.ensure_schema().await?)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// When a record that is reserved now expires.
fn expires_at() -> SystemTime {
    let now = Duration::from_micros(Clock::system().now().as_micros());
    SystemTime::UNIX_EPOCH + now + LEASE + RETENTION
}

impl Contestant for Peer {
    type Item = SqlItem;
    type Grant = Uuid;

    fn prepare(n: u64) -> Result<SqlItem, Failure> {
        Ok(SqlItem::prepare(n))
    }

    async fn reserve(&self, item: &SqlItem) -> Result<Uuid, Failure> {
        let asked = self.store.reserve_or_fetch(&item.principal, &item.key, item.fingerprint, expires_at());
        match asked.await? {
            ReservationOutcome::Reserved { token } => Ok(token),
            other => Err(format!("a fresh slot answered {other:?}").into()),
        }
    }

    /// Says the same whether it stored the answer or not.
    async fn complete(&self, item: &SqlItem, token: Uuid) -> Result<(), Failure> {
        Ok(self.store.complete(&item.principal, &item.key, token, 200, &[], &self.body).await?)
    }

    async fn replay(&self, item: &SqlItem) -> Result<usize, Failure> {
        let asked = self.store.reserve_or_fetch(&item.principal, &item.key, item.fingerprint, expires_at());
        match asked.await? {
            ReservationOutcome::Replay(record) => Ok(record.response_body.len()),
            other => Err(format!("a completed slot answered {other:?}").into()),
        }
    }
}
