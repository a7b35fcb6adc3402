//! For operators: `resolve`, `purge`, `scan`, `stats`, `garbage_collect`, `assess`.
//!
//! Redis shows its keys in no order, and some of them twice while its table grows. Each page of a scan reads all keys
//! once, and shows the first of them, by their digests, behind its cursor: so the order stays, and a record that is
//! there all the while is seen once (O2). Nothing is kept between pages, on either side.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use async_trait::async_trait;
use futures_util::StreamExt;
use oncekey_core::codec::Corrupt;
use oncekey_core::state::Record;
use oncekey_core::{
    Cursor, Fence, Finding, IdempotencyAdmin, InvalidInput, Page, Resolution, ResolveOutcome, ScanFilter,
    ScanRequest, Seen, Slot, Stats, StoreError, Summary, Timestamp,
};
use redis::{Cmd, Value};

use crate::answer::{Wrong, read_found, unreadable};
use crate::assess;
use crate::call::Call;
use crate::link::Node;
use crate::store::RedisStore;
use crate::value::{self, HEAD, Stored, span};

/// Keys that are asked for, and values that are read, at a time.
const CHUNK: usize = 1_000;
const AT_ONCE: usize = 64;

impl RedisStore {
    /// Deletes all keys that begin with the prefix and a colon, also those of stores whose prefix begins with it: what a
    /// test left on a server that isn't its own. How many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    #[cfg(feature = "test-util")]
    pub async fn delete_all_keys(&self) -> Result<u64, StoreError> {
        const NAME: &str = "delete_all_keys";
        let inner = self.inner();
        let call = Call::reading(NAME, inner.deadline());
        let nodes = inner.link.nodes(call.deadline).await.map_err(|failure| call.failed(failure))?;
        let mut deleted = 0;
        for node in &nodes {
            let mut from = "0".to_owned();
            loop {
                let (keys, next) = self.keys(&call, node, &from).await?;
                for key in keys {
                    let mut cmd = Cmd::new();
                    cmd.arg("DEL").arg(key);
                    inner.ask(&call, Some(node), &cmd).await?;
                    deleted += 1;
                }
                if next == "0" {
                    break;
                }
                from = next;
            }
        }
        Ok(deleted)
    }

    fn is_ours(&self, key: &str) -> bool {
        let rest = key.strip_prefix(&*self.inner().settings.prefix).and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(is_digest)
    }

    /// Some keys that begin with the prefix, as one server shows them, and where it goes on; from 0 to 0.
    async fn keys(&self, call: &Call, node: &Node, from: &str) -> Result<(Vec<String>, String), StoreError> {
        let prefix = &self.inner().settings.prefix;
        let mut cmd = Cmd::new();
        cmd.arg("SCAN").arg(from).arg("MATCH").arg(format!("{prefix}:*")).arg("COUNT").arg(CHUNK);
        let nonsense = || Wrong::Nonsense.in_operation(call.name);
        let Value::Array(said) = self.inner().ask(call, Some(node), &cmd).await? else {
            return Err(nonsense());
        };
        let Ok([Value::BulkString(next), Value::Array(keys)]) = <[Value; 2]>::try_from(said) else {
            return Err(nonsense());
        };
        let next = String::from_utf8(next).map_err(|_| nonsense())?;
        let keys = keys.into_iter().filter_map(|key| match key {
            Value::BulkString(key) => String::from_utf8(key).ok(),
            _ => None,
        });
        Ok((keys.collect(), next))
    }

    /// The heads of the values that are there, in no order.
    async fn heads(
        &self,
        call: &Call,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Stored, Timestamp)>, StoreError> {
        let inner = self.inner();
        let look = |key: String| async move {
            let arguments = |cmd: &mut Cmd| {
                cmd.arg(HEAD - 1);
                inner.clock(cmd);
            };
            let mut call = Call::reading(call.name, call.deadline);
            let said = inner.run(&mut call, &inner.scripts().lookup, &key, &arguments).await?;
            let found = read_found(said, false).map_err(|wrong| wrong.in_operation(call.name))?;
            Ok::<_, StoreError>(found.map(|(stored, now)| (key, stored, now)))
        };
        let mut looks = futures_util::stream::iter(keys).map(look).buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some(head) = looks.next().await {
            found.extend(head?);
        }
        Ok(found)
    }

    /// Each of this store's records, once or twice.
    async fn each(
        &self,
        call: &Call,
        is_wanted: impl Fn(&str) -> bool,
        mut see: impl FnMut(String, &Stored, Timestamp) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let nodes = self.inner().link.nodes(call.deadline).await.map_err(|failure| call.failed(failure))?;
        for node in &nodes {
            let mut from = "0".to_owned();
            loop {
                let (mut keys, next) = self.keys(call, node, &from).await?;
                keys.retain(|key| self.is_ours(key) && is_wanted(key));
                for (key, stored, now) in self.heads(call, keys).await? {
                    see(key, &stored, now)?;
                }
                if next == "0" {
                    break;
                }
                from = next;
            }
        }
        Ok(())
    }

    pub(crate) async fn collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        const NAME: &str = "garbage_collect";
        let inner = self.inner();
        let mut call = Call::writing(NAME, inner);
        let nodes = inner.link.nodes(call.deadline).await.map_err(|failure| call.failed(failure))?;
        let arguments = |cmd: &mut Cmd| {
            inner.clock(cmd);
        };
        let mut deleted = 0;
        for node in &nodes {
            let mut from = "0".to_owned();
            loop {
                let (mut keys, next) = self.keys(&call, node, &from).await?;
                keys.retain(|key| self.is_ours(key));
                for key in keys {
                    match inner.run(&mut call, &inner.scripts().collect, &key, &arguments).await? {
                        Value::Int(one) => deleted += u64::from(one == 1),
                        _ => return Err(Wrong::Nonsense.in_operation(NAME)),
                    }
                    if deleted >= u64::from(limit.get()) {
                        return Ok(deleted);
                    }
                }
                if next == "0" {
                    break;
                }
                from = next;
            }
        }
        Ok(deleted)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
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
            Value::Int(-1) => Err(unreadable(NAME)),
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

    /// In the order of the slots' digests. Each page reads every key of the database once: ask for big pages, or for
    /// the few records that a filter lets through.
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
        let call = Call::reading(NAME, self.inner().deadline());
        let wanted = |key: &str| after.as_deref().is_none_or(|after| key > after);
        self.each(&call, wanted, |key, stored, now| {
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

    /// Reads every key of the database once.
    async fn stats(&self) -> Result<Stats, StoreError> {
        let (mut stats, mut seen) = (Stats::default(), BTreeSet::new());
        let call = Call::reading("stats", self.inner().deadline());
        self.each(
            &call,
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
    match (&stored.record, &stored.slot) {
        (Record::Released(_), _) => Ok(None),
        (record, Some(slot)) => Ok(Summary::of(slot, record, now, filter)),
        (_, None) => Err(Corrupt::new("its slot is none").in_operation("scan")),
    }
}
