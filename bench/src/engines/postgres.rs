//! PostgreSQL with durable settings: P1, P2, P3, and rows without a goal.

use std::sync::Arc;

use oncekey_core::IdempotencyStore;
use oncekey_postgres::PostgresStore;
use oncekey_testbed::postgres::Server;

use crate::load::{Contestant, Done, Failure, Span, Work, drive, drive_each, prepare, runtime_with_io};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Outcome, Role, race};
use crate::report::Section;
use crate::stats::rate;
use crate::stores::ours::Ours;
use crate::stores::pgbench::{self, Pgbench};
use crate::stores::plain_select::PlainSelect;
use crate::stores::sql::SqlItem;
use crate::stores::{cratestack, cratestack::Peer};

const CALLERS: [usize; 4] = [1, 8, 64, 256];
/// Clients of pgbench beyond which it does no more.
const PGBENCH_MOST: usize = 64;
/// Those of a smoke run.
const SMOKE: [(Work, usize); 4] =
    [(Work::Cycle, 1), (Work::Cycle, 64), (Work::Reserve, 64), (Work::Replay, 64)];
/// Fresh slots for a second of a round: more than anyone uses.
const FRESH: f64 = 150_000.0;
/// Completed slots that replays ask for.
const REPLAYED: usize = 10_000;
/// Tasks that fill a table before replays.
const FILLERS: usize = 256;

/// Where the entrants' tables are: for fresh work one that is emptied before each round, for replays one that
/// stays.
const FRESH_DATABASE: &str = "fresh";
const KEPT_DATABASE: &str = "kept";

/// What a server of this size has, and no checkpoint within a round: each begins with one.
pub(crate) const SETTINGS: [(&str, &str); 3] =
    [("shared_buffers", "256MB"), ("max_connections", "300"), ("max_wal_size", "8GB")];

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let engine = Engine::new(plan)?;
    let mut outcomes = Vec::new();
    for work in [Work::Cycle, Work::Reserve, Work::Replay] {
        for callers in CALLERS {
            let shown = work != Work::Replay || callers <= 64;
            if shown && plan.wants(work, callers) && (!plan.quick || SMOKE.contains(&(work, callers))) {
                outcomes.push(engine.race(work, callers)?);
            }
        }
    }
    let plots = vec![
        ("benchmarks-postgres-cycle.svg", "PostgreSQL, cycles a second", vec![0, 1, 2, 3]),
        ("benchmarks-postgres-reserve.svg", "PostgreSQL, reserves a second", vec![4, 5, 6, 7]),
        ("benchmarks-postgres-replay.svg", "PostgreSQL, replays a second", vec![8, 9, 10]),
    ];
    let remarks = vec![];
    Ok(Section { id: "postgres", title: "PostgreSQL", notes: engine.notes()?, outcomes, plots, remarks })
}

/// A server with durable settings, as all races here have it, and with `more`.
pub(crate) fn server_with(plan: &Plan, more: &[(&str, &str)]) -> Result<Server, Failure> {
    if machine::file_system(&plan.dir) == "tmpfs" {
        eprintln!("bench: the databases are in memory (tmpfs), where a commit waits for no disk: give --dir");
    }
    let builder = Server::builder().inside(&plan.dir);
    let builder = if plan.socket { builder } else { builder.tcp() };
    let settings = SETTINGS.iter().chain(more);
    Ok(settings.fold(builder, |builder, (name, value)| builder.setting(name, value)).start()?)
}

/// Where the entrants reach the server: by TCP, as services do, unless its socket was asked for.
pub(crate) fn url(server: &Server, database: &str) -> String {
    match server.tcp_address() {
        Some(address) => server.url_by(address, database),
        None => server.url(database),
    }
}

pub(crate) type OurItem = <Ours<PostgresStore> as Contestant>::Item;

struct Engine<'p> {
    plan: &'p Plan,
    server: Server,
    pgbench: Pgbench,
    ours: Items<OurItem>,
    theirs: Items<SqlItem>,
}

/// Slots for fresh work, and those that replays ask for.
pub(crate) struct Items<T> {
    fresh: Arc<[T]>,
    kept: Arc<[T]>,
}

impl<T> Items<T> {
    pub(crate) fn of_many<C: Contestant<Item = T>>(fresh: u64, kept: usize) -> Result<Self, Failure> {
        Ok(Self { fresh: prepare::<C>(0..fresh)?, kept: prepare::<C>(0..kept as u64)? })
    }

