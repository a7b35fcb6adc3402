//! What becomes of a key: it ends with its record, or stays a least time, and is then Redis's to delete.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::num::NonZeroU32;
use std::time::Duration;

use oncekey_redis::{
    ClockOffset, Completion, Effect, Entry, ErrorKind, Fingerprint, Grant, IdempotencyAdmin,
    IdempotencyStore, MIN_LEASE, Policy, Principal, RedisStore, RedisStoreBuilder, Renewal,
    ReservationOutcome, ReserveRequest, Resolution, Slot, StoredResponse, Terms, Token,
};
use oncekey_testbed::redis::Server;

const LEASE: Duration = Duration::from_secs(100);
const RETENTION: Duration = Duration::from_secs(1_000);
/// Longer than a first record lives, and shorter than one whose lease was made longer.
const LINGER: Duration = Duration::from_secs(1_250);

fn builder() -> RedisStoreBuilder {
    common::builder().prefix("keys")
}

struct Key {
    server: Server,
    store: RedisStore,
    slot: Slot,
}

impl Key {
    async fn new() -> Self {
        Self::with_deadline(Duration::from_secs(10)).await
    }

    async fn with_deadline(deadline: Duration) -> Self {
        let server = Server::start().unwrap();
        let store = builder().linger(LINGER).call_deadline(deadline).connect(&server.url(0)).await.unwrap();
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

    /// Fails unless the last millisecond that the key sees is the last one that its record does.
    async fn goes_with_its_record(&self) {
        let key = self.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
        let last: u64 = self.server.cli(["pexpiretime", &key]).unwrap().parse().unwrap();
        let ends = match self.store.lookup(&self.slot).await.unwrap().unwrap() {
            Entry::Pending(pending) => pending.expires_at,
            Entry::Completed(completed) => completed.expires_at,
        };
        assert_eq!(last, (ends.as_micros() - 1) / 1_000);
    }

    fn stays(&self) {
        let key = self.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
        assert_eq!(self.server.cli(["pttl", &key]).unwrap(), "-1");
    }
}

/// Nothing is guessed of a value that can't be read, and nothing is written over it.
#[tokio::test]
async fn a_value_that_can_not_be_read_is_corrupt_to_each_call_and_stays() {
    let key = Key::new().await;
    let held = key.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    let name = key.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
    let Some(Entry::Pending(entry)) = key.store.lookup(&key.slot).await.unwrap() else { panic!() };
    let later = ClockOffset::shiftable();
    later.advance(100 * RETENTION);
    let late = builder().clock_offset(later).connect(&key.server.url(0)).await.unwrap();
    let live = "redis.call('GET', KEYS[1])";
    // Of another version, cut, in a state that there is none of, and something else altogether; and whether it says when
    // it ends.
    let values = [
        (format!("'\\2' .. {live}:sub(2)"), false),
        (format!("{live}:sub(1, 60)"), true),
        (format!("{live}:sub(1, 20)"), false),
        (format!("{live}:sub(1, 1) .. 'X' .. {live}:sub(3)"), true),
        ("'rubbish'".to_owned(), false),
    ];
    for (value, has_an_end) in values {
        let put = format!("local v = {value} redis.call('SET', 'junk', v)");
        key.server.cli(["eval", &put, "1", &name]).unwrap();
        let junk =
            || key.server.cli(["eval", "return redis.sha1hex(redis.call('GET', KEYS[1]))", "1", "junk"]);
        let before = junk().unwrap();
        key.server.cli(["copy", &name, "good"]).unwrap();
        key.server.cli(["rename", "junk", &name]).unwrap();
        let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION).unwrap();
        let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms);
        let (store, slot) = (&key.store, &key.slot);
        let renewal = Renewal::extend(LEASE).unwrap();
        let told = [
            store.reserve_or_fetch(slot, Token::fresh(), &request).await.map(drop),
            store.renew(slot, &held, &renewal).await.map(drop),
            store.complete(slot, &held, &answer()).await.map(drop),
            store.release(slot, &held).await.map(drop),
            store.lookup(slot).await.map(drop),
            store.resolve(slot, entry.seen(), &Resolution::Release).await.map(drop),
        ];
        for error in told.map(Result::unwrap_err) {
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Corrupt, Effect::NotApplied), "{error}");
        }
        if !has_an_end {
            assert_eq!(late.garbage_collect(NonZeroU32::MAX).await.unwrap(), 0, "{value}");
        }
        key.server.cli(["rename", &name, "junk"]).unwrap();
        assert_eq!(junk().unwrap(), before, "{value}");
        key.server.cli(["rename", "good", &name]).unwrap();
    }
    // As it was.
    assert!(key.store.complete(&key.slot, &held, &answer()).await.is_ok());
}

