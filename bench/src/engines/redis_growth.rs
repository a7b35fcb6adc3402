//! Redis's part of P10: ten million records beside ten thousand, and whether what has expired goes as fast as it comes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::IdempotencyStore;
use oncekey_redis::RedisStore;
use oncekey_testbed::redis::Server;
use tokio::time::Instant;

use crate::engines::postgres::timed;
use crate::engines::postgres_growth::{NEW_A_SECOND, paced};
use crate::engines::redis::{Us, server_with, url};
use crate::load::{Failure, Span, Work, drive, prepare, runtime_with_io, scramble};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Role, race};
use crate::report::Section;
use crate::stats::rate;
use crate::stores::ours::Ours;

const CALLERS: usize = 64;
const FILLERS: usize = 256;
/// Records filled between two preparations.
const STRIDE: u64 = 500_000;
/// Fresh slots for a second of a round.
const FRESH: f64 = 100_000.0;
/// Completed slots that a store has seen when it is asked for them again.
const SEEN: u64 = 10_000;
/// How long a record lives, and its key at least, where the server is to keep pace.
const BRIEF: Duration = Duration::from_secs(1);
/// Fresh slots up to here are for the races, and those above for what expires.
const PACED: u64 = 1 << 36;

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let (small, large) = if plan.quick { (1_000, 20_000) } else { (10_000, 10_000_000) };
    let tables = [Table::start(plan, large)?, Table::start(plan, small)?];
    if [Work::Cycle, Work::Replay].iter().any(|work| plan.wants(*work, CALLERS)) {
        tables[0].fill()?;
    }
    let mut outcomes = Vec::new();
    let rounds: [(&str, Work, Round<'_>); 3] = [
        ("", Work::Cycle, Table::cycles),
        (", slots new to the store", Work::Replay, Table::first_replays),
        (", slots that the store has seen", Work::Replay, Table::replays),
    ];
    for (what, work, round) in rounds.into_iter().filter(|(_, work, _)| plan.wants(*work, CALLERS)) {
        let entrants = tables.iter().zip([Role::Ours, Role::Limit]).map(|(table, role)| {
            let goal = (role != Role::Ours).then_some(Goal { id: "P10", at_least: 0.7 });
            let label = format!("oncekey, {} records{what}", rate(table.records as f64));
            let mut number = 0;
            Entrant::new(label, role, move || {
                // A small table would soon not be small: each round has a new one.
                if role != Role::Ours {
                    table.fill()?;
                }
                number += 1;
                round(table, number)
            })
            .goal(goal)
        });
        outcomes.push(race(work, CALLERS, plan.rounds, entrants.collect())?);
    }
    let great = &tables[0];
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("redis")),
        format!(
            "A server that holds {} completed records with 256-byte responses, {} in its memory, beside one that holds {}; \
             {CALLERS} callers, {} rounds of {} s each, in turn. Replays ask \
             for slots spread over all, of a store made for the round: {} that nobody asked for before, each by the \
             script; and {} again and again, but for the first time by `GETEX`.",
            rate(large as f64),
            great.memory()?,
            rate(small as f64),
            plan.rounds,
            plan.seconds,
            rate(small as f64),
            rate(SEEN.min(small) as f64),
        ),
    ];
    let remarks = vec![Table::start(plan, large / 20)?.collect()?];
    let plots = vec![(
        "benchmarks-redis-growth.svg",
        "Redis, ten million records beside ten thousand",
        vec![0, 1, 2],
    )];
    Ok(Section { id: "redis-growth", title: "Redis, as it grows", notes, outcomes, plots, remarks })
}

/// A round of a race, the `n`th: its rate.
type Round<'p> = fn(&Table<'p>, u64) -> Result<f64, Failure>;

/// A server that holds completed records 0 .. `records`.
struct Table<'p> {
    plan: &'p Plan,
    server: Server,
    records: u64,
}

impl<'p> Table<'p> {
    fn start(plan: &'p Plan, records: u64) -> Result<Self, Failure> {
        Ok(Self { plan, server: server_with(plan)?, records })
    }

    /// Makes it hold its records and no others.
    fn fill(&self) -> Result<(), Failure> {
        self.server.cli(["flushall"])?;
        runtime_with_io()?.block_on(async {
            let store = self.store().await?;
            for first in (0..self.records).step_by(STRIDE as usize) {
                let items = prepare::<Us>(first..self.records.min(first + STRIDE))?;
                drive(&store, &items, 0, Work::Cycle, FILLERS, Span::Count(items.len())).await?;
            }
            Ok(())
        })
    }

    async fn store(&self) -> Result<Arc<Us>, Failure> {
        Ok(Arc::new(Ours::new(RedisStore::connect(&url(&self.server)?).await?)))
    }

