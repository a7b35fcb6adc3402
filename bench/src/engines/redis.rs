//! Redis: P6, P7, and rows without a goal.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use idempotent::store::valkey::ValkeyStore;
use oncekey_redis::RedisStore;
use oncekey_testbed::redis::Server;

use crate::engines::postgres::{Items, timed};
use crate::load::{BODY_BYTES, Contestant, Failure, Span, Work, drive, prepare, runtime_with_io};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Outcome, Role, race};
use crate::report::Section;
use crate::stores::bare_redis::Bare;
use crate::stores::idempotent::Peer;
use crate::stores::ours::Ours;

const CALLERS: [usize; 4] = [1, 8, 64, 256];
const SMOKE: [(Work, usize); 3] = [(Work::Cycle, 64), (Work::Reserve, 64), (Work::Replay, 64)];
/// Fresh slots for a second of a round: more than anyone uses.
const FRESH: f64 = 250_000.0;
/// Completed slots that replays ask for.
const REPLAYED: usize = 10_000;
const FILLERS: usize = 256;
/// Records that memory is measured over, and the sizes of their bodies.
const WEIGHED: usize = 2_000;
pub(crate) const BODIES: [usize; 2] = [256, 4_096];

type Theirs = Peer<ValkeyStore>;
pub(crate) type Us = Ours<RedisStore>;

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let engine = Engine::new(plan)?;
    let mut outcomes = Vec::new();
    for work in [Work::Cycle, Work::Reserve, Work::Replay] {
        for callers in CALLERS {
            if plan.wants(work, callers) && (!plan.quick || SMOKE.contains(&(work, callers))) {
                outcomes.push(engine.race(work, callers)?);
            }
        }
    }
    let plots = vec![
        ("benchmarks-redis-cycle.svg", "Redis, cycles a second", vec![0, 1, 2, 3]),
        ("benchmarks-redis-reserve.svg", "Redis, reserves a second", vec![4, 5, 6, 7]),
        ("benchmarks-redis-replay.svg", "Redis, replays a second", vec![8, 9, 10, 11]),
    ];
    let remarks = vec![engine.weights()?];
    Ok(Section { id: "redis", title: "Redis", notes: engine.notes()?, outcomes, plots, remarks })
}

/// A server of its own, by TCP.
pub(crate) fn server_with(plan: &Plan) -> Result<Server, Failure> {
    let builder = Server::builder().inside(&plan.dir).tcp().setting("appendfsync", "everysec");
    // Within a round nobody rewrites the file: it would take the core that the callers have.
    Ok(builder.setting("auto-aof-rewrite-percentage", "0").start()?)
}

pub(crate) fn url(server: &Server) -> Result<String, Failure> {
    let address = server.tcp_address().ok_or("the server listens by TCP")?;
    Ok(server.url_by(address, 0))
}

struct Engine<'p> {
    plan: &'p Plan,
    server: Server,
    ours: Items<<Us as Contestant>::Item>,
    theirs: Items<<Theirs as Contestant>::Item>,
    bare: Items<<Bare as Contestant>::Item>,
}

impl<'p> Engine<'p> {
    fn new(plan: &'p Plan) -> Result<Self, Failure> {
        let server = server_with(plan)?;
        let fresh = (FRESH * plan.seconds).max(REPLAYED as f64) as u64;
        let engine = Self {
            plan,
            server,
            ours: Items::of_many::<Us>(fresh, REPLAYED)?,
            theirs: Items::of_many::<Theirs>(fresh, REPLAYED)?,
            bare: Items::of_many::<Bare>(fresh, REPLAYED)?,
        };
        Ok(engine)
    }

    fn race(&self, work: Work, callers: usize) -> Result<Outcome, Failure> {
        let goal = |id, at_least| (callers == 64).then_some(Goal { id, at_least });
        let (bare, peer) = match work {
            Work::Cycle => (goal("P6", 0.8), goal("P6", 1.4)),
            Work::Replay => (goal("P7", 0.8), None),
            Work::Reserve => (None, None),
        };
        let label = match work {
            Work::Cycle => "bare `SET NX GET PX`, and a script that compares and sets",
            Work::Reserve => "bare `SET NX GET PX`",
            Work::Replay => "bare `GET`",
        };
        let mut entrants = vec![
            Entrant::new("oncekey", Role::Ours, move || {
                self.round(&self.ours, work, callers, &async |url: &str| {
                    Ok(Us::new(RedisStore::connect(url).await?))
                })
            }),
            Entrant::new(label, Role::Limit, move || self.round(&self.bare, work, callers, &Bare::connect))
                .goal(bare),
        ];
        if work != Work::Cycle {
            let run = move || self.redis_benchmark(work, callers);
            entrants.push(Entrant::new("redis-benchmark, the same command", Role::Limit, run));
        }
        if work == Work::Replay {
            let run = move || self.first_replays(callers);
            entrants.push(Entrant::new("oncekey, of slots new to the store", Role::Limit, run));
        }
        let label = format!("idempotent {}, its Valkey store", machine::version("idempotent"));
        let run = move || self.round(&self.theirs, work, callers, &Theirs::connect);
        entrants.push(Entrant::new(label, Role::Peer, run).goal(peer));
        if self.plan.alone {
            entrants.truncate(1);
        }
        race(work, callers, self.plan.rounds, entrants)
    }

