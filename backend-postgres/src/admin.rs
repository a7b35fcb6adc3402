//! For operators: `resolve`, `purge`, `scan`, `stats`, `garbage_collect`, one statement each on a connection
//! of its own.

use std::num::NonZeroU32;

use async_trait::async_trait;
use oncekey_core::codec::Corrupt;
use oncekey_core::state;
use oncekey_core::{
    Cursor, Effect, Fence, Finding, IdempotencyAdmin, Page, Phase, Principal, Resolution, ResolveOutcome,
    ScanFilter, ScanRequest, Seen, Slot, Stats, StoreError, Summary, Timestamp,
};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use tokio::time::Instant;

use crate::assess;
use crate::calls::{Resolved, resolved};
use crate::connection::Link;
use crate::error::{Failure, Next, gone};
use crate::pause;
use crate::row::{At, Columns, int, response_parts, span};
use crate::statements::Sql;
use crate::store::{PostgresStore, kept, on_standby};

/// Records that one transaction of a garbage collection deletes: others go in between, and no lock is held
/// for long.
const COLLECT: u32 = 500;

type Bound = Result<PgArguments, BoxDynError>;

impl PostgresStore {
    /// One statement by itself, made again while what fails may pass. In a task of its own: nobody drops it
    /// half-way. `twice` says whether it may be sent again when its effect is unknown.
    async fn alone(
        &self,
        name: &'static str,
        sql: &Sql,
        twice: bool,
        bind: impl Fn(i64) -> Bound + Send + 'static,
    ) -> Result<Vec<PgRow>, StoreError> {
        let (link, sql, deadline) = (self.inner().link.clone(), sql.clone(), self.deadline());
        let ran = tokio::spawn(async move { tries(&link, name, &sql, deadline, twice, bind).await });
        ran.await.map_err(|_| gone(name, Effect::Unknown))?
    }

    pub(crate) async fn collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
        const NAME: &str = "garbage_collect";
        let mut deleted = 0;
        let mut left = limit.get();
        // All batches delete what had expired when the first began (G1): traffic doesn't keep it going.
        let mut began: Option<Timestamp> = None;
        while left > 0 {
            let chunk = left.min(COLLECT);
            let bind = move |micros| {
                let mut arguments = PgArguments::default();
                arguments.add(i64::from(chunk))?;
                arguments.add(began.map(At))?;
                arguments.add(micros)?;
                Ok(arguments)
            };
            // Sent twice, it could delete more than was allowed.
            let rows = self.alone(NAME, &self.inner().statements.garbage_collect, false, bind).await;
            // What earlier batches deleted is deleted.
            let effect = if deleted > 0 { Effect::Unknown } else { Effect::NotApplied };
            let rows = rows.map_err(|error| error.or_worse(effect))?;
            let (count, now) = first(NAME, &rows, |columns| Ok((columns.number()?, columns.time()?)))?;
            began = Some(now);
            deleted += count;
            if count < u64::from(chunk) {
                break;
            }
            left -= chunk;
        }
        Ok(deleted)
    }
}

async fn tries(
    link: &Link,
    name: &'static str,
    sql: &Sql,
    deadline: Instant,
    twice: bool,
    bind: impl Fn(i64) -> Bound,
) -> Result<Vec<PgRow>, StoreError> {
    let mut effect = Effect::NotApplied;
    let (mut failures, mut last) = (0, None);
    loop {
        let failure = match bind(link.offset.micros()) {
            Ok(arguments) => match link.once(sql, arguments, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            },
            Err(error) => Failure::of(sqlx::Error::Encode(error)).not_applied(),
        };
        effect = effect.max(failure.effect);
        let failure = failure.unless_late(last);
        let again = failure.next == Next::Retry && (twice || effect == Effect::NotApplied);
        if !again || Instant::now() >= deadline {
            return Err(failure.into_error(name, effect));
        }
        last = Some(failure);
        pause::after(failures).await;
        failures += 1;
    }
}