    /// Of slots that no round before it took.
    fn cycles(&self, number: u64) -> Result<f64, Failure> {
        let fresh = (FRESH * self.plan.seconds) as u64;
        let first = self.records + number * fresh;
        let items = prepare::<Us>(first..first + fresh)?;
        runtime_with_io()?.block_on(async {
            let store = self.store().await?;
            Ok(timed(self.plan, std::slice::from_ref(&store), &items, Work::Cycle, CALLERS).await?.rate())
        })
    }

    /// So many slots, spread evenly over all and none twice; others for another `turn`, where there are others.
    fn spread(&self, turn: u64, count: u64) -> impl Iterator<Item = u64> {
        let step = self.records / count;
        (0..count).map(move |n| n * step + scramble(turn) % step)
    }

    /// Of slots that their store has not seen: so many at a time, and then another store.
    fn first_replays(&self, number: u64) -> Result<f64, Failure> {
        let count = SEEN.min(self.records);
        let (mut done, mut took, mut turn) = (0, Duration::ZERO, number << 32);
        while took < self.plan.span() {
            let items = prepare::<Us>(self.spread(turn, count))?;
            turn += 1;
            let some = runtime_with_io()?.block_on(async {
                drive(&self.store().await?, &items, 0, Work::Replay, CALLERS, Span::Count(items.len())).await
            })?;
            done += some.operations;
            took += some.took;
        }
        Ok(done as f64 / took.as_secs_f64())
    }

    /// Of the same slots again and again.
    fn replays(&self, number: u64) -> Result<f64, Failure> {
        let items = prepare::<Us>(self.spread(number << 32, SEEN.min(self.records)))?;
        runtime_with_io()?.block_on(async {
            let store = self.store().await?;
            drive(&store, &items, 0, Work::Replay, CALLERS, Span::Count(items.len())).await?;
            Ok(timed(self.plan, std::slice::from_ref(&store), &items, Work::Replay, CALLERS).await?.rate())
        })
    }

    fn memory(&self) -> Result<String, Failure> {
        let info = self.server.cli(["info", "memory"])?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory_human:"));
        Ok(used.unwrap_or("?").trim().to_owned())
    }

    fn keys(&self) -> Result<u64, Failure> {
        Ok(self.server.cli(["dbsize"])?.parse()?)
    }

    /// So many new records a second as are to be kept pace with, which expire soon, for so many seconds: how many a
    /// second there were, and the share of all keys that are of records that have expired.
    fn expires(&self, first: u64, seconds: u64) -> Result<(f64, f64), Failure> {
        let first = PACED + first;
        let items = prepare::<Us>(first..first + NEW_A_SECOND * seconds)?;
        let new = runtime_with_io()?.block_on(async {
            let store = RedisStore::builder().linger(BRIEF).connect(&url(&self.server)?).await?;
            paced(&Arc::new(Ours::kept_for(store, BRIEF)?), &items, Instant::now()).await
        })?;
        let keys = self.keys()?;
        let live = self.records + (new * BRIEF.as_secs_f64()) as u64;
        Ok((new, keys.saturating_sub(live) as f64 / keys.max(1) as f64))
    }

    /// Whether what has expired goes as fast as it comes.
    fn collect(&self) -> Result<String, Failure> {
        self.fill()?;
        let long = if self.plan.quick { 2 } else { 60 };
        let (new, by_itself) = self.expires(0, long)?;
        self.server.cli(["config", "set", "active-expire-effort", "10"])?;
        let (more, harder) = self.expires(1 << 32, long)?;
        self.server.cli(["config", "set", "active-expire-effort", "1"])?;
        self.expires(1 << 33, long / 2)?;
        let before = self.keys()?;
        let took = runtime_with_io()?.block_on(async {
            let store = RedisStore::connect(&url(&self.server)?).await?;
            let begun = Instant::now();
            store.garbage_collect(NonZeroU32::MAX).await?;
            Ok::<_, Failure>(begun.elapsed())
        })?;
        let gone = before.saturating_sub(self.keys()?) as f64 / took.as_secs_f64();
        let came = new.min(more) >= 0.98 * NEW_A_SECOND as f64;
        let verdict = |share: f64| if came && share <= 0.1 { "reached" } else { "**not reached**" };
        Ok(format!(
            "What has expired: Redis deletes it by itself, but finds it at random. On a server of {} records {} new ones came \
             a second that live for {} s. After {long} s {:.0} % of all keys were of records that had expired, and after \
             {long} s more with `active-expire-effort 10` {:.0} %. `garbage_collect`, which meets every key, freed {} a \
             second while nobody else worked. P10 asks that what expires goes as fast as {} records a second come, by \
             itself here, without a tenth of all keys being of such: {} with the default, {} with that effort.",
            rate(self.records as f64),
            rate(new.min(more)),
            BRIEF.as_secs(),
            by_itself * 100.0,
            harder * 100.0,
            rate(gone),
            rate(NEW_A_SECOND as f64),
            verdict(by_itself),
            verdict(harder),
        ))
    }
}
