//! [`RedisStore`]: each operation is one script on one key.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use oncekey_core::state::{self, Change, Record};
use oncekey_core::{
    CompleteOutcome, Completion, Effect, Entry, Grant, IdempotencyRecord, IdempotencyStore, Limits,
    ReleaseOutcome, RenewOutcome, Renewal, Renewed, ReservationOutcome, ReserveRequest, Slot, StoreError,
    Timestamp, Token, Watch,
};
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::answer::{Wrong, loss, read_found, read_reserve, unreadable};
use crate::builder::{RedisStoreBuilder, Wait};
use crate::call::{Call, Ended};
use crate::link::Link;
use crate::script::{SCRIPTS, Scripts, WAITED_FOR};
use crate::settled::Settled;
use crate::value::{self, Stored, own, span};
use crate::wake::Wake;

/// How often a reserve asks again whose answer came when its lease was over.
const RESERVE_TRIES: u32 = 3;

/// Reservations in Redis or Valkey: a server, a master behind Sentinel, or a cluster. Cheap to clone; clones share one
/// connection to each server.
///
/// Each call is sent until its deadline, with the same token or grant (S6), through lost connections, restarts and
/// failovers. What a Redis can lose is in the project's docs/guarantees.md, and
/// [`assess`](oncekey_core::IdempotencyAdmin::assess) reads what this one may.
///
/// ```no_run
/// use oncekey_redis::{IdempotencyAdmin, RedisStore, Severity};
///
/// # async fn open() -> Result<(), oncekey_redis::StoreError> {
/// let store = RedisStore::connect("redis://cache.internal:6379").await?;
/// for finding in store.assess().await? {
///     assert!(finding.severity < Severity::Danger, "{}", finding.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) wake: Wake,
    pub(crate) settings: Settings,
    settled: Settled,
    scripts: Option<Box<Scripts>>,
}

/// A slot's key, and its digest's beginning.
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) prefix: u64,
}

/// What the builder leaves to the store.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) prefix: String,
    pub(crate) limits: Limits,
    pub(crate) call_deadline: Duration,
    pub(crate) linger: Duration,
    pub(crate) wait: Option<Wait>,
    #[cfg(feature = "test-util")]
    pub(crate) offset: crate::builder::ClockOffset,
}

impl Settings {
    /// What is added to the server's clock, in microseconds.
    pub(crate) fn offset(&self) -> i64 {
        #[cfg(feature = "test-util")]
        return self.offset.micros();
        #[cfg(not(feature = "test-util"))]
        return 0;
    }

