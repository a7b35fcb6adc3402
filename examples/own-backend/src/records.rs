//! Where records lie in redb: one table by slot, and one by the time they end.

use std::num::NonZeroU32;
use std::ops::Bound;

use oncekey_core::state::{Change, Record, Step};
use oncekey_core::{Cursor, Page, ScanRequest, Slot, Stats, Summary, Timestamp};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::error::Fault;

/// [`Slot::to_bytes`] to [`Record::to_bytes`]. The record says its own version; a table laid out otherwise
/// would have another name.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("oncekey_records_v1");
/// `(expires_at, slot)` of each record: a garbage collection reads what has expired, and nothing else.
const EXPIRY: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("oncekey_expiry_v1");

/// The records in a transaction that writes.
pub(crate) struct Records<'tx> {
    records: Table<'tx, &'static [u8], &'static [u8]>,
    expiry: Table<'tx, (u64, &'static [u8]), ()>,
    changed: bool,
}

impl<'tx> Records<'tx> {
    /// Makes the tables, if they aren't there.
    pub(crate) fn open(tx: &'tx WriteTransaction) -> Result<Self, Fault> {
        Ok(Self { records: tx.open_table(RECORDS)?, expiry: tx.open_table(EXPIRY)?, changed: false })
    }

    /// Whether there is anything to commit.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    /// One step of the state machine on one slot. The transaction makes it atomic.
    pub(crate) fn step<A>(
        &mut self,
        slot: &Slot,
        decide: impl FnOnce(Option<&Record>) -> Step<A>,
    ) -> Result<A, Fault> {
        let key = slot.to_bytes();
        let old = get(&self.records, &key)?;
        let Step { change, answer } = decide(old.as_ref());
        let new = match change {
            Change::Keep => return Ok(answer),
            Change::Put(record) => Some(record),
            Change::Delete => None,
        };
        self.changed = true;
        if let Some(old) = old {
            self.expiry.remove((old.expires_at().as_micros(), &*key))?;
        }
        match new {
            Some(new) => {
                self.records.insert(&*key, &*new.to_bytes())?;
                self.expiry.insert((new.expires_at().as_micros(), &*key), ())?;
            }
            None => drop(self.records.remove(&*key)?),
        }
        Ok(answer)
    }

    /// Deletes at most `limit` records that have expired (G1), the oldest first.
    pub(crate) fn collect(&mut self, limit: NonZeroU32, now: Timestamp) -> Result<u64, Fault> {
        let after_now: (u64, &[u8]) = (now.as_micros().saturating_add(1), &[]);
        let mut expired = self.expiry.extract_from_if(..after_now, |_, ()| true)?;
        let mut deleted = 0;
        for _ in 0..limit.get() {
            let Some(entry) = expired.next() else { break };
            let (key, ()) = entry.map(|(key, _)| (key, ()))?;
            let (_, slot) = key.value();
            self.records.remove(slot)?;
            deleted += 1;
        }
        self.changed |= deleted > 0;
        Ok(deleted)
    }
}

/// The records as they stood when a transaction that reads began.
pub(crate) struct Snapshot(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Snapshot {
    pub(crate) fn open(tx: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self(tx.open_table(RECORDS)?))
    }

    pub(crate) fn get(&self, slot: &Slot) -> Result<Option<Record>, Fault> {
        get(&self.0, &slot.to_bytes())
    }

    /// A page, in the order of [`Slot::to_bytes`]. It reads whole records, bodies too.
    pub(crate) fn scan(&self, request: &ScanRequest, now: Timestamp) -> Result<Page, Fault> {
        let limit = usize::try_from(request.limit.get()).unwrap_or(usize::MAX);
        let after = match &request.after {
            Some(cursor) => Bound::Excluded(cursor.as_bytes()),
            None => Bound::Unbounded,
        };
        let mut summaries: Vec<Summary> = Vec::new();
        for entry in self.0.range::<&[u8]>((after, Bound::Unbounded))? {
            let (key, value) = entry?;
            if summaries.len() == limit {
                let next = summaries.last().map(|last| Cursor::from_bytes(last.slot.to_bytes()));
                return Ok(Page::new(summaries, next));
            }
            let (slot, record) = (slot(key.value())?, Record::from_bytes(value.value())?);
            summaries.extend(Summary::of(&slot, &record, now, request.filter));
        }
        Ok(Page::new(summaries, None))
    }

    /// Counts all records, by reading them.
    pub(crate) fn stats(&self, now: Timestamp) -> Result<Stats, Fault> {
        let mut stats = Stats::default();
        for entry in self.0.range::<&[u8]>(..)? {
            let (_, value) = entry?;
            stats.count(&Record::from_bytes(value.value())?, now);
        }
        Ok(stats)
    }
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Record>, Fault> {
    Ok(table.get(key)?.map(|value| Record::from_bytes(value.value())).transpose()?)
}

/// A key that is no slot's was not written by us.
fn slot(key: &[u8]) -> Result<Slot, Fault> {
    Slot::from_bytes(key)
        .map_err(|_| Fault::Record(oncekey_core::codec::Corrupt::new("its key is no slot's")))
}
