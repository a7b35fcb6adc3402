//! The States paragraph, G1's word for expired, and what an operation as a value does.

use super::*;

/// The smallest step of a clock.
const MICRO: Duration = Duration::from_micros(1);

fn just_before(end: Timestamp) -> Timestamp {
    Timestamp::from_micros(end.as_micros() - 1)
}

#[test]
fn a_record_is_absent_from_exactly_its_end_on_for_every_operation() {
    for (situation, slot, grant) in [
        ("pending", OneSlot::held(Policy::TakeOver).0, OneSlot::held(Policy::TakeOver).1),
        ("completed", OneSlot::completed_by_a(Policy::Refuse).0, OneSlot::completed_by_a(Policy::Refuse).1),
    ] {
        let record = slot.record.clone().unwrap();
        let end = record.expires_at();
        let before = OneSlot { record: Some(record.clone()), now: just_before(end), wrote: false };
        assert!(!record.is_expired(before.now));
        assert!(before.lookup().is_some(), "{situation}");

        let expired = || OneSlot { record: Some(record.clone()), now: end, wrote: false };
        assert!(record.is_expired(end));
        assert_eq!(expired().lookup(), None, "{situation}");
        assert_eq!(expired().complete(&grant, &completion(200)), CompleteOutcome::Lost(Loss::Gone));
        assert_eq!(expired().renew(&grant, &heartbeat(LEASE)), RenewOutcome::Lost(Loss::Gone));
        assert_eq!(expired().release(&grant), ReleaseOutcome::Lost(Loss::Gone));
        let seen = Seen { fence: grant.fence, lease_expires_at: at(START + LEASE) };
        assert_eq!(expired().resolve(seen, &Resolution::Release), ResolveOutcome::Changed);
        assert_eq!(expired().granted(B, another_request(Policy::TakeOver)).attempt, 1);
    }
}

#[test]
fn g1_expired_is_what_has_come_to_its_end_and_never_is_never() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    let end = at(START + LEASE + RETENTION);
    let mut records = vec![slot.record.clone().unwrap()];
    assert_eq!(slot.release(&grant), ReleaseOutcome::Released);
    records.push(slot.record.clone().unwrap());
    records.push(OneSlot::completed_by_a(Policy::TakeOver).0.record.unwrap());
    for record in records {
        assert!(!record.is_expired(just_before(end)), "{record:?}");
        assert!(record.is_expired(end), "{record:?}");
        assert!(record.is_expired(end + MICRO), "{record:?}");
    }
    let begun = OneSlot::begun(Policy::Refuse).0.record.unwrap();
    assert!(!begun.is_expired(just_before(Timestamp::NEVER)), "{begun:?}");
}

#[test]
fn a_lease_lapses_at_exactly_its_end() {
    let (mut slot, _) = OneSlot::held(Policy::TakeOver);
    let end = slot.pending().lease_expires_at;
    slot.now = just_before(end);
    assert!(!slot.pending().is_lapsed(slot.now));
    let answer = slot.reserve(B, request(Policy::TakeOver));
    assert!(matches!(answer, Ok(ReservationOutcome::InFlight(_))), "{answer:?}");
    slot.now = end;
    assert!(slot.pending().is_lapsed(slot.now));
    assert_eq!(slot.granted(B, request(Policy::TakeOver)).attempt, 2);
}

#[test]
fn lapsed_at_once_is_undone_by_no_step_of_the_clock() {
    let (mut handed_over, grant) = OneSlot::begun(Policy::TakeOver);
    handed_over.renewed(&grant, &Renewal::hand_over());
    let (mut released_in_doubt, _, b) = OneSlot::taken_over();
    assert_eq!(released_in_doubt.release(&b), ReleaseOutcome::Released);
    for mut slot in [handed_over, released_in_doubt] {
        slot.now = Timestamp::ZERO;
        assert!(slot.pending().is_lapsed(slot.now));
        let answer = slot.reserve(C, request(Policy::TakeOver));
        assert!(matches!(answer, Ok(ReservationOutcome::Reserved(_))), "{answer:?}");
    }
}

#[test]
fn the_end_is_raised_with_the_lease_and_never_lowered() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    let mut highest = slot.pending().expires_at;
    for (later, lease) in [(1, 1), (2, 60), (3, 1), (30, 5), (1, 100)] {
        slot.pass(later);
        slot.renewed(&grant, &heartbeat(lease));
        let held = slot.pending();
        assert!(held.expires_at >= held.lease_expires_at + held.retention, "{held:?}");
        assert!(held.expires_at >= highest, "{held:?}");
        highest = held.expires_at;
    }
}

