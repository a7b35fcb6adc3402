//! complete: C1 to C5.

use super::*;

#[test]
fn c1_a_holder_in_its_lease_stores_and_the_end_stays() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    slot.pass(LEASE - 1);
    assert_eq!(slot.complete(&grant, &completion(201)), CompleteOutcome::Stored);
    let expected = IdempotencyRecord::new(
        request(Policy::TakeOver).fingerprint,
        grant.fence,
        1,
        response(201),
        at(START),
        at(START + LEASE - 1),
        at(START + LEASE + RETENTION),
    );
    assert_eq!(*slot.completed(), expected);
    assert!(matches!(&slot.record, Some(Record::Completed(c)) if c.token == A));
}

#[test]
fn c1_an_answer_is_kept_for_the_retention_at_least() {
    for policy in BOTH {
        for later in [0, 1, LEASE - 1] {
            let (mut slot, grant) = OneSlot::begun(policy);
            slot.pass(later);
            assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
            let kept = slot.completed().expires_at - slot.now;
            assert!(kept >= secs(RETENTION), "{policy:?}, {later} s later: {kept:?}");
        }
    }
}

#[test]
fn c1_under_refuse_never_becomes_the_leases_end_and_the_retention() {
    let (mut slot, grant) = OneSlot::begun(Policy::Refuse);
    assert_eq!(slot.pending().expires_at, Timestamp::NEVER);
    slot.pass(4);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
    assert_eq!(slot.completed().expires_at, at(START + LEASE + RETENTION));
}

#[test]
fn c2_a_lapsed_holder_that_nobody_succeeded_stores_for_the_retention_from_now() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::begun(policy);
        slot.pass(LEASE + 5);
        assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
        assert_eq!(slot.completed().expires_at, at(START + LEASE + 5 + RETENTION), "{policy:?}");
    }
}

#[test]
fn c2_keeps_the_later_end() {
    // Handed over: lapsed, while expires_at still counts from the long lease.
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    slot.renewed(&grant, &heartbeat(60));
    slot.renewed(&grant, &Renewal::hand_over());
    slot.pass(1);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
    assert_eq!(slot.completed().expires_at, at(START + 60 + RETENTION));
}

#[test]
fn c2_a_handed_over_refuse_record_expires_the_retention_from_now() {
    let (mut slot, grant) = OneSlot::begun(Policy::Refuse);
    slot.renewed(&grant, &Renewal::hand_over());
    slot.pass(3);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
    assert_eq!(slot.completed().expires_at, at(START + 3 + RETENTION));
}

#[test]
fn c3_a_second_completion_hears_the_first_and_changes_nothing() {
    for policy in BOTH {
        let (mut slot, grant) = OneSlot::completed_by_a(policy);
        let first = slot.completed().clone();
        slot.pass(5);
        for again in [completion(200), completion(500), completion(500).keep_for(secs(1)).unwrap()] {
            assert_eq!(slot.complete(&grant, &again), CompleteOutcome::AlreadyStored(first.clone()));
            assert!(!slot.wrote);
        }
    }
}

#[test]
fn c4_whoever_holds_it_no_longer_writes_nothing_and_hears_why() {
    let mut strangers = strangers();
    let (mut released, grant) = OneSlot::held(Policy::TakeOver);
    assert_eq!(released.release(&grant), ReleaseOutcome::Released);
    strangers.push(("released by itself", released, grant, Loss::Gone));
    for (situation, mut slot, grant, loss) in strangers {
        assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Lost(loss), "{situation}");
        assert!(!slot.wrote, "{situation}");
    }
}

#[test]
fn c5_an_answer_is_kept_for_what_the_completion_says_shorter_or_longer() {
    for policy in BOTH {
        for (later, keep) in [(0, 1), (LEASE - 1, 1), (LEASE - 1, 5_000), (LEASE + 5, 1), (LEASE + 5, 5_000)]
        {
            let (mut slot, grant) = OneSlot::begun(policy);
            slot.pass(later);
            let completion = completion(503).keep_for(secs(keep)).unwrap();
            assert_eq!(slot.complete(&grant, &completion), CompleteOutcome::Stored);
            assert_eq!(slot.completed().expires_at, at(START + later + keep), "{policy:?}, {later} s later");
        }
    }
}

#[test]
fn attempts_and_the_first_holders_time_are_those_of_the_record() {
    let (mut slot, _, b) = OneSlot::taken_over();
    assert_eq!(slot.complete(&b, &completion(200)), CompleteOutcome::Stored);
    let record = slot.completed();
    assert_eq!((record.attempt, record.fence), (2, b.fence));
    assert_eq!((record.created_at, record.completed_at), (at(START), at(START + LEASE)));
}
