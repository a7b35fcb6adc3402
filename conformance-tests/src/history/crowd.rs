//! Concurrent clients that do anything at all to a few slots: [`Crowd`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use oncekey_core::state::{Answer, Operation};
use oncekey_core::{
    Checkpoint, Completion, Entry, Fingerprint, Grant, IdempotencyAdmin, InvalidInput, Policy, Principal,
    Renewal, ReservationOutcome, ReserveRequest, Resolution, Seen, Slot, StoredResponse, Terms, Token,
};
use std::num::NonZeroU32;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::call::Tolerance;
use super::recorder::{Recorder, Watch, within_turns};
use super::search::{BUDGET, Verdict, check};
use super::time::StoreTime;
use crate::case::{Context, Failure};

const CLIENTS: usize = 4;
const ROUNDS: usize = 40;
/// Each client makes so many calls a round, each together with the others'.
const BEATS: usize = 6;
const SLOTS: usize = 2;

/// What the clients of a crowd do beside reserve, renew, complete, release and look up.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Crowd {
    /// The store's clock jumps forward meanwhile.
    pub(super) moves_time: bool,
    /// Some calls are dropped on the way.
    pub(super) drops: bool,
    /// Old calls, anybody's, arrive again.
    pub(super) ghosts: bool,
    /// Operators resolve and purge.
    pub(super) operators: bool,
}

/// A slot and what its clients may know of it.
#[derive(Debug)]
struct Place {
    slot: Slot,
    recorder: Recorder,
    tokens: [Token; 3],
    policy: Policy,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    grants: Vec<Grant>,
    seen: Vec<Seen>,
    past: Vec<Operation>,
}

enum Deed {
    Call(Operation),
    Collect,
    Advance(Duration),
}

impl Crowd {
    /// Some rounds on fresh slots, each checked.
    pub(super) async fn run(self, context: Context) -> Result<(), Failure> {
        let watch = Arc::new(Watch::new(StoreTime::new(context.namespace.time().clone())));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(context.namespace.client().map_err(|e| Failure(format!("no client: {e}")))?);
        }
        for round in 0..ROUNDS {
            let places = self.round(&context, round, &watch, &clients).await;
            let at = |failure: Failure| Failure(format!("seed {}, round {round}: {failure}", context.seed));
            for place in places.map_err(at)?.iter() {
                verdict(place).map_err(at)?;
            }
        }
        Ok(())
    }

    async fn round(
        self,
        context: &Context,
        round: usize,
        watch: &Arc<Watch>,
        clients: &[Arc<dyn IdempotencyAdmin>],
    ) -> Result<Arc<[Place]>, Failure> {
        let mut rng = Rng::with_seed(context.seed.wrapping_add(round as u64));
        let crowd = Principal::new("crowd")?;
        let mut places = Vec::new();
        for place in 0..SLOTS {
            let slot = crowd.slot(format!("round-{round}-{place}"))?;
            let tokens = std::array::from_fn(|_| Token::from_bytes(rng.u128(..).to_be_bytes()));
            let policy = if rng.u8(..3) == 0 { Policy::Refuse } else { Policy::TakeOver };
            let (recorder, known) = (Recorder::default(), Mutex::default());
            places.push(Place { slot, recorder, tokens, policy, known });
        }
        let places: Arc<[Place]> = places.into();
        let barrier = Arc::new(Barrier::new(CLIENTS));
        let mut tasks = JoinSet::new();
        for (number, store) in clients.iter().enumerate() {
            let client = Client {
                number,
                crowd: self,
                rng: rng.fork(),
                watch: Arc::clone(watch),
                store: Arc::clone(store),
                places: Arc::clone(&places),
            };
            tasks.spawn(client.run(Arc::clone(&barrier)));
        }
        let mut failed = None;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => failed = failed.or(result.err()),
                // The others wait for it at the barrier.
                Err(e) => return Err(Failure(format!("a client's call panicked: {e}"))),
            }
        }
        failed.map_or(Ok(places), Err)
    }
}

fn verdict(place: &Place) -> Result<(), Failure> {
    let calls = place.recorder.calls();
    match check(&calls, Tolerance::COARSE, BUDGET) {
        Verdict::Legal => Ok(()),
        Verdict::Illegal(why) => Err(Failure(format!("slot {}: {why}", place.slot.key()))),
        Verdict::Undecided { states } => Err(Failure(format!(
            "slot {}: no verdict on {} calls after {states} states, so nothing is known: run it again",
            place.slot.key(),
            calls.len(),
        ))),
    }
}

struct Client {
    number: usize,
    crowd: Crowd,
    rng: Rng,
    watch: Arc<Watch>,
    store: Arc<dyn IdempotencyAdmin>,
    places: Arc<[Place]>,
}

impl Client {
    /// It goes on after a failure, or the others would wait for it at the barrier for ever.
    async fn run(mut self, barrier: Arc<Barrier>) -> Result<(), Failure> {
        let mut result = Ok(());
        for beat in 0..BEATS {
            barrier.wait().await;
            result = result.and(self.beat(beat).await);
        }
        result
    }

