//! SPEC's tables as a relation: all that a call may do to a slot whose moments and fences are known only
//! by bounds.
//!
//! It says the same as `oncekey_core::state::step`, which needs the one reading of the clock that no
//! client knows. A test ties the two together, step by step and by brute force over whole histories.

use oncekey_core::state::Operation;
use oncekey_core::{
    Completion, Fence, Grant, Loss, Policy, Renewal, ReserveRequest, Resolution, ResolveOutcome, Seen,
    Timestamp, Token,
};

use super::expected::Expected;
use super::record::{Completed, Pending, Record, Slack, State, by_fence, by_grant, shown_at};
use super::zone::{Var, Zone};

/// One way that a call may go: what it answers, and what it leaves. [`Var::Now`] is still known in it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) expected: Expected,
    pub(super) after: State,
}

/// All the ways that `operation` may go on `state`, when the store's clock says what `zone` (the state's,
/// with [`Var::Now`] bounded) knows of it.
pub(super) fn ways(state: &State, zone: Zone, operation: &Operation, slack: Slack) -> Vec<Way> {
    let mut ways = Ways { record: &state.record, slack, found: Vec::new() };
    // A record that has expired is Absent, deleted or not.
    let (expired, live) = match &state.record {
        Record::Absent => (Some(zone), None),
        Record::Pending(p) if p.never => (None, Some(zone)),
        _ => zone.split(Var::Expires, Var::Now, 0),
    };
    if let Some(zone) = expired {
        ways.absent(zone, operation);
    }
    if let Some(zone) = live {
        match &state.record {
            Record::Absent => {}
            Record::Pending(p) => ways.pending(p, zone, operation),
            Record::Completed(c) => ways.completed(c, zone, operation),
            Record::Released { token } => ways.released(*token, zone, operation),
        }
    }
    ways.found
}

struct Ways<'a> {
    record: &'a Record,
    slack: Slack,
    found: Vec<Way>,
}

