//! Small random histories that the state machine itself made, and how to spoil them.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use std::time::Duration;

use fastrand::Rng;
use oncekey_conformance::history::{Call, Moment};
use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{
    Checkpoint, CompleteOutcome, Completion, Entry, Fence, Fingerprint, Grant, Loss, Policy, Renewal,
    ReservationOutcome, ReserveRequest, Resolution, Seen, StoredResponse, Terms, Timestamp, Token,
};

/// Everything lasts whole ticks of a millisecond, the shortest lease; clocks are read between them too.
pub const TICK: u64 = 1_000;
/// What the store's clock said when the history's time was zero.
pub const BASE: u64 = 5_000_000;

pub fn ticks(n: u64) -> Duration {
    Duration::from_micros(n * TICK)
}

/// The seed of `ONCEKEY_SEED`, or a drawn one.
pub fn seed() -> u64 {
    std::env::var("ONCEKEY_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 40))
}

/// Draws operations that have to do with what happened before.
#[derive(Debug)]
pub struct Drawer {
    pub rng: Rng,
    grants: Vec<Grant>,
    seen: Vec<Seen>,
    past: Vec<Operation>,
}

impl Drawer {
    pub fn new(rng: Rng) -> Self {
        Self { rng, grants: Vec::new(), seen: Vec::new(), past: Vec::new() }
    }

    pub fn token(&mut self) -> Token {
        Token::from_bytes([self.rng.u8(1..=3); 16])
    }

    fn grant(&mut self) -> Grant {
        let forged = Grant::new(self.token(), Fence::new(BASE), 1, Policy::TakeOver, None);
        let latest = self.grants.len().saturating_sub(if self.rng.bool() { 1 } else { 3 });
        let known = self.grants[latest..].to_vec();
        let mut grant = self.rng.choice(known).unwrap_or(forged);
        if self.rng.u8(..10) == 0 {
            grant.token = self.token();
        }
        grant
    }

    fn completion(&mut self) -> Completion {
        let response = StoredResponse::new(200, "", vec![b'x' + self.rng.u8(..2)]);
        let completion = Completion::new(response);
        match self.rng.u8(..4) {
            0 => completion.keep_for(ticks(self.rng.u64(1..4))).unwrap(),
            _ => completion,
        }
    }

    pub fn operation(&mut self) -> Operation {
        if !self.past.is_empty() && self.rng.u8(..6) == 0 {
            let past = self.rng.usize(..self.past.len());
            return self.past[past].clone();
        }
        let operation = match self.rng.u8(..20) {
            0..7 => {
                let policy = if self.rng.u8(..3) == 0 { Policy::Refuse } else { Policy::TakeOver };
                let least = u64::from(policy == Policy::Refuse);
                let (lease, retention) = (self.rng.u64(1..4), self.rng.u64(least..4));
                let meaning = if self.rng.u8(..10) == 0 { 2 } else { 1 };
                let terms = Terms::new(policy, ticks(lease), ticks(retention)).unwrap();
                let request = ReserveRequest::new(Fingerprint::from_bytes([meaning; 32]), terms);
                Operation::Reserve { token: self.token(), request }
            }
            7..11 => {
                let mut renewal = match self.rng.u8(..3) {
                    0 => Renewal::hand_over(),
                    _ => Renewal::extend(ticks(self.rng.u64(1..4))).unwrap(),
                };
                if self.rng.bool() {
                    let sequence = self.rng.u64(1..3);
                    renewal = renewal
                        .with_checkpoint(Checkpoint::new(sequence, vec![b'c' + self.rng.u8(..2)]).unwrap());
                }
                Operation::Renew { grant: self.grant(), renewal }
            }
            11..14 => Operation::Complete { grant: self.grant(), completion: self.completion() },
            14..16 => Operation::Release { grant: self.grant() },
            16..18 => Operation::Lookup,
            18 => {
                let forged = Seen { fence: self.grant().fence, lease_expires_at: Timestamp::ZERO };
                let known = self.seen.clone();
                let seen = self.rng.choice(known).unwrap_or(forged);
                let resolution = match self.rng.bool() {
                    true => Resolution::Complete(self.completion()),
                    false => Resolution::Release,
                };
                Operation::Resolve { seen, resolution }
            }
            _ => Operation::Purge { fence: self.grant().fence },
        };
        self.past.push(operation.clone());
        operation
    }

    /// What its caller heard.
    pub fn hear(&mut self, answer: &Answer) {
        match answer {
            Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))) => self.grants.push(grant.clone()),
            Answer::Lookup(Some(Entry::Pending(entry))) => self.seen.push(entry.seen()),
            _ => {}
        }
    }

    /// Another answer than `answer`, of the same operation.
    pub fn spoil(&mut self, answer: &Answer) -> Answer {
        use ReservationOutcome::{Conflict, InFlight, Indeterminate, Replay, Reserved};
        let by = Duration::from_micros(TICK * self.rng.u64(1..3));
        let mut spoilt = answer.clone();
        match &mut spoilt {
            Answer::Reserve(Ok(Reserved(grant))) => match self.rng.u8(..4) {
                0 => grant.attempt += 1,
                1 => grant.fence = Fence::new(grant.fence.get() - self.rng.u64(1..3) * TICK),
                2 => grant.checkpoint = Some(Checkpoint::new(9, "?").unwrap()),
                _ => return Answer::Reserve(Ok(InFlight(oncekey_core::InFlight::new(by)))),
            },
            Answer::Reserve(Ok(Replay(record)))
            | Answer::Complete(CompleteOutcome::AlreadyStored(record))
            | Answer::Lookup(Some(Entry::Completed(record))) => match self.rng.u8(..4) {
                0 => record.expires_at = record.expires_at + by,
                1 => record.completed_at = Timestamp::from_micros(record.completed_at.as_micros() - TICK),
                2 => record.response = StoredResponse::new(200, "", "another"),
                _ => record.attempt += 1,
            },
            Answer::Reserve(Ok(InFlight(busy))) => match self.rng.bool() {
                true => busy.retry_after += by,
                false => return Answer::Reserve(Ok(Conflict)),
            },
            Answer::Reserve(Ok(Indeterminate(lapsed))) => match self.rng.bool() {
                true => lapsed.lapsed_for = lapsed.lapsed_for.map_or(Some(by), |length| Some(length + by)),
                false => lapsed.attempt += 1,
            },
            Answer::Reserve(outcome) => *outcome = Ok(InFlight(oncekey_core::InFlight::new(by))),
            Answer::Renew(outcome) => {
                use oncekey_core::RenewOutcome::{Lost, Renewed};
                *outcome = match outcome {
                    Renewed(renewed) if self.rng.bool() => {
                        Renewed(oncekey_core::Renewed::new(renewed.lease_left + by, renewed.sequence))
                    }
                    Renewed(renewed) => {
                        Renewed(oncekey_core::Renewed::new(renewed.lease_left, renewed.sequence + 1))
                    }
                    Lost(Loss::Gone) => Lost(Loss::TakenOver),
                    _ => Lost(Loss::Gone),
                };
            }
            Answer::Complete(outcome) => {
                *outcome = match outcome {
                    CompleteOutcome::Stored => CompleteOutcome::Lost(Loss::TakenOver),
                    _ => CompleteOutcome::Stored,
                };
            }
            Answer::Release(outcome) => {
                use oncekey_core::ReleaseOutcome::{Lost, Released};
                *outcome = if *outcome == Released { Lost(Loss::Gone) } else { Released };
            }
            Answer::Lookup(Some(Entry::Pending(entry))) => match self.rng.u8(..3) {
                0 => entry.begun = !entry.begun,
                1 => entry.expires_at = entry.expires_at + by,
                _ => return Answer::Lookup(None),
            },
            Answer::Lookup(None) => {
                let (token, now) = (self.token(), Timestamp::from_micros(BASE));
                let terms = Terms::new(Policy::TakeOver, by, by).unwrap();
                let request = ReserveRequest::new(Fingerprint::from_bytes([1; 32]), terms);
                let step = state::reserve_or_fetch(None, token, &request, now);
                if let Change::Put(record) = step.change {
                    return Answer::Lookup(state::lookup(Some(&record), now));
                }
            }
            Answer::Resolve(outcome) => {
                use oncekey_core::ResolveOutcome::{Changed, Resolved};
                *outcome = if *outcome == Resolved { Changed } else { Resolved };
            }
            Answer::Purge(deleted) => *deleted = !*deleted,
        }
        spoilt
    }
}