/// Nor over one that is cut behind what is decided by, by whoever would keep the rest.
#[tokio::test]
async fn a_value_whose_slot_is_cut_is_taken_over_by_nobody() {
    let (key, token) = (Key::new().await, Token::fresh());
    let held = key.reserve(Policy::TakeOver, token, LEASE).await;
    let name = key.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
    let cut = "redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]):sub(1, 108), 'KEEPTTL')";
    key.server.cli(["eval", cut, "1", &name]).unwrap();
    let value = || key.server.cli(["eval", "return redis.sha1hex(redis.call('GET', KEYS[1]))", "1", &name]);
    let before = value().unwrap();
    let lapsed = ClockOffset::shiftable();
    lapsed.advance(2 * LEASE);
    let later = builder().clock_offset(lapsed).connect(&key.server.url(0)).await.unwrap();
    let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION).unwrap();
    let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms);
    let (store, slot) = (&key.store, &key.slot);
    let told = [
        store.reserve_or_fetch(slot, token, &request).await.map(drop),
        later.reserve_or_fetch(slot, Token::fresh(), &request).await.map(drop),
        store.renew(slot, &held, &Renewal::extend(LEASE).unwrap()).await.map(drop),
        store.renew(slot, &held, &Renewal::hand_over()).await.map(drop),
    ];
    for error in told.map(Result::unwrap_err) {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Corrupt, Effect::NotApplied), "{error}");
    }
    assert_eq!(value().unwrap(), before);
}

fn answer() -> Completion {
    Completion::new(StoredResponse::new(200, "", "paid"))
}

#[tokio::test]
async fn a_key_stays_a_least_time_and_then_as_long_as_its_record() {
    let key = Key::new().await;
    let token = Token::fresh();
    let grant = key.reserve(Policy::TakeOver, token, LEASE).await;
    key.goes_after(LINGER);
    key.reserve(Policy::TakeOver, token, 3 * LEASE).await;
    key.goes_after(3 * LEASE + RETENTION);
    key.store.renew(&key.slot, &grant, &Renewal::extend(5 * LEASE).unwrap()).await.map(drop).unwrap();
    key.goes_after(5 * LEASE + RETENTION);
    key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
    key.goes_after(5 * LEASE + RETENTION);
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 7 * LEASE).await;
    key.goes_after(7 * LEASE + RETENTION);
    let brief = answer().keep_for(LEASE).unwrap();
    key.store.complete(&key.slot, &grant, &brief).await.map(drop).unwrap();
    key.goes_after(LINGER);
    key.store.purge(&key.slot, grant.fence).await.unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
    key.goes_after(LINGER);
    // L2: the doubt about a predecessor stays as long.
    key.store.purge(&key.slot, grant.fence).await.unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 3 * LEASE).await;
    assert_eq!(grant.attempt, 2);
    key.store.release(&key.slot, &grant).await.map(drop).unwrap();
    key.goes_after(3 * LEASE + RETENTION);
}

/// Whoever finds a Completed record by its key alone rests on it.
#[tokio::test]
async fn a_key_goes_in_the_millisecond_in_which_its_record_does() {
    let key = Key::new().await;
    let token = Token::fresh();
    let grant = key.reserve(Policy::TakeOver, token, 3 * LEASE).await;
    key.goes_with_its_record().await;
    key.reserve(Policy::TakeOver, token, 5 * LEASE).await;
    key.goes_with_its_record().await;
    key.store.renew(&key.slot, &grant, &Renewal::extend(7 * LEASE).unwrap()).await.map(drop).unwrap();
    key.goes_with_its_record().await;
    key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 9 * LEASE).await;
    key.goes_with_its_record().await;
    key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
    key.goes_with_its_record().await;

    // What was released remembers its fence until then, and what was settled by hand is found by its key too.
    key.store.purge(&key.slot, grant.fence).await.unwrap();
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 3 * LEASE).await;
    let Some(Entry::Pending(held)) = key.store.lookup(&key.slot).await.unwrap() else { panic!() };
    key.store.release(&key.slot, &grant).await.map(drop).unwrap();
    let name = key.server.cli(["--scan", "--pattern", "keys:*"]).unwrap();
    let last: u64 = key.server.cli(["pexpiretime", &name]).unwrap().parse().unwrap();
    assert_eq!(last, (held.expires_at.as_micros() - 1) / 1_000);
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), 3 * LEASE).await;
    key.store.renew(&key.slot, &grant, &Renewal::hand_over()).await.map(drop).unwrap();
    let Some(Entry::Pending(left)) = key.store.lookup(&key.slot).await.unwrap() else { panic!() };
    let settled = Resolution::Complete(answer().keep_for(2 * RETENTION).unwrap());
    key.store.resolve(&key.slot, left.seen(), &settled).await.map(drop).unwrap();
    key.goes_with_its_record().await;

    // One that was to stay longer, by who granted it: completed by another store, it goes with its record too.
    key.store.purge(&key.slot, grant.fence).await.unwrap();
    let another = builder().connect(&key.server.url(0)).await.unwrap();
    for again in 0..3 {
        let token = Token::fresh();
        let grant = key.reserve(Policy::TakeOver, token, LEASE).await;
        let longer = Renewal::extend(LEASE).unwrap();
        match again {
            1 => key.store.renew(&key.slot, &grant, &longer).await.map(drop).unwrap(),
            2 => drop(key.reserve(Policy::TakeOver, token, LEASE).await),
            _ => {}
        }
        key.goes_after(LINGER);
        another.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
        key.goes_with_its_record().await;
        key.store.purge(&key.slot, grant.fence).await.unwrap();
    }
    // And one that was to go with it stays, by who completed it.
    let brief = Key { server: key.server, store: another, slot: key.slot };
    let grant = brief.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    brief.goes_with_its_record().await;
    key.store.complete(&brief.slot, &grant, &answer()).await.map(drop).unwrap();
    brief.goes_after(LINGER);
}