    /// In milliseconds.
    pub(crate) fn linger(&self) -> u64 {
        u64::try_from(self.linger.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Inner {
    pub(crate) fn scripts(&self) -> &Scripts {
        let own = if self.settings.wait.is_some() { &WAITED_FOR } else { &SCRIPTS };
        self.scripts.as_deref().unwrap_or(own)
    }

    pub(crate) fn key(&self, slot: &Slot) -> Key {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (prefix, digest) = (&self.settings.prefix, slot.digest());
        let mut text = String::with_capacity(prefix.len() + 65);
        text.push_str(prefix);
        text.push(':');
        // By hand: through the formatter it is a tenth of a call.
        for byte in digest.as_bytes() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Key { text, prefix: digest.prefix() }
    }

    /// The last argument of a script: the clock's offset, where there is one.
    pub(crate) fn clock(&self, cmd: &mut Cmd) {
        let offset = self.settings.offset();
        if offset != 0 {
            cmd.arg(offset);
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.call_deadline
    }
}

/// What a script answers with a number, and means the same by in each.
pub(crate) const GONE: i64 = 0;
const ALREADY: i64 = 1;
pub(crate) const TAKEN_OVER: i64 = 2;

/// That of `complete.lua`: stored, and the key outlives its record.
const LINGERS: i64 = 3;

pub(crate) const RESERVE: &str = "reserve_or_fetch";

impl RedisStore {
    /// Opens a store with the defaults: the prefix `oncekey`, ten seconds a call.
    ///
    /// # Errors
    /// As [`RedisStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// To choose the prefix, deadlines, and what a write waits for.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::default()
    }

    /// Returns when those who wait elsewhere have been told of what this store settled: for a program that ends. While
    /// clones go on settling that may take as long as they do.
    pub async fn close(self) {
        self.0.wake.told().await;
    }

    pub(crate) fn new(link: Link, settings: Settings, scripts: Option<Box<Scripts>>) -> Self {
        let wake = Wake::new(&link, &settings.prefix);
        Self(Arc::new(Inner { link, wake, settings, settled: Settled::new(), scripts }))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn check(&self, operation: &'static str, completion: &Completion) -> Result<(), StoreError> {
        self.0.settings.limits.check(completion).map_err(|invalid| invalid.in_operation(operation))
    }

    /// Whether the server can be reached and is one that a store may be opened on.
    pub(crate) async fn ping(&self, name: &'static str) -> Result<(), StoreError> {
        let call = Call::reading(name, self.0.deadline());
        Inner::again(&call, |until| self.0.link.fits(until)).await
    }

    async fn reserve(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
        call: &mut Call,
    ) -> Result<ReservationOutcome, StoreError> {
        let inner = &self.0;
        let key = inner.key(slot);
        if let Some(record) = self.replay(&key, request, call).await {
            return Ok(ReservationOutcome::Replay(record));
        }
        let (lease, linger) = (span(request.terms.lease()), span(inner.settings.linger));
        let life = lease + span(request.terms.retention());
        let first = value::first(slot, token, request, life < linger);
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&first).arg(&value::spans([lease, life, linger])[..]);
            inner.clock(cmd);
        };
        let said = inner.run(call, &inner.scripts().reserve, &key.text, &arguments).await;
        match said {
            Ok(said) => {
                if matches!(&said, Value::BulkString(replay) if value::ends_with_key(replay)) {
                    inner.settled.insert(key.prefix);
                }
                read_reserve(said, token, request)
            }
            Err(Ended::Failed(error)) => Err(error),
            // Nobody could say whether others have it.
            Err(Ended::Full(error)) if inner.settings.wait.is_some() => Err(error),
            // What is there already is told all the same.
            Err(Ended::Full(error)) => {
                let found = Box::pin(self.look(RESERVE, slot, call.deadline)).await?;
                let (record, now) =
                    found.map_or((None, Timestamp::ZERO), |(stored, now)| (Some(stored), now));
                let step = state::reserve_or_fetch(record.as_ref(), token, request, now);
                match step.change {
                    Change::Keep => step.answer.map_err(StoreError::from),
                    Change::Put(_) | Change::Delete => Err(error),
                }
            }
        }
    }

    /// What a slot was completed with that was seen Completed before, if the key alone says it.
    async fn replay(&self, key: &Key, request: &ReserveRequest, call: &Call) -> Option<IdempotencyRecord> {
        let inner = &self.0;
        // A cluster moves a key with what is left of its time, and a test's clock isn't the server's: there, a key may
        // outlive its record. And who waits for replicas waits for those of what it is told, too.
        let by_key =
            !inner.link.is_cluster() && inner.settings.offset() == 0 && inner.settings.wait.is_none();
        if !by_key || !inner.settled.contains(key.prefix) {
            return None;
        }
        let mut get = Cmd::with_capacity(2, key.text.len() + 5);
        get.arg("GETEX").arg(&key.text);
        // Whatever fails here, the script will say it better.
        if let Ok(Value::BulkString(bytes)) = inner.link.send(&get, call.deadline).await
            && value::ends_with_key(&bytes)
            && let Ok(Stored { record: Record::Completed(completed), .. }) =
                value::read(&Bytes::from(bytes), true)
            && completed.record.fingerprint == request.fingerprint
        {
            return Some(completed.record);
        }
        inner.settled.remove(key.prefix);
        None
    }

    /// What is there, and the clock with which it was looked at.
    pub(crate) async fn look(
        &self,
        name: &'static str,
        slot: &Slot,
        deadline: Instant,
    ) -> Result<Option<(Record, Timestamp)>, StoreError> {
        let inner = &self.0;
        let arguments = |cmd: &mut Cmd| {
            cmd.arg("-1");
            inner.clock(cmd);
        };
        let mut call = Call::reading(name, deadline);
        let said = inner.run(&mut call, &inner.scripts().lookup, &inner.key(slot).text, &arguments).await?;
        let found = read_found(said, true).map_err(|wrong| wrong.in_operation(name))?;
        Ok(found.map(|(stored, now)| (stored.record, now)))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.0.settings;
        f.debug_struct("RedisStore").field("prefix", &settings.prefix).field("link", &self.0.link).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyStore for RedisStore {
    fn limits(&self) -> Limits {
        self.0.settings.limits
    }

    /// There is none: it looks whether the server can be reached, and is one that a store may be opened on.
    async fn ensure_schema(&self) -> Result<(), StoreError> {
        self.ping("ensure_schema").await
    }

    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        let mut call = Call::writing(RESERVE, &self.0);
        let mut tries = 0;
        loop {
            let sent = Instant::now();
            let outcome = self.reserve(slot, token, request, &mut call).await;
            // An earlier try of this very call may be there.
            if tries > 0 {
                call.effect = Effect::Unknown;
            }
            let outcome = call.made(outcome)?;
            tries += 1;
            // R10: an answer that took longer than the lease would hand out a lapsed one. Asked again with its own
            // token, the lease counts from now (R3).
            let lapsed = || sent.elapsed() >= request.terms.lease();
            if !matches!(outcome, ReservationOutcome::Reserved(_)) || !lapsed() || tries == RESERVE_TRIES {
                return Ok(outcome);
            }
        }
    }

    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError> {
        const NAME: &str = "renew";
        let inner = &self.0;
        let key = inner.key(slot);
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&own(grant)[..]);
            match renewal.lease() {
                Some(lease) => cmd.arg(span(lease)),
                None => cmd.arg(""),
            };
            cmd.arg(inner.settings.linger());
            match renewal.checkpoint() {
                Some(saved) => cmd.arg(&saved.sequence().to_be_bytes()[..]).arg(&saved.data()[..]),
                None => cmd.arg("").arg(""),
            };
            inner.clock(cmd);
        };
        let mut call = Call::writing(NAME, inner);
        let said = inner.run(&mut call, &inner.scripts().renew, &key.text, &arguments).await?;
        match said {
            Value::Array(each) => {
                let Ok([Value::Int(left), Value::BulkString(sequence)]) = <[Value; 2]>::try_from(each) else {
                    return Err(Wrong::Nonsense.in_operation(NAME));
                };
                let sequence = <[u8; 8]>::try_from(sequence).map_err(|_| unreadable(NAME))?;
                if renewal.lease().is_none() {
                    inner.wake.changed(key.prefix);
                }
                let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
                Ok(RenewOutcome::Renewed(Renewed::new(left, u64::from_be_bytes(sequence))))
            }
            Value::Int(ALREADY) => Ok(RenewOutcome::AlreadyStored),
            said => call.made(loss(NAME, &said)).map(RenewOutcome::Lost),
        }
    }

    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        const NAME: &str = "complete";
        self.check(NAME, completion)?;
        let inner = &self.0;
        let key = inner.key(slot);
        let response = value::response(slot, completion.response());
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&own(grant)[..]).arg(&response);
            let linger = span(inner.settings.linger);
            match completion.retention() {
                Some(retention) => cmd.arg(&value::spans([linger, span(retention)])[..]),
                None => cmd.arg(&value::spans([linger])[..]),
            };
            inner.clock(cmd);
        };
        let mut call = Call::writing(NAME, inner);
        let said = inner.run(&mut call, &inner.scripts().complete, &key.text, &arguments).await?;
        match said {
            Value::Int(stored @ (ALREADY | LINGERS)) => {
                if stored != LINGERS {
                    inner.settled.insert(key.prefix);
                }
                inner.wake.changed(key.prefix);
                Ok(CompleteOutcome::Stored)
            }
            Value::BulkString(bytes) => match value::read(&Bytes::from(bytes), true) {
                Ok(Stored { record: Record::Completed(completed), .. }) => {
                    // Perhaps by a try of this call, whose answer was lost: then nobody was told of it.
                    inner.wake.changed(key.prefix);
                    Ok(CompleteOutcome::AlreadyStored(completed.record))
                }
                Ok(_) => Err(Wrong::Nonsense.in_operation(NAME)),
                Err(corrupt) => call.made(Err(corrupt.in_operation(NAME))),
            },
            said => call.made(loss(NAME, &said)).map(CompleteOutcome::Lost),
        }
    }

    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
        const NAME: &str = "release";
        let inner = &self.0;
        let key = inner.key(slot);
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&own(grant)[..]).arg(inner.settings.linger());
            inner.clock(cmd);
        };
        let mut call = Call::writing(NAME, inner);
        match inner.run(&mut call, &inner.scripts().release, &key.text, &arguments).await? {
            Value::Int(3) => {
                inner.wake.changed(key.prefix);
                Ok(ReleaseOutcome::Released)
            }
            Value::Int(ALREADY) => Ok(ReleaseOutcome::AlreadyStored),
            said => call.made(loss(NAME, &said)).map(ReleaseOutcome::Lost),
        }
    }

    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        let found = self.look("lookup", slot, self.0.deadline()).await?;
        Ok(found.and_then(|(record, now)| state::lookup(Some(&record), now)))
    }

    /// Redis deletes by itself what has expired, if not [at once](RedisStoreBuilder::linger): nobody needs to call this. It reads every key of the database.
    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        self.collect(limit).await
    }

    fn watch(&self, slot: &Slot) -> Watch {
        self.0.wake.watch(slot)
    }
}
