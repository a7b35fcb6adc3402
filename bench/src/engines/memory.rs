//! In memory: P8.

use std::sync::Arc;

use oncekey_core::MemoryStore;

use crate::load::{Contestant, Failure, Span, Work, drive, prepare, runtime};
use crate::machine;
use crate::plan::Plan;
use crate::race::{Entrant, Goal, Outcome, Role, race};
use crate::report::Section;
use crate::stores::{idempotent, ours::Ours};

const TASKS: usize = 64;
/// Each store starts empty and takes so many records, so that both grow alike.
const RECORDS: usize = 64 * 4_000;
/// Replays, over a thousand completed slots.
const REPLAYS: usize = 64 * 16_000;
const REPLAYED: u64 = 1_000;

pub(crate) fn measure(plan: &Plan) -> Result<Section, Failure> {
    let peer = format!("idempotent {}", machine::version("idempotent"));
    let p8 = Some(Goal { id: "P8", at_least: 2.0 });
    let works = [(Work::Cycle, RECORDS, RECORDS as u64, p8), (Work::Replay, REPLAYS, REPLAYED, None)];
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (work, count, slots, goal) in works.into_iter().filter(|(work, ..)| plan.wants(*work, TASKS)) {
        let count = if plan.quick { count / 20 } else { count };
        let ours = prepare::<Ours<MemoryStore>>(0..slots)?;
        let theirs = prepare::<idempotent::Peer<idempotent::InMemory>>(0..slots)?;
        let entrants = vec![
            Entrant::new("oncekey", Role::Ours, || {
                // Room for all: being full isn't what is measured.
                round(|| Ours::new(MemoryStore::builder().capacity(2 * RECORDS).build()), &ours, work, count)
            }),
            Entrant::new(&peer, Role::Peer, || round(idempotent::Peer::new, &theirs, work, count)).goal(goal),
        ];
        outcomes.push(race(work, TASKS, plan.rounds, entrants)?);
    }
    let notes = vec![
        format!("{}. {}. `{}`", machine::today(), machine::describe(), plan.command("memory")),
        format!(
            "oncekey: `MemoryStore`, through the trait `IdempotencyStore`. Peer: `MemoryStore` of {peer}, used as its README does, with a channel of 1 024 and no sweep within a round."
        ),
        format!(
            "{TASKS} tasks on 2 threads; {} rounds, each on an empty store that takes {RECORDS} cycles, or on {REPLAYED} completed slots that are asked {REPLAYS} times.",
            plan.rounds
        ),
    ];
    let remarks = vec![
        "`idempotent`'s store is a task that its callers reach through a channel: what it costs is mostly the waiting.".to_owned(),
    ];
    let plots = vec![("benchmarks-memory.svg", "In memory, operations a second", vec![0, 1])];
    Ok(Section { id: "memory", title: "In memory", notes, outcomes, plots, remarks })
}

/// One round on a store of its own.
fn round<C: Contestant>(
    open: impl FnOnce() -> C,
    items: &Arc<[C::Item]>,
    work: Work,
    count: usize,
) -> Result<f64, Failure> {
    runtime()?.block_on(async {
        let store = Arc::new(open());
        if work == Work::Replay {
            drive(&store, items, 0, Work::Cycle, TASKS, Span::Count(items.len())).await?;
        }
        Ok(drive(&store, items, 0, work, TASKS, Span::Count(count)).await?.rate())
    })
}
