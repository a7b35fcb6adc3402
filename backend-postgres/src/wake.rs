//! [`Wake`]: callers that wait for a running holder are told when it ends (Q2), in this process at once, and
//! across processes by NOTIFY. A notification is a hint that may be lost; whoever waits looks now and then all
//! the same.
//!
//! ```text
//!   waits:   watch ─▶ a connection: shared advisory lock · LISTEN · wake everybody once
//!   settles: complete ─▶ (answered) ─▶ pg_notify, if somebody holds that lock
//! ```
//!
//! NOTIFY is not part of the statement that settles: a transaction that notifies takes a lock on the whole
//! queue until its commit is flushed, and all of them would go one by one. It follows by itself, many slots in
//! one payload, with nothing to flush. Where nobody listens it writes nothing, and is asked a few times a second
//! at most: what was settled meanwhile waits for the next time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oncekey_core::{Slot, Watch, Watchers};
use sha2::{Digest, Sha256};
use sqlx::Arguments;
use sqlx::Executor;
use sqlx::postgres::{PgArguments, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::connection::Link;
use crate::identifier::{Table, literal};
use crate::pause;
use crate::statements::Sql;

const LISTENING: &str = include_str!("../sql/listening.sql");

/// Slots in one payload, which holds less than 8 000 bytes: 16 for each.
const SLOTS: usize = 400;
/// Slots that may wait to be told of. With more, everybody is woken.
const PENDING: usize = 4_096;
/// The payload that wakes everybody.
const EVERYBODY: &str = "everybody";
/// How long nobody is asked whether somebody listens, once nobody did.
const UNHEARD: Duration = Duration::from_millis(250);
/// How long telling may take: a hint that comes later is of no use.
const TELL: Duration = Duration::from_secs(1);
/// How long the listener waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// How long the connection that listens outlives the last caller that waits.
const IDLE: Duration = Duration::from_secs(30);
/// Between two tries to listen.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Wake {
    shared: Option<Arc<Shared>>,
    watchers: Watchers,
    /// Closes when the store is dropped, and the listener's task ends with it.
    _open: watch::Sender<()>,
    closed: watch::Receiver<()>,
}

/// What the tasks share with the store.
#[derive(Debug)]
struct Shared {
    link: Link,
    watchers: Watchers,
    channel: String,
    notify: Sql,
    pending: Mutex<Pending>,
    listening: AtomicBool,
}

#[derive(Default, Debug)]
struct Pending {
    slots: Vec<Slot>,
    /// More were settled than `slots` has room for.
    more: bool,
    /// Whether a task is telling.
    telling: bool,
    /// Until when nobody is known to listen.
    unheard_until: Option<Instant>,
}

impl Wake {
    pub(crate) fn new(link: &Link, table: &Table, notify: &Sql, notifications: bool) -> Self {
        let watchers = Watchers::new();
        let shared = notifications.then(|| {
            let shared = Shared {
                link: link.clone(),
                watchers: watchers.clone(),
                channel: channel(table),
                notify: notify.clone(),
                pending: Mutex::default(),
                listening: AtomicBool::new(false),
            };
            Arc::new(shared)
        });
        let (open, closed) = watch::channel(());
        Self { shared, watchers, _open: open, closed }
    }

    /// The slot was settled, and that is committed.
    pub(crate) fn changed(&self, slot: &Slot) {
        self.watchers.wake(slot);
        if let Some(shared) = &self.shared {
            shared.tell(slot);
        }
    }

    pub(crate) fn watch(&self, slot: &Slot) -> Watch {
        let watch = self.watchers.watch(slot);
        if let Some(shared) = &self.shared
            && !shared.listening.swap(true, Ordering::SeqCst)
        {
            tokio::spawn(Listening(Arc::clone(shared)).run(self.closed.clone()));
        }
        watch
    }
}

/// A name of at most 63 bytes for each table.
fn channel(table: &Table) -> String {
    let digest = Sha256::digest(table.quoted());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("oncekey_{short}")
}

