//! The answer to COMMIT is lost (T5): what the caller then hears is so.
//!
//! The caller's connection goes through a proxy that cuts it at each byte, or keeps the COMMIT to itself. The
//! store asks by a way of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::request;
use oncekey_postgres::*;
use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::{Direction, Ending, Proxy};
use oncekey_testbed::wait_until;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, Transaction};
use tokio::task::JoinHandle;

/// `Q`, a length, `COMMIT`, a zero byte.
const COMMIT: u64 = 12;
/// CommandComplete and ReadyForQuery.
const COMMITTED: u64 = 12 + 6;
/// What ends at all ends within this.
const SOON: Duration = Duration::from_secs(30);

type Committing = JoinHandle<Result<(), InTxError>>;

/// A database with a table for the business writes, and the two ways to it.
struct Bank {
    server: &'static Server,
    database: String,
    store: PostgresStore,
    offset: ClockOffset,
    /// Past the proxy, as the store.
    pool: PgPool,
    proxy: Proxy,
    /// What a commit of [`answer`] sends, the COMMIT last.
    requests: u64,
}

async fn bank() -> Bank {
    bank_with(|builder| builder).await
}

async fn bank_with(more: fn(PostgresStoreBuilder) -> PostgresStoreBuilder) -> Bank {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start().unwrap());
    bank_on(server, more).await
}

async fn bank_on(server: &'static Server, more: fn(PostgresStoreBuilder) -> PostgresStoreBuilder) -> Bank {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let database = format!("lost_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = server.create_database(&database).unwrap();
    let offset = ClockOffset::shiftable();
    let builder =
        PostgresStore::builder().clock_offset(offset.clone()).lock_timeout(Duration::from_millis(100));
    let store = more(builder).connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    pool.execute("CREATE TABLE paid (key text)").await.unwrap();
    let proxy = Proxy::before(server.socket()).unwrap();
    let mut bank = Bank { server, database, store, offset, pool, proxy, requests: 0 };
    bank.requests = bank.measured(&answer()).await;
    bank
}

impl Bank {
    fn proxy_url(&self) -> String {
        self.server.url_by(self.proxy.address(), &self.database)
    }

