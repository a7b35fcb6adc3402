//! renew: W1 to W4.

use super::*;

#[test]
fn w1_a_renewal_says_that_the_holder_began_and_how_long_it_holds() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    slot.pass(4);
    assert_eq!(slot.renewed(&grant, &heartbeat(LEASE)), Renewed::new(secs(LEASE), 0));
    let held = slot.pending();
    assert!(held.begun);
    assert_eq!(held.lease_expires_at, at(START + 4 + LEASE));
    assert_eq!(held.expires_at, at(START + 4 + LEASE + RETENTION));
    assert_eq!((held.token, held.fence, held.attempt), (A, grant.fence, 1));
    assert_eq!(held.created_at, at(START));
}

#[test]
fn w1_a_shorter_or_late_renewal_never_shortens_a_lease() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::held(policy);
        slot.renewed(&grant, &heartbeat(60));
        slot.pass(10);
        assert_eq!(slot.renewed(&grant, &heartbeat(1)).lease_left, secs(50));
        assert_eq!(slot.pending().lease_expires_at, at(START + 60));
    }
}

#[test]
fn w1_a_lapsed_holder_that_nobody_succeeded_holds_again() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::begun(policy);
        slot.pass(LEASE + 5);
        assert_eq!(slot.renewed(&grant, &heartbeat(LEASE)).lease_left, secs(LEASE));
        let answer = slot.reserve(B, request(policy));
        assert!(matches!(answer, Ok(ReservationOutcome::InFlight(_))), "{answer:?}");
    }
}

#[test]
fn w1_a_handed_over_holder_holds_again() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::begun(policy);
        slot.renewed(&grant, &Renewal::hand_over());
        assert_eq!(slot.renewed(&grant, &heartbeat(3)).lease_left, secs(3));
        assert_eq!(slot.pending().lease_expires_at, at(START + 3));
    }
}

#[test]
fn w1_under_refuse_what_has_begun_never_expires() {
    let (mut slot, grant) = OneSlot::held(Policy::Refuse);
    assert_eq!(slot.pending().expires_at, at(START + LEASE + RETENTION));
    slot.renewed(&grant, &heartbeat(LEASE));
    assert_eq!(slot.pending().expires_at, Timestamp::NEVER);
    slot.pass(1_000_000_000);
    let answer = slot.reserve(B, request(Policy::TakeOver));
    assert!(matches!(answer, Ok(ReservationOutcome::Indeterminate(_))), "{answer:?}");
}

#[test]
fn w1_a_checkpoint_with_a_higher_sequence_replaces_the_stored_one_and_no_other_does() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    let mut save = |sequence, expected| {
        let renewed = slot.renewed(&grant, &heartbeat(LEASE).with_checkpoint(saved(sequence)));
        assert_eq!(renewed.sequence, expected, "after {sequence}");
        assert_eq!(slot.pending().checkpoint, Some(saved(expected)), "after {sequence}");
    };
    save(1, 1);
    save(5, 5);
    save(4, 5);
    save(6, 6);
    // The same number with other data: the stored one stays.
    let same_number = Checkpoint::new(6, "other").unwrap();
    assert_eq!(slot.renewed(&grant, &heartbeat(LEASE).with_checkpoint(same_number)).sequence, 6);
    assert_eq!(slot.pending().checkpoint, Some(saved(6)));
    assert_eq!(slot.renewed(&grant, &heartbeat(LEASE)).sequence, 6, "absent changes nothing");
    assert_eq!(slot.pending().checkpoint, Some(saved(6)));
}

#[test]
fn w1_a_successor_goes_on_from_the_inherited_sequence() {
    let (mut slot, a) = OneSlot::held(Policy::TakeOver);
    slot.renewed(&a, &heartbeat(LEASE).with_checkpoint(saved(7)));
    slot.pass(LEASE);
    let b = slot.granted(B, request(Policy::TakeOver));
    let from_one = slot.renewed(&b, &heartbeat(LEASE).with_checkpoint(saved(1)));
    assert_eq!(from_one.sequence, 7, "numbered from 1, it is older than the inherited one, and it hears so");
    let next = b.checkpoint.unwrap().next("page 8").unwrap();
    let grant = Grant { checkpoint: None, ..slot.pending().grant() };
    assert_eq!(slot.renewed(&grant, &heartbeat(LEASE).with_checkpoint(next.clone())).sequence, 8);
    assert_eq!(slot.pending().checkpoint, Some(next));
}

