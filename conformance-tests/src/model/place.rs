//! One slot in a story, as the state machine has it: [`Place`].

use std::time::Duration;

use oncekey_core::state::{self, Answer, Change, Operation, Record};
use oncekey_core::{CompleteOutcome, Entry, Fence, Grant, ReservationOutcome, Seen, Slot, Timestamp};

use super::meet::{Leeway, with_choices};

/// One slot in a story.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Slot,
    pub(super) record: Option<Record>,
    /// An answer has shown the record's moments since it was written.
    pub(super) shown: bool,
    /// The last fence, where the next is promised to be larger (S4).
    pub(super) last: Option<Fence>,
    /// The last grant was kept for no time beyond its lease: S4 doesn't hold once it has expired.
    pub(super) frail: bool,
    /// A garbage collection ran: what has expired may be gone.
    pub(super) swept: bool,
    pub(super) grants: Vec<Grant>,
    pub(super) seen: Vec<Seen>,
}

/// What would have been right.
pub(super) struct Right {
    pub(super) answer: Answer,
    /// A new grant's fence is too small.
    pub(super) fence_above: Option<Fence>,
}

impl Place {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            record: None,
            shown: false,
            last: None,
            frail: false,
            swept: false,
            grants: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// The slot after a call that the store answered with `seen`, if that is right when its clock says
    /// `now`.
    pub(super) fn after(
        &self,
        operation: &Operation,
        seen: &Answer,
        now: Timestamp,
        time: Duration,
    ) -> Result<Self, Box<Right>> {
        let expired = self.record.as_ref().is_some_and(|record| record.is_expired(now));
        let step = state::step(self.record.as_ref(), operation, now);
        let mut record = self.record.clone();
        let written = step.change != Change::Keep;
        match step.change {
            Change::Keep => {}
            Change::Put(new) => record = Some(new),
            Change::Delete => record = None,
        }
        // S4, where it holds.
        let forgotten = expired && self.frail;
        let last = self.last.filter(|_| !forgotten).unwrap_or(Fence::new(0));
        let is_new = matches!((&record, &self.record), (Some(new), old)
            if old.as_ref().is_none_or(|old| old.fence() != new.fence()));
        let leeway = Leeway { time, shown: self.shown, grants_above: is_new.then_some(last) };
        let answer = with_choices(&step.answer, seen, &mut record, leeway);
        // An expired record may have been deleted before (G1).
        let collected =
            expired && self.swept && matches!((&answer, seen), (Answer::Purge(true), Answer::Purge(false)));
        if answer != *seen && !collected {
            let fence_above = match (&answer, seen) {
                (
                    Answer::Reserve(Ok(ReservationOutcome::Reserved(right))),
                    Answer::Reserve(Ok(ReservationOutcome::Reserved(seen))),
                ) => {
                    is_new.then_some(last).filter(|last| seen.fence <= *last && right.attempt == seen.attempt)
                }
                _ => None,
            };
            return Err(Box::new(Right { answer, fence_above }));
        }
        let mut next = Self {
            slot: self.slot.clone(),
            record,
            shown: self.shown && !written,
            last: self.last,
            frail: self.frail,
            swept: self.swept && !is_new,
            grants: self.grants.clone(),
            seen: self.seen.clone(),
        };
        if written && let Some(Record::Pending(held)) = &next.record {
            // The new end is known about: whether one that was seen a moment ago is still the same to the
            // microsecond, only another look tells, so no story may rest on it.
            let end = held.lease_expires_at;
            let about = |seen: Timestamp| (end - seen).max(seen - end) <= time;
            next.seen
                .retain(|seen| seen.lease_expires_at == Timestamp::ZERO || !about(seen.lease_expires_at));
        }
        if is_new && (forgotten || self.last.is_none()) {
            // The fence may be one that an old grant had: nothing is promised of those.
            next.grants.clear();
            next.seen.clear();
        }
        next.hear(operation, seen);
        Ok(next)
    }

    fn hear(&mut self, operation: &Operation, seen: &Answer) {
        match (operation, seen) {
            (
                Operation::Reserve { request, .. },
                Answer::Reserve(Ok(ReservationOutcome::Reserved(grant))),
            ) => {
                self.frail = request.terms.retention().is_zero();
                self.last = Some(grant.fence);
                self.grants.push(grant.clone());
            }
            (_, Answer::Reserve(Ok(ReservationOutcome::Replay(_))))
            | (_, Answer::Complete(CompleteOutcome::AlreadyStored(_)))
            | (_, Answer::Lookup(Some(Entry::Completed(_)))) => self.shown = true,
            (_, Answer::Lookup(Some(Entry::Pending(entry)))) => {
                self.shown = true;
                self.seen.push(entry.seen());
            }
            (_, Answer::Purge(true)) => self.last = None,
            _ => {}
        }
    }
}
