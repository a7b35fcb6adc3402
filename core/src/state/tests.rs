//! docs/spec.md, cell by cell: a room for each of its tables.

mod complete;
mod fences;
mod operator;
mod release;
mod renew;
mod reserve;
mod states;

use super::*;
use crate::{Fingerprint, StoredResponse, Terms};

/// What these tests ask for, unless they say otherwise.
const LEASE: u64 = 10;
const RETENTION: u64 = 100;
const BOTH: [Policy; 2] = [Policy::TakeOver, Policy::Refuse];

const A: Token = Token::from_bytes([1; 16]);
const B: Token = Token::from_bytes([2; 16]);
const C: Token = Token::from_bytes([3; 16]);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + secs(seconds)
}

/// When each test begins, in seconds.
const START: u64 = 1_000;

fn terms(policy: Policy, lease: u64, retention: u64) -> Terms {
    Terms::new(policy, secs(lease), secs(retention)).unwrap()
}

fn request(policy: Policy) -> ReserveRequest {
    ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms(policy, LEASE, RETENTION))
}

fn another_request(policy: Policy) -> ReserveRequest {
    ReserveRequest::new(Fingerprint::from_bytes([8; 32]), terms(policy, LEASE, RETENTION))
}

fn response(status: u16) -> StoredResponse {
    StoredResponse::new(status, "h: 1", "body")
}

fn completion(status: u16) -> Completion {
    Completion::new(response(status))
}

fn heartbeat(lease: u64) -> Renewal {
    Renewal::extend(secs(lease)).unwrap()
}

fn saved(sequence: u64) -> Checkpoint {
    Checkpoint::new(sequence, format!("page {sequence}")).unwrap()
}

/// One slot and a clock: each call is one step.
struct OneSlot {
    record: Option<Record>,
    now: Timestamp,
    /// Whether the last call wrote.
    wrote: bool,
}

impl OneSlot {
    fn new() -> Self {
        Self { record: None, now: at(START), wrote: false }
    }

    /// With a grant to `A`.
    fn held(policy: Policy) -> (Self, Grant) {
        let mut slot = Self::new();
        let grant = slot.granted(A, request(policy));
        (slot, grant)
    }

    /// With a grant to `A` that has begun: renewed for `LEASE`.
    fn begun(policy: Policy) -> (Self, Grant) {
        let (mut slot, grant) = Self::held(policy);
        slot.renewed(&grant, &heartbeat(LEASE));
        (slot, grant)
    }

    /// With what `A` completed.
    fn completed_by_a(policy: Policy) -> (Self, Grant) {
        let (mut slot, grant) = Self::begun(policy);
        assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
        (slot, grant)
    }

    /// `A` lapsed and `B` took over: both grants.
    fn taken_over() -> (Self, Grant, Grant) {
        let (mut slot, a) = Self::held(Policy::TakeOver);
        slot.pass(LEASE);
        let b = slot.granted(B, request(Policy::TakeOver));
        (slot, a, b)
    }

