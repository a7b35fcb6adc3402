//! [`Kept`]: connections of the store's own pool between one statement and the next.
//!
//! The pool asks the server whether a connection still lives whenever it gets one back: a round trip a call, for
//! a caller who comes alone. So batches hand their connections on among themselves. Every [`ROUND`] they go back
//! to the pool all the same, which knows how old one may get; and at once when the pool is closed, which waits
//! for them.

use std::mem;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::{CloseEvent, PoolConnection};
use sqlx::postgres::PgPool;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bounds::held;

const ROUND: Duration = Duration::from_secs(10);

#[derive(Clone, Default, Debug)]
pub(crate) struct Kept(Arc<Mutex<Shelf>>);

#[derive(Default, Debug)]
struct Shelf {
    connections: Vec<PoolConnection<Postgres>>,
    /// Whoever gives them back. Gone with its runtime, it is started anew.
    keeper: Option<JoinHandle<()>>,
}

impl Kept {
    pub(crate) fn take(&self) -> Option<PoolConnection<Postgres>> {
        held(&self.0).connections.pop()
    }

    /// All of them, for whoever learned that they are no good.
    pub(crate) fn take_all(&self) -> Vec<PoolConnection<Postgres>> {
        mem::take(&mut held(&self.0).connections)
    }

    /// Keeps a connection that is between two statements. Needs a runtime.
    pub(crate) fn keep(&self, pool: &PgPool, connection: PoolConnection<Postgres>) {
        let mut shelf = held(&self.0);
        if shelf.keeper.as_ref().is_none_or(JoinHandle::is_finished) {
            // The event tells of a close that came before it, too.
            shelf.keeper = Some(tokio::spawn(give_back(Arc::downgrade(&self.0), pool.close_event())));
        }
        shelf.connections.push(connection);
    }
}

/// Ends when nothing was kept for a round, or with the pool, or with the store.
async fn give_back(shelf: Weak<Mutex<Shelf>>, mut closed: CloseEvent) {
    loop {
        let ended = timeout(ROUND, &mut closed).await.is_ok();
        let Some(shelf) = shelf.upgrade() else { return };
        let mut held = held(&shelf);
        let connections = mem::take(&mut held.connections);
        let ended = ended || connections.is_empty();
        if ended {
            held.keeper = None;
        }
        drop(held);
        drop(connections);
        if ended {
            return;
        }
    }
}
