//! What a call is expected to answer, and whether it did: [`Expected`].

use std::fmt;

use oncekey_core::state::Answer;
use oncekey_core::{
    CompleteOutcome, Entry, Grant, IdempotencyRecord, InFlight, Lapsed, Loss, PendingEntry, ReleaseOutcome,
    RenewOutcome, ReservationOutcome, ResolveOutcome, Timestamp,
};

use super::record::{Completed, Pending, Record, Slack, State, micros, shown_at, shown_fence};
use super::zone::{Var, Zone};

/// An answer, as far as the state after the call doesn't tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expected {
    Reserved,
    Replay,
    InFlight,
    Conflict,
    Indeterminate,
    Spent,
    Renewed { sequence: u64 },
    HandedOver { sequence: u64 },
    RenewAlreadyStored,
    RenewLost(Loss),
    Stored,
    CompletedAlready,
    CompleteLost(Loss),
    Released,
    ReleaseAlreadyStored,
    ReleaseLost(Loss),
    Nothing,
    Found,
    FoundLapsed,
    Resolve(ResolveOutcome),
    Purged(bool),
}

impl Expected {
    /// What is known once this was `answer`, from a call that left `after`; none where it can't be.
    pub(super) fn meets(self, answer: &Answer, after: &State, slack: Slack) -> Option<Zone> {
        use ReservationOutcome::{Conflict, InFlight as Busy, Indeterminate, Replay, Reserved};
        let zone = after.zone.clone();
        let same = |holds: bool| holds.then(|| zone.clone());
        match (self, answer, &after.record) {
            (Self::Reserved, Answer::Reserve(Ok(Reserved(grant))), Record::Pending(held)) => {
                granted(zone, held, grant)
            }
            (Self::Replay, Answer::Reserve(Ok(Replay(record))), Record::Completed(done)) => {
                replayed(zone, done, record)
            }
            (Self::InFlight, Answer::Reserve(Ok(Busy(busy))), _) => in_flight(zone, busy, slack),
            (Self::Indeterminate, Answer::Reserve(Ok(Indeterminate(lapsed))), Record::Pending(held)) => {
                indeterminate(zone, held, lapsed, slack)
            }
            (Self::Conflict, Answer::Reserve(Ok(Conflict)), _) => Some(zone),
            (Self::Spent, Answer::Reserve(Err(_)), _) => Some(zone),
            (Self::Renewed { sequence }, Answer::Renew(RenewOutcome::Renewed(renewed)), _) => {
                let zone = same(renewed.sequence == sequence)?;
                slack.about(zone, Var::Lease, Var::Now, renewed.lease_left)
            }
            (Self::HandedOver { sequence }, Answer::Renew(RenewOutcome::Renewed(renewed)), _) => {
                same(renewed.sequence == sequence && renewed.lease_left.is_zero())
            }
            (Self::RenewAlreadyStored, Answer::Renew(RenewOutcome::AlreadyStored), _) => Some(zone),
            (Self::RenewLost(loss), Answer::Renew(RenewOutcome::Lost(seen)), _) => same(loss == *seen),
            (Self::Stored, Answer::Complete(CompleteOutcome::Stored), _) => Some(zone),
            (
                Self::CompletedAlready,
                Answer::Complete(CompleteOutcome::AlreadyStored(record)),
                Record::Completed(done),
            ) => replayed(zone, done, record),
            (Self::CompleteLost(loss), Answer::Complete(CompleteOutcome::Lost(seen)), _) => {
                same(loss == *seen)
            }
            (Self::Released, Answer::Release(ReleaseOutcome::Released), _) => Some(zone),
            (Self::ReleaseAlreadyStored, Answer::Release(ReleaseOutcome::AlreadyStored), _) => Some(zone),
            (Self::ReleaseLost(loss), Answer::Release(ReleaseOutcome::Lost(seen)), _) => same(loss == *seen),
            (Self::Nothing, Answer::Lookup(None), _) => Some(zone),
            (Self::Found, Answer::Lookup(Some(Entry::Completed(record))), Record::Completed(done)) => {
                replayed(zone, done, record)
            }
            (Self::Found, Answer::Lookup(Some(Entry::Pending(entry))), Record::Pending(held)) => {
                let zone = slack.about(zone, Var::Lease, Var::Now, entry.lease_left?)?;
                found(zone, held, entry)
            }
            (Self::FoundLapsed, Answer::Lookup(Some(Entry::Pending(entry))), Record::Pending(held)) => {
                entry.lease_left.is_none().then(|| found(zone, held, entry))?
            }
            (Self::Resolve(outcome), Answer::Resolve(seen), _) => same(outcome == *seen),
            (Self::Purged(purged), Answer::Purge(seen), _) => same(purged == *seen),
            _ => None,
        }
    }
}

