//! lookup, resolve and purge: Q1, O1, O2.

use super::*;

fn complete_as(status: u16) -> Resolution {
    Resolution::Complete(completion(status))
}

#[test]
fn q1_a_pending_record_is_shown_lapsed_or_not_with_the_rest_of_its_lease() {
    let (mut slot, grant) = OneSlot::begun(Policy::Refuse);
    slot.renewed(&grant, &heartbeat(LEASE).with_checkpoint(saved(1)));
    for (later, left) in
        [(0, Some(secs(LEASE))), (LEASE - 1, Some(secs(1))), (LEASE, None), (LEASE + 1, None)]
    {
        slot.now = at(START + later);
        let Some(Entry::Pending(entry)) = slot.lookup() else { panic!("{:?}", slot.lookup()) };
        assert_eq!(entry.lease_left, left, "{later} s later");
        assert_eq!((entry.fence, entry.attempt, entry.begun), (grant.fence, 1, true));
        assert_eq!((entry.policy, &entry.checkpoint), (Policy::Refuse, &Some(saved(1))));
        assert_eq!((entry.created_at, entry.lease_expires_at), (at(START), at(START + LEASE)));
        assert_eq!(entry.expires_at, Timestamp::NEVER);
    }
}

#[test]
fn q1_a_completed_record_is_shown_and_nothing_else_is() {
    let (mut slot, _) = OneSlot::completed_by_a(Policy::TakeOver);
    assert_eq!(slot.lookup(), Some(Entry::Completed(slot.completed().clone())));
    slot.now = slot.completed().expires_at;
    assert_eq!(slot.lookup(), None, "expired");
    assert_eq!(OneSlot::new().lookup(), None);
    let (mut released, grant) = OneSlot::held(Policy::TakeOver);
    assert_eq!(released.release(&grant), ReleaseOutcome::Released);
    assert_eq!(released.lookup(), None);
}

#[test]
fn o1_completes_a_lapsed_record_as_its_holder_would_have() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::begun(policy);
        slot.pass(LEASE + 5);
        let seen = slot.seen();
        assert_eq!(slot.resolve(seen, &complete_as(201)), ResolveOutcome::Resolved);
        let record = slot.completed().clone();
        assert_eq!((record.response.clone(), record.fence), (response(201), grant.fence));
        assert_eq!(record.expires_at, at(START + LEASE + 5 + RETENTION), "{policy:?}: as C2");
        // The old holder hears the resolver's answer.
        assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::AlreadyStored(record.clone()));
        assert_eq!(slot.renew(&grant, &heartbeat(1)), RenewOutcome::AlreadyStored);
        assert_eq!(slot.reserve(B, request(policy)), Ok(ReservationOutcome::Replay(record)));
    }
}

#[test]
fn o1_completes_with_a_retention_of_the_operators_own() {
    let (mut slot, _) = OneSlot::begun(Policy::Refuse);
    slot.pass(LEASE);
    let resolution = Resolution::Complete(completion(201).keep_for(secs(7)).unwrap());
    assert_eq!(slot.resolve(slot.seen(), &resolution), ResolveOutcome::Resolved);
    assert_eq!(slot.completed().expires_at, at(START + LEASE + 7));
}

#[test]
fn o1_releases_a_lapsed_record_whatever_the_attempt() {
    let (mut taken_over, _, _) = OneSlot::taken_over();
    taken_over.pass(LEASE);
    let (mut begun, _) = OneSlot::begun(Policy::Refuse);
    begun.pass(LEASE);
    for mut slot in [taken_over, begun] {
        let old = slot.pending().grant();
        let expires_at = slot.pending().expires_at.min(slot.now + secs(RETENTION));
        assert_eq!(slot.resolve(slot.seen(), &Resolution::Release), ResolveOutcome::Resolved);
        let expected = Released { token: old.token, fence: old.fence, expires_at };
        assert_eq!(*slot.released(), expected);
        assert_eq!(slot.complete(&old, &completion(200)), CompleteOutcome::Lost(Loss::Gone));
        assert_eq!(slot.granted(C, request(Policy::TakeOver)).attempt, 1);
    }
}

#[test]
fn o1_settles_what_was_handed_over() {
    let (mut slot, grant) = OneSlot::begun(Policy::Refuse);
    slot.renewed(&grant, &Renewal::hand_over());
    assert_eq!(slot.seen(), Seen { fence: grant.fence, lease_expires_at: Timestamp::ZERO });
    assert_eq!(slot.resolve(slot.seen(), &complete_as(200)), ResolveOutcome::Resolved);
    assert_eq!(slot.completed().expires_at, at(START + RETENTION));
}

