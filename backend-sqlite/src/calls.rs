//! The operations, as statements on a connection that holds the write lock.
//!
//! The guards of the statements decide; where one wrote nothing, the record is read in the same
//! transaction and the state machine names the answer. Nothing can change in between: SQLite has one
//! writer at a time.
//!
//! `Err(rusqlite::Error)` means that the transaction has to be rolled back; the inner `Err(StoreError)` is
//! this call's alone, and wrote nothing.

use std::num::NonZeroU32;

use oncekey_core::codec::Corrupt;
use oncekey_core::state::{self, Change, Record, Step};
use oncekey_core::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, Fence, Grant, ReleaseOutcome, RenewOutcome,
    Renewal, Renewed, ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome, Seen, Slot, StoreError,
    Timestamp, Token,
};
use rusqlite::{Connection, Params, Row, params};

use crate::row::{self, int, policy_text, response_parts, span, time};
use crate::statements as sql;

/// What a call does to a connection: an answer or an error of its own, or a failed transaction.
pub(crate) type Ran<A> = rusqlite::Result<Result<A, StoreError>>;

/// Runs a statement to its end, and reads its one row. To the end: a row that was returned is not yet
/// written, and an unfinished read would go on answering from its old snapshot.
pub(crate) fn one_row<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> T,
) -> rusqlite::Result<Option<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let found = rows.next()?.map(read);
    while rows.next()?.is_some() {}
    Ok(found)
}

fn run(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(params)
}

fn read(db: &Connection, slot: &Slot) -> rusqlite::Result<Result<Option<Record>, Corrupt>> {
    let found = one_row(db, sql::RECORD, params![slot.principal().as_str(), slot.key()], row::record)?;
    Ok(found.transpose())
}

/// Reads the record and lets the state machine name the answer of a call that changes nothing.
fn classify<A>(
    db: &Connection,
    slot: &Slot,
    operation: &'static str,
    decide: impl FnOnce(Option<&Record>) -> Step<A>,
) -> Ran<A> {
    let record = match read(db, slot)? {
        Ok(record) => record,
        Err(corrupt) => return Ok(Err(corrupt.in_operation(operation))),
    };
    Ok(settled(decide(record.as_ref()), operation))
}

/// The answer of a step that changes nothing. A step that would change something means that a statement
/// refused what the state machine allows: said, never papered over.
fn settled<A>(step: Step<A>, operation: &'static str) -> Result<A, StoreError> {
    match step.change {
        Change::Keep => Ok(step.answer),
        Change::Put(_) | Change::Delete => {
            let message = "the SQL statement and the state machine disagree: please report this";
            Err(StoreError::new(ErrorKind::Other, operation, Effect::NotApplied, message))
        }
    }
}

pub(crate) fn reserve_or_fetch(
    db: &Connection,
    slot: &Slot,
    token: Token,
    request: &ReserveRequest,
    now: Timestamp,
) -> Ran<ReservationOutcome> {
    const NAME: &str = "reserve_or_fetch";
    let (principal, key, at) = (slot.principal().as_str(), slot.key(), time(now));
    let (fingerprint, terms) = (request.fingerprint, request.terms);
    let (policy, lease, retention) =
        (policy_text(terms.policy()), span(terms.lease()), span(terms.retention()));
    let own = |found: Result<Grant, Corrupt>| {
        found.map(ReservationOutcome::Reserved).map_err(|corrupt| corrupt.in_operation(NAME))
    };

    // R1
    let arguments =
        params![principal, key, at, fingerprint.as_bytes(), token.as_bytes(), policy, lease, retention];
    let fence = one_row(db, sql::RESERVE, arguments, |row| row::Columns::of(row).fence())?;
    if let Some(fence) = fence {
        return Ok(own(fence.map(|fence| Grant::new(token, fence, 1, terms.policy(), None))));
    }

    let record = match read(db, slot)? {
        Ok(record) => record,
        Err(corrupt) => return Ok(Err(corrupt.in_operation(NAME))),
    };
    if matches!(record, Some(Record::Pending(_))) {
        // R5
        let taken = one_row(db, sql::TAKE_OVER, arguments, |row| row::grant(row, token))?;
        if let Some(grant) = taken {
            return Ok(own(grant));
        }
        // R3
        let arguments = params![principal, key, at, fingerprint.as_bytes(), token.as_bytes(), lease];
        let retried = one_row(db, sql::RETRY, arguments, |row| row::grant(row, token))?;
        if let Some(grant) = retried {
            return Ok(own(grant));
        }
    }
    // R2, R4, R6, R9, R11
    let step = state::reserve_or_fetch(record.as_ref(), token, request, now);
    Ok(settled(step, NAME).and_then(|answer| Ok(answer?)))
}

pub(crate) fn complete(
    db: &Connection,
    slot: &Slot,
    grant: &Grant,
    completion: &Completion,
    now: Timestamp,
) -> Ran<CompleteOutcome> {
    let (status, headers, length, body) = response_parts(completion.response());
    let written = run(
        db,
        sql::COMPLETE,
        params![
            slot.principal().as_str(),
            slot.key(),
            time(now),
            grant.token.as_bytes(),
            int(grant.fence.get()),
            completion.retention().map(span),
            status,
            headers,
            length,
            body,
        ],
    )?;
    match written {
        0 => classify(db, slot, "complete", |record| state::complete(record, grant, completion, now)),
        _ => Ok(Ok(CompleteOutcome::Stored)),
    }
}