/// C2, by the server's own clock.
#[tokio::test]
async fn a_late_completion_is_kept_for_the_retention() {
    let key = Key::new().await;
    let store = builder().connect(&key.server.url(0)).await.unwrap();
    let key = Key { store, ..key };
    let grant = key.reserve(Policy::TakeOver, Token::fresh(), MIN_LEASE).await;
    while !matches!(
        key.store.lookup(&key.slot).await.unwrap(),
        Some(Entry::Pending(pending)) if pending.lease_left.is_none()
    ) {}
    key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
    let Some(Entry::Completed(record)) = key.store.lookup(&key.slot).await.unwrap() else { panic!() };
    assert_eq!(record.expires_at, record.completed_at + RETENTION);
    key.goes_with_its_record().await;
}

#[tokio::test]
async fn a_replay_that_was_seen_before_is_one_command_where_the_key_ends_with_its_record() {
    let key = Key::new().await;
    let replay = async |store: &RedisStore, fingerprint: u8| {
        let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION).unwrap();
        let request = ReserveRequest::new(Fingerprint::from_bytes([fingerprint; 32]), terms);
        store.reserve_or_fetch(&key.slot, Token::fresh(), &request).await.unwrap()
    };
    // Calls of a command so far.
    let calls = |command: &str| -> u32 {
        let stats = key.server.cli(["info", "commandstats"]).unwrap();
        let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    };
    let another = builder().linger(LINGER);
    let another = another.connect(&key.server.url(0)).await.unwrap();
    for (lease, ends_with_record) in [(10 * LEASE, true), (LEASE, false)] {
        let grant = key.reserve(Policy::TakeOver, Token::fresh(), lease).await;
        key.store.complete(&key.slot, &grant, &answer()).await.map(drop).unwrap();
        let (native, scripts) = (calls("getex"), calls("evalsha") + calls("eval"));
        for store in [&key.store, &another, &another] {
            let said = replay(store, 7).await;
            assert!(matches!(&said, ReservationOutcome::Replay(r) if r.response == *answer().response()));
        }
        // The other store has seen it by then once.
        let by_key = if ends_with_record { 2 } else { 0 };
        assert_eq!(calls("getex") - native, by_key, "{lease:?}");
        assert_eq!(calls("evalsha") + calls("eval") - scripts, 3 - by_key, "{lease:?}");
        assert!(matches!(replay(&key.store, 8).await, ReservationOutcome::Conflict));
        // What is purged is gone, whoever has seen it.
        key.store.purge(&key.slot, grant.fence).await.unwrap();
        assert!(matches!(replay(&another, 7).await, ReservationOutcome::Reserved(_)));
        key.server.cli(["flushall"]).unwrap();
    }
}

#[tokio::test]
async fn an_unknown_stays_until_somebody_settles_it() {
    for settle in 0..4 {
        let key = Key::new().await;
        let token = Token::fresh();
        let grant = key.reserve(Policy::Refuse, token, LEASE).await;
        key.goes_after(LINGER);
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
                let Some(Entry::Pending(entry)) = entry else { panic!("{entry:?}") };
                let resolution =
                    if settle == 2 { Resolution::Release } else { Resolution::Complete(answer()) };
                key.store.resolve(&key.slot, entry.seen(), &resolution).await.map(drop).unwrap();
                key.goes_after(LINGER);
                continue;
            }
        }
        key.goes_after(LINGER);
    }
}

/// A script that says that it writes nothing would be run there.
#[tokio::test]
async fn a_master_that_became_a_replica_refuses_to_look() {
    let key = Key::with_deadline(Duration::from_secs(1)).await;
    key.reserve(Policy::TakeOver, Token::fresh(), LEASE).await;
    key.server.cli(["replicaof", "127.0.0.1", "1"]).unwrap();
    let refused = key.store.lookup(&key.slot).await.unwrap_err();
    assert!(refused.to_string().contains("this is a replica"), "{refused}");
}
