//! reserve_or_fetch: R1 to R6, R9, R11.

use super::*;

#[test]
fn r1_an_absent_slot_is_granted_as_attempt_1() {
    for policy in BOTH {
        let mut slot = OneSlot::new();
        let grant = slot.granted(A, request(policy));
        assert_eq!(
            (grant.token, grant.attempt, grant.policy, &grant.checkpoint),
            (A, 1, policy, &None),
            "{grant:?}"
        );
        let expected = Pending {
            fingerprint: request(policy).fingerprint,
            token: A,
            fence: grant.fence,
            attempt: 1,
            checkpoint: None,
            begun: false,
            policy,
            retention: secs(RETENTION),
            created_at: at(START),
            lease_expires_at: at(START + LEASE),
            expires_at: at(START + LEASE + RETENTION),
        };
        assert_eq!(*slot.pending(), expected);
    }
}

#[test]
fn r1_an_expired_record_is_granted_anew_whatever_it_was() {
    for (situation, mut slot, grant, _) in strangers().into_iter().filter(|s| s.0.starts_with("expired")) {
        // Even to its own token, and even for another request.
        for (token, request) in [(A, another_request(Policy::TakeOver)), (C, request(Policy::Refuse))] {
            let record = slot.record.clone();
            let new = slot.granted(token, request);
            assert_eq!((new.attempt, new.policy), (1, request.terms.policy()), "{situation}");
            assert!(new.fence > grant.fence, "{situation}: {new:?} after {grant:?}");
            assert_eq!(slot.pending().created_at, slot.now, "{situation}");
            slot.record = record;
        }
    }
}

#[test]
fn r1_a_released_slot_is_granted_to_another_token_for_any_request() {
    for policy in BOTH {
        let (mut slot, a) = OneSlot::held(policy);
        assert_eq!(slot.release(&a), ReleaseOutcome::Released);
        slot.pass(1);
        let b = slot.granted(B, another_request(Policy::TakeOver));
        assert_eq!((b.attempt, b.policy, &b.checkpoint), (1, Policy::TakeOver, &None));
        assert!(b.fence > a.fence);
        assert_eq!(slot.pending().created_at, at(START + 1));
    }
}

#[test]
fn r2_another_request_is_a_conflict_before_anything_else_is_looked_at() {
    for (policy, asked) in BOTH.into_iter().flat_map(|policy| BOTH.map(|asked| (policy, asked))) {
        let (live, _) = OneSlot::begun(policy);
        let (mut lapsed, _) = OneSlot::begun(policy);
        lapsed.pass(LEASE);
        let (mut handed_over, grant) = OneSlot::begun(policy);
        handed_over.renewed(&grant, &Renewal::hand_over());
        let (completed, _) = OneSlot::completed_by_a(policy);
        for mut slot in [live, lapsed, handed_over, completed] {
            for token in [A, B] {
                let answer = slot.reserve(token, another_request(asked));
                assert_eq!(answer, Ok(ReservationOutcome::Conflict), "{token:?} on {:?}", slot.record);
                assert!(!slot.wrote);
            }
        }
    }
}

#[test]
fn r3_the_same_token_gets_its_own_grant_again() {
    for policy in BOTH {
        for (later, lease_left_to) in
            [(0, START + LEASE), (4, START + 4 + LEASE), (LEASE + 5, START + 15 + LEASE)]
        {
            let (mut slot, first) = OneSlot::held(policy);
            slot.pass(later);
            assert_eq!(slot.granted(A, request(policy)), first, "{later} s later");
            let held = slot.pending();
            assert_eq!(held.lease_expires_at, at(lease_left_to), "{later} s later");
            assert_eq!(held.expires_at, at(lease_left_to + RETENTION), "{later} s later");
            assert!(!held.begun, "a repeated reserve says nothing about the work");
            assert_eq!(held.created_at, at(START));
        }
    }
}

#[test]
fn r3_never_shortens_a_lease_that_was_acknowledged() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    slot.renewed(&grant, &heartbeat(60));
    slot.pass(1);
    slot.granted(A, request(Policy::TakeOver));
    assert_eq!(slot.pending().lease_expires_at, at(START + 60));
    assert_eq!(slot.pending().expires_at, at(START + 60 + RETENTION));
}

#[test]
fn r3_gives_the_checkpoint_now_stored_and_the_records_policy() {
    let (mut slot, grant) = OneSlot::held(Policy::Refuse);
    slot.renewed(&grant, &heartbeat(LEASE).with_checkpoint(saved(3)));
    let again = slot.granted(A, request(Policy::TakeOver));
    assert_eq!((again.policy, again.checkpoint), (Policy::Refuse, Some(saved(3))));
    assert!(slot.pending().begun, "what has begun stays begun");
    assert_eq!(slot.pending().expires_at, Timestamp::NEVER);
    assert_eq!(slot.pending().retention, secs(RETENTION), "the stored retention counts");
}

