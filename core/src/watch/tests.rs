//! A wake is heard whenever it comes after the watch was made, and nothing stays behind.

use super::*;
use crate::slot::Principal;
use std::task::Wake;
use std::time::{Duration, Instant};

fn slot(key: &str) -> Slot {
    Principal::new("p").unwrap().slot(key).unwrap()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counting {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(watch: &mut Watch, waker: &Arc<Counting>) -> Poll<()> {
    Pin::new(watch).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
}

#[test]
fn a_wake_before_the_first_poll_is_heard() {
    let watchers = Watchers::new();
    let (mut watch, waker) = (watchers.watch(&slot("a")), Arc::default());
    watchers.wake(&slot("a"));
    assert!(poll(&mut watch, &waker).is_ready());
    assert!(poll(&mut watch, &waker).is_ready(), "it stays complete");
}

#[test]
fn a_wake_after_the_first_poll_is_heard_by_the_last_waker() {
    let watchers = Watchers::new();
    let mut watch = watchers.watch(&slot("a"));
    let (first, last) = (Arc::default(), Arc::default());
    assert!(poll(&mut watch, &first).is_pending());
    assert!(poll(&mut watch, &last).is_pending());
    watchers.wake(&slot("a"));
    assert_eq!((first.woken(), last.woken()), (0, 1));
    assert!(poll(&mut watch, &last).is_ready());
}

#[test]
fn a_wake_before_the_watch_is_not_its_own() {
    let watchers = Watchers::new();
    watchers.wake(&slot("a"));
    assert!(poll(&mut watchers.watch(&slot("a")), &Arc::default()).is_pending());
}

#[test]
fn a_wake_is_heard_by_all_who_wait_for_that_slot_and_by_nobody_else() {
    let watchers = Watchers::new();
    let mut own = [watchers.watch(&slot("a")), watchers.watch(&slot("a"))];
    let mut other = watchers.watch(&slot("b"));
    watchers.wake(&slot("a"));
    assert!(own.iter_mut().all(|watch| poll(watch, &Arc::default()).is_ready()));
    assert!(poll(&mut other, &Arc::default()).is_pending());
    assert_eq!(watchers.len(), 1);
    watchers.wake_all();
    assert!(poll(&mut other, &Arc::default()).is_ready());
    assert!(watchers.is_empty());
}

#[test]
fn a_prefix_wakes_as_its_slot_does() {
    let watchers = Watchers::new();
    let (mut watch, slot) = (watchers.watch(&slot("a")), slot("a"));
    let prefix = slot.digest().prefix();
    for other in [prefix - 1, prefix + 1, !prefix, prefix.swap_bytes()] {
        watchers.wake_prefix(other);
        assert!(poll(&mut watch, &Arc::default()).is_pending());
    }
    watchers.wake_prefix(prefix);
    assert!(poll(&mut watch, &Arc::default()).is_ready());
}

#[test]
fn a_dropped_watch_leaves_nothing() {
    let watchers = Watchers::new();
    let (mut polled, untouched) = (watchers.watch(&slot("a")), watchers.watch(&slot("a")));
    let waker = Arc::default();
    assert!(poll(&mut polled, &waker).is_pending());
    assert_eq!((watchers.len(), Arc::strong_count(&waker)), (2, 2));
    drop(polled);
    assert_eq!((watchers.len(), Arc::strong_count(&waker)), (1, 1), "its waker went with it");
    drop(untouched);
    assert!(watchers.is_empty() && watchers.waiting().places.is_empty());
    watchers.wake(&slot("a"));
    assert_eq!(waker.woken(), 0);
}

#[test]
fn a_watch_that_was_woken_takes_no_other_along_when_it_is_dropped() {
    let watchers = Watchers::new();
    let woken = watchers.watch(&slot("a"));
    watchers.wake(&slot("a"));
    let mut waits = watchers.watch(&slot("a"));
    drop(woken);
    assert_eq!(watchers.len(), 1);
    assert!(poll(&mut waits, &Arc::default()).is_pending());
}

/// Holds another watch of the same watchers, as the waker of a task does whose future waits.
struct Owning(#[allow(dead_code, reason = "held to be dropped")] Watch);

impl Wake for Owning {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_owns_a_watch_may_be_dropped_by_any_call() {
    let watchers = Watchers::new();
    let owning = || Waker::from(Arc::new(Owning(watchers.watch(&slot("inner")))));
    let poll_with = |watch: &mut Watch, waker: Waker| {
        assert!(Pin::new(watch).poll(&mut Context::from_waker(&waker)).is_pending());
    };
    let mut watch = watchers.watch(&slot("a"));
    poll_with(&mut watch, owning());
    poll_with(&mut watch, owning()); // the first is dropped
    watchers.wake(&slot("a")); // the second
    let mut watch = watchers.watch(&slot("a"));
    poll_with(&mut watch, owning());
    drop(watch); // the third
    assert!(watchers.is_empty(), "{watchers:?}");
}

#[test]
fn a_wake_while_another_thread_polls_is_never_lost() {
    const ROUNDS: usize = 2_000;
    let watchers = Watchers::new();
    let prefix = slot("a").digest().prefix();
    let (begun, woken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let give_up = Instant::now() + Duration::from_secs(60);
    let until = |counter: &AtomicUsize, round| {
        while counter.load(Ordering::SeqCst) < round {
            assert!(Instant::now() < give_up, "waited a minute for round {round}");
            std::thread::yield_now();
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 1..=ROUNDS {
                until(&begun, round);
                watchers.wake_prefix(prefix);
                woken.store(round, Ordering::SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            let (mut watch, waker) = (watchers.watch(&slot("a")), Arc::default());
            begun.store(round, Ordering::SeqCst);
            // Polled again and again, so that many a wake comes in the middle of a poll.
            let mut waits = false;
            while woken.load(Ordering::SeqCst) < round && poll(&mut watch, &waker).is_pending() {
                waits = true;
            }
            until(&woken, round);
            assert!(poll(&mut watch, &waker).is_ready(), "round {round}: the wake is forgotten");
            assert_eq!(waker.woken(), usize::from(waits), "round {round}: polled, and never called");
        }
    });
    assert!(watchers.is_empty());
}
