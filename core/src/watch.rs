//! [`Watch`], a hint that a slot's record may have changed, and [`Watchers`], which a store wakes.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::slot::Slot;

/// Completes when the record of a slot *may* have changed since this was made (Q2); see
/// [`IdempotencyStore::watch`](crate::IdempotencyStore::watch).
///
/// A hint, and no promise: it may complete where nothing changed, and where the store heard nothing it
/// never does. Whoever waits asks again now and then all the same. Once complete it stays so. Dropped, it
/// leaves nothing behind.
#[must_use = "a watch tells nothing unless it is awaited"]
pub struct Watch(Option<Registered>);

struct Registered {
    watchers: Watchers,
    at: Place,
}

/// The slot's [prefix](crate::SlotDigest::prefix), and a number that tells apart who waits for it.
type Place = (u64, u64);

impl Watch {
    /// Never completes: what a store gives that has no way to hear of a change.
    ///
    /// ```
    /// use oncekey_core::Watch;
    /// use std::task::{Context, Waker};
    ///
    /// let mut watch = Box::pin(Watch::never());
    /// assert!(watch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    /// ```
    pub const fn never() -> Self {
        Self(None)
    }

    /// Whether it is made by [`never`](Self::never).
    #[cfg(feature = "runner")]
    pub(crate) fn is_never(&self) -> bool {
        self.0.is_none()
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Registered { watchers, at }) = &self.0 else { return Poll::Pending };
        // A waker is a stranger's: it is cloned, dropped and woken while nothing here is locked.
        let waker = cx.waker().clone();
        let replaced = match watchers.waiting().places.get_mut(at) {
            // The place is given up by the wake alone, under the same lock, so none is missed.
            None => return Poll::Ready(()),
            Some(place) => place.replace(waker),
        };
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.watchers.waiting();
            let left = waiting.places.remove(&self.at);
            self.watchers.count(&waiting);
            left
        };
        drop(left);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("never", &self.0.is_none()).finish()
    }
}

/// Who waits for which slot: what a store keeps, to make a [`Watch`] and to wake it. Clones share it.
///
/// A store that hears of its changes from elsewhere wakes by the [prefix](crate::SlotDigest::prefix) of
/// the slot's digest: 64 bits that tell no stranger which key it was, and that fit a notification.
///
/// ```
/// use oncekey_core::{Principal, Watchers};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let watchers = Watchers::new();
/// let slot = Principal::new("shop-17")?.slot("order-4711")?;
///
/// let watch = watchers.watch(&slot); // from now on, whether it is polled or not
/// watchers.wake_prefix(slot.digest().prefix()); // the store heard of a change
/// watch.await;
/// assert!(watchers.is_empty(), "nobody waits any longer");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Watchers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    /// How many places there are. Written under the lock, read without it.
    count: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    /// A place is there until it is woken. It has no waker before its watch is polled.
    places: BTreeMap<Place, Option<Waker>>,
    next: u64,
}

impl Watchers {
    /// Nobody waits yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A watch of `slot`: it completes at the first wake after this call, even one before its first poll.
    pub fn watch(&self, slot: &Slot) -> Watch {
        let prefix = slot.digest().prefix();
        let mut waiting = self.waiting();
        let at = (prefix, waiting.next);
        waiting.next = waiting.next.wrapping_add(1);
        waiting.places.insert(at, None);
        self.count(&waiting);
        Watch(Some(Registered { watchers: self.clone(), at }))
    }

    /// Completes every watch of `slot`. Where nobody waits for any slot it costs one load, so a store may
    /// call it after each write. After it, and not before: whoever is woken asks at once.
    pub fn wake(&self, slot: &Slot) {
        if !self.is_empty() {
            self.wake_prefix(slot.digest().prefix());
        }
    }

    /// Completes every watch of the slots whose digests begin like this: of one slot, but for a chance of
    /// one in 2^64.
    pub fn wake_prefix(&self, prefix: u64) {
        self.wake_where(|waiting| {
            let places = waiting.places.range((prefix, u64::MIN)..=(prefix, u64::MAX));
            let places: Vec<_> = places.map(|(at, _)| *at).collect();
            places.iter().filter_map(|at| waiting.places.remove(at)).collect()
        });
    }

    /// Completes every watch: when changes may have been missed. A store that listens on a connection
    /// calls it each time it has begun to listen, the first time too.
    ///
    /// ```text
    ///   watch ── begins to connect ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ listens ── wake_all
    ///   reserve ── InFlight            complete ─▲ nobody listened
    /// ```
    pub fn wake_all(&self) {
        self.wake_where(|waiting| std::mem::take(&mut waiting.places).into_values().collect());
    }

    /// How many watches wait to be woken.
    pub fn len(&self) -> usize {
        // A watch is made before the reserve that finds somebody at work, and a store looks here after it
        // wrote. The one lock that both the reserve and the write took puts the two in order.
        self.0.count.load(Ordering::SeqCst)
    }

    /// Whether nobody waits: then a store needn't listen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake_where(&self, take: impl FnOnce(&mut Waiting) -> Vec<Option<Waker>>) {
        let woken = {
            let mut waiting = self.waiting();
            let woken = take(&mut waiting);
            self.count(&waiting);
            woken
        };
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    fn count(&self, waiting: &MutexGuard<'_, Waiting>) {
        self.0.count.store(waiting.places.len(), Ordering::SeqCst);
    }

    /// No stranger's code runs under this lock, so a poisoned one is whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
