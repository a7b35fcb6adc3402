//! Where PostgreSQL's time goes, and what the table's layout and the number of connections change: figures
//! that a decision was made by, for docs/decisions. Nothing here has a goal.

use std::sync::Arc;

use oncekey_core::IdempotencyStore;
use oncekey_postgres::{PostgresStore, PostgresStoreBuilder};
use oncekey_testbed::postgres::Server;

use crate::engines::postgres::{Items, OurItem, server_with, timed, url};
use crate::load::{Failure, Span, Work, drive, runtime_with_io};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Outcome, Role, race};
use crate::report::Section;
use crate::stats::rate;
use crate::stores::ours::Ours;
use crate::stores::pgbench::{self, Pgbench};

/// Beside the settings of the races: who did what, and how long its flushes took.
const WATCHED: [(&str, &str); 3] = [
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
    ("track_wal_io_timing", "on"),
];
const CALLERS: [usize; 2] = [64, 256];
const BUDGETED: [(Work, usize); 6] = [
    (Work::Cycle, 1),
    (Work::Cycle, 64),
    (Work::Cycle, 256),
    (Work::Reserve, 64),
    (Work::Replay, 1),
    (Work::Replay, 64),
];
const FILLERS: usize = 256;
const STATEMENTS: &str = include_str!("../../sql/postgres/statements.sql");
const SIZES: &str = include_str!("../../sql/postgres/sizes.sql");

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let layouts = Layouts {
        plan,
        server: server_with(plan, &WATCHED)?,
        items: Items::prepare::<Ours<PostgresStore>>(plan)?,
    };
    layouts.server.psql("CREATE EXTENSION pg_stat_statements")?;
    let variants = variants();
    for variant in &variants {
        layouts.make(variant)?;
    }
    let mut remarks = vec![layouts.budget(&variants[0])?];
    let mut outcomes = Vec::new();
    for callers in CALLERS.into_iter().filter(|callers| plan.wants(Work::Cycle, *callers)) {
        outcomes.push(layouts.race(&variants, callers)?);
        remarks.push(layouts.sizes(&variants, callers)?);
    }
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("postgres --layouts")),
        format!("{} rounds of {} s, each on an empty table after a checkpoint.", plan.rounds, plan.seconds),
    ];
    Ok(Section {
        id: "postgres-layouts",
        title: "PostgreSQL, layouts",
        notes,
        outcomes,
        plots: vec![],
        remarks,
    })
}

/// One table, and how many connections work on it.
struct Variant {
    label: String,
    table: String,
    /// SQL that makes it what it is, where it isn't as `ensure_schema` leaves it.
    change: String,
    connections: Option<u32>,
}

fn variants() -> Vec<Variant> {
    let plain = |label: &str, connections| Variant {
        label: label.to_owned(),
        table: "as_it_is".to_owned(),
        change: String::new(),
        connections,
    };
    let fill = |factor: u32, index: bool| {
        let table = format!("slots_{factor}{}", if index { "" } else { "_bare" });
        let index_dropped = if index { String::new() } else { format!("; DROP INDEX {table}_expires_at") };
        Variant {
            label: format!("fillfactor {factor}{}", if index { "" } else { ", no index on expires_at" }),
            change: format!("ALTER TABLE {table} SET (fillfactor = {factor}){index_dropped}"),
            table,
            connections: None,
        }
    };
    let mut all = vec![plain("oncekey as it is", None)];
    all.extend([100, 90, 70, 50, 30].map(|factor| fill(factor, true)));
    all.extend([100, 50].map(|factor| fill(factor, false)));
    all.extend([1, 2, 3, 4].map(|n| plain(&format!("connections({n})"), Some(n))));
    all
}

struct Layouts<'p> {
    plan: &'p Plan,
    server: Server,
    items: Items<OurItem>,
}

