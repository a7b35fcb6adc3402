//! S4: of two grants of one slot, the later has the larger fence.

use super::*;

#[test]
fn s4_a_first_fence_is_the_clocks_microsecond() {
    let (_, grant) = OneSlot::held(Policy::TakeOver);
    assert_eq!(grant.fence.get(), START * 1_000_000);
}

#[test]
fn s4_on_a_clock_that_stands_still_or_steps_back_fences_rise_by_one() {
    for back in [0, 500] {
        // Through release.
        let (mut slot, a) = OneSlot::held(Policy::TakeOver);
        assert_eq!(slot.release(&a), ReleaseOutcome::Released);
        slot.step_back(back);
        assert_eq!(slot.granted(B, request(Policy::TakeOver)).fence.get(), a.fence.get() + 1);

        // Through a takeover.
        let (mut slot, a) = OneSlot::held(Policy::TakeOver);
        slot.renewed(&a, &Renewal::hand_over());
        slot.step_back(back);
        assert_eq!(slot.granted(B, request(Policy::TakeOver)).fence.get(), a.fence.get() + 1);
    }
}

#[test]
fn s4_an_expired_record_that_still_lies_there_counts() {
    for (situation, mut slot, _, _) in strangers().into_iter().filter(|s| s.0.starts_with("expired")) {
        // A fence that ran ahead of the clock.
        let ahead = Fence::new(slot.now.as_micros() + 1_000_000_000_000);
        match slot.record.as_mut().unwrap() {
            Record::Pending(p) => p.fence = ahead,
            Record::Completed(c) => c.record.fence = ahead,
            Record::Released(r) => r.fence = ahead,
        }
        let next = slot.granted(C, request(Policy::TakeOver));
        assert_eq!(next.fence.get(), ahead.get() + 1, "{situation}");
    }
}

#[test]
fn s4_a_later_clock_counts_more_than_the_predecessor() {
    let (mut slot, a, b) = OneSlot::taken_over();
    assert_eq!(b.fence.get(), (START + LEASE) * 1_000_000);
    assert!(b.fence > a.fence);
    slot.pass(LEASE);
    assert_eq!(slot.granted(C, request(Policy::TakeOver)).fence.get(), (START + 2 * LEASE) * 1_000_000);
}

#[test]
fn s2_after_another_grant_an_old_one_changes_nothing_even_with_the_same_token() {
    // The trace that made grants (token, fence): A lapses, B takes over and lapses, and a late copy of A's
    // reserve takes over again.
    let (mut slot, old, _) = OneSlot::taken_over();
    slot.pass(LEASE);
    let new = slot.granted(A, request(Policy::TakeOver));
    assert_eq!(new.token, old.token);
    assert_eq!(slot.complete(&old, &completion(200)), CompleteOutcome::Lost(Loss::TakenOver));
    assert_eq!(slot.renew(&old, &heartbeat(LEASE)), RenewOutcome::Lost(Loss::TakenOver));
    assert_eq!(slot.renew(&old, &Renewal::hand_over()), RenewOutcome::Lost(Loss::TakenOver));
    assert_eq!(slot.release(&old), ReleaseOutcome::Lost(Loss::TakenOver));
    assert_eq!(slot.pending().fence, new.fence);
}