    /// A transaction of the caller's, by a new connection through the proxy.
    async fn by_proxy(&self) -> Transaction<'static, Postgres> {
        let pool = PgPoolOptions::new().max_connections(1).connect(&self.proxy_url()).await.unwrap();
        pool.begin().await.unwrap()
    }

    /// How much a commit sends.
    async fn measured(&self, completion: &Completion) -> u64 {
        // Not a pool's: that sends something of its own when it gets a connection back.
        let mut connection = PgConnection::connect(&self.proxy_url()).await.unwrap();
        let once = self
            .begun(
                connection.begin().await.unwrap(),
                &slot(format!("m-{}", completion.retention().is_some())),
            )
            .await;
        let before = self.proxy.seen(ToServer);
        once.commit(completion).await.unwrap();
        self.proxy.seen(ToServer) - before
    }

    /// A transaction with a reservation and a payment in it.
    async fn begun<'c>(&self, tx: Transaction<'c, Postgres>, slot: &Slot) -> OnceTx<'c> {
        let mut once = reserved(self.store.once(tx, slot, &request()).await.unwrap());
        pay(&mut once, slot).await;
        once
    }

    /// A commit whose COMMIT has come as far as the proxy, which holds it.
    async fn held(&self, slot: &Slot) -> Committing {
        self.held_behind(slot, answer(), self.requests - COMMIT).await
    }

    async fn held_behind(&self, slot: &Slot, completion: Completion, bytes: u64) -> Committing {
        let once = self.begun(self.by_proxy().await, slot).await;
        let before = self.proxy.seen(ToServer);
        self.proxy.hold_after(ToServer, bytes);
        let committing = tokio::spawn(async move { once.commit(&completion).await });
        self.proxy.wait_seen(ToServer, before + bytes + COMMIT).unwrap();
        committing
    }

    /// How often was paid for it, as everybody sees it.
    async fn paid(&self, slot: &Slot) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM paid WHERE key = $1").bind(slot.key());
        count.fetch_one(&self.pool).await.unwrap()
    }

    async fn once(&self, slot: &Slot) -> ReservationOutcome<OnceTx<'static>> {
        let tx = self.pool.begin().await.unwrap();
        self.store.once(tx, slot, &request()).await.unwrap()
    }

    /// That `said` is so, and that the next one who asks hears the same, and pays if nobody has.
    async fn check(&self, slot: &Slot, said: &Result<(), InTxError>, when: &str) {
        let paid = self.paid(slot).await;
        match said {
            Ok(()) => assert_eq!(paid, 1, "{when}: committed, it says"),
            Err(InTxError::Store(error)) => {
                assert_eq!((error.effect(), paid), (Effect::NotApplied, 0), "{when}: {error}");
            }
            Err(other) => panic!("{when}: {other:?}"),
        }
        match self.once(slot).await {
            ReservationOutcome::Replay(record) if said.is_ok() => {
                assert_eq!(record.response, *answer().response(), "{when}");
            }
            ReservationOutcome::Reserved(mut once) if said.is_err() => {
                pay(&mut once, slot).await;
                once.commit(&answer()).await.unwrap();
            }
            other => panic!("{when}: said {said:?}, then {other:?}"),
        }
        assert_eq!(self.paid(slot).await, 1, "{when}");
    }

    /// Waits until somebody on the server waits for somebody's transaction.
    fn wait_for_a_waiter(&self) {
        self.wait_until("somebody who waits for a row", "wait_event_type = 'Lock'", |count| count > 0);
    }

    /// Waits until nobody has a transaction.
    fn wait_for_the_end(&self) {
        self.wait_until("the end of all transactions", "state <> 'idle'", |count| count == 0);
    }

    fn wait_until(&self, what: &str, are: &str, enough: fn(u32) -> bool) {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND {are}"
        );
        wait_until(what, SOON, || {
            let count = self.server.psql_in(&self.database, &count).map_err(|error| error.to_string())?;
            if enough(count.parse().unwrap()) { Ok(()) } else { Err(count) }
        })
        .unwrap();
    }
}

async fn pay(tx: &mut PgConnection, slot: &Slot) {
    let pay = sqlx::query("INSERT INTO paid VALUES ($1)").bind(slot.key());
    pay.execute(tx).await.unwrap();
}

/// All of one length, so that what is sent for them is.
fn slot(key: impl AsRef<str>) -> Slot {
    common::slot(format!("{:-<12}", key.as_ref()))
}

fn answer() -> Completion {
    Completion::new(StoredResponse::new(201, "", "paid"))
}