#[test]
fn a_step_back_revives_what_was_not_deleted_yet() {
    let (mut slot, grant) = OneSlot::held(Policy::TakeOver);
    slot.pass(LEASE + RETENTION);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Lost(Loss::Gone));
    slot.step_back(1);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
}

#[test]
fn with_retention_0_the_record_ends_with_the_lease() {
    let mut slot = OneSlot::new();
    let single_ttl = ReserveRequest { terms: terms(Policy::TakeOver, LEASE, 0), ..request(Policy::TakeOver) };
    let grant = slot.granted(A, single_ttl);
    assert_eq!(slot.pending().expires_at, at(START + LEASE));
    slot.pass(1);
    assert_eq!(slot.complete(&grant, &completion(200)), CompleteOutcome::Stored);
    assert_eq!(slot.completed().expires_at, at(START + LEASE));
    slot.pass(LEASE - 1);
    assert_eq!(slot.granted(B, single_ttl).attempt, 1);
}

#[test]
fn an_operation_as_a_value_is_the_function_of_its_name() {
    let now = at(START);
    let (slot, grant) = OneSlot::begun(Policy::TakeOver);
    let record = slot.record.as_ref();
    let seen = slot.seen();
    let reserve = Operation::Reserve { token: B, request: request(Policy::TakeOver) };
    let renewal = heartbeat(99);
    let renew_op = Operation::Renew { grant: grant.clone(), renewal: renewal.clone() };
    let complete_op = Operation::Complete { grant: grant.clone(), completion: completion(200) };
    let release_op = Operation::Release { grant: grant.clone() };
    let resolve_op = Operation::Resolve { seen, resolution: Resolution::Release };
    assert_eq!(
        step(record, &reserve, now),
        reserve_or_fetch(record, B, &request(Policy::TakeOver), now).map(Answer::Reserve)
    );
    assert_eq!(step(record, &renew_op, now), renew(record, &grant, &renewal, now).map(Answer::Renew));
    assert_eq!(
        step(record, &complete_op, now),
        complete(record, &grant, &completion(200), now).map(Answer::Complete)
    );
    assert_eq!(step(record, &release_op, now), release(record, &grant, now).map(Answer::Release));
    assert_eq!(
        step(record, &resolve_op, now),
        resolve(record, seen, &Resolution::Release, now).map(Answer::Resolve)
    );
    let looked = step(record, &Operation::Lookup, now);
    assert_eq!((looked.change, looked.answer), (Change::Keep, Answer::Lookup(lookup(record, now))));
    let purged = step(record, &Operation::Purge { fence: grant.fence }, now);
    assert_eq!((purged.change, purged.answer), (Change::Delete, Answer::Purge(true)));
}

#[test]
fn q2_what_ends_a_hold_wakes_and_what_goes_on_does_not() {
    let (now, [take_over, refuse]) = (at(START), BOTH);
    let (held, grant) = OneSlot::begun(take_over);
    let record = held.record.as_ref();
    let (taken_over, _, b) = OneSlot::taken_over();
    let (not_begun, refused) = OneSlot::held(refuse);
    let resolve_late = |resolution| resolve(record, held.seen(), &resolution, at(START + LEASE)).change;
    for (what, change) in [
        ("complete", complete(record, &grant, &completion(200), now).change),
        ("release", release(record, &grant, now).change),
        ("release in doubt", release(taken_over.record.as_ref(), &b, taken_over.now).change),
        ("hand over", renew(record, &grant, &Renewal::hand_over(), now).change),
        (
            "hand over, not begun",
            renew(not_begun.record.as_ref(), &refused, &Renewal::hand_over(), now).change,
        ),
        ("resolve to complete", resolve_late(Resolution::Complete(completion(200)))),
        ("resolve to release", resolve_late(Resolution::Release)),
        ("purge", purge(record, grant.fence).change),
    ] {
        assert!(change.wakes(), "{what}: {change:?}");
    }
    for (what, change) in [
        ("reserve", reserve_or_fetch(None, B, &request(take_over), now).change),
        ("retry", reserve_or_fetch(record, A, &request(take_over), now).change),
        ("takeover", reserve_or_fetch(record, B, &request(take_over), at(START + LEASE)).change),
        ("renew", renew(record, &grant, &heartbeat(99), now).change),
        ("complete by a stranger", complete(None, &grant, &completion(200), now).change),
    ] {
        assert!(!change.wakes(), "{what}: {change:?}");
    }
}