    pub(crate) fn prepare<C: Contestant<Item = T>>(plan: &Plan) -> Result<Self, Failure> {
        let fresh = (FRESH * plan.seconds).max(REPLAYED as f64);
        Self::of_many::<C>(fresh as u64, REPLAYED)
    }

    pub(crate) fn of(&self, work: Work) -> &Arc<[T]> {
        if work == Work::Replay { &self.kept } else { &self.fresh }
    }
}

/// A round: the uncounted start, then what counts.
pub(crate) async fn timed<C: Contestant>(
    plan: &Plan,
    stores: &[Arc<C>],
    items: &Arc<[C::Item]>,
    work: Work,
    callers: usize,
) -> Result<Done, Failure> {
    let warm = drive_each(stores, items, 0, work, callers, Span::Time(plan.warm_up())).await?;
    drive_each(stores, items, warm.next, work, callers, Span::Time(plan.span())).await
}

impl<'p> Engine<'p> {
    fn new(plan: &'p Plan) -> Result<Self, Failure> {
        let (ours, theirs) = (Items::prepare::<Ours<PostgresStore>>(plan)?, Items::prepare::<Peer>(plan)?);
        let (server, pgbench) = (server_with(plan, &[])?, Pgbench::new(REPLAYED)?);
        let engine = Self { plan, server, pgbench, ours, theirs };
        for database in [FRESH_DATABASE, KEPT_DATABASE] {
            engine.server.create_database(database)?;
            engine.server.psql_in(database, pgbench::SCHEMA)?;
            runtime_with_io()?.block_on(async {
                let store = engine.store(database).await?;
                store.ensure_schema().await?;
                let peer = Peer::connect(&url(&engine.server, database)).await?;
                peer.ensure_schema().await?;
                Ok::<_, Failure>(())
            })?;
        }
        if CALLERS.iter().any(|callers| plan.wants(Work::Replay, *callers)) {
            engine.fill()?;
        }
        Ok(engine)
    }

    /// Completes what replays ask for, in the way of each.
    fn fill(&self) -> Result<(), Failure> {
        runtime_with_io()?.block_on(async {
            let all = Span::Count(REPLAYED);
            let ours = Arc::new(Ours::new(self.store(KEPT_DATABASE).await?));
            drive(&ours, &self.ours.kept, 0, Work::Cycle, FILLERS, all).await?;
            let theirs = Arc::new(Peer::connect(&url(&self.server, KEPT_DATABASE)).await?);
            drive(&theirs, &self.theirs.kept, 0, Work::Cycle, FILLERS, all).await?;
            Ok::<_, Failure>(())
        })?;
        self.server.psql_in(KEPT_DATABASE, &Pgbench::fill(REPLAYED))?;
        self.server.psql_in(KEPT_DATABASE, "VACUUM ANALYZE")?;
        Ok(())
    }

    async fn store(&self, database: &str) -> Result<PostgresStore, Failure> {
        let url = url(&self.server, database);
        Ok(match self.plan.connections {
            None => PostgresStore::connect(&url).await?,
            Some(connections) => PostgresStore::builder().connections(connections).connect(&url).await?,
        })
    }

    fn race(&self, work: Work, callers: usize) -> Result<Outcome, Failure> {
        let cratestack = match (work, callers) {
            (Work::Cycle, 64 | 256) => Some(Goal { id: "P1", at_least: 5.0 }),
            (Work::Cycle, 1) => Some(Goal { id: "P3", at_least: 1.5 }),
            (Work::Replay, 64) => Some(Goal { id: "P2", at_least: 9.0 }),
            _ => None,
        };
        let one_by_one = match (work, callers) {
            (Work::Cycle, 64 | 256) => Some(Goal { id: "P1", at_least: 3.0 }),
            (Work::Cycle, 1) => Some(Goal { id: "P3", at_least: 0.9 }),
            _ => None,
        };
        let select = (work == Work::Replay && callers == 64).then_some(Goal { id: "P2", at_least: 0.7 });
        let mut entrants = vec![Entrant::new("oncekey", Role::Ours, move || self.ours(work, callers))];
        if work == Work::Replay {
            let run = move || self.plain_select(callers);
            entrants.push(Entrant::new("plain select, a connection a caller", Role::Limit, run).goal(select));
        }
        let clients = callers.min(PGBENCH_MOST);
        let clients_said = if clients == callers { String::new() } else { format!(", {clients} clients") };
        let label = match work {
            Work::Cycle => format!("pgbench, one upsert, one update{clients_said}"),
            Work::Reserve => format!("pgbench, one upsert{clients_said}"),
            Work::Replay => format!("pgbench, select{clients_said}"),
        };
        let run = move || self.pgbench(work, clients);
        entrants.push(Entrant::new(label, Role::Limit, run).goal(one_by_one));
        let label = format!("cratestack-sqlx {}", machine::version("cratestack-sqlx"));
        let run = move || self.cratestack(work, callers);
        entrants.push(Entrant::new(label, Role::Peer, run).goal(cratestack));
        if self.plan.alone {
            entrants.truncate(1);
        }
        race(work, callers, self.plan.rounds, entrants)
    }

