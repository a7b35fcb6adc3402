//! Plays a story twice: to the store, and to the state machine on a clock of the same time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::state::{self, Operation};
use oncekey_core::{
    Checkpoint, Completion, Entry, Fence, Fingerprint, Grant, IdempotencyAdmin, Policy, Principal, Renewal,
    ReserveRequest, Resolution, StoredResponse, Terms, Timestamp, Token,
};

use super::place::{Place, Right};
use super::step::{Deed, Pick, SLOTS, Step, TOKENS};
use super::timeline::{Line, Told};
use crate::case::{Context, Failure};
use crate::history::names::seconds;
use crate::history::recorder::perform;
use crate::history::time::StoreTime;

/// How far the store's clock may be from the model's, and its sums from the state machine's: far below the
/// leases, and above what a busy machine takes between two instructions.
const SLACK: Duration = Duration::from_millis(500);
/// In all of a story, the clock steps back by less than from any grant to its deletion, or S4 promises
/// nothing.
const MOST_BACK: Duration = Duration::from_secs(15);

/// A store, and the model's idea of its clock.
#[derive(Debug)]
pub(super) struct Stage {
    store: Arc<dyn IdempotencyAdmin>,
    time: StoreTime,
    /// What the store's clock said when `time` was zero, in microseconds.
    base: i64,
    seed: u64,
    stories: u64,
}

impl Stage {
    pub(super) async fn new(context: &Context) -> Result<Self, Failure> {
        let store = context.namespace.client().map_err(|e| Failure(format!("no client: {e}")))?;
        let time = StoreTime::new(context.namespace.time().clone());
        let mut stage = Self { store, time, base: 0, seed: context.seed, stories: 0 };
        stage.set_the_clock().await?;
        Ok(stage)
    }

    /// Learns from a first record's `created_at` what the store's clock says: of three tries the quickest.
    async fn set_the_clock(&mut self) -> Result<(), Failure> {
        let mut best = i64::MAX;
        for attempt in 0..3 {
            let slot = Principal::new("clock")?.slot(format!("{attempt}"))?;
            let request = ReserveRequest::new(Fingerprint::from_bytes([0; 32]), Terms::default());
            let before = self.time.least();
            let _granted = self.store.reserve_or_fetch(&slot, Token::fresh(), &request).await?;
            let after = self.time.most();
            match self.store.lookup(&slot).await? {
                Some(Entry::Pending(entry)) if after - before < best => {
                    best = after - before;
                    self.base = signed(entry.created_at.as_micros()) - before.midpoint(after);
                }
                Some(Entry::Pending(_)) => {}
                other => return Err(Failure(format!("expected what was just reserved, saw {other:?}"))),
            }
        }
        Ok(())
    }

    /// Plays the story on fresh slots; fails with its timeline.
    pub(super) async fn play(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.stories += 1;
        let mut places = Vec::new();
        for place in 0..SLOTS {
            let slot = Principal::new("model")?.slot(format!("story-{}-{place}", self.stories))?;
            places.push(Place::new(slot));
        }
        let (mut told, mut back) = (Told::default(), Duration::ZERO);
        let began = self.time.least();
        for (number, step) in steps.iter().enumerate() {
            let at = self.time.least() - began;
            let mut tell = |what| told.lines.push(Line::Else { at, what });
            match step.deed {
                Deed::Advance(by) => {
                    self.time.advance(by)?;
                    tell(format!("the clock moves on by {}", seconds(by)));
                }
                Deed::Rewind(by) => {
                    let now = self.now(self.time.most(), SLACK);
                    // What had expired might live again, or might not.
                    let promised = |place: &Place| place.record.as_ref().is_none_or(|r| !r.is_expired(now));
                    if back + by <= MOST_BACK && places.iter().all(promised) {
                        back += by;
                        self.time.rewind(by)?;
                        tell(format!("the clock steps back by {}", seconds(by)));
                    }
                }
                Deed::Collect { limit } => {
                    let most = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
                    let deleted = self.store.garbage_collect(most).await;
                    tell(format!("garbage collection of {limit}: {}", words(&deleted)));
                    if !matches!(deleted, Ok(n) if n <= u64::from(limit)) {
                        return Err(Failure(told.timeline()));
                    }
                    places.iter_mut().for_each(|place| place.swept = true);
                }
                _ => {
                    let place = &mut places[step.slot];
                    let Some(operation) = self.operation(place, number, step.deed)? else { continue };
                    self.call(place, step.slot, at, operation, &mut told).await?;
                }
            }
        }
        Ok(())
    }

    /// The store's clock, by the model's reckoning.
    fn now(&self, time: i64, later: Duration) -> Timestamp {
        let micros = self.base.saturating_add(time).saturating_add(signed(state::micros_of(later)));
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    fn token(&self, token: usize) -> Token {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seed.to_be_bytes());
        bytes[8..].copy_from_slice(&(self.stories * TOKENS as u64 + token as u64).to_be_bytes());
        Token::from_bytes(bytes)
    }

