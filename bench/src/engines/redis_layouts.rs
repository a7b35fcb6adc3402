//! What a slot costs Redis by its layout, in the server's own time and in bytes: figures that a decision was made by, for
//! docs/decisions. Nothing here has a goal.

use std::sync::Arc;

use oncekey_redis::RedisStore;
use oncekey_testbed::redis::Server;

use crate::engines::redis::{BODIES, Us, server_with, url, weigh};
use crate::load::{Contestant, Failure, Span, Work, drive, prepare, runtime_with_io};
use crate::machine;
use crate::plan::Plan;
use crate::report::Section;
use crate::stats::Spread;
use crate::stores::redis_layouts::{Laid, Layout};

const CALLERS: usize = 64;
/// Slots of a round.
const SLOTS: u64 = 20_000;

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let layouts = Layouts { plan, server: server_with(plan)?, slots: if plan.quick { 500 } else { SLOTS } };
    let ours = async |url: &str, body| Ok(Us::new(RedisStore::connect(url).await?).with_body(body));
    let laid = |layout| {
        async move |url: &str, body| Ok::<_, Failure>(Laid::connect(url, layout).await?.with_body(body))
    };
    let (hash, split) = (laid(Layout::Hash), laid(Layout::Split));
    let mut times = [Times::default(), Times::default(), Times::default()];
    for _ in 0..plan.rounds {
        times[0].add(layouts.round(&ours)?);
        times[1].add(layouts.round(&hash)?);
        times[2].add(layouts.round(&split)?);
    }
    let bytes = [layouts.bytes(&ours)?, layouts.bytes(&hash)?, layouts.bytes(&split)?];
    let names =
        ["one packed string, as it is", "a hash, a field each", "a hash of two: packed, and the body"];
    let mut table = format!(
        "| layout | reserve, µs | complete, µs | replay, µs | bytes at {} B | at {} B |\n| --- | ---: | ---: | ---: | \
         ---: | ---: |",
        BODIES[0], BODIES[1]
    );
    for ((name, times), bytes) in names.iter().zip(&times).zip(bytes) {
        let [reserve, complete, replay] = times.0.each_ref().map(|figures| told(figures));
        table += &format!("\n| {name} | {reserve} | {complete} | {replay} | {} | {} |", bytes[0], bytes[1]);
    }
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("redis --layouts")),
        format!(
            "The server's own time in a script (`INFO commandstats`), by {CALLERS} callers, responses of {} bytes: medians \
             of {} rounds of {} slots, least and most. A completion's is that of reserving and completing less that of \
             reserving. Bytes of a completed record by `MEMORY USAGE .. SAMPLES 0`.",
            BODIES[0], plan.rounds, layouts.slots
        ),
    ];
    let (outcomes, plots) = (vec![], vec![]);
    Ok(Section { id: "redis-layouts", title: "Redis, layouts", notes, outcomes, plots, remarks: vec![table] })
}

/// Microseconds of a reserve, a completion and a replay, a figure each round.
#[derive(Default)]
struct Times([Vec<f64>; 3]);

impl Times {
    fn add(&mut self, round: [f64; 3]) {
        self.0.iter_mut().zip(round).for_each(|(figures, figure)| figures.push(figure));
    }
}

fn told(figures: &[f64]) -> String {
    Spread::of(figures)
        .map_or_else(|| "?".to_owned(), |of| format!("{:.1} ({:.1} .. {:.1})", of.median, of.least, of.most))
}

struct Layouts<'p> {
    plan: &'p Plan,
    server: Server,
    slots: u64,
}

impl Layouts<'_> {
    fn round<C: Contestant>(
        &self,
        connect: &impl AsyncFn(&str, usize) -> Result<C, Failure>,
    ) -> Result<[f64; 3], Failure> {
        let (url, items) = (url(&self.server)?, prepare::<C>(0..self.slots)?);
        let spent = |work: Work| -> Result<f64, Failure> {
            if work != Work::Replay {
                self.server.cli(["flushall"])?;
            }
            runtime_with_io()?.block_on(async {
                // A new store each time: ours asks for what it has seen completed by no script.
                let store = Arc::new(connect(&url, BODIES[0]).await?);
                self.server.cli(["config", "resetstat"])?;
                drive(&store, &items, 0, work, CALLERS, Span::Count(items.len())).await
            })?;
            self.in_scripts()
        };
        let (reserve, cycle, replay) = (spent(Work::Reserve)?, spent(Work::Cycle)?, spent(Work::Replay)?);
        let each = |micros: f64| micros / self.slots as f64;
        Ok([each(reserve), each(cycle - reserve), each(replay)])
    }

    /// Microseconds that the server was in scripts, since it was told to count anew.
    fn in_scripts(&self) -> Result<f64, Failure> {
        let said = self.server.cli(["info", "commandstats"])?;
        let micros = |line: &str| -> Option<f64> {
            let rest =
                line.strip_prefix("cmdstat_evalsha:").or_else(|| line.strip_prefix("cmdstat_eval:"))?;
            rest.split(',').find_map(|field| field.strip_prefix("usec="))?.parse().ok()
        };
        let all: Vec<f64> = said.lines().filter_map(micros).collect();
        if all.is_empty() { Err(format!("no script ran: {said}").into()) } else { Ok(all.iter().sum()) }
    }

    fn bytes<C: Contestant>(
        &self,
        connect: &impl AsyncFn(&str, usize) -> Result<C, Failure>,
    ) -> Result<[u64; 2], Failure> {
        let url = url(&self.server)?;
        let of = |body| weigh(&self.server, self.plan, &async || connect(&url, body).await);
        Ok([of(BODIES[0])?, of(BODIES[1])?])
    }
}
