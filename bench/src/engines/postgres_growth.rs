//! PostgreSQL's part of P10: ten million records beside ten thousand, and whether garbage collection keeps up.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncekey_core::{Fingerprint, IdempotencyStore, Policy, Principal, ReserveRequest, Terms};
use oncekey_postgres::PostgresStore;
use oncekey_testbed::postgres::Server;
use tokio::time::Instant;

use crate::engines::postgres::{OurItem, SETTINGS, server_with, timed, url};
use crate::load::{
    Contestant, Failure, LEASE, RETENTION, Span, Work, drive, principal, runtime_with_io, scramble,
};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Role, race};
use crate::report::Section;
use crate::stats::{Spread, rate};
use crate::stores::ours::Ours;

const CALLERS: usize = 64;
/// Fresh slots for a second of a round.
const FRESH: f64 = 150_000.0;
/// Completed slots that a round's replays ask for, spread over all.
const ASKED: u64 = 100_000;
/// New records a second that garbage collection must keep up with.
pub(crate) const NEW_A_SECOND: u64 = 10_000;
/// Records that a call of garbage collection may delete.
const COLLECTED: u32 = 1_000;
/// The slot that the others of a table are made from; no round asks for it.
const TEMPLATE: u64 = 1 << 40;
/// Fresh slots up to here are for the races, and those above for garbage collection.
const PACED: u64 = 1 << 36;
/// No checkpoint falls into the races by the clock.
const MORE: [(&str, &str); 1] = [("checkpoint_timeout", "1h")];

const FILL: &str = include_str!("../../sql/postgres/fill.sql");
const LAYOUT: &str = include_str!("../../sql/postgres/columns.sql");

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let (small, large, settling) =
        if plan.quick { (1_000, 20_000, 1_000) } else { (10_000, 10_000_000, 400_000) };
    let tables = Tables { plan, server: server_with(plan, &MORE)? };
    tables.fill("great", large)?;
    // Each round takes slots that no earlier one took.
    let mut unused = large;
    tables.settle(unused, settling)?;
    unused += settling;
    let fresh = (FRESH * plan.seconds) as u64;
    let mut outcomes = Vec::new();
    for work in
        [Work::Cycle, Work::Reserve, Work::Replay].into_iter().filter(|work| plan.wants(*work, CALLERS))
    {
        let goal = Some(Goal { id: "P10", at_least: 0.7 });
        let entrants = vec![
            Entrant::new(format!("oncekey, {} records", rate(large as f64)), Role::Ours, || {
                unused += fresh;
                tables.round("great", work, large, unused)
            }),
            // A small table would soon not be small: each round has a new one.
            Entrant::new(format!("oncekey, {} records", rate(small as f64)), Role::Ours, || {
                tables.fill("small", small)?;
                tables.round("small", work, small, small)
            })
            .goal(goal),
        ];
        outcomes.push(race(work, CALLERS, plan.rounds, entrants)?);
    }
    let sizes = tables.sizes("great")?;
    let (alone, beside) = (tables.collect_alone()?, tables.collect_beside()?);
    let settings: Vec<String> =
        SETTINGS.iter().chain(&MORE).map(|(name, value)| format!("`{name} = {value}`")).collect();
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("postgres")),
        format!(
            "A table of {} completed records with 256-byte responses, {sizes}, beside one of {}; {}; {CALLERS} callers, \
             {} rounds of {} s each. Replays ask for slots spread over the whole table.",
            rate(large as f64),
            rate(small as f64),
            settings.join(", "),
            plan.rounds,
            plan.seconds
        ),
        format!(
            "The large table fits into the machine's memory and not into the server's own. {} cycles went before, after \
             the last checkpoint: a page is written whole to the log with its first change after one, which a \
             server with five minutes between two pays for in the first seconds.",
            rate(settling as f64)
        ),
    ];
    // A call too late at the end is no falling behind.
    let keeps_up = alone.median >= NEW_A_SECOND as f64 && beside.deleted >= 0.98 * NEW_A_SECOND as f64;
    let came = beside.new >= 0.98 * NEW_A_SECOND as f64;
    let remarks = vec![format!(
        "Garbage collection of expired records in the large table, {COLLECTED} a call. Alone: {} records a second (least \
         {}, most {}). Beside {CALLERS} callers that begin {} cycles a second, and asked to delete as many: {} new \
         records and {} deleted a second. P10 asks to keep pace with {} new records a second in its own time: {}.",
        rate(alone.median),
        rate(alone.least),
        rate(alone.most),
        rate(NEW_A_SECOND as f64),
        rate(beside.new),
        rate(beside.deleted),
        rate(NEW_A_SECOND as f64),
        if keeps_up && came { "reached" } else { "NOT reached" },
    )];
    let plots = vec![(
        "benchmarks-postgres-growth.svg",
        "PostgreSQL, ten million records beside ten thousand",
        vec![0, 1, 2],
    )];
    Ok(Section { id: "postgres-growth", title: "PostgreSQL, as it grows", notes, outcomes, plots, remarks })
}

