//! What the scripts say, as the answers of the contract.

use std::time::Duration;

use bytes::Bytes;
use oncekey_core::codec::Corrupt;
use oncekey_core::state::{self, Change, Record};
use oncekey_core::{
    Effect, Fence, Grant, InFlight, Loss, ReservationOutcome, ReserveRequest, StoreError, Timestamp, Token,
};
use redis::Value;

use crate::error::Failure;
use crate::store::{GONE, RESERVE, TAKEN_OVER};
use crate::value::{self, Stored};

/// What `lookup.lua` says.
pub(crate) fn read_found(said: Value, whole: bool) -> Result<Option<(Stored, Timestamp)>, Wrong> {
    match said {
        Value::Nil => Ok(None),
        Value::Array(each) => {
            let Ok([Value::Int(now), Value::BulkString(bytes)]) = <[Value; 2]>::try_from(each) else {
                return Err(Wrong::Nonsense);
            };
            let stored = value::read(&Bytes::from(bytes), whole)?;
            Ok(Some((stored, at(now))))
        }
        _ => Err(Wrong::Nonsense),
    }
}

/// An answer that can't be one, or a value that can't be read.
#[derive(Debug)]
pub(crate) enum Wrong {
    Nonsense,
    Corrupt(Corrupt),
}

impl From<Corrupt> for Wrong {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl Wrong {
    pub(crate) fn in_operation(self, name: &'static str) -> StoreError {
        match self {
            Self::Nonsense => Failure::nonsense().into_error(name, Effect::Unknown),
            Self::Corrupt(corrupt) => corrupt.in_operation(name),
        }
    }
}

pub(crate) fn unreadable(name: &'static str) -> StoreError {
    Corrupt::new("it is cut, or of another version or state").in_operation(name)
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// What `reserve.lua` says.
pub(crate) fn read_reserve(
    said: Value,
    token: Token,
    request: &ReserveRequest,
) -> Result<ReservationOutcome, StoreError> {
    let nonsense = || Wrong::Nonsense.in_operation(RESERVE);
    let record = |bytes: Vec<u8>| {
        value::read(&Bytes::from(bytes), true).map(|s| s.record).map_err(|c| c.in_operation(RESERVE))
    };
    let each = match said {
        Value::Int(fence) => {
            let fence = Fence::new(u64::try_from(fence).map_err(|_| nonsense())?);
            let grant = Grant::new(token, fence, 1, request.terms.policy(), None);
            return Ok(ReservationOutcome::Reserved(grant));
        }
        Value::BulkString(bytes) => {
            return match record(bytes)? {
                Record::Completed(completed) => Ok(ReservationOutcome::Replay(completed.record)),
                _ => Err(nonsense()),
            };
        }
        Value::Array(each) => each,
        _ => return Err(nonsense()),
    };
    let mut each = each.into_iter();
    let Some(Value::BulkString(code)) = each.next() else { return Err(nonsense()) };
    match (&code[..], each.next(), each.next()) {
        // What can't be read now was written all the same (S7).
        (b"G", Some(Value::BulkString(bytes)), None) => {
            match record(bytes).map_err(|error| error.or_worse(Effect::Unknown))? {
                Record::Pending(p) => {
                    let grant = Grant::new(p.token, p.fence, p.attempt, p.policy, p.checkpoint);
                    Ok(ReservationOutcome::Reserved(grant))
                }
                _ => Err(nonsense()),
            }
        }
        (b"W", Some(Value::Int(rest)), None) => {
            let rest = Duration::from_micros(u64::try_from(rest).unwrap_or(0));
            Ok(ReservationOutcome::InFlight(InFlight::new(rest)))
        }
        (b"X", None, None) => Ok(ReservationOutcome::Conflict),
        (b"U", Some(Value::Int(now)), Some(Value::BulkString(bytes))) => {
            let record = record(bytes)?;
            let step = state::reserve_or_fetch(Some(&record), token, request, at(now));
            match (step.change, step.answer) {
                (Change::Keep, Ok(answer)) => Ok(answer),
                _ => Err(nonsense()),
            }
        }
        (b"S", None, None) => Err(StoreError::from(state::TokenSpent)),
        (b"?", None, None) => Err(unreadable(RESERVE)),
        _ => Err(nonsense()),
    }
}

/// What a holder's script says with a number.
pub(crate) fn loss(name: &'static str, said: &Value) -> Result<Loss, StoreError> {
    match said {
        Value::Int(GONE) => Ok(Loss::Gone),
        Value::Int(TAKEN_OVER) => Ok(Loss::TakenOver),
        Value::Int(-1) => Err(unreadable(name)),
        _ => Err(Wrong::Nonsense.in_operation(name)),
    }
}

#[cfg(test)]
mod tests {
    use oncekey_core::{ErrorKind, Fingerprint, Terms};

    use super::*;

    /// A script grants by a record's head, and what follows that may be cut.
    #[test]
    fn a_grant_that_can_not_be_read_may_have_been_written() {
        let request = ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default());
        let said = |code: &[u8]| {
            let each = [code, b"\x01P cut"].map(|bytes| Value::BulkString(bytes.to_vec()));
            let error = read_reserve(Value::Array(each.into()), Token::fresh(), &request).unwrap_err();
            (error.kind(), error.effect())
        };
        assert_eq!(said(b"G"), (ErrorKind::Corrupt, Effect::Unknown));
        let cut = Value::BulkString(b"\x01C cut".to_vec());
        let error = read_reserve(cut, Token::fresh(), &request).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Corrupt, Effect::NotApplied), "a replay");
    }
}
