//! The model: who may do what, in any order.
//!
//! An executor draws one token and reserves with it. Once it heard that it was granted the slot, it
//! renews, and then either works (under at-most-once only after it heard that a renewal arrived) or leaves
//! without having done anything. One that worked saves, completes and hands over, in any order; one that
//! left releases and hands over. Each of these calls is on its way from the moment it may be made, and
//! arrives at any later time, any number of times, or never; its answer may be lost each time. So late,
//! lost and repeated calls are all there, and so is an executor that crashes at any point.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use oncekey_core::state::Record;
use oncekey_core::{Checkpoint, Fence, Policy, Seen, StoredResponse, Timestamp, Token};

use crate::promises::Watch;

/// One tick of the model's clock.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Whose answer an operator stores.
pub(crate) const OPERATOR: usize = 9;

/// A call that an executor may have on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Reserve,
    Begin,
    Save,
    Complete,
    Release,
    HandOver,
}

/// What one executor knows and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Executor {
    pub(crate) asks: Policy,
    /// What it was granted, once it heard of it.
    pub(crate) held: Option<Held>,
    pub(crate) stage: Stage,
}

/// How far an executor has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// It has heard of no grant.
    Asked,
    /// It holds a grant, or believes that it does, and has done nothing yet.
    Holds,
    /// The same, under at-most-once, and it has heard that its renewal arrived: it may be about to work.
    Begun,
    /// It did some of the work, or all.
    Worked,
    /// It gave up without having done anything.
    Left,
}

impl Stage {
    /// The calls that may be on their way.
    pub(crate) fn calls(self) -> &'static [Call] {
        match self {
            Self::Asked => &[Call::Reserve],
            Self::Holds | Self::Begun => &[Call::Reserve, Call::Begin],
            Self::Worked => &[Call::Reserve, Call::Begin, Call::Save, Call::Complete, Call::HandOver],
            Self::Left => &[Call::Reserve, Call::Begin, Call::Release, Call::HandOver],
        }
    }
}

/// A grant as its executor heard it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) fence: Fence,
    /// The policy that the answer told.
    pub(crate) told: Policy,
    pub(crate) inherited: u64,
    /// Which life of the record it is of, and that life's policy: the search's knowledge, not its own.
    pub(crate) life: u8,
    pub(crate) policy: Policy,
}

impl Executor {
    /// Whether it makes something of `call`'s answer.
    pub(crate) fn listens(&self, call: Call) -> bool {
        match (call, self.held) {
            (Call::Reserve, None) => true,
            (Call::Begin, Some(held)) => self.stage == Stage::Holds && held.told == Policy::Refuse,
            _ => false,
        }
    }

    pub(crate) fn may_work(&self) -> bool {
        let told = self.held.map(|held| held.told);
        self.stage == Stage::Begun || (self.stage == Stage::Holds && told == Some(Policy::TakeOver))
    }
}

/// A state of the model.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct World {
    pub(crate) now: u8,
    pub(crate) steps_back: u8,
    pub(crate) record: Option<Record>,
    pub(crate) executors: Vec<Executor>,
    /// What the operator saw, and is about to do.
    pub(crate) looked: Option<(Seen, bool)>,
    pub(crate) watch: Watch,
}

/// A step of the model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Action {
    Work(usize),
    Leave(usize),
    /// A call arrives; its answer is lost.
    Arrive(usize, Call),
    /// A call arrives, and its answer is heard.
    Answer(usize, Call),
    /// The operator sees a lapsed record, and means to complete it (or to release it).
    Look {
        complete: bool,
    },
    Resolve,
    Collect,
    Tick,
    StepBack,
}

pub(crate) fn at(tick: u8) -> Timestamp {
    Timestamp::ZERO + TICK * u32::from(tick)
}

pub(crate) fn token(executor: usize) -> Token {
    Token::from_bytes([u8::try_from(executor).unwrap() + 1; 16])
}

/// The answer that an executor, or the operator, stores.
pub(crate) fn response(by: usize) -> StoredResponse {
    StoredResponse::new(u16::try_from(by).unwrap(), "", "")
}

/// What a state is to the search. Two states with the same hash are taken for the same, so this leaves out
/// what no step depends on: the names of executors that ask for the same (they are sorted, and what names
/// one of them, such as the record's token, is a mark on it), the numbers of fences, lives and checkpoints
/// beside their order, and when the record was made.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let record_fence = self.record.as_ref().map(Record::fence);
        let sequence = match &self.record {
            Some(Record::Pending(p)) => p.checkpoint.as_ref().map_or(0, Checkpoint::sequence),
            _ => 0,
        };
        let mut words = [u64::MAX; 4];
        for (i, (word, e)) in words.iter_mut().zip(&self.executors).enumerate() {
            let (owns, answers) = match &self.record {
                Some(Record::Pending(p)) => (p.token == token(i), false),
                Some(Record::Completed(c)) => (c.token == token(i), c.record.response == response(i)),
                Some(Record::Released(r)) => (r.token == token(i), false),
                None => (false, false),
            };
            let flags = [e.asks == Policy::Refuse, owns, answers];
            *word = flags.iter().fold(e.stage as u64, |word, &flag| word << 1 | u64::from(flag));
            *word = *word << 8 | self.watch.marks(i);
            if let Some(h) = &e.held {
                let flags =
                    [h.told == Policy::Refuse, h.policy == Policy::Refuse, record_fence == Some(h.fence)];
                *word = flags.iter().fold(*word, |word, &flag| word << 1 | u64::from(flag));
                let earlier =
                    self.executors.iter().filter(|o| o.held.is_some_and(|o| o.fence < h.fence)).count();
                *word = *word << 3 | earlier as u64;
                *word = *word << 4 | self.watch.age(h.life);
                *word = *word << 8 | (sequence.wrapping_sub(h.inherited) & 0xff);
            }
        }
        words.sort_unstable();
        words.hash(hasher);
        match &self.record {
            None => 0_u8.hash(hasher),
            Some(Record::Pending(p)) => {
                let refuse = p.policy == Policy::Refuse;
                (1_u8, p.attempt.min(3), p.begun, refuse, p.lease_expires_at, p.expires_at).hash(hasher);
            }
            Some(Record::Completed(c)) => {
                (2_u8, c.record.response == response(OPERATOR), c.record.expires_at).hash(hasher);
            }
            Some(Record::Released(r)) => (3_u8, r.expires_at).hash(hasher),
        }
        (self.now, self.steps_back, self.looked).hash(hasher);
        self.watch.hash(record_fence, sequence, hasher);
    }
}