/// What the first row says.
fn first<T>(
    name: &'static str,
    rows: &[PgRow],
    read: impl FnOnce(&mut Columns<'_>) -> Result<T, Corrupt>,
) -> Result<T, StoreError> {
    let row = rows.first().ok_or(Corrupt::new("a statement that always has a row has none"));
    row.and_then(|row| read(&mut Columns::of(row))).map_err(|corrupt| corrupt.in_operation(name))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl IdempotencyAdmin for PostgresStore {
    async fn resolve(
        &self,
        slot: &Slot,
        seen_before: Seen,
        resolution: &Resolution,
    ) -> Result<ResolveOutcome, StoreError> {
        const NAME: &str = "resolve";
        let statements = &self.inner().statements;
        let sql = match resolution {
            Resolution::Complete(completion) => {
                self.check(NAME, completion)?;
                &statements.resolve_complete
            }
            Resolution::Release => &statements.resolve_release,
        };
        let (at, asked) = (slot.clone(), resolution.clone());
        let lock_timeout = self.inner().bounds.patiently();
        let bind = move |micros| {
            let mut arguments = PgArguments::default();
            arguments.add(at.principal().as_str())?;
            arguments.add(at.key())?;
            arguments.add(int(seen_before.fence.get()))?;
            arguments.add(At(seen_before.lease_expires_at))?;
            if let Resolution::Complete(completion) = &asked {
                let (status, headers, length, body) = response_parts(completion.response());
                arguments.add(completion.retention().map(span))?;
                arguments.add(status)?;
                arguments.add(headers)?;
                arguments.add(length)?;
                arguments.add(body)?;
            }
            arguments.add(micros)?;
            arguments.add(lock_timeout.as_str())?;
            Ok(arguments)
        };
        let rows = self.alone(NAME, sql, true, bind).await?;
        match resolved(&rows)? {
            Resolved::Written => {
                self.inner().wake.changed(slot);
                Ok(ResolveOutcome::Resolved)
            }
            Resolved::Not(found) => {
                let (record, now) = found.unzip();
                let now = now.unwrap_or(Timestamp::ZERO);
                kept(state::resolve(record.as_ref(), seen_before, resolution, now), NAME)
            }
        }
    }

    /// What the record held stays in dead rows until vacuum, in the WAL, and in backups.
    async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
        const NAME: &str = "purge";
        let at = slot.clone();
        let lock_timeout = self.inner().bounds.patiently();
        let bind = move |_| {
            let mut arguments = PgArguments::default();
            arguments.add(at.principal().as_str())?;
            arguments.add(at.key())?;
            arguments.add(int(fence.get()))?;
            arguments.add(lock_timeout.as_str())?;
            Ok(arguments)
        };
        let rows = self.alone(NAME, &self.inner().statements.purge, true, bind).await?;
        let purged = first(NAME, &rows, |columns| columns.number())? > 0;
        if purged {
            self.inner().wake.changed(slot);
        }
        Ok(purged)
    }

    /// In the order of principal and key, byte by byte.
    async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
        const NAME: &str = "scan";
        let after = request.after.as_ref().map(|cursor| Slot::from_bytes(cursor.as_bytes()));
        let after = after.transpose().map_err(|invalid| invalid.in_operation(NAME))?;
        let filter = match request.filter {
            ScanFilter::Pending => "pending",
            ScanFilter::Lapsed => "lapsed",
            _ => "all",
        };
        let limit = request.limit.get();
        let bind = move |micros| {
            // No principal is empty, so the empty pair is before them all.
            let (principal, key) = after.as_ref().map_or(("", ""), |s| (s.principal().as_str(), s.key()));
            let mut arguments = PgArguments::default();
            arguments.add(principal)?;
            arguments.add(key)?;
            arguments.add(filter)?;
            arguments.add(i64::from(limit))?;
            arguments.add(micros)?;
            Ok(arguments)
        };
        let rows = self.alone(NAME, &self.inner().statements.scan, true, bind).await?;
        let mut summaries = Vec::with_capacity(rows.len());
        for row in &rows {
            let (standby, summary) = summary(row).map_err(|corrupt| corrupt.in_operation(NAME))?;
            if standby {
                return Err(on_standby(NAME));
            }
            summaries.extend(summary);
        }
        let full = u64::try_from(summaries.len()).is_ok_and(|count| count >= u64::from(limit));
        let next = summaries.last().filter(|_| full).map(|last| Cursor::from_bytes(last.slot.to_bytes()));
        Ok(Page::new(summaries, next))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        const NAME: &str = "stats";
        let bind = |micros| {
            let mut arguments = PgArguments::default();
            arguments.add(micros)?;
            Ok(arguments)
        };
        let rows = self.alone(NAME, &self.inner().statements.stats, true, bind).await?;
        let (standby, stats) = first(NAME, &rows, |columns| {
            let standby = columns.flag()?;
            let mut stats = Stats::default();
            stats.expired = columns.number()?;
            stats.live = columns.number()?;
            stats.lapsed = columns.number()?;
            stats.completed = columns.number()?;
            stats.released = columns.number()?;
            Ok((standby, stats))
        })?;
        if standby { Err(on_standby(NAME)) } else { Ok(stats) }
    }

    async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
        let (link, table, deadline) =
            (self.inner().link.clone(), self.inner().layout.table.clone(), self.deadline());
        let found = tokio::spawn(async move { assess::findings(&link, &table, deadline).await });
        found.await.map_err(|_| gone("assess", Effect::NotApplied))?
    }
}

/// A row of `scan.sql`: whether it was read on a standby, and a record, if there is any.
fn summary(row: &PgRow) -> Result<(bool, Option<Summary>), Corrupt> {
    let mut c = Columns::of(row);
    let (standby, now) = (c.flag()?, c.time()?);
    let Some(principal) = c.maybe_text()? else { return Ok((standby, None)) };
    let key = c.text()?;
    let slot = Principal::new(principal)
        .and_then(|principal| principal.slot(key))
        .map_err(|_| Corrupt::new("a slot's parts are not valid"))?;
    let state = c.text()?;
    let fingerprint = c.fingerprint()?;
    let (fence, attempt, policy, begun) = (c.fence()?, c.attempt()?, c.policy()?, c.flag()?);
    let (created_at, lease_expires_at) = (c.time()?, c.time()?);
    let (completed_at, expires_at) = (c.maybe_time()?, c.time()?);
    let status = c.maybe_status()?;
    let phase = match (state, completed_at, status) {
        ("pending", ..) => {
            Phase::Pending { policy, begun, lease_expires_at, lapsed: lease_expires_at <= now }
        }
        ("completed", Some(completed_at), Some(status)) => Phase::Completed { status, completed_at },
        _ => return Err(Corrupt::new("a record is neither pending nor completed")),
    };
    let summary = Summary::new(slot, fingerprint, fence, attempt, created_at, expires_at, phase);
    Ok((standby, Some(summary)))
}
