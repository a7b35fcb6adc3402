//! What goes wrong, in which method, and how often: [`Fault`], [`Method`], [`Odds`].

use super::gate::Gate;
use crate::error::ErrorKind;

/// What happens to one call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It is not applied, and answers an error of this kind, whose effect is
    /// [`NotApplied`](crate::Effect::NotApplied).
    Refused(ErrorKind),
    /// It is applied, and its answer is lost: a timeout of [`Unknown`](crate::Effect::Unknown) effect.
    AnswerLost,
    /// It answers a timeout of unknown effect now, and is applied when the test says
    /// [`deliver_late`](super::Faulty::deliver_late). A method that only reads is never applied.
    Late,
    /// It is applied and answered now, and a copy of it is applied again by
    /// [`deliver_late`](super::Faulty::deliver_late).
    Ghost,
    /// It waits at the gate, then is applied and answered.
    Held(Gate),
    /// It is applied, then waits at the gate with its answer.
    AnswerHeld(Gate),
}

/// A method of [`IdempotencyStore`](crate::IdempotencyStore) or
/// [`IdempotencyAdmin`](crate::IdempotencyAdmin).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Method {
    /// `ensure_schema`
    EnsureSchema,
    /// `reserve_or_fetch`
    Reserve,
    /// `renew`
    Renew,
    /// `complete`
    Complete,
    /// `release`
    Release,
    /// `lookup`
    Lookup,
    /// `garbage_collect`
    GarbageCollect,
    /// `resolve`
    Resolve,
    /// `purge`
    Purge,
    /// `scan`
    Scan,
    /// `stats`
    Stats,
    /// `assess`
    Assess,
}

impl Method {
    /// Every method that may fail.
    pub const ALL: [Self; 12] = [
        Self::EnsureSchema,
        Self::Reserve,
        Self::Renew,
        Self::Complete,
        Self::Release,
        Self::Lookup,
        Self::GarbageCollect,
        Self::Resolve,
        Self::Purge,
        Self::Scan,
        Self::Stats,
        Self::Assess,
    ];

    /// The method's name in the trait, as errors say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EnsureSchema => "ensure_schema",
            Self::Reserve => "reserve_or_fetch",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Lookup => "lookup",
            Self::GarbageCollect => "garbage_collect",
            Self::Resolve => "resolve",
            Self::Purge => "purge",
            Self::Scan => "scan",
            Self::Stats => "stats",
            Self::Assess => "assess",
        }
    }
}

/// How often a call meets each fault: probabilities from 0 to 1, of which one is drawn for each call, so
/// that together they are at most 1.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Odds {
    refused: f64,
    answer_lost: f64,
    late: f64,
    ghost: f64,
}

impl Odds {
    /// No fault.
    pub fn none() -> Self {
        Self::default()
    }

    /// How often [`Fault::Refused`], as unavailable.
    #[must_use]
    pub fn refused(mut self, odds: f64) -> Self {
        self.refused = odds;
        self
    }

    /// How often [`Fault::AnswerLost`].
    #[must_use]
    pub fn answer_lost(mut self, odds: f64) -> Self {
        self.answer_lost = odds;
        self
    }

    /// How often [`Fault::Late`].
    #[must_use]
    pub fn late(mut self, odds: f64) -> Self {
        self.late = odds;
        self
    }

    /// How often [`Fault::Ghost`].
    #[must_use]
    pub fn ghost(mut self, odds: f64) -> Self {
        self.ghost = odds;
        self
    }

    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Option<Fault> {
        let faults = [
            (self.refused, Fault::Refused(ErrorKind::Unavailable)),
            (self.answer_lost, Fault::AnswerLost),
            (self.late, Fault::Late),
            (self.ghost, Fault::Ghost),
        ];
        let mut drawn = random.f64();
        for (odds, fault) in faults {
            if drawn < odds {
                return Some(fault);
            }
            drawn -= odds;
        }
        None
    }
}