impl Ways<'_> {
    fn keep(&mut self, zone: Zone, expected: Expected) {
        self.put(zone, self.record.clone(), expected);
    }

    fn put(&mut self, zone: Zone, record: Record, expected: Expected) {
        self.found.push(Way { expected, after: State::new(record, zone) });
    }

    fn lost(&mut self, zone: Zone, operation: &Operation, loss: Loss) {
        self.keep(
            zone,
            match operation {
                Operation::Complete { .. } => Expected::CompleteLost(loss),
                Operation::Renew { .. } => Expected::RenewLost(loss),
                _ => Expected::ReleaseLost(loss),
            },
        );
    }

    fn absent(&mut self, zone: Zone, operation: &Operation) {
        match operation {
            Operation::Reserve { token, request } => self.first_grant(zone, *token, request),
            Operation::Renew { .. } | Operation::Complete { .. } | Operation::Release { .. } => {
                self.lost(zone, operation, Loss::Gone);
            }
            Operation::Lookup => self.keep(zone, Expected::Nothing),
            Operation::Resolve { .. } => self.keep(zone, Expected::Resolve(ResolveOutcome::Changed)),
            // An expired record may have been deleted meanwhile (G2), or may still lie there.
            Operation::Purge { fence } => {
                if *self.record != Record::Absent {
                    self.purge(zone.clone(), *fence);
                }
                self.put(zone, Record::Absent, Expected::Purged(false));
            }
        }
    }

    /// R1.
    fn first_grant(&mut self, zone: Zone, token: Token, request: &ReserveRequest) {
        let pending = Pending {
            fingerprint: request.fingerprint,
            token,
            attempt: 1,
            checkpoint: None,
            begun: false,
            policy: request.terms.policy(),
            retention: request.terms.retention(),
            at_once: false,
            never: false,
        };
        let set = |zone| {
            let zone = next_fence(zone)?;
            let zone = self.slack.set(zone, Var::Created, Var::Now, Default::default())?;
            let zone = self.slack.set(zone, Var::Lease, Var::Now, request.terms.lease())?;
            self.slack.set(zone, Var::Expires, Var::Lease, request.terms.retention())
        };
        if let Some(zone) = set(zone) {
            self.put(zone, Record::Pending(pending), Expected::Reserved);
        }
    }

    fn released(&mut self, holder: Token, zone: Zone, operation: &Operation) {
        match operation {
            Operation::Reserve { token, .. } if *token == holder => self.keep(zone, Expected::Spent),
            Operation::Release { grant } => {
                let (own, others) = by_grant(zone, holder, grant);
                if let Some(zone) = own {
                    self.keep(zone, Expected::Released);
                }
                others.into_iter().for_each(|zone| self.lost(zone, operation, Loss::Gone));
            }
            Operation::Resolve { seen, resolution: Resolution::Release } => {
                let (same, others) = by_fence(zone, seen.fence);
                if let Some(zone) = same {
                    self.keep(zone, Expected::Resolve(ResolveOutcome::AlreadyDone));
                }
                let changed = Expected::Resolve(ResolveOutcome::Changed);
                others.into_iter().for_each(|zone| self.keep(zone, changed));
            }
            Operation::Purge { fence } => self.purge(zone, *fence),
            _ => self.absent(zone, operation),
        }
    }

    fn completed(&mut self, done: &Completed, zone: Zone, operation: &Operation) {
        let (grant, own_answer) = match operation {
            Operation::Reserve { request, .. } if request.fingerprint != done.fingerprint => {
                return self.keep(zone, Expected::Conflict);
            }
            Operation::Reserve { .. } => return self.keep(zone, Expected::Replay),
            Operation::Lookup => return self.keep(zone, Expected::Found),
            Operation::Purge { fence } => return self.purge(zone, *fence),
            Operation::Resolve { seen, resolution } => {
                let same_response = matches!(resolution, Resolution::Complete(completion)
                    if *completion.response() == done.response);
                let (same, others) = by_fence(zone, seen.fence);
                let outcome =
                    if same_response { ResolveOutcome::AlreadyDone } else { ResolveOutcome::Changed };
                if let Some(zone) = same {
                    self.keep(zone, Expected::Resolve(outcome));
                }
                let changed = Expected::Resolve(ResolveOutcome::Changed);
                return others.into_iter().for_each(|zone| self.keep(zone, changed));
            }
            Operation::Complete { grant, .. } => (grant, Expected::CompletedAlready),
            Operation::Renew { grant, .. } => (grant, Expected::RenewAlreadyStored),
            Operation::Release { grant } => (grant, Expected::ReleaseAlreadyStored),
        };
        let (own, others) = by_grant(zone, done.token, grant);
        if let Some(zone) = own {
            self.keep(zone, own_answer);
        }
        others.into_iter().for_each(|zone| self.lost(zone, operation, Loss::TakenOver));
    }

    fn pending(&mut self, held: &Pending, zone: Zone, operation: &Operation) {
        let grant = match operation {
            Operation::Reserve { token, request } => return self.reserve(held, zone, *token, request),
            Operation::Lookup => {
                let (lapsed, live) = by_lease(held, zone);
                lapsed.into_iter().for_each(|zone| self.keep(zone, Expected::FoundLapsed));
                return live.into_iter().for_each(|zone| self.keep(zone, Expected::Found));
            }
            Operation::Resolve { seen, resolution } => return self.resolve(held, zone, *seen, resolution),
            Operation::Purge { fence } => return self.purge(zone, *fence),
            Operation::Renew { grant, .. }
            | Operation::Complete { grant, .. }
            | Operation::Release { grant } => grant,
        };
        let (own, others) = by_grant(zone, held.token, grant);
        if let Some(zone) = own {
            match operation {
                Operation::Renew { renewal, .. } => self.renew(held, zone, renewal),
                Operation::Complete { completion, .. } => {
                    self.complete(held, zone, completion, Expected::Stored);
                }
                _ => self.release(held, zone, grant),
            }
        }
        others.into_iter().for_each(|zone| self.lost(zone, operation, Loss::TakenOver));
    }

    /// R2 to R6.
    fn reserve(&mut self, held: &Pending, zone: Zone, token: Token, request: &ReserveRequest) {
        let terms = request.terms;
        if held.fingerprint != request.fingerprint {
            return self.keep(zone, Expected::Conflict);
        }
        if held.token == token {
            for (held, zone) in self.extended(held, zone, terms.lease()) {
                self.put(zone, Record::Pending(held), Expected::Reserved);
            }
            return;
        }
        let (lapsed, live) = by_lease(held, zone);
        if let Some(zone) = live {
            self.keep(zone, Expected::InFlight);
        }
        let Some(zone) = lapsed else { return };
        if !held.may_be_taken_over(terms.policy()) {
            return self.keep(zone, Expected::Indeterminate);
        }
        let retention = match held.policy {
            Policy::TakeOver => terms.retention(),
            Policy::Refuse => terms.retention().max(held.retention),
        };
        let taken = Pending {
            token,
            attempt: held.attempt.saturating_add(1),
            begun: false,
            retention,
            at_once: false,
            ..held.clone()
        };
        let granted =
            next_fence(zone).and_then(|zone| self.slack.set(zone, Var::Lease, Var::Now, terms.lease()));
        let Some(zone) = granted else { return };
        for zone in self.raised(&taken, zone) {
            self.put(zone, Record::Pending(taken.clone()), Expected::Reserved);
        }
    }

    /// The lease's end moved to `now + lease`, if that is later, and the expiry raised with it.
    fn extended(&self, held: &Pending, zone: Zone, lease: std::time::Duration) -> Vec<(Pending, Zone)> {
        let after = Pending { at_once: false, ..held.clone() };
        let zones = if held.at_once {
            self.slack.set(zone, Var::Lease, Var::Now, lease).into_iter().collect()
        } else {
            self.slack.raise(zone, Var::Lease, Var::Now, lease)
        };
        let raised = zones.into_iter().flat_map(|zone| self.raised(&after, zone));
        raised.map(|zone| (after.clone(), zone)).collect()
    }

    /// The expiry is at least the lease's end plus the retention.
    fn raised(&self, held: &Pending, zone: Zone) -> Vec<Zone> {
        if held.never {
            return vec![zone];
        }
        self.slack.raise(zone, Var::Expires, Var::Lease, held.retention)
    }

    /// W1, W4.
    fn renew(&mut self, held: &Pending, zone: Zone, renewal: &Renewal) {
        let mut after = held.clone();
        if let Some(new) = renewal.checkpoint()
            && new.sequence() > held.sequence()
        {
            after.checkpoint = Some(new.clone());
        }
        let sequence = after.sequence();
        match renewal.lease() {
            Some(lease) => {
                after.begun = true;
                for (mut after, zone) in self.extended(&after, zone, lease) {
                    after.never |= after.policy == Policy::Refuse;
                    self.put(zone, Record::Pending(after), Expected::Renewed { sequence });
                }
            }
            None if after.policy == Policy::Refuse && !after.begun => {
                for zone in self.leaving(held, zone) {
                    let released = Record::Released { token: held.token };
                    self.put(zone, released, Expected::HandedOver { sequence: 0 });
                }
            }
            None => {
                after.at_once = true;
                self.put(zone, Record::Pending(after), Expected::HandedOver { sequence });
            }
        }
    }

    /// The expiry of what is Pending no longer: *never* becomes the later of now and the lease's end, plus
    /// the retention.
    fn leaving(&self, held: &Pending, zone: Zone) -> Vec<Zone> {
        if !held.never {
            return vec![zone];
        }
        let (lapsed, live) = by_lease(held, zone);
        let from_now = lapsed.and_then(|zone| self.slack.set(zone, Var::Expires, Var::Now, held.retention));
        let from_lease = live.and_then(|zone| self.slack.set(zone, Var::Expires, Var::Lease, held.retention));
        from_now.into_iter().chain(from_lease).collect()
    }

    /// C1, C2, C5; O1 completes as C2.
    fn complete(&mut self, held: &Pending, zone: Zone, completion: &Completion, expected: Expected) {
        let zones = match completion.retention() {
            Some(retention) => self.slack.set(zone, Var::Expires, Var::Now, retention).into_iter().collect(),
            None => {
                let mut zones = Vec::new();
                for zone in self.leaving(held, zone) {
                    let (lapsed, live) = by_lease(held, zone);
                    zones.extend(live);
                    zones.extend(
                        lapsed
                            .into_iter()
                            .flat_map(|zone| self.slack.raise(zone, Var::Expires, Var::Now, held.retention)),
                    );
                }
                zones
            }
        };
        let done = Completed {
            token: held.token,
            fingerprint: held.fingerprint,
            attempt: held.attempt,
            response: completion.response().clone(),
        };
        for zone in zones {
            if let Some(zone) = self.slack.set(zone, Var::Completed, Var::Now, Default::default()) {
                self.put(zone, Record::Completed(done.clone()), expected);
            }
        }
    }

    /// L1, L2.
    fn release(&mut self, held: &Pending, zone: Zone, grant: &Grant) {
        if held.attempt == 1 || held.policy == Policy::Refuse {
            for zone in self.leaving(held, zone) {
                self.put(zone, Record::Released { token: grant.token }, Expected::Released);
            }
        } else {
            let lapsed = Pending { at_once: true, ..held.clone() };
            self.put(zone, Record::Pending(lapsed), Expected::Released);
        }
    }

    /// O1.
    fn resolve(&mut self, held: &Pending, zone: Zone, seen: Seen, resolution: &Resolution) {
        let changed = Expected::Resolve(ResolveOutcome::Changed);
        let (same, others) = by_fence(zone, seen.fence);
        others.into_iter().for_each(|zone| self.keep(zone, changed));
        let Some(zone) = same else { return };
        let (lapsed, live) = by_lease(held, zone);
        if let Some(zone) = live {
            self.keep(zone, Expected::Resolve(ResolveOutcome::NotLapsed));
        }
        let Some(zone) = lapsed else { return };
        let (same, others) = by_lease_end(held, zone, seen.lease_expires_at);
        others.into_iter().for_each(|zone| self.keep(zone, changed));
        let Some(zone) = same else { return };
        let resolved = Expected::Resolve(ResolveOutcome::Resolved);
        match resolution {
            Resolution::Complete(completion) => self.complete(held, zone, completion, resolved),
            Resolution::Release => {
                for zone in self.leaving(held, zone) {
                    self.put(zone, Record::Released { token: held.token }, resolved);
                }
            }
        }
    }

    /// O2. Nothing is remembered of what was purged.
    fn purge(&mut self, zone: Zone, fence: Fence) {
        let (same, others) = by_fence(zone, fence);
        if let Some(zone) = same {
            self.put(zone.forget(Var::Fence), Record::Absent, Expected::Purged(true));
        }
        others.into_iter().for_each(|zone| self.keep(zone, Expected::Purged(false)));
    }
}

/// S4: larger than the last, where one is remembered.
fn next_fence(zone: Zone) -> Option<Zone> {
    Some(zone.at_least(Var::Temp, Var::Fence, 1)?.take_temp(Var::Fence))
}

/// The zone where the lease has ended, and the one where it is live.
fn by_lease(held: &Pending, zone: Zone) -> (Option<Zone>, Option<Zone>) {
    if held.at_once { (Some(zone), None) } else { zone.split(Var::Lease, Var::Now, 0) }
}

/// The zone where the lease's end is `end`, and those where it isn't.
fn by_lease_end(held: &Pending, zone: Zone, end: Timestamp) -> (Option<Zone>, Vec<Zone>) {
    if held.at_once || end == Timestamp::ZERO {
        let same = held.at_once && end == Timestamp::ZERO;
        return if same { (Some(zone), Vec::new()) } else { (None, vec![zone]) };
    }
    let end_micros = super::record::signed(end.as_micros());
    let before = zone.clone().at_most(Var::Lease, Var::Zero, end_micros.saturating_sub(1));
    let after = zone.clone().at_least(Var::Lease, Var::Zero, end_micros.saturating_add(1));
    (shown_at(zone, Var::Lease, end), before.into_iter().chain(after).collect())
}
