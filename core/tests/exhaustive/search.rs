//! The search: every order of what may happen, within bounds.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use oncekey_core::state::{Answer, Change, Operation, Record, Step};
use oncekey_core::{
    Checkpoint, Completion, Entry, Fingerprint, Grant, Policy, RenewOutcome, Renewal, ReservationOutcome,
    ReserveRequest, Resolution, Seen, Terms, Timestamp,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::cells::cell;
use crate::promises::{Delivery, Watch};
use crate::world::{Action, Call, Executor, Held, OPERATOR, Stage, TICK, World, at, response, token};

/// The state machine under search: `state::step`, or one that lacks a rule.
pub(crate) type StepFn = fn(Option<&Record>, &Operation, Timestamp) -> Step<Answer>;

/// A renewal that begins holds for two ticks; a reserve, and a renewal that saves, for one: so a late
/// call asks for less than what another has acknowledged.
const BEGIN_LEASE: u32 = 2;

/// The bounds of a search, and the machine under it.
#[derive(Debug)]
pub(crate) struct Search {
    /// An executor each, asking for this policy.
    pub(crate) executors: &'static [Policy],
    /// The last tick of the clock; it starts at 1.
    pub(crate) horizon: u8,
    /// How often the clock may step back by a tick.
    pub(crate) steps_back: u8,
    /// Whether an operator may look once, and resolve what it saw.
    pub(crate) operator: bool,
    /// Whether holders save a second checkpoint, under a shorter lease.
    pub(crate) saves: bool,
    /// The retention that executors ask for, in ticks.
    pub(crate) retention: u32,
    /// Ticks that a completion asks to be kept for (C5).
    pub(crate) keep_for: Option<u32>,
    /// The machine.
    pub(crate) step: StepFn,
    /// The promise that the search wants to see broken; none: it ends at any that is.
    pub(crate) seeks: Option<&'static str>,
    /// Which cells of the contract's tables were reached.
    pub(crate) reached: Mutex<BTreeSet<&'static str>>,
}

impl Search {
    fn request(&self, policy: Policy, meaning: u8) -> ReserveRequest {
        let terms = Terms::new(policy, TICK, TICK * self.retention).unwrap();
        ReserveRequest::new(Fingerprint::from_bytes([meaning; 32]), terms)
    }

    fn operation(&self, world: &World, i: usize, call: Call) -> Option<Operation> {
        let e = &world.executors[i];
        if call == Call::Reserve {
            return Some(Operation::Reserve { token: token(i), request: self.request(e.asks, 0) });
        }
        let held = e.held?;
        let grant = Grant::new(token(i), held.fence, 1, held.told, None);
        let saved =
            |lease, n| Renewal::extend(lease).map(|r| r.with_checkpoint(checkpoint(held.inherited + n)));
        Some(match call {
            Call::Reserve => return None,
            Call::Begin => Operation::Renew { grant, renewal: saved(TICK * BEGIN_LEASE, 1).ok()? },
            Call::Save => Operation::Renew { grant, renewal: saved(TICK, 2).ok()? },
            Call::HandOver => Operation::Renew { grant, renewal: Renewal::hand_over() },
            Call::Complete => Operation::Complete { grant, completion: self.completion(i) },
            Call::Release => Operation::Release { grant },
        })
    }

    fn completion(&self, by: usize) -> Completion {
        let completion = Completion::new(response(by));
        match self.keep_for {
            Some(ticks) => completion.keep_for(TICK * ticks).unwrap(),
            None => completion,
        }
    }

    /// `operation` arrives: the record changes, and every promise is checked. None for the world where it
    /// stays as it is. Also the answer.
    fn arrive(&self, world: &World, who: usize, operation: &Operation) -> (Option<World>, Answer) {
        let now = at(world.now);
        let Step { change, answer } = (self.step)(world.record.as_ref(), operation, now);
        let after = applied(world.record.as_ref(), &change);
        let repeat = (after != world.record.as_ref()).then(|| {
            let again = (self.step)(after, operation, now);
            (applied(after, &again.change) == after, again.answer)
        });
        let changed = repeat.is_some();
        let kept_for = TICK * self.keep_for.unwrap_or(self.retention);
        let delivery = Delivery { who, operation, answer: &answer, before: world, after, repeat, kept_for };
        if let Some(cell) = cell(&delivery) {
            self.reached.lock().unwrap().insert(cell);
        }
        let mut watch = world.watch;
        watch.arrived(&delivery);
        if !changed && watch == world.watch {
            return (None, answer);
        }
        let (record, executors) = (after.cloned(), world.executors.clone());
        let mut next = World { record, executors, watch, ..*world };
        self.ask_as_a_stranger(&mut next);
        (Some(next), answer)
    }

    /// R2: another request under the same key, even with the holder's own token.
    fn ask_as_a_stranger(&self, world: &mut World) {
        let holder = match &world.record {
            Some(Record::Pending(p)) => p.token,
            Some(Record::Completed(c)) => c.token,
            Some(Record::Released(_)) | None => return,
        };
        if world.record.as_ref().is_some_and(|r| r.is_expired(at(world.now))) {
            return;
        }
        let operation = Operation::Reserve { token: holder, request: self.request(Policy::TakeOver, 1) };
        let step = (self.step)(world.record.as_ref(), &operation, at(world.now));
        let conflict = step.answer == Answer::Reserve(Ok(ReservationOutcome::Conflict));
        world.watch.stranger(conflict && step.change == Change::Keep);
    }

    /// What executor `i` makes of the answer; none where hearing it changes nothing.
    fn hear(world: &mut World, i: usize, call: Call, answer: &Answer) -> Option<()> {
        let (life, policy) = world.watch.life();
        let e = &mut world.executors[i];
        match (call, answer) {
            (Call::Reserve, Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)))) => {
                let inherited = grant.checkpoint.as_ref().map_or(0, Checkpoint::sequence);
                e.held = Some(Held { fence: grant.fence, told: grant.policy, inherited, life, policy });
                e.stage = Stage::Holds;
                Some(())
            }
            (Call::Begin, Answer::Renew(RenewOutcome::Renewed(_))) => {
                e.stage = Stage::Begun;
                Some(())
            }
            _ => None,
        }
    }

    fn resolve(&self, seen: Seen, complete: bool) -> Operation {
        let resolution = match complete {
            true => Resolution::Complete(self.completion(OPERATOR)),
            false => Resolution::Release,
        };
        Operation::Resolve { seen, resolution }
    }

    fn lapsed(&self, world: &World) -> Option<Seen> {
        match (self.step)(world.record.as_ref(), &Operation::Lookup, at(world.now)).answer {
            Answer::Lookup(Some(Entry::Pending(entry))) if entry.is_lapsed() => Some(entry.seen()),
            _ => None,
        }
    }

    /// The whole search, or until a promise is broken.
    pub(crate) fn run(self, name: &str) -> Outcome {
        let begun = Instant::now();
        let checker = self.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let (states, seconds) = (checker.unique_state_count(), begun.elapsed().as_secs_f32());
        let broken = checker.discoveries().remove("every promise is kept").map(|path| {
            let mut story = String::new();
            let mut last = None;
            for (world, action) in path.into_vec() {
                if let Some(action) = action {
                    story.push_str(&checker.model().tell(&world, action));
                }
                last = Some(world);
            }
            (last.and_then(|world| world.watch.broken).unwrap_or("none"), story)
        });
        let reached = checker.model().reached.lock().unwrap().clone();
        println!("{name}: {states} states in {seconds:.1} s");
        Outcome { reached, broken }
    }

    /// One line of a story.
    fn tell(&self, world: &World, action: Action) -> String {
        let arrived = match action {
            Action::Arrive(i, call) | Action::Answer(i, call) => {
                self.operation(world, i, call).map(|operation| self.arrive(world, i, &operation).1)
            }
            Action::Resolve => {
                let (seen, complete) = world.looked.unwrap();
                Some(self.arrive(world, OPERATOR, &self.resolve(seen, complete)).1)
            }
            _ => None,
        };
        let answer = arrived.map_or(String::new(), |answer| format!(" -> {answer:?}"));
        format!("  tick {} {action:?}{answer}\n", world.now)
    }
}

