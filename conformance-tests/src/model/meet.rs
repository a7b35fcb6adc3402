//! Whether an answer is the one that the state machine gives, as far as the store may choose: fences by
//! their order, moments and durations about.

use std::time::Duration;

use oncekey_core::state::{Answer, Record};
use oncekey_core::{
    CompleteOutcome, Entry, Fence, Grant, IdempotencyRecord, InFlight, Lapsed, PendingEntry, RenewOutcome,
    ReservationOutcome, Timestamp,
};

/// How an answer may differ from the state machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leeway {
    /// For moments that no answer has shown since they were written, and for durations.
    pub(super) time: Duration,
    /// The moments that an answer has shown since are the same each time (S3).
    pub(super) shown: bool,
    /// A grant that the record didn't have: the fence is the store's choice, above this one (S4).
    pub(super) grants_above: Option<Fence>,
}

/// The state machine's answer, and its record after the call, with what the store chose where it may. It is
/// the store's answer, if that is right.
pub(super) fn with_choices(
    expected: &Answer,
    seen: &Answer,
    record: &mut Option<Record>,
    leeway: Leeway,
) -> Answer {
    use ReservationOutcome::{InFlight as Busy, Indeterminate, Replay, Reserved};
    let mut expected = expected.clone();
    match (&mut expected, seen) {
        (Answer::Reserve(Ok(Reserved(grant))), Answer::Reserve(Ok(Reserved(seen)))) => {
            leeway.fence(grant, seen, record);
        }
        (Answer::Reserve(Ok(Replay(done))), Answer::Reserve(Ok(Replay(seen))))
        | (
            Answer::Complete(CompleteOutcome::AlreadyStored(done)),
            Answer::Complete(CompleteOutcome::AlreadyStored(seen)),
        )
        | (Answer::Lookup(Some(Entry::Completed(done))), Answer::Lookup(Some(Entry::Completed(seen)))) => {
            leeway.completed(done, seen, record);
        }
        (Answer::Reserve(Ok(Busy(busy))), Answer::Reserve(Ok(Busy(seen)))) => leeway.in_flight(busy, seen),
        (Answer::Reserve(Ok(Indeterminate(lapsed))), Answer::Reserve(Ok(Indeterminate(seen)))) => {
            leeway.lapsed(lapsed, seen);
        }
        // After a hand-over nothing at all is left.
        (Answer::Renew(RenewOutcome::Renewed(renewed)), Answer::Renew(RenewOutcome::Renewed(seen)))
            if !renewed.lease_left.is_zero() =>
        {
            leeway.length(&mut renewed.lease_left, seen.lease_left);
        }
        (Answer::Lookup(Some(Entry::Pending(entry))), Answer::Lookup(Some(Entry::Pending(seen)))) => {
            leeway.pending(entry, seen, record);
        }
        _ => {}
    }
    expected
}

impl Leeway {
    fn fence(self, grant: &mut Grant, seen: &Grant, record: &mut Option<Record>) {
        if let Some(last) = self.grants_above
            && seen.fence > last
        {
            grant.fence = seen.fence;
            if let Some(Record::Pending(held)) = record {
                held.fence = seen.fence;
            }
        }
    }

    fn length(self, expected: &mut Duration, seen: Duration) {
        if expected.abs_diff(seen) <= self.time {
            *expected = seen;
        }
    }

    fn moment(self, expected: &mut Timestamp, seen: Timestamp) {
        let exact = [Timestamp::ZERO, Timestamp::NEVER];
        let about = (*expected - seen).max(seen - *expected) <= self.time;
        if about && !self.shown && !exact.contains(expected) && !exact.contains(&seen) {
            *expected = seen;
        }
    }

    fn completed(self, done: &mut IdempotencyRecord, seen: &IdempotencyRecord, record: &mut Option<Record>) {
        self.moment(&mut done.created_at, seen.created_at);
        self.moment(&mut done.completed_at, seen.completed_at);
        self.moment(&mut done.expires_at, seen.expires_at);
        if let Some(Record::Completed(kept)) = record {
            kept.record = done.clone();
        }
    }

    /// Rounded up, never zero (R4).
    fn in_flight(self, busy: &mut InFlight, seen: &InFlight) {
        if !seen.retry_after.is_zero() {
            self.length(&mut busy.retry_after, seen.retry_after);
        }
    }

    fn lapsed(self, lapsed: &mut Lapsed, seen: &Lapsed) {
        if let (Some(ago), Some(seen)) = (&mut lapsed.lapsed_for, seen.lapsed_for) {
            self.length(ago, seen);
        }
    }

    fn pending(self, entry: &mut PendingEntry, seen: &PendingEntry, record: &mut Option<Record>) {
        self.moment(&mut entry.created_at, seen.created_at);
        self.moment(&mut entry.lease_expires_at, seen.lease_expires_at);
        self.moment(&mut entry.expires_at, seen.expires_at);
        if let (Some(left), Some(seen)) = (&mut entry.lease_left, seen.lease_left) {
            self.length(left, seen);
        }
        if let Some(Record::Pending(held)) = record {
            held.created_at = entry.created_at;
            held.lease_expires_at = entry.lease_expires_at;
            held.expires_at = entry.expires_at;
        }
    }
}
