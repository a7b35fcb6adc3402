//! S8, FAULTS 2: callers that go away, on a pool of one connection. Whatever a dropped call leaves on it meets
//! the next one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use oncekey_postgres::sqlx::postgres::PgPool;
use oncekey_postgres::sqlx::{Row, raw_sql};
use oncekey_postgres::{
    Checkpoint, CompleteOutcome, Entry, Fence, Grant, IdempotencyAdmin, IdempotencyStore, PostgresStore,
    PostgresStoreBuilder, ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome, Resolution,
    ResolveOutcome, ScanRequest, Seen, StoreError, Timestamp, Token,
};

use crate::kit::{
    HOUR, answer, ask, eventually, fresh_url, granted, in_time, pool, random, request, reserve, slot, works,
};

/// What is done to a slot of its own, by a call that is dropped and then by one that isn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Reserve,
    TakeOver,
    Replay,
    Complete,
    Renew,
    HandOver,
    Release,
    Lookup,
    ResolveComplete,
    ResolveRelease,
    Purge,
    Scan,
    Stats,
    Collect,
    Assess,
    EnsureSchema,
}

const KINDS: [Kind; 16] = [
    Kind::Reserve,
    Kind::TakeOver,
    Kind::Replay,
    Kind::Complete,
    Kind::Renew,
    Kind::HandOver,
    Kind::Release,
    Kind::Lookup,
    Kind::ResolveComplete,
    Kind::ResolveRelease,
    Kind::Purge,
    Kind::Scan,
    Kind::Stats,
    Kind::Collect,
    Kind::Assess,
    Kind::EnsureSchema,
];

/// A slot as the call needs it, the grant that it shows, and the token that it asks with.
struct Bench {
    store: PostgresStore,
    key: String,
    kind: Kind,
    grant: Grant,
    token: Token,
}

impl Bench {
    async fn set(store: &PostgresStore, kind: Kind, key: String) -> Self {
        let (store, token) = (store.clone(), Token::fresh());
        let grant = if kind == Kind::Reserve {
            // Of nobody.
            Grant::new(token, Fence::new(1), 1, request().terms.policy(), None)
        } else {
            granted(reserve(&store, &key).await)
        };
        let bench = Self { store, key, kind, grant, token };
        match kind {
            Kind::TakeOver | Kind::ResolveComplete | Kind::ResolveRelease => bench.hand_over().await,
            Kind::Replay => {
                let stored = bench.store.complete(&slot(&bench.key), &bench.grant, &answer("paid")).await;
                assert_eq!(stored.unwrap(), CompleteOutcome::Stored);
            }
            _ => {}
        }
        bench
    }

    async fn hand_over(&self) {
        let said = self.store.renew(&slot(&self.key), &self.grant, &Renewal::hand_over()).await;
        assert!(matches!(said, Ok(RenewOutcome::Renewed(_))), "{said:?}");
    }

    /// Whether the answer is one that the call, made once or again, may get.
    async fn call(&self) -> Result<bool, StoreError> {
        let (store, slot, grant) = (&self.store, slot(&self.key), &self.grant);
        // Handed over.
        let seen = Seen { fence: grant.fence, lease_expires_at: Timestamp::ZERO };
        Ok(match self.kind {
            Kind::Reserve | Kind::TakeOver => {
                let attempt = if self.kind == Kind::Reserve { 1 } else { 2 };
                match store.reserve_or_fetch(&slot, self.token, &request()).await? {
                    ReservationOutcome::Reserved(grant) => {
                        (grant.token, grant.attempt) == (self.token, attempt)
                    }
                    _ => false,
                }
            }
            Kind::Replay => {
                let replay = store.reserve_or_fetch(&slot, self.token, &request()).await?;
                matches!(&replay, ReservationOutcome::Replay(r) if r.response == *answer("paid").response())
            }
            Kind::Complete => match store.complete(&slot, grant, &answer("paid")).await? {
                CompleteOutcome::Stored => true,
                CompleteOutcome::AlreadyStored(record) => record.response == *answer("paid").response(),
                CompleteOutcome::Lost(_) => false,
            },
            Kind::Renew => {
                let checkpoint = Checkpoint::new(7, "page 7").unwrap();
                let renewal = Renewal::extend(HOUR).unwrap().with_checkpoint(checkpoint);
                matches!(store.renew(&slot, grant, &renewal).await?, RenewOutcome::Renewed(r) if r.sequence == 7)
            }
            Kind::HandOver => {
                let said = store.renew(&slot, grant, &Renewal::hand_over()).await?;
                matches!(said, RenewOutcome::Renewed(_))
            }
            Kind::Release => store.release(&slot, grant).await? == ReleaseOutcome::Released,
            Kind::Lookup => matches!(store.lookup(&slot).await?, Some(Entry::Pending(_))),
            Kind::ResolveComplete | Kind::ResolveRelease => {
                let resolution = match self.kind {
                    Kind::ResolveRelease => Resolution::Release,
                    _ => Resolution::Complete(answer("paid")),
                };
                let said = store.resolve(&slot, seen, &resolution).await?;
                matches!(said, ResolveOutcome::Resolved | ResolveOutcome::AlreadyDone)
            }
            // A second one finds nothing.
            Kind::Purge => store.purge(&slot, grant.fence).await.map(|_| true)?,
            Kind::Scan => !store.scan(&ScanRequest::first(5.try_into().unwrap())).await?.summaries.is_empty(),
            Kind::Stats => store.stats().await?.total() > 0,
            Kind::Collect => store.garbage_collect(5.try_into().unwrap()).await? == 0,
            Kind::Assess => store.assess().await.map(|_| true)?,
            Kind::EnsureSchema => store.ensure_schema().await.map(|()| true)?,
        })
    }
}

