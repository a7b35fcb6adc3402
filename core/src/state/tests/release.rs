//! release: L1 to L5.

use super::*;

#[test]
fn l1_a_first_attempt_leaves_a_released_record_that_ends_when_it_would_have() {
    for policy in BOTH {
        for later in [0, LEASE + 1] {
            let (mut slot, grant) = OneSlot::held(policy);
            slot.pass(later);
            assert_eq!(slot.release(&grant), ReleaseOutcome::Released);
            let expires_at = at(START + LEASE + RETENTION);
            let expected = Released { token: A, fence: grant.fence, expires_at };
            assert_eq!(*slot.released(), expected);
            assert_eq!(slot.lookup(), None, "Absent to everybody");
        }
    }
}

#[test]
fn l1_a_later_attempt_under_refuse_frees_the_slot_too() {
    let (mut slot, _) = OneSlot::held(Policy::Refuse);
    slot.pass(LEASE);
    let b = slot.granted(B, request(Policy::Refuse));
    assert_eq!(b.attempt, 2);
    assert_eq!(slot.release(&b), ReleaseOutcome::Released);
    assert_eq!(slot.released().fence, b.fence);
    assert_eq!(slot.granted(C, request(Policy::Refuse)).attempt, 1);
}

#[test]
fn l1_never_becomes_the_later_of_now_and_the_leases_end_and_the_retention() {
    for (later, handed_over, expected) in [
        (4, false, START + LEASE + RETENTION),
        (LEASE + 5, false, START + LEASE + 5 + RETENTION),
        (4, true, START + 4 + RETENTION),
    ] {
        let (mut slot, grant) = OneSlot::begun(Policy::Refuse);
        if handed_over {
            slot.renewed(&grant, &Renewal::hand_over());
        }
        slot.pass(later);
        assert_eq!(slot.pending().expires_at, Timestamp::NEVER);
        assert_eq!(slot.release(&grant), ReleaseOutcome::Released);
        assert_eq!(slot.released().expires_at, at(expected), "{later} s later, handed over: {handed_over}");
    }
}

#[test]
fn l2_a_later_attempt_under_take_over_keeps_the_doubt_about_the_first() {
    let (mut slot, a) = OneSlot::begun(Policy::TakeOver);
    slot.renewed(&a, &heartbeat(LEASE).with_checkpoint(saved(2)));
    slot.pass(LEASE);
    let b = slot.granted(B, request(Policy::TakeOver));
    let before = slot.pending().clone();
    assert_eq!(slot.release(&b), ReleaseOutcome::Released);
    assert_eq!(*slot.pending(), Pending { lease_expires_at: Timestamp::ZERO, ..before });
    let c = slot.granted(C, request(Policy::TakeOver));
    assert_eq!((c.attempt, c.checkpoint), (3, Some(saved(2))));
    // And another request is still a conflict.
    assert_eq!(slot.reserve(A, another_request(Policy::TakeOver)), Ok(ReservationOutcome::Conflict));
}

#[test]
fn l2_repeated_answers_released_again() {
    let (mut slot, _, b) = OneSlot::taken_over();
    assert_eq!(slot.release(&b), ReleaseOutcome::Released);
    let once = slot.record.clone();
    assert_eq!(slot.release(&b), ReleaseOutcome::Released);
    assert_eq!(slot.record, once);
}

#[test]
fn l3_a_stored_answer_is_never_deleted_by_its_holder() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::completed_by_a(policy);
        assert_eq!(slot.release(&grant), ReleaseOutcome::AlreadyStored);
        assert!(!slot.wrote);
    }
}

#[test]
fn l4_a_repeated_release_says_released_and_changes_nothing() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::held(policy);
        assert_eq!(slot.release(&grant), ReleaseOutcome::Released);
        slot.pass(LEASE + RETENTION - 1);
        assert_eq!(slot.release(&grant), ReleaseOutcome::Released);
        assert!(!slot.wrote);
        let other_fence = Grant { fence: Fence::new(grant.fence.get() + 1), ..grant.clone() };
        assert_eq!(slot.release(&other_fence), ReleaseOutcome::Lost(Loss::Gone));
        let other_token = Grant { token: B, ..grant };
        assert_eq!(slot.release(&other_token), ReleaseOutcome::Lost(Loss::Gone));
    }
}

#[test]
fn l5_whoever_holds_it_no_longer_writes_nothing_and_hears_why() {
    for (situation, mut slot, grant, loss) in strangers() {
        assert_eq!(slot.release(&grant), ReleaseOutcome::Lost(loss), "{situation}");
        assert!(!slot.wrote, "{situation}");
    }
}