    async fn beat(&mut self, beat: usize) -> Result<(), Failure> {
        let places = Arc::clone(&self.places);
        let place = &places[self.rng.usize(..places.len())];
        match self.draw(place, beat)? {
            Deed::Advance(by) => self.watch.time.advance(by),
            Deed::Collect => {
                let limit = NonZeroU32::MIN.saturating_add(self.rng.u32(..100));
                let _deleted = self.store.garbage_collect(limit).await?;
                Ok(())
            }
            Deed::Call(operation) => {
                let turns =
                    if self.crowd.drops && self.rng.u8(..8) == 0 { self.rng.u32(1..4) } else { u32::MAX };
                let store = &*self.store;
                let call = place.recorder.call(&self.watch, self.number, store, &place.slot, &operation);
                // A store that is well answers: an error here is a fault of its own (S7).
                let heard =
                    if turns == u32::MAX { Some(call.await) } else { within_turns(turns, call).await };
                if let Some(answer) = heard {
                    place.hear(&answer?);
                }
                Ok(())
            }
        }
    }

    fn draw(&mut self, place: &Place, beat: usize) -> Result<Deed, InvalidInput> {
        let (rng, crowd) = (&mut self.rng, self.crowd);
        let known = place.known.lock().unwrap_or_else(PoisonError::into_inner);
        if crowd.moves_time && rng.u8(..7) == 0 {
            return Ok(Deed::Advance(seconds(rng, &[7, 7, 27, 27, 70, 700])));
        }
        if rng.u8(..30) == 0 {
            return Ok(Deed::Collect);
        }
        if crowd.ghosts
            && rng.u8(..4) == 0
            && let Some(past) = rng.choice(&known.past)
        {
            return Ok(Deed::Call(past.clone()));
        }
        // Mostly the latest grant, sometimes an old one; before there is any, somebody reserves.
        let latest = known.grants.len().saturating_sub(if rng.u8(..3) == 0 { 3 } else { 1 });
        let grant = rng.choice(&known.grants[latest..]).cloned();
        let response = |number: usize| StoredResponse::new(200, "", format!("answer {number}.{beat}"));
        let completion = |rng: &mut Rng| match rng.u8(..4) {
            0 => Completion::new(response(self.number)).keep_for(seconds(rng, &[50, 500])),
            _ => Ok(Completion::new(response(self.number))),
        };
        let operation = match (rng.u8(..20), grant) {
            (0..3, _) => Operation::Lookup,
            (3..7, Some(grant)) => {
                let mut renewal = match rng.u8(..4) {
                    0 => Renewal::hand_over(),
                    _ => Renewal::extend(seconds(rng, &[20, 60]))?,
                };
                if rng.bool() {
                    renewal = renewal.with_checkpoint(Checkpoint::new(rng.u64(1..4), format!("{beat}"))?);
                }
                Operation::Renew { grant, renewal }
            }
            (7..11, Some(grant)) => Operation::Complete { grant, completion: completion(rng)? },
            (11..13, Some(grant)) => Operation::Release { grant },
            (13, Some(grant)) if crowd.operators => Operation::Purge { fence: grant.fence },
            (14..16, _) if crowd.operators && !known.seen.is_empty() => {
                let seen = known.seen[rng.usize(..known.seen.len())];
                let resolution = match rng.bool() {
                    true => Resolution::Complete(completion(rng)?),
                    false => Resolution::Release,
                };
                Operation::Resolve { seen, resolution }
            }
            _ => {
                let token = place.tokens[rng.usize(..place.tokens.len())];
                let policy = match (place.policy, rng.u8(..8)) {
                    (Policy::Refuse, 1..) | (Policy::TakeOver, 0) => Policy::Refuse,
                    _ => Policy::TakeOver,
                };
                let terms = Terms::new(policy, seconds(rng, &[20, 60]), seconds(rng, &[40, 400]))?;
                let meaning = if rng.u8(..12) == 0 { 2 } else { 1 };
                let request = ReserveRequest::new(Fingerprint::from_bytes([meaning; 32]), terms);
                Operation::Reserve { token, request }
            }
        };
        drop(known);
        place.known.lock().unwrap_or_else(PoisonError::into_inner).past.push(operation.clone());
        Ok(Deed::Call(operation))
    }
}

impl Place {
    fn hear(&self, answer: &Answer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) => known.grants.push(grant.clone()),
            Answer::Lookup(Some(Entry::Pending(entry))) => known.seen.push(entry.seen()),
            _ => {}
        }
    }
}

/// One of these. Leases, retentions and jumps have no sum in common that is soon reached, so that a lease's
/// end is seldom near a call.
fn seconds(rng: &mut Rng, choices: &[u64]) -> Duration {
    Duration::from_secs(rng.choice(choices).copied().unwrap_or(1))
}