#[test]
fn o1_a_live_lease_is_not_lapsed_before_it_is_changed() {
    let (mut slot, grant) = OneSlot::begun(Policy::TakeOver);
    slot.pass(LEASE);
    let seen = slot.seen();
    // The holder came back, so the lease's end changed as well.
    slot.renewed(&grant, &heartbeat(LEASE));
    for resolution in [complete_as(200), Resolution::Release] {
        assert_eq!(slot.resolve(seen, &resolution), ResolveOutcome::NotLapsed);
        assert!(!slot.wrote);
    }
    // And fell silent again: lapsed, but not as it was seen.
    slot.pass(LEASE);
    for resolution in [complete_as(200), Resolution::Release] {
        assert_eq!(slot.resolve(seen, &resolution), ResolveOutcome::Changed);
        assert!(!slot.wrote);
    }
}

#[test]
fn o1_another_record_than_was_seen_is_changed_lapsed_or_not() {
    let (mut slot, _) = OneSlot::begun(Policy::TakeOver);
    slot.pass(LEASE);
    let seen = slot.seen();
    slot.granted(B, request(Policy::TakeOver));
    for _ in 0..2 {
        for resolution in [complete_as(200), Resolution::Release] {
            assert_eq!(slot.resolve(seen, &resolution), ResolveOutcome::Changed);
            assert!(!slot.wrote);
        }
        slot.pass(LEASE);
    }
    let mut none = OneSlot::new();
    assert_eq!(none.resolve(seen, &Resolution::Release), ResolveOutcome::Changed);
    slot.pass(RETENTION);
    assert_eq!(slot.lookup(), None);
    assert_eq!(slot.resolve(seen, &Resolution::Release), ResolveOutcome::Changed, "expired");
}

#[test]
fn o1_a_successor_is_not_what_was_seen_however_alike_it_looks() {
    let (mut slot, a) = OneSlot::begun(Policy::TakeOver);
    slot.renewed(&a, &Renewal::hand_over());
    let seen = slot.seen();
    let b = slot.granted(B, request(Policy::TakeOver));
    slot.renewed(&b, &Renewal::hand_over());
    assert_eq!(slot.seen().lease_expires_at, seen.lease_expires_at, "both were handed over");
    for resolution in [complete_as(200), Resolution::Release] {
        assert_eq!(slot.resolve(seen, &resolution), ResolveOutcome::Changed);
        assert!(!slot.wrote);
    }
    // The successor settles it, as the operator meant to: still it isn't the operator who did.
    for resolution in [complete_as(200), Resolution::Release] {
        let mut slot = OneSlot { record: slot.record.clone(), ..slot };
        assert_eq!(slot.resolve(slot.seen(), &resolution), ResolveOutcome::Resolved);
        assert_eq!(slot.resolve(seen, &resolution), ResolveOutcome::Changed, "{:?}", slot.record);
    }
}

#[test]
fn o1_the_same_resolution_again_is_already_done_and_another_is_changed() {
    let settle = |resolution: &Resolution| {
        let (mut slot, _) = OneSlot::begun(Policy::Refuse);
        slot.pass(LEASE);
        let seen = slot.seen();
        assert_eq!(slot.resolve(seen, resolution), ResolveOutcome::Resolved);
        (slot, seen)
    };
    let resolutions = [complete_as(200), complete_as(500), Resolution::Release];
    for first in &resolutions {
        for second in &resolutions {
            let (mut slot, seen) = settle(first);
            let expected =
                if first == second { ResolveOutcome::AlreadyDone } else { ResolveOutcome::Changed };
            assert_eq!(slot.resolve(seen, second), expected, "{second:?} after {first:?}");
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn o2_purge_deletes_the_record_of_that_fence_whatever_its_state() {
    let (pending, _) = OneSlot::begun(Policy::Refuse);
    let (completed, _) = OneSlot::completed_by_a(Policy::TakeOver);
    let (mut released, grant) = OneSlot::held(Policy::TakeOver);
    assert_eq!(released.release(&grant), ReleaseOutcome::Released);
    let (mut expired, _) = OneSlot::held(Policy::TakeOver);
    expired.pass(LEASE + RETENTION);
    for mut slot in [pending, completed, released, expired] {
        let record = slot.record.clone().unwrap();
        for other in [record.fence().get() - 1, record.fence().get() + 1] {
            assert!(!slot.apply(purge(Some(&record), Fence::new(other))), "{record:?}");
            assert!(!slot.wrote);
        }
        assert!(slot.apply(purge(Some(&record), record.fence())), "{record:?}");
        assert_eq!(slot.record, None);
        assert!(!slot.apply(purge(None, record.fence())), "a second purge finds nothing");
    }
}
