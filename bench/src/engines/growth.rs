//! SQLite's part of P10: ten million records beside ten thousand, and whether garbage collection keeps up.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oncekey_core::IdempotencyStore;
use oncekey_sqlite::{Durability, SqliteStore};
use tempfile::TempDir;

use crate::load::{Contestant, Failure, Span, Work, drive, prepare, runtime, scramble};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Role, race};
use crate::report::Section;
use crate::stats::{Spread, rate};
use crate::stores::ours::Ours;

const CALLERS: usize = 64;
const FILLERS: usize = 256;
/// Records filled between two preparations.
const STRIDE: u64 = 100_000;
/// Fresh slots for a round.
const FRESH: u64 = 150_000;
/// Completed slots that a round's replays ask for, spread over all.
const ASKED: u64 = 100_000;
/// New records a second that garbage collection must keep up with.
const NEW_A_SECOND: f64 = 10_000.0;

type Items = Arc<[<Ours<SqliteStore> as Contestant>::Item]>;

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let (small, large) = if plan.quick { (1_000, 20_000) } else { (10_000, 10_000_000) };
    let great = Table::fill(plan, large)?;
    // Each round takes slots that no earlier one took; those of the large table go up from its end.
    let mut unused = large;
    let mut outcomes = Vec::new();
    for work in
        [Work::Cycle, Work::Reserve, Work::Replay].into_iter().filter(|work| plan.wants(*work, CALLERS))
    {
        let goal = Some(Goal { id: "P10", at_least: 0.7 });
        let entrants = vec![
            Entrant::new(format!("oncekey, {} records", rate(large as f64)), Role::Ours, || {
                unused += 2 * FRESH;
                great.round(plan, work, large, unused)
            }),
            // A small table would soon not be small: each round has a new one.
            Entrant::new(format!("oncekey, {} records", rate(small as f64)), Role::Ours, || {
                Table::fill(plan, small)?.round(plan, work, small, small)
            })
            .goal(goal),
        ];
        outcomes.push(race(work, CALLERS, plan.rounds, entrants)?);
    }
    let collected = great.collect(plan, unused + 2 * FRESH)?;
    let keeps_up = if collected.median >= NEW_A_SECOND { "reached" } else { "NOT reached" };
    let bytes = std::fs::metadata(great.path())?.len() as f64;
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("sqlite")),
        format!(
            "A file of {} completed records with 256-byte responses, {:.1} GB, beside one of {}; \
             `synchronous=FULL`, {CALLERS} callers, {} rounds of {} s each. Replays ask for slots spread over the \
             whole table. The file fits into the machine's memory, as a page cache.",
            rate(large as f64),
            bytes / 1e9,
            rate(small as f64),
            plan.rounds,
            plan.seconds
        ),
    ];
    let remarks = vec![format!(
        "Garbage collection of expired records in the large file, alone, 1 000 a call: {} records a second (least {}, \
         most {}). P10 asks to keep pace with {} new records a second: {keeps_up}.",
        rate(collected.median),
        rate(collected.least),
        rate(collected.most),
        rate(NEW_A_SECOND)
    )];
    let plots = vec![(
        "benchmarks-sqlite-growth.svg",
        "SQLite, ten million records beside ten thousand",
        vec![0, 1, 2],
    )];
    Ok(Section { id: "sqlite-growth", title: "SQLite, as it grows", notes, outcomes, plots, remarks })
}

/// A file that holds completed records 0 .. n.
struct Table(TempDir);

impl Table {
    fn fill(plan: &Plan, records: u64) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("oncekey-bench-").tempdir_in(&plan.dir)?;
        let table = Self(home);
        runtime()?.block_on(async {
            // Nobody reads these after a power cut.
            let store = SqliteStore::builder().durability(Durability::Normal).open(table.path())?;
            let ours = Arc::new(Ours::new(store.clone()));
            for first in (0..records).step_by(STRIDE as usize) {
                let items: Items = prepare::<Ours<SqliteStore>>(first..records.min(first + STRIDE))?;
                drive(&ours, &items, 0, Work::Cycle, FILLERS, Span::Count(items.len())).await?;
            }
            store.close().await;
            Ok::<_, Failure>(())
        })?;
        Ok(table)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("slots.db")
    }

    /// Rate of `work`: fresh slots count up from `unused`, replays ask for any of the `records`.
    fn round(&self, plan: &Plan, work: Work, records: u64, unused: u64) -> Result<f64, Failure> {
        let items: Items = match work {
            Work::Replay => prepare::<Ours<SqliteStore>>((0..ASKED).map(|n| scramble(n) % records))?,
            Work::Reserve | Work::Cycle => prepare::<Ours<SqliteStore>>(unused..unused + FRESH)?,
        };
        open(&self.path(), async |store| {
            let ours = Arc::new(Ours::new(store));
            let warm = drive(&ours, &items, 0, work, CALLERS, Span::Time(plan.warm_up())).await?;
            Ok(drive(&ours, &items, warm.next, work, CALLERS, Span::Time(plan.span())).await?.rate())
        })
    }

    /// How many expired records a second are deleted.
    fn collect(&self, plan: &Plan, unused: u64) -> Result<Spread, Failure> {
        let batch = NonZeroU32::new(1_000).ok_or("no batch")?;
        let expired = if plan.quick { 3_000 } else { 50_000 };
        let mut rates = Vec::new();
        for round in 0..plan.rounds as u64 {
            let first = unused + round * expired;
            let items: Items = prepare::<Ours<SqliteStore>>(first..first + expired)?;
            rates.push(open(&self.path(), async |store| {
                let brief = Arc::new(Ours::kept_for(store.clone(), Duration::from_millis(1))?);
                drive(&brief, &items, 0, Work::Cycle, FILLERS, Span::Count(items.len())).await?;
                let begun = Instant::now();
                let mut deleted = 0;
                loop {
                    let some = store.garbage_collect(batch).await?;
                    deleted += some;
                    if some < u64::from(batch.get()) {
                        break;
                    }
                }
                // The last few may expire only while this runs.
                if deleted < expired * 9 / 10 {
                    return Err(format!("{deleted} of {expired} expired records were deleted").into());
                }
                Ok(deleted as f64 / begun.elapsed().as_secs_f64())
            })?);
        }
        Ok(Spread::of(&rates).ok_or("no rounds")?)
    }
}

/// Opens the file, durable, for one piece of work.
fn open<T>(path: &Path, work: impl AsyncFnOnce(SqliteStore) -> Result<T, Failure>) -> Result<T, Failure> {
    runtime()?.block_on(async {
        let store = SqliteStore::open(path)?;
        let done = work(store.clone()).await;
        store.close().await;
        done
    })
}