pub fn apply(record: &mut Option<Record>, change: Change) {
    match change {
        Change::Keep => {}
        Change::Put(new) => *record = Some(new),
        Change::Delete => *record = None,
    }
}

/// A legal history of `n` calls that overlap: each takes effect at one reading of the clock, and its call
/// and answer lie around it. Some answers are lost, and some calls with them.
pub fn legal(drawer: &mut Drawer, n: usize) -> Vec<Call> {
    let mut now = 0;
    let clock: Vec<u64> = (0..n)
        .map(|_| {
            now += [0, 0, TICK / 4, TICK / 2, TICK, 2 * TICK][drawer.rng.usize(..6)];
            now
        })
        .collect();
    // The clock's bounds at a place in the order: what it said at the last step before, and at the next.
    let last = |place: u64| clock.get((place / 100).wrapping_sub(1) as usize).copied().unwrap_or(0);
    let next = |place: u64| clock.get((place / 100) as usize).copied().unwrap_or(now);
    // Whole ticks for the checker, whatever lies between.
    let floor = |time: u64| time / TICK * TICK;
    let ceil = |time: u64| time.div_ceil(TICK) * TICK;

    let mut record = None;
    let mut calls = Vec::new();
    for (index, &now) in clock.iter().enumerate() {
        let operation = drawer.operation();
        let place = 100 * (index as u64 + 1);
        let called = place.saturating_sub(drawer.rng.u64(1..300)) / 10 * 10 + index as u64;
        let answered = (place + drawer.rng.u64(10..300)) / 10 * 10 + index as u64;
        let (lost, happens) = (drawer.rng.u8(..6) == 0, drawer.rng.bool());
        let answer = (!lost || happens).then(|| {
            let step = state::step(record.as_ref(), &operation, Timestamp::from_micros(BASE + now));
            apply(&mut record, step.change);
            step.answer
        });
        let answer = answer.filter(|_| !lost);
        if let Some(answer) = &answer {
            drawer.hear(answer);
        }
        let moment = |order, time| Moment { order, time: Duration::from_micros(time) };
        let called = moment(called, floor(last(called)));
        let answered = answer.map(|answer| (moment(answered, ceil(next(answered))), answer));
        calls.push(Call { client: index, operation, called, answered });
    }
    calls
}