    /// The slot after so many more seconds.
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + secs(seconds);
    }

    fn step_back(&mut self, seconds: u64) {
        self.now = Timestamp::ZERO + (self.now - at(seconds));
    }

    fn apply<T>(&mut self, step: Step<T>) -> T {
        self.wrote = step.change != Change::Keep;
        match step.change {
            Change::Keep => {}
            Change::Put(record) => self.record = Some(record),
            Change::Delete => self.record = None,
        }
        step.answer
    }

    fn reserve(&mut self, token: Token, request: ReserveRequest) -> Result<ReservationOutcome, TokenSpent> {
        self.apply(reserve_or_fetch(self.record.as_ref(), token, &request, self.now))
    }

    fn granted(&mut self, token: Token, request: ReserveRequest) -> Grant {
        match self.reserve(token, request) {
            Ok(ReservationOutcome::Reserved(grant)) => grant,
            other => panic!("expected Reserved, saw {other:?} on {:?}", self.record),
        }
    }

    fn renew(&mut self, grant: &Grant, renewal: &Renewal) -> RenewOutcome {
        self.apply(renew(self.record.as_ref(), grant, renewal, self.now))
    }

    fn renewed(&mut self, grant: &Grant, renewal: &Renewal) -> Renewed {
        match self.renew(grant, renewal) {
            RenewOutcome::Renewed(renewed) => renewed,
            other => panic!("expected Renewed, saw {other:?} on {:?}", self.record),
        }
    }

    fn complete(&mut self, grant: &Grant, completion: &Completion) -> CompleteOutcome {
        self.apply(complete(self.record.as_ref(), grant, completion, self.now))
    }

    fn release(&mut self, grant: &Grant) -> ReleaseOutcome {
        self.apply(release(self.record.as_ref(), grant, self.now))
    }

    fn resolve(&mut self, seen: Seen, resolution: &Resolution) -> ResolveOutcome {
        self.apply(resolve(self.record.as_ref(), seen, resolution, self.now))
    }

    fn lookup(&self) -> Option<Entry> {
        lookup(self.record.as_ref(), self.now)
    }

    fn pending(&self) -> &Pending {
        match &self.record {
            Some(Record::Pending(p)) => p,
            other => panic!("expected Pending, saw {other:?}"),
        }
    }

    fn completed(&self) -> &IdempotencyRecord {
        match &self.record {
            Some(Record::Completed(c)) => &c.record,
            other => panic!("expected Completed, saw {other:?}"),
        }
    }

    fn released(&self) -> &Released {
        match &self.record {
            Some(Record::Released(r)) => r,
            other => panic!("expected Released, saw {other:?}"),
        }
    }

    /// What an operator sees of the record.
    fn seen(&self) -> Seen {
        match self.lookup() {
            Some(Entry::Pending(entry)) => entry.seen(),
            other => panic!("expected a Pending entry, saw {other:?}"),
        }
    }
}

/// Every situation in which the grant that comes with it is the record's no longer, or never was, and why.
fn strangers() -> Vec<(&'static str, OneSlot, Grant, Loss)> {
    let mut found = Vec::new();
    for policy in BOTH {
        let (slot, grant) = OneSlot::held(policy);
        found.push(("no record", OneSlot::new(), grant.clone(), Loss::Gone));

        // Not begun, so that it expires under both policies.
        let mut expired = slot;
        expired.pass(LEASE + RETENTION);
        found.push(("expired while Pending", expired, grant, Loss::Gone));

        let (mut expired, grant) = OneSlot::completed_by_a(policy);
        expired.pass(LEASE + RETENTION);
        found.push(("expired once Completed", expired, grant, Loss::Gone));

        let (mut expired, grant) = OneSlot::held(policy);
        assert_eq!(expired.release(&grant), ReleaseOutcome::Released);
        expired.pass(LEASE + RETENTION);
        found.push(("expired once Released", expired, grant, Loss::Gone));

        let (mut freed, a) = OneSlot::held(policy);
        assert_eq!(freed.release(&a), ReleaseOutcome::Released);
        freed.granted(B, request(policy));
        found.push(("reserved anew by another", freed, a, Loss::TakenOver));

        let (mut freed, a) = OneSlot::held(policy);
        assert_eq!(freed.release(&a), ReleaseOutcome::Released);
        let b = freed.granted(B, request(policy));
        assert_eq!(freed.release(&b), ReleaseOutcome::Released);
        found.push(("released by another", freed, a, Loss::Gone));

        let (slot, grant) = OneSlot::completed_by_a(policy);
        let other_token = Grant { token: B, ..grant.clone() };
        found.push(("completed under another token", slot, other_token, Loss::TakenOver));

        let (slot, _) = OneSlot::completed_by_a(policy);
        let other_fence = Grant { fence: Fence::new(grant.fence.get() - 1), ..grant };
        found.push(("completed under another fence", slot, other_fence, Loss::TakenOver));

        let (slot, grant) = OneSlot::begun(policy);
        let other_token = Grant { token: B, ..grant.clone() };
        found.push(("held under another token", slot, other_token, Loss::TakenOver));

        for fence in [grant.fence.get() - 1, grant.fence.get() + 1] {
            let (slot, grant) = OneSlot::begun(policy);
            let other_fence = Grant { fence: Fence::new(fence), ..grant };
            found.push(("held under another fence", slot, other_fence, Loss::TakenOver));
        }
    }
    let (slot, a, _) = OneSlot::taken_over();
    found.push(("taken over", slot, a, Loss::TakenOver));

    let (mut slot, a, b) = OneSlot::taken_over();
    assert_eq!(slot.complete(&b, &completion(200)), CompleteOutcome::Stored);
    found.push(("taken over and completed", slot, a, Loss::TakenOver));
    found
}
