//! What the contract promises, checked at each step of the search against what the store may not know:
//! who was told what, and until when.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use oncekey_core::state::{Answer, Operation, Record};
use oncekey_core::{
    Checkpoint, CompleteOutcome, Fence, Grant, Policy, ReleaseOutcome, RenewOutcome, ReservationOutcome,
    Resolution, ResolveOutcome, Timestamp,
};

use crate::world::{Executor, OPERATOR, Stage, World, at, response};

pub(crate) const S1: &str = "S1: a grant while another's lease ran";
pub(crate) const S2: &str = "S2: an old grant changed the record";
pub(crate) const S3: &str = "S3: a second response, or another than was stored";
pub(crate) const S4: &str = "S4: a later grant without a larger fence";
pub(crate) const S6: &str = "S6: the same call, made again at once, had a second effect";
pub(crate) const KEPT: &str = "C1, C2, C5: an answer was forgotten before its retention ended";
pub(crate) const CONFLICT: &str = "R2: another request was not a conflict, or changed the record";
pub(crate) const SPENT: &str = "R11: a released token was granted again";
pub(crate) const AT_MOST_ONCE: &str = "Refuse: two executors worked";
pub(crate) const DOUBT: &str = "L2, R5: attempt 1, though a predecessor may have done something";
pub(crate) const CHECKPOINT: &str = "W1: an acknowledged checkpoint was lost";
pub(crate) const LAPSED: &str = "States: what lapsed at once came to life by itself";
pub(crate) const BLOCKED: &str = "R5, W4: blocked by a holder that never began, or stepped back before";
pub(crate) const OPERATOR_BLIND: &str = "O1: an operator settled a live lease, or what it had not seen";
pub(crate) const NEVER: &str = "States: it left Pending and never expires, or a live lease outlives it";

/// One arrival of one call.
pub(crate) struct Delivery<'a> {
    /// Which executor's call, or the operator's.
    pub(crate) who: usize,
    pub(crate) operation: &'a Operation,
    pub(crate) answer: &'a Answer,
    pub(crate) before: &'a World,
    /// The record afterwards.
    pub(crate) after: Option<&'a Record>,
    /// If it changed the record: the same call at once again, whether that left the record as it is, and
    /// what it answered.
    pub(crate) repeat: Option<(bool, Answer)>,
    /// How long a completion is to be kept.
    pub(crate) kept_for: Duration,
}

impl Delivery<'_> {
    pub(crate) fn changed(&self) -> bool {
        self.repeat.is_some()
    }

    pub(crate) fn now(&self) -> Timestamp {
        at(self.before.now)
    }

    /// The record that it found, unless that had expired.
    pub(crate) fn shown(&self) -> Option<&Record> {
        self.before.record.as_ref().filter(|r| !r.is_expired(self.now()))
    }

    fn grant(&self) -> Option<&Grant> {
        match self.operation {
            Operation::Renew { grant, .. }
            | Operation::Complete { grant, .. }
            | Operation::Release { grant } => Some(grant),
            _ => None,
        }
    }
}

/// What the promises rest on, at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Watch {
    /// The promise that was broken.
    pub(crate) broken: Option<&'static str>,
    latest: Option<Latest>,
    /// How many lives the record has begun.
    lives: u8,
    /// The policy of the present life is `Refuse`.
    refuse: bool,
    /// The present life ended in a way that lets doubt go: by expiry, or by an operator.
    doubt_is_over: bool,
    /// Whose answer is stored in this life.
    stored_by: Option<usize>,
    /// Until when it has to be kept; none once that moment came.
    kept_until: Option<Timestamp>,
    /// The highest sequence of a checkpoint that this life acknowledged.
    saved: u64,
    /// Whose token was released last, while the record remembers it.
    spent: Option<usize>,
    /// Once the record is deleted: the ticks from the last grant to the deletion. While the clock has
    /// stepped back less than that in all, fences still rise.
    deleted_after: Option<u8>,
    /// The clock stepped back so far that a new grant can't be told from an old one of the same executor:
    /// nothing is promised from here on.
    pub(crate) beyond: bool,
}

/// The last grant.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Latest {
    who: usize,
    fence: Fence,
    /// The ticks since.
    age: u8,
    /// The latest end of its lease that was acknowledged.
    end: Timestamp,
    /// The lease came to its end, or the holder gave it up, or it was settled.
    over: bool,
    /// Handed over, or released in doubt, and not renewed since.
    stepped_back: bool,
    /// It stepped back before it began, under `Refuse`.
    never_began: bool,
}

impl Watch {
    /// The present life, and its policy.
    pub(crate) fn life(&self) -> (u8, Policy) {
        (self.lives, if self.refuse { Policy::Refuse } else { Policy::TakeOver })
    }

    fn must(&mut self, kept: bool, promise: &'static str) {
        if !kept {
            self.broken.get_or_insert(promise);
        }
    }

    pub(crate) fn stranger(&mut self, conflict: bool) {
        self.must(conflict, CONFLICT);
    }