pub(crate) fn renew(
    db: &Connection,
    slot: &Slot,
    grant: &Grant,
    renewal: &Renewal,
    now: Timestamp,
) -> Ran<RenewOutcome> {
    const NAME: &str = "renew";
    let (principal, key, at) = (slot.principal().as_str(), slot.key(), time(now));
    let (token, fence) = (grant.token.as_bytes(), int(grant.fence.get()));
    let sequence = renewal.checkpoint().map_or(0, |c| int(c.sequence()));
    let data = renewal.checkpoint().map(|c| &c.data()[..]);
    let renewed = match renewal.lease() {
        // W1
        Some(lease) => one_row(
            db,
            sql::RENEW,
            params![principal, key, at, token, fence, span(lease), sequence, data],
            |row| {
                let mut columns = row::Columns::of(row);
                Ok(Renewed::new(columns.time()? - now, columns.number()?))
            },
        )?,
        // W4
        None => {
            one_row(db, sql::HAND_OVER, params![principal, key, at, token, fence, sequence, data], |row| {
                Ok(Renewed::new(std::time::Duration::ZERO, row::Columns::of(row).number()?))
            })?
        }
    };
    match renewed {
        Some(renewed) => {
            Ok(renewed.map(RenewOutcome::Renewed).map_err(|corrupt: Corrupt| corrupt.in_operation(NAME)))
        }
        None => classify(db, slot, NAME, |record| state::renew(record, grant, renewal, now)),
    }
}

pub(crate) fn release(db: &Connection, slot: &Slot, grant: &Grant, now: Timestamp) -> Ran<ReleaseOutcome> {
    let (token, fence) = (grant.token.as_bytes(), int(grant.fence.get()));
    let arguments = params![slot.principal().as_str(), slot.key(), time(now), token, fence];
    match run(db, sql::RELEASE, arguments)? {
        0 => classify(db, slot, "release", |record| state::release(record, grant, now)),
        _ => Ok(Ok(ReleaseOutcome::Released)),
    }
}

pub(crate) fn resolve(
    db: &Connection,
    slot: &Slot,
    seen: Seen,
    resolution: &Resolution,
    now: Timestamp,
) -> Ran<ResolveOutcome> {
    let (principal, key, at) = (slot.principal().as_str(), slot.key(), time(now));
    let (fence, lease_end) = (int(seen.fence.get()), time(seen.lease_expires_at));
    let written = match resolution {
        Resolution::Complete(completion) => {
            let (status, headers, length, body) = response_parts(completion.response());
            let keep = completion.retention().map(span);
            let arguments =
                params![principal, key, at, fence, lease_end, keep, status, headers, length, body];
            run(db, sql::RESOLVE_COMPLETE, arguments)?
        }
        Resolution::Release => run(db, sql::RESOLVE_RELEASE, params![principal, key, at, fence, lease_end])?,
    };
    match written {
        0 => classify(db, slot, "resolve", |record| state::resolve(record, seen, resolution, now)),
        _ => Ok(Ok(ResolveOutcome::Resolved)),
    }
}

pub(crate) fn lookup(db: &Connection, slot: &Slot, now: Timestamp) -> Ran<Option<Entry>> {
    let record = read(db, slot)?;
    Ok(record.map(|record| state::lookup(record.as_ref(), now)).map_err(|c| c.in_operation("lookup")))
}

pub(crate) fn purge(db: &Connection, slot: &Slot, fence: Fence) -> Ran<bool> {
    let arguments = params![slot.principal().as_str(), slot.key(), int(fence.get())];
    // Erasure: the pages that are let go are overwritten. For everything else that would be wasted.
    db.pragma_update(None, "secure_delete", "ON")?;
    let purged = run(db, sql::PURGE, arguments);
    db.pragma_update(None, "secure_delete", "OFF")?;
    Ok(Ok(purged? > 0))
}

pub(crate) fn garbage_collect(db: &Connection, limit: NonZeroU32, now: Timestamp) -> Ran<u64> {
    let deleted = run(db, sql::GARBAGE_COLLECT, params![time(now), limit.get()])?;
    Ok(Ok(deleted as u64))
}

/// A reserve that may not wait for the write lock any longer: what a read alone can answer (R2, R4, R6,
/// R9, R11), or that somebody is at work in an open transaction (T3).
pub(crate) fn reserve_without_lock(
    db: &Connection,
    slot: &Slot,
    token: Token,
    request: &ReserveRequest,
    now: Timestamp,
) -> Ran<Option<ReservationOutcome>> {
    let record = match read(db, slot)? {
        Ok(record) => record,
        Err(corrupt) => return Ok(Err(corrupt.in_operation("reserve_or_fetch"))),
    };
    let step = state::reserve_or_fetch(record.as_ref(), token, request, now);
    Ok(match (step.change, step.answer) {
        (Change::Keep, answer) => answer.map(Some).map_err(StoreError::from),
        _ => Ok(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oncekey_core::Policy;

    #[test]
    fn the_statements_spell_the_policies_as_the_rows_do() {
        for policy in [Policy::TakeOver, Policy::Refuse] {
            assert!(sql::SCHEMA[0].contains(&format!("'{}'", policy_text(policy))));
        }
        let never = time(Timestamp::NEVER).to_string();
        for statement in
            [sql::COMPLETE, sql::RENEW, sql::RELEASE, sql::RESOLVE_COMPLETE, sql::RESOLVE_RELEASE]
        {
            assert!(statement.contains(&never), "{statement}");
        }
    }
}