    /// On an empty server; for replays, on one that has what they ask for.
    fn round<C: Contestant>(
        &self,
        items: &Items<C::Item>,
        work: Work,
        callers: usize,
        connect: &impl AsyncFn(&str) -> Result<C, Failure>,
    ) -> Result<f64, Failure> {
        self.server.cli(["flushall"])?;
        let url = url(&self.server)?;
        runtime_with_io()?.block_on(async {
            let store = Arc::new(connect(&url).await?);
            if work == Work::Replay {
                drive(&store, items.of(work), 0, Work::Cycle, FILLERS, Span::Count(REPLAYED)).await?;
            }
            Ok(timed(self.plan, std::slice::from_ref(&store), items.of(work), work, callers).await?.rate())
        })
    }

    /// Of slots that another store completed, and theirs has not seen: once each, and then another store.
    fn first_replays(&self, callers: usize) -> Result<f64, Failure> {
        self.server.cli(["flushall"])?;
        let (url, items) = (url(&self.server)?, self.ours.of(Work::Replay));
        runtime_with_io()?.block_on(async {
            let store = || async { Ok::<_, Failure>(Arc::new(Us::new(RedisStore::connect(&url).await?))) };
            drive(&store().await?, items, 0, Work::Cycle, FILLERS, Span::Count(REPLAYED)).await?;
            let (mut done, mut took) = (0, Duration::ZERO);
            while took < self.plan.span() {
                let all = Span::Count(REPLAYED);
                let some = drive(&store().await?, items, 0, Work::Replay, callers, all).await?;
                (done, took) = (done + some.operations, took + some.took);
            }
            Ok(done as f64 / took.as_secs_f64())
        })
    }

    /// The server's own program, without a pipeline: each client waits for its answer.
    fn redis_benchmark(&self, work: Work, clients: usize) -> Result<f64, Failure> {
        self.server.cli(["flushall"])?;
        let address = self.server.tcp_address().ok_or("the server listens by TCP")?;
        let (port, count) = (address.port().to_string(), if self.plan.quick { 5_000 } else { 100_000 });
        let body = "x".repeat(BODY_BYTES + 150);
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", "127.0.0.1", "-p", &port, "--csv", "-c", &clients.to_string()]);
        // A lone client takes its time.
        command.args(["-n", &(if clients == 1 { count / 5 } else { count }).to_string()]);
        match work {
            Work::Replay => {
                self.server.cli(["set", "bare", &body])?;
                command.args(["get", "bare"]);
            }
            _ => {
                command.args([
                    "-r",
                    "1000000000",
                    "set",
                    "bare:__rand_int__",
                    &body[..150],
                    "nx",
                    "get",
                    "px",
                    "1000000",
                ]);
            }
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // "test","rps",..
        let line = said.lines().last().unwrap_or_default();
        let field =
            line.rsplit("\",\"").nth(6).ok_or_else(|| format!("redis-benchmark said no rate: {said}"))?;
        Ok(field.trim_matches('"').parse()?)
    }

    /// Bytes for a completed record, as the server counts them.
    fn weights(&self) -> Result<String, Failure> {
        let mut all = Vec::new();
        for body in BODIES {
            let url = url(&self.server)?;
            let ours = weigh(&self.server, self.plan, &async || {
                Ok(Us::new(RedisStore::connect(&url).await?).with_body(body))
            })?;
            let theirs =
                weigh(&self.server, self.plan, &async || Ok(Theirs::connect(&url).await?.with_body(body)))?;
            all.push(format!("with a response of {body} bytes {ours} bytes, and idempotent's {theirs}"));
        }
        Ok(format!(
            "A completed record takes, by `MEMORY USAGE` of its key, {}. Ours holds what the other's doesn't: token, \
             fence, attempt, three times, principal and key.",
            all.join("; ")
        ))
    }

    fn notes(&self) -> Result<Vec<String>, Failure> {
        let plan = self.plan;
        let info = self.server.cli(["info", "server"])?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").trim();
        Ok(vec![
            format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("redis")),
            format!(
                "Redis {version} on the same machine, by TCP, `appendonly yes`, `appendfsync everysec`, \
                 `auto-aof-rewrite-percentage 0`, on {}.",
                machine::file_system(&plan.dir)
            ),
            format!(
                "oncekey: `RedisStore::connect` with its defaults, through the trait `IdempotencyStore`. Peer: the \
                 `ValkeyStore` of idempotent {}. Limits: bare commands with the same bytes through one connection of \
                 the driver that ours uses, redis {}; and `redis-benchmark`, a connection a client, no pipeline.",
                machine::version("idempotent"),
                machine::version("redis")
            ),
            format!(
                "{} rounds of {} s an entrant, each on an empty server and after {} s uncounted; replays ask for \
                 {REPLAYED} completed slots.",
                plan.rounds,
                plan.seconds,
                plan.seconds / 4.0
            ),
        ])
    }
}

/// Bytes that a completed record takes.
pub(crate) fn weigh<C: Contestant>(
    server: &Server,
    plan: &Plan,
    connect: &impl AsyncFn() -> Result<C, Failure>,
) -> Result<u64, Failure> {
    server.cli(["flushall"])?;
    let count = if plan.quick { 200 } else { WEIGHED };
    let items = prepare::<C>(0..count as u64)?;
    runtime_with_io()?.block_on(async {
        let store = Arc::new(connect().await?);
        drive(&store, &items, 0, Work::Cycle, FILLERS.min(count), Span::Count(count)).await
    })?;
    let keys = server.cli(["--scan"])?;
    let sample: Vec<&str> = keys.lines().take(50).collect();
    let mut total = 0;
    for key in &sample {
        total += server.cli(["memory", "usage", key, "samples", "0"])?.parse::<u64>()?;
    }
    Ok(total / sample.len().max(1) as u64)
}