/// Polls `future` so many times, each time that it is woken, and drops it; its answer if it had one by then.
async fn woken<T>(future: impl Future<Output = T>, mut times: usize) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if times == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls it in so many turns of the runtime, woken or not, and drops it wherever its tasks are by then.
async fn turned<T>(future: impl Future<Output = T>, turns: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..turns {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(answer) = polled {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// The one connection is had, and its session is in no transaction: one would have begun before its statement.
async fn is_usable(pool: &PgPool) {
    // By the simple protocol: the other one begins with the preparation.
    let outside =
        raw_sql("SELECT now() = statement_timestamp() AND pg_current_xact_id_if_assigned() IS NULL");
    let row = in_time("the connection", outside.fetch_one(pool)).await.unwrap();
    assert_eq!(row.try_get_raw(0).unwrap().as_str().unwrap(), "t", "the connection is inside a transaction");
}

async fn one_connection(builder: PostgresStoreBuilder) -> (PostgresStore, PgPool, String) {
    let url = fresh_url();
    let pool = pool(&url, 1).await;
    let store = builder.without_notifications().from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    // Never collected, never empty.
    works(&store, "a record").await;
    (store, pool, url)
}

pub const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";

async fn nobody_is_left_in_a_transaction(url: &str) {
    assert_eq!(ask(url, IN_TRANSACTION).await, "0");
}

/// When a call is dropped.
#[derive(Clone, Copy, Debug)]
enum After {
    /// When it was woken so many times: once at each of its awaits.
    Wakes,
    /// When the runtime has turned so many times: wherever its statement is by then.
    Turns,
}

/// Drops calls ever later, until they answer, on the one connection of a caller's pool.
async fn dropped_ever_later(after: After, builder: PostgresStoreBuilder) {
    let (store, pool, url) = one_connection(builder).await;
    drop_each_kind(after, store, pool, url).await;
}

async fn drop_each_kind(after: After, store: PostgresStore, pool: PgPool, url: String) {
    let mut dropped = 0;
    for kind in KINDS {
        let mut times = 0;
        loop {
            let bench = Bench::set(&store, kind, format!("{kind:?}-{times}")).await;
            let answer = match after {
                After::Wakes => in_time("a call", woken(bench.call(), times)).await,
                After::Turns => in_time("a call", turned(bench.call(), times)).await,
            };
            is_usable(&pool).await;
            let again = in_time("the call made again", bench.call()).await.unwrap();
            assert!(again, "{kind:?} made again after {times} {after:?}");
            if let Some(answer) = answer {
                assert!(answer.unwrap(), "{kind:?} in {times} {after:?}");
                break;
            }
            dropped += 1;
            times = match after {
                After::Wakes => times + 1,
                After::Turns => times + 1 + times / 4,
            };
        }
    }
    works(&store, "afterwards").await;
    nobody_is_left_in_a_transaction(&url).await;
    println!("{dropped} calls of {} kinds dropped, after ever more {after:?}", KINDS.len());
}

#[tokio::test]
async fn a_call_dropped_at_any_of_its_awaits_leaves_its_one_connection_usable() {
    dropped_ever_later(After::Wakes, PostgresStore::builder()).await;
}

#[tokio::test]
async fn a_call_dropped_at_any_turn_of_the_runtime_leaves_its_one_connection_usable() {
    dropped_ever_later(After::Turns, PostgresStore::builder()).await;
}

/// A lone call is sent by its caller's own task, which is dropped here, on a connection that the next one gets.
async fn dropped_ever_later_on_a_pool_of_the_stores_own(after: After, builder: PostgresStoreBuilder) {
    let url = fresh_url();
    let store = builder.connections(1).without_notifications().connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    works(&store, "a record").await;
    let pool = store.pool().clone();
    drop_each_kind(after, store, pool, url).await;
}

#[tokio::test]
async fn a_lone_call_dropped_at_any_of_its_awaits_is_finished_without_it() {
    dropped_ever_later_on_a_pool_of_the_stores_own(After::Wakes, PostgresStore::builder()).await;
}

#[tokio::test]
async fn a_lone_call_dropped_at_any_turn_of_the_runtime_is_finished_without_it() {
    dropped_ever_later_on_a_pool_of_the_stores_own(After::Turns, PostgresStore::builder()).await;
}

/// As in a `select!` whose other branch is busy.
#[tokio::test]
async fn a_caller_that_is_not_polled_holds_up_nobody() {
    for builder in [PostgresStore::builder(), PostgresStore::builder().transaction_pooler()] {
        let url = fresh_url();
        let store = builder.connections(1).connect(&url).await.unwrap();
        store.ensure_schema().await.unwrap();
        for kind in [Kind::Reserve, Kind::Complete, Kind::TakeOver, Kind::Release, Kind::Lookup] {
            let mut times = 1;
            loop {
                let bench = Bench::set(&store, kind, format!("{kind:?}-{times}")).await;
                let mut call = pin!(bench.call());
                let mut answer = in_time("its first polls", woken(call.as_mut(), times)).await;
                for n in 0..3 {
                    in_time("another caller", works(&store, &format!("{kind:?}-{times}-{n}"))).await;
                }
                // Nor, by a lock, anybody who calls for its slot.
                eventually("its transaction to end", async || {
                    match ask(&url, IN_TRANSACTION).await.as_str() {
                        "0" => Ok(()),
                        left => Err(format!("{left} in a transaction")),
                    }
                })
                .await;
                let answered_at_once = answer.is_some();
                if answer.is_none() {
                    answer = Some(in_time("the rest of its polls", call).await);
                }
                assert!(answer.unwrap().unwrap(), "{kind:?} after {times} polls");
                if answered_at_once {
                    break;
                }
                times += 1;
            }
        }
    }
}

/// Behind a pooler each statement is between a BEGIN and a COMMIT.
#[tokio::test]
async fn a_call_dropped_at_any_turn_behind_a_pooler_leaves_no_transaction_open() {
    dropped_ever_later(After::Turns, PostgresStore::builder().transaction_pooler()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_dropped_calls_loses_nothing_that_was_acknowledged() {
    let mut random = random();
    let (store, pool, url) = one_connection(PostgresStore::builder()).await;
    let mut answered = 0;
    for round in 0..4 {
        let mut benches = Vec::new();
        for n in 0..100 {
            let kind = KINDS[random.usize(..KINDS.len())];
            benches.push(Bench::set(&store, kind, format!("{round}-{n}-{kind:?}")).await);
        }
        let storm: Vec<_> = benches
            .into_iter()
            .map(|bench| {
                let turns = random.usize(..4_000);
                tokio::spawn(async move {
                    let answer = turned(bench.call(), turns).await;
                    (bench, answer)
                })
            })
            .collect();
        let mut after = Vec::new();
        for call in storm {
            let (bench, answer) = in_time("a call", call).await.unwrap();
            if let Some(answer) = answer {
                assert!(answer.unwrap(), "{:?}", bench.kind);
                answered += 1;
            }
            after.push(bench);
        }
        is_usable(&pool).await;
        for bench in after {
            assert!(in_time("a call made again", bench.call()).await.unwrap(), "{}", bench.key);
        }
    }
    assert!((1..400).contains(&answered), "{answered} of 400 were answered: no storm");
    works(&store, "afterwards").await;
    nobody_is_left_in_a_transaction(&url).await;
    println!("{answered} of 400 calls answered, the others dropped");
}
