//! [`Bench`]: a table with a proxy before its server, and stores on either side of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oncekey_conformance::history::Tolerance;
use oncekey_postgres::sqlx::{self, postgres::PgPoolOptions};
use oncekey_postgres::state::{Answer, Operation};
use oncekey_postgres::{
    ClockOffset, IdempotencyStore, PostgresStore, PostgresStoreBuilder, Principal, Slot, StoreError,
};
use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Proxy;

use oncekey_storm::deed::{Deed, Stage};
use oncekey_storm::ledger::{Client, Ledger, Tries};

/// The server of those tests that neither stop nor kill it. It needs to survive nothing, so it flushes nothing.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let builder = Server::builder().setting("fsync", "off").setting("max_connections", "300");
        builder.setting("autovacuum", "off").start().unwrap()
    })
}

/// A table that nobody else uses, and a clock that moves for all of its stores.
pub fn table() -> (String, PostgresStoreBuilder, ClockOffset) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let offset = ClockOffset::shiftable();
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    // No call of a store's own beside those of the test: bytes are counted.
    let builder = PostgresStore::builder().schema("broken").table(&name).clock_offset(offset.clone());
    (name, builder.without_notifications().connections(1), offset)
}

/// The calls of an operation, as bytes on the wire of a connection that has made it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    pub requests: u64,
    pub answers: u64,
}

impl Exchange {
    pub fn since(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, answers: self.answers - before.answers }
    }
}

#[derive(Debug)]
pub struct Bench {
    server: &'static Server,
    session: String,
    table: String,
    pub builder: PostgresStoreBuilder,
    pub proxy: Proxy,
    pub ledger: Ledger,
    /// A store whose connections nobody touches.
    pub clean: PostgresStore,
    /// A store whose connections go through the proxy.
    pub over: PostgresStore,
    next: AtomicU64,
}

impl Bench {
    pub async fn open() -> Self {
        Self::before(server()).await
    }

    /// On another server.
    pub async fn before(server: &'static Server) -> Self {
        // What is sent is the statements of a call, and nothing before them.
        Self::with(server, PostgresStoreBuilder::unasked).await
    }

    /// One that asks its connections as stores do.
    pub async fn asking() -> Self {
        Self::with(server(), |builder| builder).await
    }

    async fn with(
        server: &'static Server,
        build: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder,
    ) -> Self {
        let (table, builder, offset) = table();
        let builder = build(builder);
        let clean = builder.clone().connect_lazy(&server.url("postgres")).unwrap();
        clean.ensure_schema().await.unwrap();
        let proxy = Proxy::before(server.socket()).unwrap();
        // One connection: each call finds the one that the call before has left.
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let session = format!("over_{table}");
        let url = format!("{}?application_name={session}", server.url_by(proxy.address(), "postgres"));
        let pool = pool.connect_lazy(&url).unwrap();
        let over = builder.clone().from_pool(pool).await.unwrap();
        Self {
            server,
            session,
            table,
            builder,
            proxy,
            ledger: Ledger::moving(move |by| offset.advance(by)),
            clean,
            over,
            next: AtomicU64::new(0),
        }
    }

    /// One more store through the proxy, with a pool of its own and not connected yet.
    pub fn another(&self, build: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder) -> PostgresStore {
        build(self.builder.clone()).connect_lazy(&self.url()).unwrap()
    }

    /// A store that shares the connection through the proxy, and gives up by this deadline. A call that brings the
    /// connection where it is to be has more time than that.
    pub async fn hasty(
        &self,
        deadline: Duration,
        build: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder,
    ) -> PostgresStore {
        self.at_rest().await;
        let builder = build(self.builder.clone().call_deadline(deadline));
        let hasty = builder.from_pool(self.over.pool().clone()).await.unwrap();
        self.at_rest().await;
        hasty
    }

    /// The server's URL through the proxy.
    pub fn url(&self) -> String {
        self.server.url_by(self.proxy.address(), "postgres")
    }

