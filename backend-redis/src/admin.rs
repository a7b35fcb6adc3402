//! For operators: `resolve`, `purge`, `scan`, `stats`, `garbage_collect`, `assess`.
//!
//! Redis shows its keys in no order, and some of them twice while its table grows. Each page of a scan reads all keys
//! ([`Walk`]), and shows the first of them, by their digests, behind its cursor: so the order stays, and a record that
//! is there all the while is seen once (O2). Nothing is kept between pages, on either side.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use async_trait::async_trait;
use futures_util::StreamExt;
use oncekey_core::state::Record;
use oncekey_core::{
    Cursor, Effect, Fence, Finding, IdempotencyAdmin, InvalidInput, Page, Resolution, ResolveOutcome,
    ScanFilter, ScanRequest, Seen, Slot, Stats, StoreError, Summary, Timestamp,
};
use redis::{Cmd, Value};

use crate::answer::{Wrong, read_found, unreadable};
use crate::assess;
use crate::call::Call;
use crate::store::RedisStore;
use crate::value::{self, HEAD, Stored, span};
use crate::walk::{Walk, is_digest};

/// Values that are read, or looked at and deleted, at a time.
const AT_ONCE: usize = 64;

const COLLECT: &str = "garbage_collect";

impl RedisStore {
    /// Deletes all keys that begin with the prefix and a colon, also those of stores whose prefix begins with it: what a
    /// test left on a server that isn't its own. How many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    #[cfg(feature = "test-util")]
    pub async fn delete_all_keys(&self) -> Result<u64, StoreError> {
        const NAME: &str = "delete_all_keys";
        let (mut walk, mut deleted) = (Walk::begin(self, NAME).await?, 0);
        while let Some(keys) = walk.next().await? {
            for key in keys {
                let mut cmd = Cmd::new();
                cmd.arg("DEL").arg(key);
                let call = Call::reading(NAME, self.inner().deadline());
                let link = &self.inner().link;
                let again = crate::store::Inner::again(&call, |until| link.send(&cmd, until));
                let said = again.await?;
                deleted += u64::from(said == Value::Int(1));
            }
        }
        Ok(deleted)
    }

    /// The heads of the values that are there, in no order.
    async fn heads(
        &self,
        name: &'static str,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Stored, Timestamp)>, StoreError> {
        let inner = self.inner();
        let look = |key: String| async move {
            let arguments = |cmd: &mut Cmd| {
                cmd.arg(HEAD - 1);
                inner.clock(cmd);
            };
            let mut call = Call::reading(name, inner.deadline());
            let said = inner.run(&mut call, &inner.scripts().lookup, &key, &arguments).await?;
            let found = read_found(said, false).map_err(|wrong| wrong.in_operation(name))?;
            Ok::<_, StoreError>(found.map(|(stored, now)| (key, stored, now)))
        };
        let mut looks = futures_util::stream::iter(keys).map(look).buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some(head) = looks.next().await {
            found.extend(head?);
        }
        Ok(found)
    }