impl Shared {
    fn tell(self: &Arc<Self>, slot: &Slot) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.slots.len() < PENDING {
            pending.slots.push(slot.clone());
        } else {
            pending.more = true;
        }
        if !pending.telling {
            pending.telling = true;
            drop(pending);
            tokio::spawn(Telling(Arc::clone(self), true).run());
        }
    }

    /// Tells of some slots; whether somebody listens. Unknown counts as nobody.
    async fn notify(&self, payload: String) -> bool {
        let bind = || {
            let mut arguments = PgArguments::default();
            arguments.add(self.channel.as_str())?;
            arguments.add(payload)?;
            Ok::<_, sqlx::error::BoxDynError>(arguments)
        };
        let Ok(arguments) = bind() else { return false };
        let told = self.link.once(&self.notify, arguments, Instant::now() + TELL).await;
        told.is_ok_and(|rows| !rows.is_empty())
    }

    /// Wakes whom a payload names. What isn't one of ours wakes nobody.
    fn heard(&self, payload: &str) {
        if payload == EVERYBODY {
            return self.watchers.wake_all();
        }
        for prefix in payload.as_bytes().chunks(16) {
            if let Some(prefix) =
                std::str::from_utf8(prefix).ok().and_then(|s| u64::from_str_radix(s, 16).ok())
            {
                self.watchers.wake_prefix(prefix);
            }
        }
    }
}

/// A task that tells of what was settled, as long as there is something to tell; and whether it is the one that
/// `telling` speaks of.
struct Telling(Arc<Shared>, bool);

impl Drop for Telling {
    fn drop(&mut self) {
        // Only where the runtime ended half-way: the end of `run` has given up under the lock, and another may
        // be at work.
        if self.1 {
            let mut pending = self.pending();
            pending.telling = false;
            pending.slots.clear();
        }
    }
}

impl Telling {
    async fn run(mut self) {
        loop {
            let unheard = self.pending().unheard_until;
            if let Some(until) = unheard {
                pause::until(until).await;
            }
            let payload = {
                let mut pending = self.pending();
                let most = pending.slots.len().min(SLOTS);
                if most == 0 {
                    // Given up under the lock: the next to come starts another.
                    pending.telling = false;
                    drop(pending);
                    self.1 = false;
                    break;
                }
                if std::mem::take(&mut pending.more) {
                    pending.slots.clear();
                    EVERYBODY.to_owned()
                } else {
                    pending
                        .slots
                        .drain(..most)
                        .map(|slot| format!("{:016x}", slot.digest().prefix()))
                        .collect()
                }
            };
            let heard = self.0.notify(payload).await;
            let mut pending = self.pending();
            pending.unheard_until = (!heard).then(|| Instant::now() + UNHEARD);
            if !heard {
                // Whoever begins to listen is told to look again.
                pending.slots.clear();
                pending.more = false;
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that listens, as long as somebody waits and a while longer.
struct Listening(Arc<Shared>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.store(false, Ordering::SeqCst);
    }
}

impl Listening {
    async fn run(self, mut closed: watch::Receiver<()>) {
        tokio::select! {
            _ = closed.changed() => {}
            () = self.listen_while_wanted() => {}
        }
    }

    async fn listen_while_wanted(&self) {
        while !self.0.watchers.is_empty() {
            // An error is a connection that ended, or none that began: what was said meanwhile is lost, and
            // found by looking.
            if self.listen().await.is_ok() {
                break;
            }
            pause::until(Instant::now() + PAUSE).await;
        }
    }

    /// Listens until nobody has waited for a while.
    async fn listen(&self) -> Result<(), sqlx::Error> {
        let shared = &self.0;
        // A connection of its own, beside the pool: a pool of one would have none left.
        let options = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = options.connect_lazy_with((*shared.link.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        let lock = LISTENING.replace("{channel_literal}", &literal(&shared.channel));
        listener.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(lock))).await?;
        listener.listen(&shared.channel).await?;
        shared.watchers.wake_all();
        let mut wanted = Instant::now();
        loop {
            match timeout(LOOK, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => shared.heard(notification.payload()),
                // The connection was lost, and with it the lock.
                Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
            if !shared.watchers.is_empty() {
                wanted = Instant::now();
            } else if wanted.elapsed() > IDLE {
                return Ok(());
            }
        }
    }
}