#[test]
fn w2_a_holder_that_completed_hears_so() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::completed_by_a(policy);
        for renewal in [heartbeat(LEASE).with_checkpoint(saved(1)), Renewal::hand_over()] {
            assert_eq!(slot.renew(&grant, &renewal), RenewOutcome::AlreadyStored);
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn w3_whoever_holds_it_no_longer_writes_nothing_and_hears_why() {
    let mut strangers = strangers();
    let (mut released, grant) = OneSlot::held(Policy::Refuse);
    assert_eq!(released.release(&grant), ReleaseOutcome::Released);
    strangers.push(("released by itself", released, grant, Loss::Gone));
    for (situation, mut slot, grant, loss) in strangers {
        for renewal in [heartbeat(LEASE).with_checkpoint(saved(1)), Renewal::hand_over()] {
            assert_eq!(slot.renew(&grant, &renewal), RenewOutcome::Lost(loss), "{situation}");
            assert!(!slot.wrote, "{situation}");
        }
    }
}

#[test]
fn w4_a_holder_steps_back_and_what_it_may_have_done_stays_known() {
    for lapsed_for in [None, Some(5)] {
        let (mut slot, a) = OneSlot::begun(Policy::TakeOver);
        slot.pass(lapsed_for.map_or(1, |late| LEASE + late));
        let before = slot.pending().clone();
        let stepped = slot.renewed(&a, &Renewal::hand_over().with_checkpoint(saved(4)));
        assert_eq!(stepped, Renewed::new(Duration::ZERO, 4));
        let expected = Pending { lease_expires_at: Timestamp::ZERO, checkpoint: Some(saved(4)), ..before };
        assert_eq!(*slot.pending(), expected);
        let b = slot.granted(B, request(Policy::TakeOver));
        assert_eq!((b.attempt, b.checkpoint), (2, Some(saved(4))));
    }
}

#[test]
fn w4_under_take_over_nothing_need_have_begun() {
    let (mut slot, a) = OneSlot::held(Policy::TakeOver);
    slot.renewed(&a, &Renewal::hand_over());
    assert!(!slot.pending().begun, "stepping back begins nothing");
    assert_eq!(slot.granted(B, request(Policy::TakeOver)).attempt, 2);
}

#[test]
fn w4_under_refuse_what_has_begun_is_indeterminate_at_once_and_for_ever() {
    let (mut slot, a) = OneSlot::begun(Policy::Refuse);
    let stepped = slot.renewed(&a, &Renewal::hand_over().with_checkpoint(saved(1)));
    assert_eq!(stepped, Renewed::new(Duration::ZERO, 1));
    assert_eq!(slot.pending().lease_expires_at, Timestamp::ZERO);
    assert_eq!(slot.pending().expires_at, Timestamp::NEVER);
    for _ in 0..2 {
        let answer = slot.reserve(B, request(Policy::Refuse));
        assert!(matches!(answer, Ok(ReservationOutcome::Indeterminate(_))), "{answer:?}");
        slot.pass(1_000_000_000);
    }
}

#[test]
fn w4_under_refuse_what_has_not_begun_is_released_and_no_late_renewal_blocks_it() {
    for attempt in [1, 2] {
        let (mut slot, mut grant) = OneSlot::held(Policy::Refuse);
        if attempt == 2 {
            slot.pass(LEASE);
            grant = slot.granted(B, request(Policy::Refuse));
        }
        let expires_at = slot.pending().expires_at;
        let stepped = slot.renewed(&grant, &Renewal::hand_over().with_checkpoint(saved(1)));
        assert_eq!(stepped, Renewed::new(Duration::ZERO, 0), "nothing is stored of a checkpoint either");
        let expected = Released { token: grant.token, fence: grant.fence, expires_at };
        assert_eq!(*slot.released(), expected);
        assert_eq!(slot.renew(&grant, &heartbeat(LEASE)), RenewOutcome::Lost(Loss::Gone));
        assert_eq!(slot.granted(C, request(Policy::Refuse)).attempt, 1);
    }
}