    /// Each of this store's records, once or more often.
    async fn each(
        &self,
        name: &'static str,
        is_wanted: impl Fn(&str) -> bool,
        mut see: impl FnMut(String, &Stored, Timestamp) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut walk = Walk::begin(self, name).await?;
        while let Some(mut keys) = walk.next().await? {
            keys.retain(|key| self.is_ours(key) && is_wanted(key));
            for (key, stored, now) in self.heads(name, keys).await? {
                see(key, &stored, now)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        let (limit, mut deleted, mut effect) = (u64::from(limit.get()), 0, Effect::NotApplied);
        let mut walk = Walk::begin(self, COLLECT).await?;
        while let Some(keys) = walk.next().await.map_err(|error| error.or_worse(effect))? {
            let mut keys = keys.into_iter().filter(|key| self.is_ours(key)).peekable();
            while keys.peek().is_some() {
                // Each of them may be one that is deleted: never more than the limit.
                let most = usize::try_from(limit - deleted).unwrap_or(usize::MAX);
                let asked = futures_util::stream::iter(keys.by_ref().take(most).collect::<Vec<_>>());
                effect = Effect::Unknown;
                let mut asked = asked.map(|key| self.collect_one(key)).buffer_unordered(AT_ONCE);
                while let Some(one) = asked.next().await {
                    deleted += u64::from(one.map_err(|error| error.or_worse(effect))?);
                }
                if deleted == limit {
                    return Ok(deleted);
                }
            }
        }
        Ok(deleted)
    }

    /// Whether it had expired, and was deleted.
    async fn collect_one(&self, key: String) -> Result<bool, StoreError> {
        let inner = self.inner();
        let arguments = |cmd: &mut Cmd| inner.clock(cmd);
        let mut call = Call::writing(COLLECT, inner);
        match inner.run(&mut call, &inner.scripts().collect, &key, &arguments).await? {
            Value::Int(one) => Ok(one == 1),
            _ => Err(Wrong::Nonsense.in_operation(COLLECT)),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyAdmin for RedisStore {
    async fn resolve(
        &self,
        slot: &Slot,
        seen: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        const NAME: &str = "resolve";
        let inner = self.inner();
        let key = inner.key(slot);
        let (response, retention) = match resolution {
            Resolution::Complete(completion) => {
                self.check(NAME, completion)?;
                (value::response(slot, completion.response()), completion.retention())
            }
            Resolution::Release => (Vec::new(), None),
        };
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&seen.fence.get().to_le_bytes()[..]);
            cmd.arg(&seen.lease_expires_at.as_micros().to_le_bytes()[..]);
            cmd.arg(&response);
            match retention {
                Some(retention) => cmd.arg(span(retention)),
                None => cmd.arg(""),
            };
            cmd.arg(inner.settings.linger());
            inner.clock(cmd);
        };
        let mut call = Call::writing(NAME, inner);
        match inner.run(&mut call, &inner.scripts().resolve, &key.text, &arguments).await? {
            Value::Int(1) => {
                inner.wake.changed(key.prefix);
                Ok(ResolveOutcome::Resolved)
            }
            Value::Int(2) => Ok(ResolveOutcome::AlreadyDone),
            Value::Int(3) => Ok(ResolveOutcome::NotLapsed),
            Value::Int(0) => Ok(ResolveOutcome::Changed),
            Value::Int(-1) => call.made(Err(unreadable(NAME))),
            _ => Err(Wrong::Nonsense.in_operation(NAME)),
        }
    }

    /// What the record held stays in the append-only file until it is rewritten, in snapshots, and in backups.
    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        const NAME: &str = "purge";
        let inner = self.inner();
        let key = inner.key(slot);
        let arguments = |cmd: &mut Cmd| {
            cmd.arg(&fence.get().to_le_bytes()[..]);
        };
        let mut call = Call::writing(NAME, inner);
        match inner.run(&mut call, &inner.scripts().purge, &key.text, &arguments).await? {
            Value::Int(1) => {
                inner.wake.changed(key.prefix);
                Ok(true)
            }
            Value::Int(0) => Ok(false),
            _ => Err(Wrong::Nonsense.in_operation(NAME)),
        }
    }

    /// In the order of the slots' digests. Each page reads every key of the database: ask for big pages, or for the few
    /// records that a filter lets through.
    ///
    /// The call's deadline is for each command that is sent, and not for them all: a page takes as long as the keys
    /// need. Where a server began anew, or another was promoted, its keys are read from the start again. In a cluster
    /// whose slots have moved meanwhile all servers' are; while they are being moved, when a key may pass from a server
    /// that is yet to be read to one that was, it is [`Unavailable`](oncekey_core::ErrorKind::Unavailable).
    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        const NAME: &str = "scan";
        let cursor = request.after.as_ref().map(|cursor| {
            let digest = std::str::from_utf8(cursor.as_bytes()).ok().filter(|digest| is_digest(digest));
            digest.ok_or_else(|| InvalidInput::new("this cursor is none that a Redis store gave: begin anew"))
        });
        let cursor = cursor.transpose().map_err(|invalid| invalid.in_operation(NAME))?;
        let after = cursor.map(|digest| format!("{}:{digest}", self.inner().settings.prefix));
        let most = usize::try_from(request.limit.get()).unwrap_or(usize::MAX);
        let mut page: BTreeMap<String, Summary> = BTreeMap::new();
        let (filter, mut full) = (request.filter, false);
        let wanted = |key: &str| after.as_deref().is_none_or(|after| key > after);
        self.each(NAME, wanted, |key, stored, now| {
            if page.len() >= most && page.last_key_value().is_some_and(|(last, _)| *last <= key) {
                full |= !page.contains_key(&key) && summary(stored, now, filter)?.is_some();
                return Ok(());
            }
            if let Some(summary) = summary(stored, now, filter)? {
                page.insert(key, summary);
                if page.len() > most {
                    page.pop_last();
                    full = true;
                }
            }
            Ok(())
        })
        .await?;
        let last = page.last_key_value().filter(|_| full).and_then(|(key, _)| key.rsplit(':').next());
        let next = last.map(|digest| Cursor::from_bytes(digest.to_owned()));
        Ok(Page::new(page.into_values().collect(), next))
    }

    /// Reads every key of the database, by as many commands as that takes: see [`scan`](IdempotencyAdmin::scan).
    async fn stats(&self) -> Result<Stats, StoreError> {
        let (mut stats, mut seen) = (Stats::default(), BTreeSet::new());
        self.each(
            "stats",
            |_| true,
            |key, stored, now| {
                // 64 bits of each: a key that Redis shows twice is counted once.
                if seen.insert(
                    key.get(key.len().saturating_sub(64)..)
                        .and_then(|d| u64::from_str_radix(&d[..16], 16).ok()),
                ) {
                    stats.count(&stored.record, now);
                }
                Ok(())
            },
        )
        .await?;
        Ok(stats)
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        assess::findings(self).await
    }
}

fn summary(stored: &Stored, now: Timestamp, filter: ScanFilter) -> Result<Option<Summary>, StoreError> {
    if matches!(stored.record, Record::Released(_)) {
        return Ok(None);
    }
    let slot = stored.slot().map_err(|corrupt| corrupt.in_operation("scan"))?;
    Ok(Summary::of(&slot, &stored.record, now, filter))
}