fn reserved<H: std::fmt::Debug>(outcome: ReservationOutcome<H>) -> H {
    match outcome {
        ReservationOutcome::Reserved(holder) => holder,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

/// The end of a commit, or a failure instead of a hang.
async fn end(committing: Committing) -> Result<(), InTxError> {
    tokio::time::timeout(SOON, committing).await.expect("commit() did not end").unwrap()
}

fn store_error(said: Result<(), InTxError>) -> StoreError {
    match said {
        Err(InTxError::Store(error)) => error,
        other => panic!("expected an error of the store's, saw {other:?}"),
    }
}

/// Each byte of the COMMIT and of its answer, with how the connection ends there.
fn cuts() -> impl Iterator<Item = (Direction, u64, Ending)> {
    let all = [(ToServer, COMMIT), (ToClient, COMMITTED)];
    all.into_iter().flat_map(|(direction, last)| {
        (0..=last)
            .flat_map(move |byte| [Ending::Reset, Ending::Close].map(|ending| (direction, byte, ending)))
    })
}

/// What lies in the slot before the transaction.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Released,
    Lapsed,
    Expired,
}

impl Before {
    async fn lay(self, bank: &Bank, slot: &Slot) {
        if matches!(self, Self::Nothing) {
            return;
        }
        let grant = reserved(bank.store.reserve_or_fetch(slot, Token::fresh(), &request()).await.unwrap());
        match self {
            Self::Released => {
                assert_eq!(bank.store.release(slot, &grant).await.unwrap(), ReleaseOutcome::Released);
            }
            Self::Expired => bank.offset.advance(Duration::from_secs(4_000)),
            Self::Lapsed | Self::Nothing => bank.offset.advance(Duration::from_secs(400)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_connection_is_cut_at_the_commit_what_it_says_is_so() {
    let (bank, mut next) = (bank().await, 0);
    for before in [Before::Nothing, Before::Released, Before::Lapsed, Before::Expired] {
        for (direction, byte, ending) in cuts() {
            let when = format!("{before:?}, {direction:?} cut behind byte {byte} by {ending:?}");
            let slot = slot(next.to_string());
            next += 1;
            before.lay(&bank, &slot).await;
            let committing = bank.held(&slot).await;
            let cuts = bank.proxy.cuts();
            bank.proxy.cut_after(direction, byte, ending);
            bank.proxy.let_pass(ToServer);
            let said = end(committing).await;
            assert_eq!(bank.proxy.cuts(), cuts + 1, "{when}: it was not cut");
            match direction {
                ToServer if byte < COMMIT => assert!(said.is_err(), "{when}: {said:?}"),
                ToServer => {}
                ToClient => assert!(said.is_ok(), "{when}: {said:?}"),
            }
            bank.check(&slot, &said, &when).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_connection_is_cut_a_transaction_with_complete_in_is_made_again() {
    let bank = bank().await;
    for (n, (direction, byte, ending)) in cuts().enumerate() {
        let when = format!("{direction:?} cut behind byte {byte} by {ending:?}");
        let slot = slot(n.to_string());
        let grant = reserved(bank.store.reserve_or_fetch(&slot, Token::fresh(), &request()).await.unwrap());
        let mut tx = bank.by_proxy().await;
        pay(&mut tx, &slot).await;
        bank.store.complete_in(&mut tx, &slot, &grant, &answer()).await.unwrap();
        bank.proxy.cut_after(direction, byte, ending);
        let heard = tx.commit().await.is_ok();
        assert_eq!(heard, (direction, byte) == (ToClient, COMMITTED), "{when}");

        // The same, all of it, by another connection.
        let again = loop {
            let mut tx = bank.pool.begin().await.unwrap();
            pay(&mut tx, &slot).await;
            match bank.store.complete_in(&mut tx, &slot, &grant, &answer()).await {
                // T3: the server has not seen yet that the first one's client is gone.
                Err(InTxError::Store(error)) if error.kind() == ErrorKind::Timeout => {}
                Ok(()) => {
                    tx.commit().await.unwrap();
                    break false;
                }
                Err(InTxError::AlreadyStored(record)) => {
                    assert_eq!(record.response, *answer().response(), "{when}");
                    break true;
                }
                Err(other) => panic!("{when}: {other:?}"),
            }
        };
        match direction {
            ToServer if byte < COMMIT => assert!(!again, "{when}"),
            ToServer => {}
            ToClient => assert!(again, "{when}"),
        }
        assert_eq!(bank.paid(&slot).await, 1, "{when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_commit_is_swallowed_nothing_is_claimed_and_then_what_became_of_it() {
    let bank = bank().await;
    for delivered in [true, false] {
        let slot = slot(format!("{delivered}"));
        let committing = bank.held(&slot).await;
        assert_eq!(bank.proxy.strand(), 1);
        bank.wait_for_a_waiter();
        // T3: so does anybody else who asks, for as long as the lock timeout.
        let other = bank.store.reserve_or_fetch(&slot, Token::fresh(), &request()).await.unwrap();
        assert!(matches!(other, ReservationOutcome::InFlight(_)), "{other:?}");
        assert!(bank.store.lookup(&slot).await.unwrap().is_none(), "a lookup waits for nobody");
        bank.wait_for_a_waiter();
        assert!(!committing.is_finished(), "it knows already: {:?}", end(committing).await);
        match delivered {
            true => bank.proxy.deliver().unwrap(),
            false => bank.proxy.reset(),
        }
        let said = end(committing).await;
        assert_eq!(said.is_ok(), delivered, "{said:?}");
        bank.proxy.pass().unwrap();
        bank.check(&slot, &said, &format!("delivered: {delivered}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_stays_swallowed_is_unknown_at_the_deadline_and_may_arrive_later() {
    // Two questions fit into the deadline, the second one only in part.
    const DEADLINE: Duration = Duration::from_secs(4);
    let bank = bank_with(|b| b.call_deadline(DEADLINE).lock_timeout(DEADLINE * 9 / 10)).await;
    let slot = slot("late");
    let committing = bank.held(&slot).await;
    let begun = Instant::now();
    assert_eq!(bank.proxy.strand(), 1);
    let error = store_error(end(committing).await);
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let took = begun.elapsed();
    assert!((DEADLINE..DEADLINE * 3 / 2).contains(&took), "{took:?}");
    bank.proxy.deliver().unwrap();
    bank.wait_for_the_end();
    // It is as `once` tells later.
    bank.check(&slot, &Ok(()), "delivered at last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_silent_wire_a_commit_ends_by_its_deadlines() {
    let bank = bank_with(|b| {
        let short = Duration::from_secs(2);
        b.statement_deadline(short).call_deadline(short)
    })
    .await;
    // Behind each statement of a commit, and at last behind the COMMIT.
    for (n, (held, effect)) in [
        (0, Effect::NotApplied),
        ((bank.requests - COMMIT) / 2, Effect::NotApplied),
        (bank.requests - COMMIT - 1, Effect::NotApplied),
        (bank.requests - COMMIT, Effect::Unknown),
    ]
    .into_iter()
    .enumerate()
    {
        let slot = slot(format!("silent-{n}"));
        let once = bank.begun(bank.by_proxy().await, &slot).await;
        bank.proxy.hold_after(ToServer, held);
        let error = store_error(end(tokio::spawn(async move { once.commit(&answer()).await })).await);
        assert_eq!(error.effect(), effect, "silent behind byte {held}: {error}");
        // What was sent arrives at last, in order.
        bank.proxy.let_pass(ToServer);
        let said = match effect {
            Effect::Unknown => Ok(()),
            Effect::NotApplied => Err(error.into()),
        };
        bank.wait_for_the_end();
        bank.check(&slot, &said, &format!("silent behind byte {held}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_be_over_before_it_was_asked_for_is_unknown() {
    let bank = bank().await;
    let slot = slot("short");
    let short = answer().keep_for(Duration::from_millis(50)).unwrap();
    let bytes = bank.measured(&short).await - COMMIT;
    let committing = bank.held_behind(&slot, short, bytes).await;
    assert_eq!(bank.proxy.strand(), 1);
    // A lock timeout is longer than that, twice.
    for _ in 0..2 {
        let other = bank.store.reserve_or_fetch(&slot, Token::fresh(), &request()).await.unwrap();
        assert!(matches!(other, ReservationOutcome::InFlight(_)), "{other:?}");
    }
    bank.proxy.deliver().unwrap();
    let error = store_error(end(committing).await);
    assert_eq!((error.effect(), bank.paid(&slot).await), (Effect::Unknown, 1), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_is_killed_at_the_commit_what_it_says_is_so() {
    static SERVER: OnceLock<Server> = OnceLock::new();
    // A start after a kill flushes all files, and one by one that takes seconds.
    let server = Server::builder().setting("recovery_init_sync_method", "syncfs");
    let server = SERVER.get_or_init(|| server.start().unwrap());
    let bank = bank_on(server, |b| b.call_deadline(Duration::from_secs(60))).await;
    let seed = std::env::var("ONCEKEY_SEED").map_or_else(|_| fastrand::u64(..), |n| n.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..4 {
        let slot = slot(format!("kill-{round}"));
        let when = format!("ONCEKEY_SEED={seed}, round {round}");
        let committing = bank.held(&slot).await;
        // The first one dies before its COMMIT has come.
        if round > 0 {
            bank.proxy.let_pass(ToServer);
            (0..1_u32 << random.u32(..18)).for_each(|_| std::hint::spin_loop());
        }
        bank.server.kill().unwrap();
        bank.proxy.pass().unwrap();
        bank.server.start_again().unwrap();
        let said = end(committing).await;
        bank.check(&slot, &said, &when).await;
    }
}