/// The key of the `n`th slot, which sql/postgres/fill.sql computes too: in no order.
fn key(n: u64) -> String {
    let mixed = |x: u64| ((x ^ (x >> 16)) * 0x45d_9f3b) & 0xffff_ffff;
    let high = mixed(mixed(n & 0xffff_ffff));
    format!("{:08x}-0000-4000-8000-{n:012x}", high ^ (high >> 16))
}

/// These slots, each with the request that its record has.
fn items(numbers: impl Iterator<Item = u64>) -> Result<Arc<[OurItem]>, Failure> {
    let item = |n| {
        let key = key(n);
        let slot = Principal::new(principal(n))?.slot(&key)?;
        let fingerprint = key.as_bytes().first_chunk().ok_or("a key is too short")?;
        let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION)?;
        Ok((slot, ReserveRequest::new(Fingerprint::from_bytes(*fingerprint), terms)))
    };
    numbers.map(item).collect()
}

struct Tables<'p> {
    plan: &'p Plan,
    server: Server,
}

/// What went on at once, a second.
struct Beside {
    new: f64,
    deleted: f64,
}

impl Tables<'_> {
    async fn connect(&self, table: &str) -> Result<PostgresStore, Failure> {
        Ok(PostgresStore::builder().table(table).connect(&url(&self.server, "postgres")).await?)
    }

    /// Lets `work` have a store on `table`.
    fn with<T>(
        &self,
        table: &str,
        work: impl AsyncFnOnce(PostgresStore) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime_with_io()?.block_on(async {
            let store = self.connect(table).await?;
            let done = work(store.clone()).await;
            store.pool().close().await;
            done
        })
    }

    /// Makes `table` hold completed records 0 .. n: copies of one that the store wrote.
    fn fill(&self, table: &str, records: u64) -> Result<(), Failure> {
        self.server.psql(&format!("DROP TABLE IF EXISTS {table}, {table}_meta"))?;
        self.with(table, async |store| {
            store.ensure_schema().await?;
            let template = items(std::iter::once(TEMPLATE))?;
            drive(&Arc::new(Ours::new(store)), &template, 0, Work::Cycle, 1, Span::Count(1)).await
        })?;
        // An index that grew in no order has 0.7 of its pages full; and it is quicker made at the end.
        self.server.psql(&format!("ALTER TABLE {table} DROP CONSTRAINT {table}_pkey"))?;
        self.add(table, 0, records, "interval '0'")?;
        let primary = format!("ALTER TABLE {table} ADD PRIMARY KEY (principal, key) WITH (fillfactor = 70)");
        self.server.psql(&primary)?;
        self.server.psql(&format!("VACUUM ANALYZE {table}"))?;
        Ok(())
    }

    /// Adds records `from` .. `from + count`, which expire so much later than the store's own.
    fn add(&self, table: &str, from: u64, count: u64, later: &str) -> Result<(), Failure> {
        let columns = self.server.psql(&LAYOUT.replace("{slots}", table))?;
        let fill = FILL
            .replace("{columns}", &columns)
            .replace("{slots}", table)
            .replace("{later}", later)
            .replace("{first}", &from.to_string())
            .replace("{last}", &(from + count - 1).to_string())
            .replace("{principal}", &principal(TEMPLATE))
            .replace("{key}", &key(TEMPLATE));
        self.server.psql(&fill)?;
        Ok(())
    }

    /// Works for a while, uncounted, from a checkpoint on.
    fn settle(&self, unused: u64, cycles: u64) -> Result<(), Failure> {
        self.server.psql("CHECKPOINT")?;
        let items = items(unused..unused + cycles)?;
        self.with("great", async |store| {
            let ours = Arc::new(Ours::new(store));
            drive(&ours, &items, 0, Work::Cycle, CALLERS, Span::Count(items.len())).await
        })?;
        Ok(())
    }

    /// Rate of `work`: fresh slots count up from `unused`, replays ask for any of the `records`.
    fn round(&self, table: &str, work: Work, records: u64, unused: u64) -> Result<f64, Failure> {
        let items = match work {
            Work::Replay => items((0..ASKED).map(|n| scramble(n) % records))?,
            Work::Reserve | Work::Cycle => items(unused..unused + (FRESH * self.plan.seconds) as u64)?,
        };
        self.with(table, async |store| {
            let ours = Arc::new(Ours::new(store));
            Ok(timed(self.plan, std::slice::from_ref(&ours), &items, work, CALLERS).await?.rate())
        })
    }

    /// The sizes of a table, for readers.
    fn sizes(&self, table: &str) -> Result<String, Failure> {
        let said = self.server.psql(&format!(
            "SELECT round(pg_relation_size('{table}') / 1e9, 1) || ' GB and indexes of ' || \
             round(pg_indexes_size('{table}') / 1e9, 1) || ' GB'"
        ))?;
        Ok(said)
    }

    /// How many expired records a second are deleted while nobody else works.
    fn collect_alone(&self) -> Result<Spread, Failure> {
        let expired = if self.plan.quick { 3_000 } else { 50_000 };
        let mut rates = Vec::new();
        for round in 0..self.plan.rounds as u64 {
            self.add("great", PACED + round * expired, expired, "interval '-10 days'")?;
            rates.push(self.with("great", async |store| {
                let begun = Instant::now();
                let mut deleted = 0;
                while deleted < expired {
                    let some = store.garbage_collect(limit()?).await?;
                    if some == 0 {
                        return Err(format!("{deleted} of {expired} expired records were deleted").into());
                    }
                    deleted += some;
                }
                Ok(deleted as f64 / begun.elapsed().as_secs_f64())
            })?);
        }
        Ok(Spread::of(&rates).ok_or("no rounds")?)
    }

    /// As many new records as are to be kept pace with, and as many deleted: what comes and what goes.
    fn collect_beside(&self) -> Result<Beside, Failure> {
        let seconds = 10.0 * self.plan.seconds;
        let count = (NEW_A_SECOND as f64 * seconds) as u64;
        let first = PACED + (1 << 32);
        // More than are due, so that a call always finds something.
        let expired = count + u64::from(COLLECTED);
        self.add("great", first, expired, "interval '-10 days'")?;
        let fresh = items(first + expired..first + expired + count)?;
        self.with("great", async |store| {
            let begun = Instant::now();
            let collector = tokio::spawn({
                let store = store.clone();
                async move {
                    let mut deleted = 0;
                    while deleted < count {
                        tokio::time::sleep_until(begun + due(deleted)).await;
                        deleted += store.garbage_collect(limit()?).await?;
                    }
                    Ok::<_, Failure>(deleted as f64 / begun.elapsed().as_secs_f64())
                }
            });
            let new = paced(&Arc::new(Ours::new(store)), &fresh, begun).await?;
            Ok(Beside { new, deleted: collector.await?? })
        })
    }
}

/// When the `n`th comes, after the first.
fn due(n: u64) -> Duration {
    Duration::from_micros(n * 1_000_000 / NEW_A_SECOND)
}

fn limit() -> Result<NonZeroU32, Failure> {
    Ok(NonZeroU32::new(COLLECTED).ok_or("no limit")?)
}

/// Cycles of all `items`, none before it is due; how many a second there were.
pub(crate) async fn paced<C: Contestant>(
    store: &Arc<C>,
    items: &Arc<[C::Item]>,
    begun: Instant,
) -> Result<f64, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (store, items, next) = (Arc::clone(store), Arc::clone(items), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(n as usize) else { return Ok::<_, Failure>(()) };
                    tokio::time::sleep_until(begun + due(n)).await;
                    let grant = store.reserve(item).await?;
                    store.complete(item, grant).await?;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    Ok(items.len() as f64 / begun.elapsed().as_secs_f64())
}
