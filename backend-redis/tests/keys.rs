//! What becomes of a key: it outlives its record by the time that it lingers, and is then Redis's to delete.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

use std::time::Duration;

use oncekey_redis::{
    Completion, Fingerprint, Grant, IdempotencyAdmin, IdempotencyStore, Policy, Principal, RedisStore,
    Renewal, ReservationOutcome, ReserveRequest, Resolution, Slot, StoredResponse, Terms, Token,
};
use oncekey_testbed::redis::Server;

const LEASE: Duration = Duration::from_secs(100);
const RETENTION: Duration = Duration::from_secs(1_000);
const LINGER: Duration = Duration::from_secs(10_000);

struct Key {
    server: Server,
    store: RedisStore,
    slot: Slot,
}

impl Key {
    async fn new() -> Self {
        let server = Server::start().unwrap();
        let builder = RedisStore::builder().prefix("keys").linger(LINGER);
        // `cargo xtask guards` takes clauses out.
        let builder = match std::env::var_os("ONCEKEY_LUA") {
            Some(folder) => builder.script_folder(folder),
            None => builder,
        };
        let store = builder.connect(&server.url(0)).await.unwrap();
        Self { server, store, slot: Principal::new("p").unwrap().slot("k").unwrap() }
    }

    async fn reserve(&self, policy: Policy, token: Token, lease: Duration) -> Grant {
        let terms = Terms::new(policy, lease, RETENTION).unwrap();
        let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms);
        match self.store.reserve_or_fetch(&self.slot, token, &request).await.unwrap() {
            ReservationOutcome::Reserved(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    /// Fails unless the key goes so long from now, less the seconds that a test takes.
    fn goes_after(&self, rest: Duration) {
        let key = self.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
        let left = self.server.cli(["pttl", &key]).unwrap().parse().unwrap();
        let left = Duration::from_millis(left);
        assert!(left <= rest && left > rest - Duration::from_secs(60), "{left:?}, and not {rest:?}");
    }

    fn stays(&self) {
        let key = self.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
        assert_eq!(self.server.cli(["pttl", &key]).unwrap(), "-1");
    }
}

fn answer() -> Completion {
    Completion::new(StoredResponse::new(200, "", "paid"))
}

#[tokio::test]
async fn a_key_lingers_once_its_record_has_expired() {
    let key = Key::new().await;
    let token = Token::fresh();
    let grant = key.reserve(Policy::TakeOver, token, LEASE).await;
    key.goes_after(LEASE + RETENTION + LINGER);
    key.reserve(Policy::TakeOver, token, 3 * LEASE).await;
    key.goes_after(3 * LEASE + RETENTION + LINGER);
    key.store.renew(&key.slot, &grant, &Renewal::extend(5 * LEASE).unwrap()).await.map(drop).unwrap();
    key.goes_after(5 * LEASE + RETENTION + LINGER);
    key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
    key.goes_after(5 * LEASE + RETENTION + LINGER);
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 7 * LEASE).await;
    key.goes_after(7 * LEASE + RETENTION + LINGER);
    let brief = answer().keep_for(LEASE).unwrap();
    key.store.complete(&key.slot, &grant, &brief).await.map(drop).unwrap();
    key.goes_after(LEASE + LINGER);
    key.store.purge(&key.slot, grant.fence).await.unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
    key.goes_after(LEASE + RETENTION + LINGER);
}

#[tokio::test]
async fn an_unknown_stays_until_somebody_settles_it() {
    for settle in 0..4 {
        let key = Key::new().await;
        let token = Token::fresh();
        let grant = key.reserve(Policy::Refuse, token, LEASE).await;
        key.goes_after(LEASE + RETENTION + LINGER);
        key.store.renew(&key.slot, &grant, &Renewal::extend(LEASE).unwrap()).await.map(drop).unwrap();
        key.stays();
        key.reserve(Policy::Refuse, token, LEASE).await;
        key.stays();
        match settle {
            0 => key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap(),
            1 => key.store.release(&key.slot, &grant).await.map(drop).unwrap(),
            _ => {
                key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
                key.stays();
                let entry = key.store.lookup(&key.slot).await.unwrap();
                let Some(oncekey_redis::Entry::Pending(entry)) = entry else { panic!("{entry:?}") };
                let resolution =
                    if settle == 2 { Resolution::Release } else { Resolution::Complete(answer()) };
                key.store.resolve(&key.slot, entry.seen(), &resolution).await.map(drop).unwrap();
                key.goes_after(RETENTION + LINGER);
                continue;
            }
        }
        key.goes_after(LEASE + RETENTION + LINGER);
    }
}
