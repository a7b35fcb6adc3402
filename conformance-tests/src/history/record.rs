//! What a slot may hold, as far as its clients can know: [`State`].

use std::time::Duration;

use oncekey_core::state::micros_of;
use oncekey_core::{Checkpoint, Fence, Fingerprint, Grant, Policy, StoredResponse, Timestamp, Token};

use super::call::Tolerance;
use super::zone::{Var, Zone};

/// A record, and what is known of its moments and its fence.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) record: Record,
    /// Of a record that isn't there, at least what S4 remembers: the next fence is larger than
    /// [`Var::Fence`].
    pub(super) zone: Zone,
}

/// As `oncekey_core::state::Record`, without its moments and its fence: those are the zone's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Record {
    Absent,
    Pending(Pending),
    Completed(Completed),
    Released { token: Token },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pending {
    pub(super) fingerprint: Fingerprint,
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) begun: bool,
    pub(super) policy: Policy,
    pub(super) retention: Duration,
    /// The lease's end is zero: lapsed at once.
    pub(super) at_once: bool,
    /// It expires never.
    pub(super) never: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Completed {
    pub(super) token: Token,
    pub(super) fingerprint: Fingerprint,
    pub(super) attempt: u32,
    pub(super) response: StoredResponse,
}

impl State {
    /// Nobody has used the slot.
    pub(super) fn unused() -> Self {
        Self { record: Record::Absent, zone: Zone::free() }
    }

    /// Whether all that may be here may be in `other` too.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.record == other.record && self.zone.is_within(&other.zone)
    }

    /// Only what the record has is known: so that equal states are equal.
    pub(super) fn new(record: Record, zone: Zone) -> Self {
        let zone = zone.forget(Var::Temp);
        let zone = match &record {
            Record::Absent => {
                zone.forget(Var::Lease).forget(Var::Expires).forget(Var::Created).forget(Var::Completed)
            }
            Record::Pending(p) => {
                let zone = if p.at_once { zone.forget(Var::Lease) } else { zone };
                let zone = if p.never { zone.forget(Var::Expires) } else { zone };
                zone.forget(Var::Completed)
            }
            Record::Completed(_) => zone.forget(Var::Lease),
            Record::Released { .. } => zone.forget(Var::Lease).forget(Var::Created).forget(Var::Completed),
        };
        Self { record, zone }
    }
}

impl Pending {
    pub(super) fn sequence(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, Checkpoint::sequence)
    }

    /// R5: record and caller both `TakeOver`, or record `Refuse` and not begun.
    pub(super) fn may_be_taken_over(&self, caller: Policy) -> bool {
        match self.policy {
            Policy::TakeOver => caller == Policy::TakeOver,
            Policy::Refuse => !self.begun,
        }
    }
}

/// How exactly a store reckons, in microseconds: [`Tolerance::reckoning`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Slack(pub(super) i64);

impl Slack {
    pub(super) fn of(tolerance: Tolerance) -> Self {
        Self(micros(tolerance.reckoning))
    }

    /// `x` becomes `y + by`, about.
    pub(super) fn set(self, zone: Zone, x: Var, y: Var, by: Duration) -> Option<Zone> {
        let by = micros(by);
        zone.put(x, y, by.saturating_sub(self.0), by.saturating_add(self.0))
    }

    /// `x` becomes the later of what it is and `y + by`, about.
    pub(super) fn raise(self, zone: Zone, x: Var, y: Var, by: Duration) -> Vec<Zone> {
        let Some(zone) = self.set(zone, Var::Temp, y, by) else { return Vec::new() };
        let (stays, raised) = zone.split(Var::Temp, x, 0);
        let stays = stays.map(|zone| zone.forget(Var::Temp));
        let raised = raised.map(|zone| zone.take_temp(x));
        stays.into_iter().chain(raised).collect()
    }

    /// `x - y` is `length`, about.
    pub(super) fn about(self, zone: Zone, x: Var, y: Var, length: Duration) -> Option<Zone> {
        let length = micros(length);
        zone.within(x, y, length.saturating_sub(self.0), length.saturating_add(self.0))
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(micros_of(duration)).unwrap_or(i64::MAX)
}

/// `var` is the moment that an answer showed. A store shows what it compares with (O1), so exactly it.
pub(super) fn shown_at(zone: Zone, var: Var, at: Timestamp) -> Option<Zone> {
    zone.equal(var, Var::Zero, signed(at.as_micros()))
}

/// The record's fence is the one that an answer showed.
pub(super) fn shown_fence(zone: Zone, fence: Fence) -> Option<Zone> {
    zone.equal(Var::Fence, Var::Zero, signed(fence.get()))
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The zone where the record's fence is `fence`, and those where it isn't.
pub(super) fn by_fence(zone: Zone, fence: Fence) -> (Option<Zone>, Vec<Zone>) {
    let fence = signed(fence.get());
    let (at_most, above) = zone.split(Var::Fence, Var::Zero, fence);
    let (below, same) = match at_most {
        Some(zone) => zone.split(Var::Fence, Var::Zero, fence.saturating_sub(1)),
        None => (None, None),
    };
    (same, below.into_iter().chain(above).collect())
}

/// The same for the grant that holds the record: token and fence both equal.
pub(super) fn by_grant(zone: Zone, token: Token, grant: &Grant) -> (Option<Zone>, Vec<Zone>) {
    if token == grant.token { by_fence(zone, grant.fence) } else { (None, vec![zone]) }
}