    /// A slot that nobody used; all have names of one length.
    pub fn slot(&self) -> Slot {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Principal::new("broken").unwrap().slot(format!("{number:08}")).unwrap()
    }

    /// Returns when the pool has its connection back: an answer comes before that, and the driver asks the
    /// server once more in between.
    pub async fn at_rest(&self) {
        let pool = self.over.pool();
        let begun = Instant::now();
        while u32::try_from(pool.num_idle()).unwrap() != pool.size() {
            assert!(begun.elapsed() < SLACK, "{pool:?} doesn't come to rest");
            tokio::task::yield_now().await;
        }
    }

    /// Through the proxy. One try besides the last may have had its effect.
    pub async fn over(&self, slot: &Slot, operation: &Operation) -> Result<Answer, StoreError> {
        let heard = self.by(&self.over, slot, operation).await;
        self.at_rest().await;
        heard
    }

    /// By another store through the proxy.
    pub async fn by(
        &self,
        store: &PostgresStore,
        slot: &Slot,
        operation: &Operation,
    ) -> Result<Answer, StoreError> {
        self.ledger.call(Client { number: 1, store, tries: Tries::One }, slot, operation).await
    }

    /// Makes the call through the proxy on a slot of its own, so that the connection has all of its
    /// statements.
    pub async fn warm(&self, deed: Deed) {
        let slot = self.slot();
        let operation = deed.stage(self, &slot).await.operation;
        let answer = self.over(&slot, &operation).await.unwrap();
        deed.right(&answer);
    }

    /// Returns when no session of the store through the proxy is left: the server ends one when it has carried out
    /// what came in it.
    pub async fn ended(&self) {
        let begun = Instant::now();
        while self.sessions().await > 0 {
            assert!(begun.elapsed() < SLACK, "a session {} doesn't end", self.session);
            tokio::task::yield_now().await;
        }
    }

    /// The sessions of the store through the proxy.
    pub async fn sessions(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let count = sqlx::query_scalar(count).bind(&self.session);
        count.fetch_one(self.clean.pool()).await.unwrap()
    }

    /// How many bytes have come so far.
    pub fn seen(&self) -> Exchange {
        Exchange { requests: self.proxy.seen(ToServer), answers: self.proxy.seen(ToClient) }
    }

    pub async fn measure(&self, deed: Deed) -> Exchange {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let slot = self.slot();
            let operation = deed.stage(self, &slot).await.operation;
            let before = self.seen();
            deed.right(&self.over(&slot, &operation).await.unwrap());
            seen.push(self.seen().since(before));
        }
        assert_eq!(seen[1], seen[2], "{deed:?}: the same call is as many bytes each time");
        seen[2]
    }

    /// The row of a slot, as it is stored.
    pub fn row(&self, slot: &Slot) -> String {
        let (table, key) = (&self.table, slot.key());
        self.server.psql(&format!("SELECT t::text FROM broken.{table} AS t WHERE key = '{key}'")).unwrap()
    }

    /// What happened to the slots so far has an order.
    pub fn settle(&self, what: &str) {
        self.ledger.settle(what, Tolerance::COARSE);
    }
}

impl Stage for Bench {
    /// Past the proxy.
    async fn clean(&self, slot: &Slot, operation: &Operation) -> Answer {
        self.ledger
            .call(Client { number: 0, store: &self.clean, tries: Tries::None }, slot, operation)
            .await
            .unwrap()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// How many statements a call takes that nobody disturbs.
pub fn statements(deed: Deed) -> u32 {
    match deed {
        Deed::TakeOver | Deed::Retry | Deed::Again => 2,
        _ => 1,
    }
}

/// Whether the statement of this number is the one that writes.
pub fn writes_in(deed: Deed, statement: u32) -> bool {
    deed.writes() && statement == statements(deed)
}

/// Longer than a call's deadline on a machine that does other things besides.
pub const SLACK: Duration = Duration::from_secs(5);