    pub(crate) fn ticked(&mut self, now: u8) {
        if let Some(latest) = &mut self.latest {
            latest.over |= latest.end <= at(now);
            // Once the record is deleted, only `deleted_after` counts.
            latest.age += u8::from(self.deleted_after.is_none());
        }
        self.kept_until = self.kept_until.filter(|&until| until > at(now));
    }

    /// An expired record was deleted.
    pub(crate) fn collected(&mut self, record: &Record) {
        self.spent = None;
        self.expired(record);
        self.deleted_after = self.latest.map(|l| l.age);
    }

    /// A life that ends by expiry takes its doubt along, unless it is an at-most-once one that nobody
    /// settled.
    fn expired(&mut self, record: &Record) {
        match record {
            Record::Pending(_) => self.doubt_is_over |= !self.refuse,
            Record::Completed(_) => self.doubt_is_over = true,
            Record::Released(_) => {}
        }
    }

    /// Executor `i` does some of the work.
    pub(crate) fn works(&mut self, i: usize, executors: &[Executor]) {
        let Some(held) = executors[i].held else { return };
        let other = executors.iter().enumerate().any(|(j, e)| {
            j != i
                && e.stage == Stage::Worked
                && e.held.is_some_and(|h| h.life == held.life && h.policy == Policy::Refuse)
        });
        self.must(!other, AT_MOST_ONCE);
    }

    pub(crate) fn arrived(&mut self, d: &Delivery<'_>) {
        if let Some((same, answer)) = &d.repeat {
            let answers_alike = match (d.answer, answer) {
                (Answer::Reserve(Ok(first)), Answer::Reserve(Ok(second))) => first == second,
                (Answer::Complete(_), Answer::Complete(second)) => {
                    matches!(second, CompleteOutcome::AlreadyStored(_))
                }
                (Answer::Release(first), Answer::Release(second)) => first == second,
                (Answer::Resolve(_), Answer::Resolve(second)) => *second == ResolveOutcome::AlreadyDone,
                _ => true,
            };
            self.must(*same && answers_alike, S6);
        }
        if let Some(grant) = d.grant().filter(|_| d.changed()) {
            let latest = self.latest.is_some_and(|l| l.who == d.who && l.fence == grant.fence);
            self.must(latest, S2);
        }
        match d.answer {
            Answer::Reserve(Ok(outcome)) => self.reserved(outcome, d),
            Answer::Renew(RenewOutcome::Renewed(renewed)) => {
                self.saved = self.saved.max(renewed.sequence);
                self.renewed(d);
            }
            Answer::Complete(CompleteOutcome::Stored) => self.stored(d),
            Answer::Complete(CompleteOutcome::AlreadyStored(record)) => {
                let by = self.stored_by.map(response);
                self.must(by.as_ref() == Some(&record.response), S3);
            }
            Answer::Release(ReleaseOutcome::Released) if d.changed() => {
                self.gave_up(d);
                let free = !matches!(d.after, Some(Record::Pending(_)));
                self.spent = free.then_some(d.who);
            }
            Answer::Resolve(ResolveOutcome::Resolved) => self.resolved(d),
            _ => {}
        }
        let ends = match d.after {
            Some(Record::Pending(p)) => p.expires_at >= p.lease_expires_at + p.retention,
            Some(record) => record.expires_at() < Timestamp::NEVER,
            None => true,
        };
        self.must(ends, NEVER);
    }

    fn reserved(&mut self, outcome: &ReservationOutcome, d: &Delivery<'_>) {
        match outcome {
            ReservationOutcome::Reserved(grant) => {
                // A repeat of the grant, or another, which may look the same beyond S4's promise.
                let repeated = matches!(d.shown(), Some(Record::Pending(p))
                    if p.token == grant.token && p.fence == grant.fence);
                if !repeated {
                    self.granted(grant, d);
                }
                self.extended(d);
                let sequence = grant.checkpoint.as_ref().map_or(0, Checkpoint::sequence);
                self.must(sequence >= self.saved, CHECKPOINT);
            }
            ReservationOutcome::Replay(record) => {
                let by = self.stored_by.map(response);
                self.must(by.as_ref() == Some(&record.response), S3);
            }
            ReservationOutcome::InFlight(_) => {
                self.must(self.latest.is_some_and(|l| !l.stepped_back), LAPSED);
            }
            ReservationOutcome::Indeterminate(lapsed) if self.refuse => {
                // Whoever heard of its grant may have sent a renewal.
                let began = |e: &Executor| e.held.is_some_and(|h| h.fence == lapsed.fence);
                let somebody = d.before.executors.iter().any(began);
                self.must(somebody && self.latest.is_some_and(|l| !l.never_began), BLOCKED);
            }
            ReservationOutcome::Indeterminate(_) | ReservationOutcome::Conflict => {}
        }
    }