#[test]
fn r3_keeps_the_stored_retention_whatever_the_repeat_asks() {
    let (mut slot, _) = OneSlot::held(Policy::TakeOver);
    let mut longer = request(Policy::TakeOver);
    longer.terms = terms(Policy::TakeOver, LEASE, 1_000);
    slot.granted(A, longer);
    assert_eq!(slot.pending().retention, secs(RETENTION));
    assert_eq!(slot.pending().expires_at, at(START + LEASE + RETENTION));
}

#[test]
fn r3_on_a_handed_over_record_holds_it_again() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::begun(policy);
        slot.renewed(&grant, &Renewal::hand_over());
        slot.pass(1);
        let again = slot.granted(A, request(policy));
        assert_eq!((again.fence, again.attempt), (grant.fence, 1));
        assert_eq!(slot.pending().lease_expires_at, at(START + 1 + LEASE));
    }
}

#[test]
fn r4_a_live_lease_makes_others_wait_for_its_rest() {
    for (policy, asked) in BOTH.into_iter().flat_map(|policy| BOTH.map(|asked| (policy, asked))) {
        for (later, rest) in [(0, secs(LEASE)), (7, secs(3)), (LEASE - 1, secs(1))] {
            let (mut slot, _) = OneSlot::begun(policy);
            slot.pass(later);
            let expected = InFlight::new(rest);
            assert_eq!(expected.retry_after, rest);
            assert_eq!(slot.reserve(B, request(asked)), Ok(ReservationOutcome::InFlight(expected)));
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn r4_the_rest_is_rounded_up_and_never_zero() {
    let (mut slot, _) = OneSlot::held(Policy::TakeOver);
    slot.now = Timestamp::from_micros(at(START + LEASE).as_micros() - 1);
    let Ok(ReservationOutcome::InFlight(busy)) = slot.reserve(B, request(Policy::TakeOver)) else {
        panic!("a lease with 1 µs left is live");
    };
    assert_eq!(busy.retry_after, Duration::from_millis(1));
    slot.now = Timestamp::from_micros(at(START + LEASE).as_micros() - 1_001);
    let Ok(ReservationOutcome::InFlight(busy)) = slot.reserve(B, request(Policy::TakeOver)) else {
        panic!("a lease with 1001 µs left is live");
    };
    assert_eq!(busy.retry_after, Duration::from_millis(2));
}

#[test]
fn r5_a_lapsed_holder_is_succeeded_with_all_it_left() {
    let (mut slot, a) = OneSlot::held(Policy::TakeOver);
    slot.renewed(&a, &heartbeat(LEASE).with_checkpoint(saved(2)));
    slot.pass(LEASE);
    let b = slot.granted(B, request(Policy::TakeOver));
    assert_eq!((b.attempt, b.policy, &b.checkpoint), (2, Policy::TakeOver, &Some(saved(2))));
    assert!(b.fence > a.fence);
    let expected = Pending {
        token: B,
        fence: b.fence,
        attempt: 2,
        begun: false,
        lease_expires_at: at(START + 2 * LEASE),
        expires_at: at(START + 2 * LEASE + RETENTION),
        created_at: at(START),
        checkpoint: Some(saved(2)),
        ..slot.pending().clone()
    };
    assert_eq!(*slot.pending(), expected);
    slot.pass(LEASE);
    assert_eq!(slot.granted(C, request(Policy::TakeOver)).attempt, 3);
    slot.pass(LEASE);
    assert_eq!(slot.granted(A, request(Policy::TakeOver)).attempt, 4, "an old token is a new holder");
}

#[test]
fn r5_under_take_over_the_new_retention_counts_and_the_end_never_comes_earlier() {
    let (mut slot, _) = OneSlot::held(Policy::TakeOver);
    slot.pass(LEASE);
    let shorter = ReserveRequest { terms: terms(Policy::TakeOver, LEASE, 0), ..request(Policy::TakeOver) };
    slot.granted(B, shorter);
    assert_eq!(slot.pending().retention, Duration::ZERO);
    assert_eq!(slot.pending().expires_at, at(START + LEASE + RETENTION));
    slot.pass(LEASE);
    let longer = ReserveRequest { terms: terms(Policy::TakeOver, LEASE, 500), ..request(Policy::TakeOver) };
    slot.granted(C, longer);
    assert_eq!(slot.pending().expires_at, at(START + 3 * LEASE + 500));
}

#[test]
fn r5_under_refuse_an_unbegun_holder_is_succeeded_and_the_larger_retention_counts() {
    for (asked, retention, expected) in
        [(Policy::TakeOver, 0, RETENTION), (Policy::Refuse, 1, RETENTION), (Policy::Refuse, 500, 500)]
    {
        let (mut slot, a) = OneSlot::held(Policy::Refuse);
        slot.pass(LEASE);
        let mut request = request(asked);
        request.terms = terms(asked, LEASE, retention);
        let b = slot.granted(B, request);
        assert_eq!((b.attempt, b.policy), (2, Policy::Refuse), "the record keeps its policy");
        assert!(b.fence > a.fence);
        assert_eq!(slot.pending().policy, Policy::Refuse);
        assert_eq!(slot.pending().retention, secs(expected), "{asked:?} asking for {retention} s");
        assert_eq!(slot.pending().expires_at, at(START + 2 * LEASE + expected));
        assert!(!slot.pending().begun);
    }
}

#[test]
fn r5_a_successor_has_not_begun_though_its_predecessor_had() {
    let (mut slot, _) = OneSlot::begun(Policy::TakeOver);
    assert!(slot.pending().begun);
    slot.pass(LEASE);
    slot.granted(B, request(Policy::TakeOver));
    assert!(!slot.pending().begun);
}

#[test]
fn r6_whoever_may_not_succeed_hears_who_fell_silent_and_for_how_long() {
    // A Refuse caller on a TakeOver record, begun or not; anybody on a Refuse record that has begun.
    let (unbegun, a) = OneSlot::held(Policy::TakeOver);
    let cases = [
        (unbegun, Policy::Refuse),
        (OneSlot::begun(Policy::TakeOver).0, Policy::Refuse),
        (OneSlot::begun(Policy::Refuse).0, Policy::Refuse),
        (OneSlot::begun(Policy::Refuse).0, Policy::TakeOver),
    ];
    for (mut slot, asked) in cases {
        for silent_for in [0, 3] {
            slot.now = at(START + LEASE + silent_for);
            let lapsed = Lapsed::new(a.fence, 1, None, Some(secs(silent_for)));
            let answer = slot.reserve(B, request(asked));
            assert_eq!(answer, Ok(ReservationOutcome::Indeterminate(lapsed)), "{asked:?}");
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn r6_shows_the_checkpoint_and_no_time_after_a_hand_over() {
    let (mut slot, a) = OneSlot::begun(Policy::Refuse);
    slot.renewed(&a, &Renewal::hand_over().with_checkpoint(saved(9)));
    slot.pass(1);
    let lapsed = Lapsed::new(a.fence, 1, Some(saved(9)), None);
    assert_eq!(slot.reserve(B, request(Policy::Refuse)), Ok(ReservationOutcome::Indeterminate(lapsed)));
}

#[test]
fn r6_shows_no_time_after_a_release_that_kept_the_doubt() {
    let (mut slot, _, b) = OneSlot::taken_over();
    assert_eq!(slot.release(&b), ReleaseOutcome::Released);
    let lapsed = Lapsed::new(b.fence, 2, None, None);
    assert_eq!(slot.reserve(C, request(Policy::Refuse)), Ok(ReservationOutcome::Indeterminate(lapsed)));
}

#[test]
fn r7_of_all_who_ask_one_after_another_one_is_granted() {
    for policy in BOTH {
        let mut slot = OneSlot::new();
        slot.granted(A, request(policy));
        for other in 2..20 {
            let answer = slot.reserve(Token::from_bytes([other; 16]), request(policy));
            assert!(matches!(answer, Ok(ReservationOutcome::InFlight(_))), "{answer:?}");
        }
    }
}

#[test]
fn r9_a_completed_slot_replays_the_record_to_everybody() {
    for (policy, asked) in BOTH.into_iter().flat_map(|policy| BOTH.map(|asked| (policy, asked))) {
        let (mut slot, grant) = OneSlot::completed_by_a(policy);
        let record = slot.completed().clone();
        assert_eq!(record.response, response(200));
        assert_eq!((record.fence, record.attempt), (grant.fence, 1));
        slot.pass(RETENTION);
        for token in [A, B] {
            assert_eq!(slot.reserve(token, request(asked)), Ok(ReservationOutcome::Replay(record.clone())));
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn r11_a_spent_token_is_refused_while_its_release_is_remembered() {
    for policy in BOTH {
        let (mut slot, a) = OneSlot::held(policy);
        assert_eq!(slot.release(&a), ReleaseOutcome::Released);
        slot.pass(LEASE + RETENTION - 1);
        for request in [request(policy), another_request(policy)] {
            assert_eq!(slot.reserve(A, request), Err(TokenSpent));
            assert!(!slot.wrote);
        }
        slot.pass(1);
        slot.granted(A, request(policy));
    }
}

#[test]
fn r11_is_an_error_that_had_no_effect() {
    let error = StoreError::from(TokenSpent);
    assert_eq!((error.kind(), error.effect()), (ErrorKind::TokenSpent, Effect::NotApplied));
    assert!(!error.is_retryable(), "the same call would be refused again");
}
