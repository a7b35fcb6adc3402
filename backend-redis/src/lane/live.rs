//! [`Live`]: a connection that was made, and what is known of whether it lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lock;

/// A connection that was made.
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    made: Instant,
    /// Nanoseconds from then until something was heard.
    heard: AtomicU64,
    /// Bytes that were sent, and not answered yet.
    owed: AtomicU64,
    /// Of all that were sent at a time, the most.
    largest: AtomicU64,
    pub(super) left: Mutex<Left>,
    /// That it was given up: whoever waits for its answers needn't.
    pub(super) gone: Notify,
}

/// What callers left behind.
#[derive(Default)]
pub(super) struct Left {
    /// Bytes that were sent, of which nobody waits for the answer any more, and no question that is under way was sent
    /// behind.
    pub(super) abandoned: Option<u64>,
    /// Whether a task asks whether there are answers.
    pub(super) asking: bool,
}

impl Left {
    pub(super) fn abandon(&mut self, bytes: u64) {
        self.abandoned = Some(self.abandoned.unwrap_or(0) + bytes);
    }
}

impl Live {
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            made: Instant::now(),
            heard: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            left: Mutex::default(),
            gone: Notify::new(),
        }
    }

    pub(super) fn heard(&self) -> Instant {
        self.made + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn owe(&self, bytes: u64) {
        self.owed.fetch_add(bytes, Ordering::Relaxed);
        if self.largest.load(Ordering::Relaxed) < bytes {
            self.largest.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn pay(&self, bytes: u64) {
        self.owed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes may be on their way before the next answer comes: answers come in order, and what was abandoned or
    /// comes behind delays the next by nothing.
    pub(super) fn before_the_next(&self) -> u64 {
        self.owed.load(Ordering::Relaxed).min(self.largest.load(Ordering::Relaxed))
    }

    /// Something is heard; and how it was before.
    pub(super) fn hear(&self, now: Instant) -> Instant {
        let since = u64::try_from(now.saturating_duration_since(self.made).as_nanos()).unwrap_or(u64::MAX);
        self.made + Duration::from_nanos(self.heard.fetch_max(since, Ordering::Relaxed))
    }
}

/// That a task asks after a connection. Dropped half-way, perhaps with a runtime that ends before the connection's, it
/// leaves that to the next one.
pub(super) struct Asking {
    pub(super) live: Arc<Live>,
    /// What its question was sent behind.
    pub(super) behind: Option<u64>,
}

impl Asking {
    /// So was what it was sent behind. If there is no more, that is said under the same lock.
    pub(super) fn answered(&mut self) {
        let mut left = lock(&self.live.left);
        self.live.pay(self.behind.take().unwrap_or(0));
        self.behind = left.abandoned.take();
        left.asking = self.behind.is_some();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(bytes) = self.behind.take() {
            let mut left = lock(&self.live.left);
            left.abandon(bytes);
            left.asking = false;
        }
    }
}
