//! What mutants are made of: ways to change what goes into a right step, or what comes out of it.

use oncekey_core::state::{Answer, Change, Completed, Operation, Pending, Record, Released, Step};
use oncekey_core::{Grant, ReservationOutcome, Timestamp};

pub(crate) fn keep(answer: Answer) -> Step<Answer> {
    Step { change: Change::Keep, answer }
}

pub(crate) fn put(record: Record, answer: Answer) -> Step<Answer> {
    Step { change: Change::Put(record), answer }
}

/// The record as it is shown to the step, where it is Pending.
pub(crate) fn shown(record: Option<&Record>, change: impl FnOnce(&mut Pending)) -> Option<Record> {
    let mut record = record.cloned();
    if let Some(Record::Pending(pending)) = &mut record {
        change(pending);
    }
    record
}

/// The record as it is shown to the step, with another end.
pub(crate) fn ending(record: Option<&Record>, end: impl FnOnce(Timestamp) -> Timestamp) -> Option<Record> {
    let mut record = record.cloned();
    match &mut record {
        Some(Record::Pending(p)) => p.expires_at = end(p.expires_at),
        Some(Record::Completed(c)) => c.record.expires_at = end(c.record.expires_at),
        Some(Record::Released(r)) => r.expires_at = end(r.expires_at),
        None => {}
    }
    record
}

/// The call with another grant.
pub(crate) fn under(call: &Operation, change: impl FnOnce(&mut Grant)) -> Operation {
    let mut call = call.clone();
    match &mut call {
        Operation::Renew { grant, .. } | Operation::Complete { grant, .. } | Operation::Release { grant } => {
            change(grant);
        }
        _ => {}
    }
    call
}

/// The call as the record's own holder would make it.
pub(crate) fn as_holder(record: Option<&Record>, call: &Operation) -> Operation {
    under(call, |grant| {
        match record {
            Some(Record::Pending(p)) => grant.token = p.token,
            Some(Record::Completed(c)) => grant.token = c.token,
            Some(Record::Released(r)) => grant.token = r.token,
            None => {}
        }
        grant.fence = record.map_or(grant.fence, Record::fence);
    })
}

/// The Pending record that there is, if it has not ended.
pub(crate) fn pending(record: Option<&Record>, now: Timestamp) -> Option<&Pending> {
    match record {
        Some(Record::Pending(pending)) if pending.expires_at > now => Some(pending),
        _ => None,
    }
}

/// The Pending record that a step writes.
pub(crate) fn putting(step: &mut Step<Answer>) -> Option<&mut Pending> {
    match &mut step.change {
        Change::Put(Record::Pending(pending)) => Some(pending),
        _ => None,
    }
}

/// The Completed record that a step writes.
pub(crate) fn completing(step: &mut Step<Answer>) -> Option<&mut Completed> {
    match &mut step.change {
        Change::Put(Record::Completed(completed)) => Some(completed),
        _ => None,
    }
}

/// The Released record that a step writes.
pub(crate) fn releasing(step: &mut Step<Answer>) -> Option<&mut Released> {
    match &mut step.change {
        Change::Put(Record::Released(released)) => Some(released),
        _ => None,
    }
}

/// The record that a grant writes, and the grant.
pub(crate) fn granting(step: &mut Step<Answer>) -> Option<(&mut Pending, &mut Grant)> {
    match (&mut step.change, &mut step.answer) {
        (Change::Put(Record::Pending(pending)), Answer::Reserve(Ok(ReservationOutcome::Reserved(grant)))) => {
            Some((pending, grant))
        }
        _ => None,
    }
}

/// The same, of a record's first grant (R1).
pub(crate) fn first<'a>(
    record: Option<&Record>,
    step: &'a mut Step<Answer>,
    now: Timestamp,
) -> Option<(&'a mut Pending, &'a mut Grant)> {
    granting(step).filter(|_| pending(record, now).is_none())
}

/// The same, of a reserve that is its own retry (R3).
pub(crate) fn again<'a>(
    record: Option<&Record>,
    step: &'a mut Step<Answer>,
    now: Timestamp,
) -> Option<(&'a mut Pending, &'a mut Grant)> {
    let held = pending(record, now)?.fence;
    granting(step).filter(|(put, _)| put.fence == held)
}

/// The same, of a takeover (R5).
pub(crate) fn over<'a>(
    record: Option<&Record>,
    step: &'a mut Step<Answer>,
    now: Timestamp,
) -> Option<(&'a mut Pending, &'a mut Grant)> {
    let held = pending(record, now)?.fence;
    granting(step).filter(|(put, _)| put.fence != held)
}