/// How a search ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reached: BTreeSet<&'static str>,
    /// The promise that was broken, and the story that broke it.
    pub(crate) broken: Option<(&'static str, String)>,
}

fn applied<'a>(record: Option<&'a Record>, change: &'a Change) -> Option<&'a Record> {
    match change {
        Change::Keep => record,
        Change::Put(record) => Some(record),
        Change::Delete => None,
    }
}

fn checkpoint(sequence: u64) -> Checkpoint {
    Checkpoint::new(sequence, "").unwrap()
}

impl Model for Search {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let idle = |&asks| Executor { asks, held: None, stage: Stage::Asked };
        vec![World {
            now: 1,
            steps_back: 0,
            record: None,
            executors: self.executors.iter().map(idle).collect(),
            looked: None,
            watch: Watch::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.watch.broken.is_some() || world.watch.beyond {
            return;
        }
        for (i, e) in world.executors.iter().enumerate() {
            for &call in e.stage.calls().iter().filter(|&&call| self.saves || call != Call::Save) {
                actions.push(Action::Arrive(i, call));
                if e.listens(call) {
                    actions.push(Action::Answer(i, call));
                }
            }
            if e.may_work() {
                actions.push(Action::Work(i));
            }
            if matches!(e.stage, Stage::Holds | Stage::Begun) {
                actions.push(Action::Leave(i));
            }
        }
        if self.operator && world.looked.is_none() {
            actions.extend([Action::Look { complete: true }, Action::Look { complete: false }]);
        }
        if world.looked.is_some() {
            actions.push(Action::Resolve);
        }
        actions.extend([Action::Collect, Action::Tick, Action::StepBack]);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = match action {
            Action::Arrive(i, call) => return self.arrive(world, i, &self.operation(world, i, call)?).0,
            Action::Resolve => {
                let (seen, complete) = world.looked?;
                return self.arrive(world, OPERATOR, &self.resolve(seen, complete)).0;
            }
            Action::Answer(i, call) => {
                let (next, answer) = self.arrive(world, i, &self.operation(world, i, call)?);
                let mut next = next.unwrap_or_else(|| world.clone());
                Self::hear(&mut next, i, call, &answer)?;
                return Some(next);
            }
            _ => world.clone(),
        };
        match action {
            Action::Work(i) => {
                next.executors[i].stage = Stage::Worked;
                next.watch.works(i, &next.executors);
            }
            Action::Leave(i) => next.executors[i].stage = Stage::Left,
            Action::Look { complete } => next.looked = Some((self.lapsed(world)?, complete)),
            Action::Collect => {
                let expired = next.record.take_if(|r| r.is_expired(at(world.now)))?;
                next.watch.collected(&expired);
                self.reached.lock().unwrap().insert("G1");
            }
            Action::Tick if world.now < self.horizon => {
                next.now += 1;
                next.watch.ticked(next.now);
                self.ask_as_a_stranger(&mut next);
            }
            Action::StepBack if world.steps_back < self.steps_back && world.now > 1 => {
                next.now -= 1;
                next.steps_back += 1;
            }
            _ => return None,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let kept = |search: &Self, world: &World| {
            let sought = |broken| search.seeks.is_none_or(|promise| promise == broken);
            !world.watch.broken.is_some_and(sought)
        };
        vec![Property::always("every promise is kept", kept)]
    }
}