impl Layouts<'_> {
    fn builder(&self, variant: &Variant) -> PostgresStoreBuilder {
        let builder = PostgresStore::builder().table(&variant.table);
        match variant.connections {
            Some(connections) => builder.connections(connections),
            None => builder,
        }
    }

    async fn connect(&self, variant: &Variant) -> Result<PostgresStore, Failure> {
        Ok(self.builder(variant).connect(&url(&self.server, "postgres")).await?)
    }

    fn make(&self, variant: &Variant) -> Result<(), Failure> {
        runtime_with_io()?.block_on(async {
            let store = self.connect(variant).await?;
            store.ensure_schema().await?;
            store.pool().close().await;
            Ok::<_, Failure>(())
        })?;
        if !variant.change.is_empty() {
            self.server.psql(&variant.change)?;
        }
        Ok(())
    }

    fn empty(&self, variant: &Variant) -> Result<(), Failure> {
        self.server.psql(&format!("TRUNCATE {}", variant.table))?;
        self.server.psql("CHECKPOINT")?;
        Ok(())
    }

    fn race<'v>(&'v self, variants: &'v [Variant], callers: usize) -> Result<Outcome, Failure> {
        // Whether an update was HOT is counted for this race.
        self.server.psql("SELECT pg_stat_reset()")?;
        let entrant = |v: &'v Variant| Entrant::new(&v.label, Role::Ours, move || self.round(v, callers));
        race(Work::Cycle, callers, self.plan.rounds, variants.iter().map(entrant).collect())
    }

    fn round(&self, variant: &Variant, callers: usize) -> Result<f64, Failure> {
        self.empty(variant)?;
        runtime_with_io()?.block_on(async {
            let store = self.connect(variant).await?;
            let ours = Arc::new(Ours::new(store.clone()));
            let items = self.items.of(Work::Cycle);
            let done = timed(self.plan, std::slice::from_ref(&ours), items, Work::Cycle, callers).await?;
            store.pool().close().await;
            Ok(done.rate())
        })
    }

    /// What each table looks like after its last round.
    fn sizes(&self, variants: &[Variant], callers: usize) -> Result<String, Failure> {
        let mut text = format!(
            "After the last round of {callers} callers:\n\n\
             | table | records | heap, bytes a record | indexes, bytes a record | HOT updates |\n\
             | --- | ---: | ---: | ---: | ---: |\n"
        );
        for variant in variants.iter().filter(|variant| variant.connections.is_none()) {
            let Variant { label, table, .. } = variant;
            let row = self.server.psql(&SIZES.replace("{slots}", table))?;
            text.push_str(&format!("| {label} | {row} |\n"));
        }
        Ok(text)
    }

    /// Who works how long for an operation, by the number of callers: ours, and pgbench's one by one.
    fn budget(&self, variant: &Variant) -> Result<String, Failure> {
        let mut text = "Where the time goes, an operation:\n\n\
             | work | callers | who | ops/s | client's CPU, µs | server's CPU, µs | flushes | flushing, µs | WAL, bytes |\n\
             | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
        let mut statements =
            "Our statements, as `pg_stat_statements` times them (planning is done once):\n\n\
             | work | callers | statement | calls | µs a call | µs an operation | WAL bytes an operation |\n\
             | --- | ---: | --- | ---: | ---: | ---: | ---: |\n"
                .to_owned();
        let pgbench = Pgbench::new(self.items.of(Work::Replay).len())?;
        for (work, callers) in BUDGETED.into_iter().filter(|(work, callers)| self.plan.wants(*work, *callers))
        {
            let (row, operations) = self.budget_of_ours(variant, work, callers)?;
            text.push_str(&format!("| {} | {callers} | **oncekey** | {row} |\n", work.name()));
            let said = self.server.psql(&STATEMENTS.replace("{operations}", &operations.to_string()))?;
            for line in said.lines() {
                statements.push_str(&format!("| {} | {callers} | {line} |\n", work.name()));
            }
            if work != Work::Replay && callers <= 64 {
                let row = self.budget_of_pgbench(&pgbench, work, callers)?;
                text.push_str(&format!("| | | pgbench | {row} |\n"));
            }
        }
        Ok(format!("{text}\n{statements}"))
    }

    /// The cells of ours, and how many operations there were.
    fn budget_of_ours(
        &self,
        variant: &Variant,
        work: Work,
        callers: usize,
    ) -> Result<(String, usize), Failure> {
        self.empty(variant)?;
        let items = self.items.of(work);
        let runtime = runtime_with_io()?;
        if work == Work::Replay {
            let filled = async {
                let store = self.connect(variant).await?;
                let (ours, all) = (Arc::new(Ours::new(store.clone())), Span::Count(items.len()));
                drive(&ours, items, 0, Work::Cycle, FILLERS, all).await?;
                store.pool().close().await;
                Ok::<_, Failure>(())
            };
            runtime.block_on(filled)?;
        }
        let watch = Watch::begin(&self.server)?;
        let done = runtime.block_on(async {
            let store = self.connect(variant).await?;
            let ours = Arc::new(Ours::new(store.clone()));
            let done = drive(&ours, items, 0, work, callers, Span::Time(self.plan.span() * 2)).await?;
            // What a session did is told when it ends.
            store.pool().close().await;
            Ok::<_, Failure>(done)
        })?;
        Ok((watch.cells(done.operations as f64, done.rate())?, done.operations))
    }

    fn budget_of_pgbench(&self, pgbench: &Pgbench, work: Work, clients: usize) -> Result<String, Failure> {
        self.server.psql(&format!("DROP TABLE IF EXISTS slots; {}", pgbench::SCHEMA))?;
        self.server.psql("CHECKPOINT")?;
        let watch = Watch::begin(&self.server)?;
        let span = self.plan.span() * 2;
        let rate = pgbench.run(&self.server, &url(&self.server, "postgres"), work, clients, span)?;
        let operations = self.server.psql("SELECT count(*) FROM slots")?.parse()?;
        watch.cells(operations, rate)
    }
}

/// What this program and the server had used when it began.
struct Watch<'s> {
    server: &'s Server,
    client_cpu: f64,
    server_cpu: f64,
}

impl<'s> Watch<'s> {
    fn begin(server: &'s Server) -> Result<Self, Failure> {
        server.psql("SELECT pg_stat_reset_shared('wal'), pg_stat_statements_reset()")?;
        let (client_cpu, server_cpu) = (machine::cpu_micros(None)?, machine::cpu_micros(Some(server.pid()))?);
        Ok(Self { server, client_cpu, server_cpu })
    }

    /// What was used since, an operation, as cells of a table.
    fn cells(&self, operations: f64, done: f64) -> Result<String, Failure> {
        let client = machine::cpu_micros(None)? - self.client_cpu;
        let server = machine::cpu_micros(Some(self.server.pid()))? - self.server_cpu;
        let wal = self.server.psql("SELECT wal_sync, wal_sync_time * 1000, wal_bytes FROM pg_stat_wal")?;
        let wal: Vec<f64> = wal.split('|').map(str::parse).collect::<Result<_, _>>()?;
        let [syncs, syncing, bytes] = wal[..] else { return Err("pg_stat_wal said something else".into()) };
        let each = |sum: f64| format!("{:.1}", sum / operations);
        let cells = [
            rate(done),
            each(client),
            each(server),
            format!("{:.3}", syncs / operations),
            each(syncing),
            format!("{:.0}", bytes / operations),
        ];
        Ok(cells.join(" | "))
    }
}