fn granted(zone: Zone, held: &Pending, grant: &Grant) -> Option<Zone> {
    let same = held.token == grant.token
        && held.attempt == grant.attempt
        && held.policy == grant.policy
        && held.checkpoint == grant.checkpoint;
    if same { shown_fence(zone, grant.fence) } else { None }
}

/// S3: what a record shows of itself is the same each time, its moments too.
fn replayed(zone: Zone, done: &Completed, record: &IdempotencyRecord) -> Option<Zone> {
    let same = done.fingerprint == record.fingerprint
        && done.attempt == record.attempt
        && done.response == record.response;
    if !same {
        return None;
    }
    let zone = shown_fence(zone, record.fence)?;
    let zone = shown_at(zone, Var::Created, record.created_at)?;
    let zone = shown_at(zone, Var::Completed, record.completed_at)?;
    shown_at(zone, Var::Expires, record.expires_at)
}

/// R4: the rest of the lease, rounded up to a millisecond, never zero.
fn in_flight(zone: Zone, busy: &InFlight, slack: Slack) -> Option<Zone> {
    if busy.retry_after.is_zero() {
        return None;
    }
    let most = micros(busy.retry_after);
    let low = most.saturating_sub(999).saturating_sub(slack.0);
    zone.within(Var::Lease, Var::Now, low, most.saturating_add(slack.0))
}

fn indeterminate(zone: Zone, held: &Pending, lapsed: &Lapsed, slack: Slack) -> Option<Zone> {
    let same = held.attempt == lapsed.attempt
        && held.checkpoint == lapsed.checkpoint
        && held.at_once == lapsed.lapsed_for.is_none();
    if !same {
        return None;
    }
    let zone = shown_fence(zone, lapsed.fence)?;
    match lapsed.lapsed_for {
        Some(length) => slack.about(zone, Var::Now, Var::Lease, length),
        None => Some(zone),
    }
}

fn found(zone: Zone, held: &Pending, entry: &PendingEntry) -> Option<Zone> {
    let same = held.fingerprint == entry.fingerprint
        && held.attempt == entry.attempt
        && held.policy == entry.policy
        && held.begun == entry.begun
        && held.checkpoint == entry.checkpoint
        && held.at_once == (entry.lease_expires_at == Timestamp::ZERO)
        && held.never == (entry.expires_at == Timestamp::NEVER);
    if !same {
        return None;
    }
    let zone = shown_fence(zone, entry.fence)?;
    let zone = shown_at(zone, Var::Created, entry.created_at)?;
    let zone = if held.at_once { zone } else { shown_at(zone, Var::Lease, entry.lease_expires_at)? };
    if held.never { Some(zone) } else { shown_at(zone, Var::Expires, entry.expires_at) }
}

/// For a counter-example: what would have been right.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renewed { sequence } => write!(f, "Renewed(sequence {sequence})"),
            Self::HandedOver { sequence } => write!(f, "Renewed(nothing left, sequence {sequence})"),
            Self::RenewLost(loss) | Self::CompleteLost(loss) | Self::ReleaseLost(loss) => {
                write!(f, "Lost({loss:?})")
            }
            Self::RenewAlreadyStored | Self::CompletedAlready | Self::ReleaseAlreadyStored => {
                f.write_str("AlreadyStored")
            }
            Self::Spent => f.write_str("TokenSpent"),
            Self::Nothing => f.write_str("none"),
            Self::Found => f.write_str("the record"),
            Self::FoundLapsed => f.write_str("the record, lapsed"),
            Self::Resolve(outcome) => write!(f, "{outcome:?}"),
            Self::Purged(purged) => write!(f, "{purged}"),
            other => write!(f, "{other:?}"),
        }
    }
}
