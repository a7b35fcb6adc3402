//! Callers: tasks that ask a store at once, and the counting of what it answered.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// A wrong answer counts as no answer: the run ends with it.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Bytes in each response.
pub(crate) const BODY_BYTES: usize = 256;
/// As seconds and as microseconds, the lease and the retention that everybody asks for.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const RETENTION: Duration = Duration::from_secs(86_400);
/// The runtime's threads; the machine that the goals were set on has two cores.
pub(crate) const WORKERS: usize = 2;

/// What a caller does again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// A reserve of a fresh slot.
    Reserve,
    /// A reserve of a fresh slot, and its completion.
    Cycle,
    /// A reserve of a slot that was completed: the stored answer comes back.
    Replay,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Cycle => "cycle",
            Self::Replay => "replay",
        }
    }
}

/// How long a round takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    /// Until so much time is over, or the prepared slots are used up.
    Time(Duration),
    /// So many operations, by all callers together.
    Count(usize),
}

/// A store under measurement, seen as what a service does with it.
pub(crate) trait Contestant: Send + Sync + 'static {
    /// A slot and its request, prepared before the clock runs.
    type Item: Send + Sync + 'static;
    /// What completing needs.
    type Grant: Send;

    /// The `n`th slot.
    fn prepare(n: u64) -> Result<Self::Item, Failure>;
    /// Reserves a fresh slot, with a token drawn now; an error when it wasn't granted.
    fn reserve(&self, item: &Self::Item) -> impl Future<Output = Result<Self::Grant, Failure>> + Send;
    /// Stores the answer; an error when it wasn't stored.
    fn complete(
        &self,
        item: &Self::Item,
        grant: Self::Grant,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Gets the stored answer's length in bytes.
    fn replay(&self, item: &Self::Item) -> impl Future<Output = Result<usize, Failure>> + Send;
}

/// The key of the `n`th slot: shaped like a UUID, in no order, as real keys are.
pub(crate) fn key(n: u64) -> String {
    let high = scramble(n);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{n:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        n & 0xfff
    )
}

/// The principal of the `n`th slot: one of a hundred.
pub(crate) fn principal(n: u64) -> String {
    format!("shop-{}", n % 100)
}

/// A fingerprint of the `n`th request.
pub(crate) fn fingerprint(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&scramble(n.wrapping_mul(4).wrapping_add(i as u64)).to_le_bytes());
    }
    bytes
}

/// SplitMix64's finish: a bijection, so no two numbers meet.
pub(crate) fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The slots from `first` on.
pub(crate) fn prepare<C: Contestant>(numbers: impl Iterator<Item = u64>) -> Result<Arc<[C::Item]>, Failure> {
    numbers.map(C::prepare).collect()
}

/// A fresh runtime for each round: dropping it waits for what a store left running, so that its clearing
/// up isn't counted against the next one.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_time().build()?)
}

/// The same for stores that are reached through sockets.
pub(crate) fn runtime_with_io() -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) operations: usize,
    pub(crate) took: Duration,
    /// The first item that nobody used.
    pub(crate) next: usize,
}

impl Done {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.took.as_secs_f64()
    }
}

/// Lets `callers` tasks work at once. Fresh work takes each item from `from` on once and stops when they
/// are used up; replays go round.
pub(crate) async fn drive<C: Contestant>(
    store: &Arc<C>,
    items: &Arc<[C::Item]>,
    from: usize,
    work: Work,
    callers: usize,
    span: Span,
) -> Result<Done, Failure> {
    drive_each(std::slice::from_ref(store), items, from, work, callers, span).await
}

