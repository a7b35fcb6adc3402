//! SQLite, WAL with `synchronous=FULL`: P4, P5, and rows without a goal.

use std::sync::Arc;

use oncekey_sqlite::SqliteStore;
use tempfile::TempDir;

use crate::load::{Contestant, Done, Failure, Span, Work, drive, prepare, runtime};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Outcome, Role, race};
use crate::report::Section;
use crate::stats::rate;
use crate::stores::ours::Ours;
use crate::stores::raw_sqlite::{self, Gathering};
use crate::stores::sql::{AUTOCHECKPOINT, CACHE_KIB, SqlItem};
use crate::stores::sqlx_sqlite::Pool;

const CALLERS: [usize; 4] = [1, 16, 64, 256];
/// Those of a smoke run.
const SMOKE: [usize; 2] = [1, 64];
/// Fresh slots for a round: more than anyone uses in a second.
const FRESH: u64 = 300_000;
/// Completed slots that replays ask for.
const REPLAYED: usize = 10_000;
/// SQLite has one writer, so a second connection only waits for the first; reads use more.
const WRITERS: u32 = 1;
const READERS: u32 = 4;
/// Tasks that fill a table before replays.
const FILLERS: usize = 256;

const REMARK: &str = "With n callers, a store that answers after COMMIT has at most n operations in a transaction: the \
    bare loop with *n operations a commit* reserves n slots in one and completes them in the next. With *n pairs a \
    commit* it reserves and completes in the same one, with one wait for the disk instead of two, and nobody heard \
    that he may begin: a limit that no store can reach where the disk is what costs.";

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let engine = Engine::new(plan)?;
    let mut outcomes = Vec::new();
    for work in [Work::Cycle, Work::Reserve, Work::Replay] {
        for callers in CALLERS {
            if plan.wants(work, callers) && (!plan.quick || SMOKE.contains(&callers)) {
                outcomes.push(engine.race(work, callers)?);
            }
        }
    }
    let plots = vec![
        ("benchmarks-sqlite-cycle.svg", "SQLite, cycles a second", vec![0, 1, 2, 3]),
        ("benchmarks-sqlite-reserve.svg", "SQLite, reserves a second", vec![4, 5, 6, 7]),
        ("benchmarks-sqlite-replay.svg", "SQLite, replays a second", vec![8, 9, 10, 11]),
    ];
    Ok(Section {
        id: "sqlite",
        title: "SQLite",
        notes: engine.notes()?,
        outcomes,
        plots,
        remarks: vec![REMARK.to_owned()],
    })
}

type OurItem = <Ours<SqliteStore> as Contestant>::Item;

struct Engine<'p> {
    plan: &'p Plan,
    ours: Items<OurItem>,
    theirs: Items<SqlItem>,
}

/// Slots for fresh work, and those that replays ask for.
struct Items<T> {
    fresh: Arc<[T]>,
    kept: Arc<[T]>,
}

impl<T: Clone> Items<T> {
    fn prepare<C: Contestant<Item = T>>(plan: &Plan) -> Result<Self, Failure> {
        let fresh = prepare::<C>(0..if plan.quick { FRESH / 10 } else { FRESH })?;
        let kept = fresh.iter().take(REPLAYED).cloned().collect();
        Ok(Self { fresh, kept })
    }

    fn of(&self, work: Work) -> &Arc<[T]> {
        if work == Work::Replay { &self.kept } else { &self.fresh }
    }
}

impl<'p> Engine<'p> {
    fn new(plan: &'p Plan) -> Result<Self, Failure> {
        let (ours, theirs) = (Items::prepare::<Ours<SqliteStore>>(plan)?, Items::prepare::<Pool>(plan)?);
        Ok(Self { plan, ours, theirs })
    }

    fn race(&self, work: Work, callers: usize) -> Result<Outcome, Failure> {
        let goal =
            |id, at_least, at: usize| (work == Work::Cycle && callers == at).then_some(Goal { id, at_least });
        let mut entrants = vec![Entrant::new("oncekey", Role::Ours, move || self.ours(work, callers))];
        let bare = |gathering| move || self.bare(work, gathering);
        match (work, callers) {
            (Work::Replay, _) => {
                entrants.push(Entrant::new("bare loop, 1 thread", Role::Limit, bare(Gathering::None)));
            }
            (_, 1) => entrants.push(
                Entrant::new("bare loop, one by one", Role::Limit, bare(Gathering::None))
                    .goal(goal("P5", 0.8, 1)),
            ),
            (_, n) => {
                let gathered = Entrant::new(
                    format!("bare loop, {n} operations a commit"),
                    Role::Limit,
                    bare(Gathering::Operations(n)),
                );
                entrants.push(gathered.goal(goal("P4", 0.8, 64)));
                if work == Work::Cycle {
                    let label = format!("bare loop, {n} pairs a commit");
                    let pairs = Entrant::new(label, Role::Limit, bare(Gathering::Pairs(n)));
                    entrants.push(pairs.goal(goal("P4", 0.8, 64)));
                }
            }
        }
        entrants.push(
            Entrant::new("sqlx-sqlite pool", Role::Peer, move || self.pool(work, callers))
                .goal(goal("P4", 25.0, 64)),
        );
        race(work, callers, self.plan.rounds, entrants)
    }