    fn ours(&self, work: Work, callers: usize) -> Result<f64, Failure> {
        let (database, items) = (self.begin(work, "oncekey_slots")?, self.ours.of(work));
        runtime_with_io()?.block_on(async {
            let store = self.store(database).await?;
            let ours = Arc::new(Ours::new(store.clone()));
            let done = timed(self.plan, std::slice::from_ref(&ours), items, work, callers).await?;
            store.pool().close().await;
            Ok(done.rate())
        })
    }

    fn cratestack(&self, work: Work, callers: usize) -> Result<f64, Failure> {
        let (database, items) = (self.begin(work, "cratestack_idempotency")?, self.theirs.of(work));
        runtime_with_io()?.block_on(async {
            let peer = Arc::new(Peer::connect(&url(&self.server, database)).await?);
            let done = timed(self.plan, std::slice::from_ref(&peer), items, work, callers).await?;
            peer.close().await;
            Ok(done.rate())
        })
    }

    fn plain_select(&self, callers: usize) -> Result<f64, Failure> {
        let (database, items) = (self.begin(Work::Replay, "")?, self.theirs.of(Work::Replay));
        runtime_with_io()?.block_on(async {
            let connections = PlainSelect::connect(&url(&self.server, database), callers).await?;
            Ok(timed(self.plan, &connections, items, Work::Replay, callers).await?.rate())
        })
    }

    fn pgbench(&self, work: Work, clients: usize) -> Result<f64, Failure> {
        let url = url(&self.server, self.begin(work, "slots")?);
        self.pgbench.run(&self.server, &url, work, clients, self.plan.span())
    }

    /// The database of a round, its table empty where the work is fresh, and nothing left to be written of
    /// what the neighbour did.
    fn begin(&self, work: Work, table: &str) -> Result<&'static str, Failure> {
        let database = if work == Work::Replay { KEPT_DATABASE } else { FRESH_DATABASE };
        if work != Work::Replay {
            self.server.psql_in(database, &format!("TRUNCATE {table}"))?;
        }
        self.server.psql_in(database, "CHECKPOINT")?;
        Ok(database)
    }

    fn notes(&self) -> Result<Vec<String>, Failure> {
        let plan = self.plan;
        let fsync = machine::fsync_micros(&plan.dir, if plan.quick { 20 } else { 500 })?;
        let settings: Vec<String> =
            SETTINGS.iter().map(|(name, value)| format!("`{name} = {value}`")).collect();
        Ok(vec![
            format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("postgres")),
            format!(
                "PostgreSQL {} on the same machine, by {}, on {}, where appending 4 KiB and `fdatasync` takes \
                 {} µs (least {}, most {}). `fsync`, `synchronous_commit` and autovacuum on, {}; the rest as it comes.",
                self.server.psql("SHOW server_version")?,
                if plan.socket { "its socket" } else { "TCP" },
                machine::file_system(&plan.dir),
                rate(fsync.median),
                rate(fsync.least),
                rate(fsync.most),
                settings.join(", ")
            ),
            format!(
                "oncekey: `PostgresStore::connect` with its defaults, through the trait `IdempotencyStore`. Peer: the \
                 store of cratestack-sqlx {} on a pool of {} connections. Limits: `pgbench -M prepared`, on a \
                 table of the same shape, one statement a transaction, a connection a client; and a select by the \
                 primary key through sqlx {}, from our own table, a connection a caller.",
                machine::version("cratestack-sqlx"),
                cratestack::CONNECTIONS,
                machine::version("sqlx")
            ),
            format!(
                "{} rounds of {} s an entrant ({} s of pgbench), each on an empty table and after a checkpoint and \
                 {} s uncounted; replays ask for {REPLAYED} completed slots.",
                plan.rounds,
                plan.seconds,
                plan.seconds.ceil(),
                plan.seconds / 4.0
            ),
        ])
    }
}
