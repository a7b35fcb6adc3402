//! Between records and rows. What can't be read is corrupt, never a guess.

use std::time::Duration;

use bytes::Bytes;
use oncekey_core::codec::Corrupt;
use oncekey_core::state::{Completed, Pending, Record, Released};
use oncekey_core::{
    Body, Checkpoint, Fence, Fingerprint, Grant, IdempotencyRecord, Policy, StoredResponse, Timestamp, Token,
};
use rusqlite::Row;
use rusqlite::types::ValueRef;

/// A number as SQLite keeps it. Times, fences and durations fit; nothing else is passed.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn time(t: Timestamp) -> i64 {
    int(t.as_micros())
}

pub(crate) fn span(d: Duration) -> i64 {
    int(oncekey_core::state::micros_of(d))
}

pub(crate) fn policy_text(policy: Policy) -> &'static str {
    match policy {
        Policy::TakeOver => "take_over",
        Policy::Refuse => "refuse",
    }
}

/// What a completion binds: status, headers, the length of a body that is not kept, the body.
pub(crate) fn response_parts(response: &StoredResponse) -> (u16, &[u8], Option<i64>, Option<&[u8]>) {
    let (length, body) = match &response.body {
        Body::Kept(bytes) => (None, Some(&bytes[..])),
        // All 64 bits survive as a signed number.
        Body::NotKept { len } => (Some(len.cast_signed()), None),
    };
    (response.status, &response.headers, length, body)
}

/// Reads the columns of a row, one after another.
pub(crate) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub(crate) fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    fn value(&mut self) -> Result<ValueRef<'r>, Corrupt> {
        let value = self.row.get_ref(self.next).map_err(|_| Corrupt::new("a column is missing"))?;
        self.next += 1;
        Ok(value)
    }

    pub(crate) fn text(&mut self) -> Result<&'r str, Corrupt> {
        match self.value()? {
            ValueRef::Text(text) => {
                std::str::from_utf8(text).map_err(|_| Corrupt::new("a text is not UTF-8"))
            }
            _ => Err(Corrupt::new("a text is missing")),
        }
    }

    fn blob(&mut self) -> Result<&'r [u8], Corrupt> {
        self.maybe_blob()?.ok_or(Corrupt::new("a blob is missing"))
    }

    fn maybe_blob(&mut self) -> Result<Option<&'r [u8]>, Corrupt> {
        match self.value()? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(blob) => Ok(Some(blob)),
            _ => Err(Corrupt::new("a blob is of another type")),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.blob()?.try_into().map_err(|_| Corrupt::new("a digest or token has another length"))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Corrupt> {
        self.maybe_signed()?
            .and_then(|n| u64::try_from(n).ok())
            .ok_or(Corrupt::new("a number is missing or negative"))
    }

    fn maybe_signed(&mut self) -> Result<Option<i64>, Corrupt> {
        match self.value()? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(n) => Ok(Some(n)),
            _ => Err(Corrupt::new("a number is of another type")),
        }
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Corrupt> {
        self.number().map(Timestamp::from_micros)
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>, Corrupt> {
        Ok(self.maybe_signed()?.and_then(|n| u64::try_from(n).ok()).map(Timestamp::from_micros))
    }

    pub(crate) fn fence(&mut self) -> Result<Fence, Corrupt> {
        self.number().map(Fence::new)
    }

    pub(crate) fn attempt(&mut self) -> Result<u32, Corrupt> {
        match u32::try_from(self.number()?) {
            Ok(attempt) if attempt > 0 => Ok(attempt),
            _ => Err(Corrupt::new("an attempt is 0 or too large")),
        }
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Corrupt> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt::new("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn policy(&mut self) -> Result<Policy, Corrupt> {
        match self.text()? {
            "take_over" => Ok(Policy::TakeOver),
            "refuse" => Ok(Policy::Refuse),
            _ => Err(Corrupt::new("a policy is neither take_over nor refuse")),
        }
    }

    pub(crate) fn fingerprint(&mut self) -> Result<Fingerprint, Corrupt> {
        self.bytes().map(Fingerprint::from_bytes)
    }

    pub(crate) fn checkpoint(&mut self) -> Result<Option<Checkpoint>, Corrupt> {
        match (self.number()?, self.maybe_blob()?) {
            (0, _) => Ok(None),
            (sequence, Some(data)) => Checkpoint::new(sequence, Bytes::copy_from_slice(data))
                .map(Some)
                .map_err(|_| Corrupt::new("a checkpoint is too long")),
            (_, None) => Err(Corrupt::new("a checkpoint has a number and no data")),
        }
    }

    pub(crate) fn maybe_status(&mut self) -> Result<Option<u16>, Corrupt> {
        self.maybe_signed()?
            .map(|n| u16::try_from(n).map_err(|_| Corrupt::new("a status is out of range")))
            .transpose()
    }
}

/// `RETURNING fence, attempt, policy, checkpoint_sequence, checkpoint`.
pub(crate) fn grant(row: &Row<'_>, token: Token) -> Result<Grant, Corrupt> {
    let mut columns = Columns::of(row);
    let (fence, attempt, policy) = (columns.fence()?, columns.attempt()?, columns.policy()?);
    Ok(Grant::new(token, fence, attempt, policy, columns.checkpoint()?))
}

/// A row of `record.sql`.
pub(crate) fn record(row: &Row<'_>) -> Result<Record, Corrupt> {
    let mut c = Columns::of(row);
    let state = c.text()?;
    let fingerprint = c.fingerprint()?;
    let token = Token::from_bytes(c.bytes()?);
    let (fence, attempt, policy, begun) = (c.fence()?, c.attempt()?, c.policy()?, c.flag()?);
    let retention = Duration::from_micros(c.number()?);
    let (created_at, lease_expires_at) = (c.time()?, c.time()?);
    let (completed_at, expires_at) = (c.maybe_time()?, c.time()?);
    let checkpoint = c.checkpoint()?;
    match state {
        "pending" => Ok(Record::Pending(Pending {
            fingerprint,
            token,
            fence,
            attempt,
            checkpoint,
            begun,
            policy,
            retention,
            created_at,
            lease_expires_at,
            expires_at,
        })),
        "completed" => {
            let completed_at = completed_at.ok_or(Corrupt::new("a completed record has no completed_at"))?;
            let status = c.maybe_status()?.ok_or(Corrupt::new("a completed record has no status"))?;
            let headers = Bytes::copy_from_slice(c.blob()?);
            let length = c.maybe_signed()?;
            let response = match (length, c.maybe_blob()?) {
                (None, Some(body)) => StoredResponse::new(status, headers, Bytes::copy_from_slice(body)),
                (Some(length), None) => StoredResponse::not_kept(status, headers, length.cast_unsigned()),
                _ => return Err(Corrupt::new("a completed record has not one of body and body_length")),
            };
            let record = IdempotencyRecord::new(
                fingerprint,
                fence,
                attempt,
                response,
                created_at,
                completed_at,
                expires_at,
            );
            Ok(Record::Completed(Completed { token, record }))
        }
        "released" => Ok(Record::Released(Released { token, fence, expires_at })),
        _ => Err(Corrupt::new("a state is none of pending, completed, released")),
    }
}
