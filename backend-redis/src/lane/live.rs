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
    /// What [`Sent`] says.
    owed: AtomicU64,
    pub(super) left: Mutex<Left>,
    /// That it was given up: whoever waits for its answers needn't.
    pub(super) gone: Notify,
}

/// What was sent and isn't answered yet, in KiB; and of what was sent while so much was, the largest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    all: u32,
    largest: u32,
}

impl Sent {
    fn more(self, kib: u32) -> Self {
        Self { all: self.all.saturating_add(kib), largest: self.largest.max(kib) }
    }

    /// What is large and was answered is forgotten when less than that is owed: answers don't say whose they are.
    fn less(self, kib: u32) -> Self {
        let all = self.all.saturating_sub(kib);
        Self { all, largest: self.largest.min(all) }
    }

    /// Both change at once.
    fn change(of: &AtomicU64, change: impl Fn(Self) -> Self) {
        let change = |bits| Some(change(Self::from(bits)).into());
        // It always changes it.
        let _ = of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

impl From<u64> for Sent {
    fn from(bits: u64) -> Self {
        let [all, largest] = [bits >> 32, bits & u64::from(u32::MAX)].map(|half| half as u32);
        Self { all, largest }
    }
}

impl From<Sent> for u64 {
    fn from(Sent { all, largest }: Sent) -> Self {
        Self::from(all) << 32 | Self::from(largest)
    }
}

/// What callers left behind.
#[derive(Default)]
pub(super) struct Left {
    /// KiB that were sent, of which nobody waits for the answer any more, and no question that is under way was sent
    /// behind.
    pub(super) abandoned: Option<u32>,
    /// Whether a task asks whether there are answers.
    pub(super) asking: bool,
}

impl Left {
    pub(super) fn abandon(&mut self, kib: u32) {
        self.abandoned = Some(self.abandoned.unwrap_or(0).saturating_add(kib));
    }
}

impl Live {
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            made: Instant::now(),
            heard: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            left: Mutex::default(),
            gone: Notify::new(),
        }
    }

    pub(super) fn heard(&self) -> Instant {
        self.made + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn owe(&self, kib: u32) {
        Sent::change(&self.owed, |sent| sent.more(kib));
    }

    pub(super) fn pay(&self, kib: u32) {
        Sent::change(&self.owed, |sent| sent.less(kib));
    }

    /// How many KiB may be on their way before the next answer comes: answers come in order, and what was abandoned or
    /// comes behind delays the next by nothing.
    pub(super) fn before_the_next(&self) -> u32 {
        Sent::from(self.owed.load(Ordering::Relaxed)).largest
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
    pub(super) behind: Option<u32>,
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
        if let Some(kib) = self.behind.take() {
            let mut left = lock(&self.live.left);
            left.abandon(kib);
            left.asking = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_while_it_may_be_under_way() {
        let owed = AtomicU64::new(0);
        let largest = |change: fn(Sent) -> Sent| {
            Sent::change(&owed, change);
            Sent::from(owed.load(Ordering::Relaxed)).largest
        };
        assert_eq!(largest(|sent| sent.more(16_384)), 16_384);
        assert_eq!(largest(|sent| sent.more(20)), 16_384);
        assert_eq!(largest(|sent| sent.less(16_384)), 20, "it was answered");
        for _ in 0..1_000 {
            assert_eq!(largest(|sent| sent.more(20)), 20, "however much is owed");
        }
        assert_eq!(largest(|sent| sent.less(u32::MAX)), 0);
    }
}