    /// The operation that a step means here; none where it means nothing.
    fn operation(&self, place: &Place, number: usize, deed: Deed) -> Result<Option<Operation>, Failure> {
        let save = |renewal: Renewal, checkpoint: Option<u64>| match checkpoint {
            Some(sequence) => {
                Ok::<_, Failure>(renewal.with_checkpoint(Checkpoint::new(sequence, format!("{number}"))?))
            }
            None => Ok(renewal),
        };
        let completion = |keep_for: Option<Duration>| {
            let completion = Completion::new(StoredResponse::new(200, "", format!("answer {number}")));
            match keep_for {
                Some(retention) => completion.keep_for(retention),
                None => Ok(completion),
            }
        };
        Ok(Some(match deed {
            Deed::Reserve { token, meaning, policy, lease, retention } => {
                let terms = Terms::new(policy, lease, retention)?;
                let request = ReserveRequest::new(Fingerprint::from_bytes([meaning; 32]), terms);
                Operation::Reserve { token: self.token(token), request }
            }
            Deed::Renew { grant, lease, checkpoint } => {
                let renewal = save(Renewal::extend(lease)?, checkpoint)?;
                Operation::Renew { grant: self.grant(place, grant), renewal }
            }
            Deed::HandOver { grant, checkpoint } => {
                let renewal = save(Renewal::hand_over(), checkpoint)?;
                Operation::Renew { grant: self.grant(place, grant), renewal }
            }
            Deed::Complete { grant, keep_for } => {
                let completion = completion(keep_for)?;
                Operation::Complete { grant: self.grant(place, grant), completion }
            }
            Deed::Release { grant } => Operation::Release { grant: self.grant(place, grant) },
            Deed::Lookup => Operation::Lookup,
            Deed::Resolve { seen, complete } => {
                let Some(seen) = place.seen.iter().rev().nth(seen) else { return Ok(None) };
                let resolution = match complete {
                    Some(keep_for) => Resolution::Complete(completion(keep_for)?),
                    None => Resolution::Release,
                };
                Operation::Resolve { seen: *seen, resolution }
            }
            Deed::Purge { grant } => Operation::Purge { fence: self.grant(place, grant).fence },
            Deed::Collect { .. } | Deed::Advance(_) | Deed::Rewind(_) => return Ok(None),
        }))
    }

    /// A grant of the slot, or one that nobody was given.
    fn grant(&self, place: &Place, pick: Pick) -> Grant {
        let known = place.grants.iter().rev().nth(pick.age).or(place.grants.first());
        let nobodys = || Grant::new(self.token(0), Fence::new(1), 1, Policy::TakeOver, None);
        let mut grant = known.cloned().unwrap_or_else(nobodys);
        if let Some(token) = pick.token {
            grant.token = self.token(token);
        }
        grant
    }

    /// Makes one call, and compares its answer with the state machine's.
    async fn call(
        &self,
        place: &mut Place,
        slot: usize,
        at: i64,
        operation: Operation,
        told: &mut Told,
    ) -> Result<(), Failure> {
        let before = self.time.least();
        let answer = perform(&*self.store, &place.slot, &operation).await;
        let after = self.time.most();
        told.names.meet(&operation, answer.as_ref().ok());
        // The middle of the call, and, should a lease or a record end about then, a little earlier or later.
        let nows = [
            self.now(before.midpoint(after), Duration::ZERO),
            self.now(after, SLACK),
            self.now(before - signed(state::micros_of(SLACK)), Duration::ZERO),
        ];
        let took = Duration::from_micros(u64::try_from(after - before).unwrap_or(0));
        let mut expected = None;
        if let Ok(seen) = &answer {
            for now in nows {
                match place.after(&operation, seen, now, took + SLACK + SLACK) {
                    Ok(next) => {
                        *place = next;
                        expected = None;
                        break;
                    }
                    Err(right) => expected = expected.or(Some(right)),
                }
            }
        } else {
            let right = state::step(place.record.as_ref(), &operation, nows[0]).answer;
            expected = Some(Box::new(Right { answer: right, fence_above: None }));
        }
        let expected = expected.map(|right| {
            let above =
                right.fence_above.map_or(String::new(), |_| ", under a larger fence than before".to_owned());
            told.names.answer(&right.answer) + &above
        });
        let wrong = expected.is_some();
        let seen = answer.map(Box::new).map_err(|e| format!("the error {}", Failure::from_error(&e).0));
        told.lines.push(Line::Call { at, slot, operation: Box::new(operation), seen, expected });
        if wrong { Err(Failure(told.timeline())) } else { Ok(()) }
    }
}

fn words(deleted: &Result<u64, oncekey_core::StoreError>) -> String {
    match deleted {
        Ok(count) => format!("{count} deleted"),
        Err(error) => format!("the error {error}"),
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}