    /// A new grant: R1 or R5.
    fn granted(&mut self, grant: &Grant, d: &Delivery<'_>) {
        if let Some(last) = self.latest {
            self.must(last.over, S1);
            // A fence may run ahead of a clock that stepped back before it was given, so every step back
            // counts.
            let promised = self.deleted_after.is_none_or(|ticks| d.before.steps_back < ticks);
            self.must(grant.fence > last.fence || !promised, S4);
            let held = d.before.executors.get(d.who).and_then(|e| e.held);
            self.beyond = held.is_some_and(|h| h.fence == grant.fence);
        }
        self.must(self.kept_until.is_none(), KEPT);
        self.must(self.spent != Some(d.who) || d.shown().is_none(), SPENT);
        let new_life = grant.attempt == 1;
        if new_life {
            if let Some(record) = d.before.record.as_ref().filter(|r| r.is_expired(d.now())) {
                self.expired(record);
            }
            // Under at-most-once, whoever heard that it began may be about to work.
            let doubtful = |e: &Executor| {
                let may_have = e.stage == Stage::Worked || (self.refuse && e.stage == Stage::Begun);
                e.held.is_some_and(|h| h.life == self.lives && may_have)
            };
            let doubt = self.lives > 0 && d.before.executors.iter().any(doubtful);
            self.must(self.doubt_is_over || !doubt, DOUBT);
            self.lives += 1;
            self.refuse = matches!(d.after, Some(Record::Pending(p)) if p.policy == Policy::Refuse);
            (self.doubt_is_over, self.stored_by, self.saved) = (false, None, 0);
        }
        (self.spent, self.deleted_after) = (None, None);
        self.latest = Some(Latest {
            who: d.who,
            fence: grant.fence,
            age: 0,
            end: Timestamp::ZERO,
            over: true,
            stepped_back: false,
            never_began: false,
        });
    }

    /// The holder's lease was extended: by its grant, the grant's repeat, or a renewal.
    fn extended(&mut self, d: &Delivery<'_>) {
        let lease = match d.operation {
            Operation::Reserve { request, .. } => request.terms.lease(),
            Operation::Renew { renewal, .. } => renewal.lease().unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if let Some(latest) = &mut self.latest {
            let end = d.now() + lease;
            latest.end = if latest.over { end } else { latest.end.max(end) };
            (latest.over, latest.stepped_back) = (false, false);
        }
    }

    fn renewed(&mut self, d: &Delivery<'_>) {
        match d.operation {
            Operation::Renew { renewal, .. } if renewal.lease().is_none() => {
                let began = match &d.before.record {
                    Some(Record::Pending(p)) => p.begun,
                    _ => false,
                };
                self.gave_up(d);
                let refuse = self.refuse;
                self.latest.iter_mut().for_each(|l| l.never_began |= refuse && !began);
            }
            _ => self.extended(d),
        }
    }

    fn gave_up(&mut self, d: &Delivery<'_>) {
        let pending = matches!(d.after, Some(Record::Pending(_)));
        if let Some(latest) = &mut self.latest {
            (latest.over, latest.stepped_back) = (true, pending);
        }
    }

    fn resolved(&mut self, d: &Delivery<'_>) {
        let Operation::Resolve { seen, resolution } = d.operation else { return };
        let as_seen = matches!(d.shown(), Some(Record::Pending(p))
            if p.fence == seen.fence && p.lease_expires_at == seen.lease_expires_at);
        self.must(as_seen && self.latest.is_some_and(|l| l.over), OPERATOR_BLIND);
        match resolution {
            Resolution::Complete(_) => self.stored(d),
            Resolution::Release => {
                self.latest.iter_mut().for_each(|l| l.over = true);
                self.doubt_is_over = true;
            }
        }
    }

    fn stored(&mut self, d: &Delivery<'_>) {
        self.must(self.stored_by.is_none(), S3);
        self.stored_by = Some(d.who);
        self.kept_until = Some(d.now() + d.kept_for);
        self.latest.iter_mut().for_each(|l| l.over = true);
    }

    /// What names executor `i`, as marks: for hashing a state without its executors' names.
    pub(crate) fn marks(&self, i: usize) -> u64 {
        let marks =
            [self.latest.is_some_and(|l| l.who == i), self.stored_by == Some(i), self.spent == Some(i)];
        marks.iter().fold(0, |word, &mark| word << 1 | u64::from(mark))
    }

    /// How many lives ago.
    pub(crate) fn age(&self, life: u8) -> u64 {
        u64::from(self.lives - life)
    }

    /// Without the names of executors, and without what no step depends on.
    pub(crate) fn hash<H: Hasher>(&self, record: Option<Fence>, sequence: u64, hasher: &mut H) {
        if let Some(l) = &self.latest {
            let end = if l.over { Timestamp::ZERO } else { l.end };
            (Some(l.fence) == record, l.fence, l.age, end, l.over, l.stepped_back, l.never_began)
                .hash(hasher);
        }
        (self.broken, self.beyond, self.lives == 0, self.refuse, self.doubt_is_over).hash(hasher);
        let saved = self.saved.wrapping_sub(sequence);
        (self.stored_by == Some(OPERATOR), self.kept_until, saved, self.deleted_after).hash(hasher);
    }
}
