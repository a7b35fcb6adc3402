//! [`Bench`]: a prefix with a proxy before its server, and stores on either side of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oncekey_conformance::history::{Moment, Tolerance};
use oncekey_redis::state::{Answer, Operation};
use oncekey_redis::{
    ClockOffset, IdempotencyStore, Principal, RedisStore, RedisStoreBuilder, Slot, StoreError,
};
use oncekey_storm::crowd::{Acknowledged, Crowd};
use oncekey_storm::deed::{Deed, Stage};
use oncekey_storm::ledger::{Client, Ledger, Tries};
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Proxy;
use oncekey_testbed::redis::Server;
use oncekey_testbed::wait_until;

/// The server of those tests that neither stop nor kill it. It needs to survive nothing, so it flushes nothing.
pub fn server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    Arc::clone(
        SERVER.get_or_init(|| Arc::new(Server::builder().setting("appendonly", "no").start().unwrap())),
    )
}

/// A prefix that nobody else uses, and a clock that moves for all of its stores.
pub fn prefix() -> (RedisStoreBuilder, ClockOffset) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let offset = ClockOffset::shiftable();
    let builder = RedisStore::builder().prefix(format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    (builder.clock_offset(offset.clone()), offset)
}

pub struct Bench {
    server: Arc<Server>,
    pub builder: RedisStoreBuilder,
    pub proxy: Proxy,
    pub ledger: Ledger,
    /// A store whose connections nobody touches.
    clean: RedisStore,
    /// A store whose connections go through the proxy.
    over: RedisStore,
    next: AtomicU64,
}

impl Bench {
    pub fn open() -> Self {
        Self::before(server())
    }

    /// On another server.
    pub fn before(server: Arc<Server>) -> Self {
        let (builder, offset) = prefix();
        let clean = builder.clone().connect_lazy(&server.url(0)).unwrap();
        let proxy = Proxy::before(server.socket()).unwrap();
        let over = builder.clone().connect_lazy(&server.url_by(proxy.address(), 0)).unwrap();
        let ledger = Ledger::moving(move |by| offset.advance(by));
        Self { server, builder, proxy, ledger, clean, over, next: AtomicU64::new(0) }
    }

    /// One more store through the proxy, not connected yet.
    pub fn another(&self, build: impl FnOnce(RedisStoreBuilder) -> RedisStoreBuilder) -> RedisStore {
        build(self.builder.clone()).connect_lazy(&self.server.url_by(self.proxy.address(), 0)).unwrap()
    }

    /// A slot that nobody has used.
    pub fn slot(&self) -> Slot {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Principal::new("broken").unwrap().slot(format!("{number}")).unwrap()
    }

    /// Through the proxy. One try besides the last may have had its effect.
    pub async fn over(&self, slot: &Slot, operation: &Operation) -> Result<Answer, StoreError> {
        let client = Client { number: 1, store: &self.over, tries: Tries::One };
        self.ledger.call(client, slot, operation).await
    }

    /// Makes the call through the proxy on a slot of its own; the bytes of its request and of its answer.
    pub async fn measure(&self, deed: Deed) -> (u64, u64) {
        let mut seen = (0, 0);
        for _ in 0..2 {
            let slot = self.slot();
            let operation = deed.stage(self, &slot).await.operation;
            let before = (self.proxy.seen(ToServer), self.proxy.seen(ToClient));
            deed.right(&self.over(&slot, &operation).await.unwrap());
            seen = (self.proxy.seen(ToServer) - before.0, self.proxy.seen(ToClient) - before.1);
        }
        seen
    }

    /// What happened to the slots so far has an order.
    pub fn settle(&self, what: &str) {
        self.ledger.settle(what, Tolerance::COARSE);
    }
}

impl Stage for Bench {
    /// Past the proxy.
    async fn clean(&self, slot: &Slot, operation: &Operation) -> Answer {
        let client = Client { number: 0, store: &self.clean, tries: Tries::None };
        self.ledger.call(client, slot, operation).await.unwrap()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// Asks until there is an answer: whose deadline is short may need more than one call for its connection.
pub async fn is_answered(store: &RedisStore, slot: &Slot) {
    let mut failed = 0;
    while let Err(error) = store.lookup(slot).await {
        failed += 1;
        assert!(failed < 1_000, "{error}");
    }
}

/// Returns when so many more answers have come to a crowd.
pub fn answers(crowd: &Crowd, more: u64) {
    let enough = crowd.answers() + more;
    wait_until("answers to the crowd", Duration::from_secs(120), || match crowd.answers() {
        n if n >= enough => Ok(()),
        n => Err(format!("{n} of {enough}")),
    })
    .unwrap();
}

/// Returns when a replica is the master; a moment when it was not yet, and the one before it had been gone for long.
pub fn until_promoted(crowd: &Crowd, replica: &Server) -> Moment {
    let mut before = None;
    wait_until("the replica to be promoted", Duration::from_secs(120), || {
        let now = crowd.ledger.before();
        if replica.cli(["role"]).map_err(|error| error.to_string())?.starts_with("master") {
            return before.ok_or_else(|| "it was promoted before anybody looked".to_owned());
        }
        before = Some(now);
        Err("it is a replica".to_owned())
    })
    .unwrap()
}

/// Everything that was acknowledged is there, and all that was heard has an order.
pub async fn nothing_is_lost(what: &str, crowd: &Crowd, store: &RedisStore, acknowledged: &mut Acknowledged) {
    for (slot, calls) in crowd.ledger.all() {
        let last = Client { number: 99, store, tries: Tries::None };
        let found = crowd.ledger.call(last, &slot, &Operation::Lookup).await.unwrap();
        acknowledged.count(what, &slot, &calls, &found);
    }
    crowd.ledger.settle(what, Tolerance::COARSE);
}