    fn ours(&self, work: Work, callers: usize) -> Result<f64, Failure> {
        let (home, items) = (self.home()?, self.ours.of(work));
        runtime()?.block_on(async {
            let store = SqliteStore::open(home.path().join("slots.db"))?;
            let ours = Arc::new(Ours::new(store.clone()));
            if work == Work::Replay {
                drive(&ours, items, 0, Work::Cycle, FILLERS, Span::Count(items.len())).await?;
            }
            let done = self.timed(&ours, items, work, callers).await?;
            store.close().await;
            Ok(done.rate())
        })
    }

    fn bare(&self, work: Work, gathering: Gathering) -> Result<f64, Failure> {
        let (home, items) = (self.home()?, self.theirs.of(work));
        let file = raw_sqlite::open(&home.path().join("slots.db"))?;
        if work == Work::Replay {
            fill(&file, items)?;
        }
        let warm = raw_sqlite::run(&file, items, 0, work, gathering, Span::Time(self.plan.warm_up()))?;
        let done = raw_sqlite::run(&file, items, warm.next, work, gathering, Span::Time(self.plan.span()))?;
        Ok(done.rate())
    }

    fn pool(&self, work: Work, callers: usize) -> Result<f64, Failure> {
        let (home, items) = (self.home()?, self.theirs.of(work));
        let path = home.path().join("slots.db");
        if work == Work::Replay {
            fill(&raw_sqlite::open(&path)?, items)?;
        }
        let connections = if work == Work::Replay { READERS } else { self.plan.pool.unwrap_or(WRITERS) };
        runtime()?.block_on(async {
            let pool = Arc::new(Pool::open(&path, connections).await?);
            let done = self.timed(&pool, items, work, callers).await?;
            pool.close().await;
            Ok(done.rate())
        })
    }

    /// The uncounted start, then what counts.
    async fn timed<C: Contestant>(
        &self,
        store: &Arc<C>,
        items: &Arc<[C::Item]>,
        work: Work,
        callers: usize,
    ) -> Result<Done, Failure> {
        let warm = drive(store, items, 0, work, callers, Span::Time(self.plan.warm_up())).await?;
        drive(store, items, warm.next, work, callers, Span::Time(self.plan.span())).await
    }

    /// A directory that goes with the round.
    fn home(&self) -> Result<TempDir, Failure> {
        Ok(tempfile::Builder::new().prefix("oncekey-bench-").tempdir_in(&self.plan.dir)?)
    }

    fn notes(&self) -> Result<Vec<String>, Failure> {
        let plan = self.plan;
        let kind = machine::file_system(&plan.dir);
        if kind == "tmpfs" {
            eprintln!(
                "bench: the databases are in memory (tmpfs), where a commit waits for no disk: give --dir"
            );
        }
        let fsync = machine::fsync_micros(&plan.dir, if plan.quick { 20 } else { 500 })?;
        let version = machine::version;
        Ok(vec![
            format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("sqlite")),
            format!(
                "Databases on {kind}, where appending 4 KiB and `fdatasync` takes {} µs (least {}, most {}).",
                rate(fsync.median),
                rate(fsync.least),
                rate(fsync.most)
            ),
            format!(
                "oncekey: `SqliteStore` through the trait `IdempotencyStore`. Limit: one thread and nothing but \
                 prepared statements of rusqlite {}. Peer: the same statements through a pool of sqlx-sqlite {}, \
                 one autocommit statement an operation, {WRITERS} connection for writes and {READERS} for \
                 replays.",
                version("rusqlite"),
                version("sqlx-sqlite")
            ),
            format!(
                "One SQLite {} under all three; WAL, `synchronous=FULL`, a checkpoint every {AUTOCHECKPOINT} pages, \
                 {} MiB of cache.",
                self.library()?,
                CACHE_KIB / 1024
            ),
            format!(
                "{} rounds of {} s an entrant, each on a new file after {} s uncounted; replays ask for \
                 {REPLAYED} completed slots.",
                plan.rounds,
                plan.seconds,
                plan.seconds / 4.0
            ),
        ])
    }

    /// The one SQLite that all speak to.
    fn library(&self) -> Result<String, Failure> {
        let home = self.home()?;
        let path = home.path().join("slots.db");
        let (version, source) = runtime()?.block_on(async { Pool::open(&path, 1).await?.library().await })?;
        let file = rusqlite::Connection::open_in_memory()?;
        let mut asked = file.prepare("SELECT sqlite_source_id()")?;
        let sources = asked.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        if rusqlite::version() != version || sources != [source] {
            return Err("rusqlite and sqlx speak to different SQLites".into());
        }
        Ok(version)
    }
}

/// Completes all of `items`.
fn fill(file: &rusqlite::Connection, items: &[SqlItem]) -> Result<(), Failure> {
    raw_sqlite::run(file, items, 0, Work::Cycle, Gathering::Pairs(500), Span::Count(items.len()))?;
    Ok(())
}