/// The same where each caller has one of these stores, in turn.
pub(crate) async fn drive_each<C: Contestant>(
    stores: &[Arc<C>],
    items: &Arc<[C::Item]>,
    from: usize,
    work: Work,
    callers: usize,
    span: Span,
) -> Result<Done, Failure> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, items) = (Arc::clone(&stores[caller % stores.len()]), Arc::clone(items));
            tokio::spawn(async move {
                let mut operations = 0;
                let share = match span {
                    Span::Count(all) => all / callers + usize::from(caller < all % callers),
                    Span::Time(_) => usize::MAX,
                };
                while operations < share {
                    if matches!(span, Span::Time(limit) if begun.elapsed() >= limit) {
                        break;
                    }
                    let index = from + operations * callers + caller;
                    let item = match work {
                        Work::Replay => &items[index % items.len()],
                        Work::Reserve | Work::Cycle => match items.get(index) {
                            Some(item) => item,
                            None => break,
                        },
                    };
                    step(&*store, item, work).await?;
                    operations += 1;
                }
                Ok::<_, Failure>((operations, begun.elapsed()))
            })
        })
        .collect();
    let mut done = Done { operations: 0, took: Duration::ZERO, next: from };
    for task in tasks {
        let (operations, took) = task.await??;
        done.operations += operations;
        done.took = done.took.max(took);
        done.next = done.next.max(from + operations * callers);
    }
    if done.operations == 0 {
        return Err("nothing was done within the round".into());
    }
    Ok(done)
}

async fn step<C: Contestant>(store: &C, item: &C::Item, work: Work) -> Result<(), Failure> {
    match work {
        Work::Reserve => drop(store.reserve(item).await?),
        Work::Cycle => {
            let grant = store.reserve(item).await?;
            store.complete(item, grant).await?;
        }
        Work::Replay => check_body(store.replay(item).await?)?,
    }
    Ok(())
}

/// An answer that isn't the stored one is a fault of the benchmark, or of the store.
pub(crate) fn check_body(bytes: usize) -> Result<(), Failure> {
    if bytes == BODY_BYTES {
        Ok(())
    } else {
        Err(format!("a replay of {bytes} bytes, not {BODY_BYTES}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Counting(Mutex<Vec<u64>>);

    impl Contestant for Counting {
        type Item = u64;
        type Grant = ();
        fn prepare(n: u64) -> Result<u64, Failure> {
            Ok(n)
        }
        async fn reserve(&self, item: &u64) -> Result<(), Failure> {
            self.0.lock().unwrap().push(*item);
            Ok(())
        }
        async fn complete(&self, _: &u64, (): ()) -> Result<(), Failure> {
            Ok(())
        }
        async fn replay(&self, _: &u64) -> Result<usize, Failure> {
            Ok(BODY_BYTES - 1)
        }
    }

    #[test]
    fn each_fresh_slot_is_used_once_and_all_are_counted() {
        let store = Arc::new(Counting::default());
        let items = prepare::<Counting>(0..1_000).unwrap();
        let runtime = runtime().unwrap();
        let go = |from, span| runtime.block_on(drive(&store, &items, from, Work::Cycle, 7, span)).unwrap();
        let first = go(0, Span::Count(500));
        assert_eq!(first.operations, 500);
        let rest = go(first.next, Span::Time(Duration::from_secs(60)));
        let used = store.0.lock().unwrap().clone();
        assert_eq!(used.len(), first.operations + rest.operations);
        assert_eq!(used.iter().collect::<HashSet<_>>().len(), used.len(), "a slot was used twice");
    }

    #[test]
    fn a_wrong_answer_ends_the_run() {
        let store = Arc::new(Counting::default());
        let items = prepare::<Counting>(0..10).unwrap();
        let ran = runtime().unwrap().block_on(drive(&store, &items, 0, Work::Replay, 2, Span::Count(4)));
        assert_eq!(ran.unwrap_err().to_string(), "a replay of 255 bytes, not 256");
    }

    #[test]
    fn keys_differ_and_come_in_no_order() {
        let keys: Vec<String> = (0..10_000).map(key).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert!(!keys.is_sorted());
        assert!(keys.iter().all(|k| k.len() == 36), "{}", keys[0]);
    }
}
