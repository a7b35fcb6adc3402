//! Between records and rows. What can't be read is corrupt, never a guess.

use std::time::Duration;

use bytes::Bytes;
use oncekey_core::codec::Corrupt;
use oncekey_core::state::{Completed, Pending, Record, Released};
use oncekey_core::{
    Body, Checkpoint, Fence, Fingerprint, IdempotencyRecord, Policy, StoredResponse, Timestamp, Token,
};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{Encode, Postgres, Row, Type, ValueRef};

/// Microseconds from PostgreSQL's epoch, 2000-01-01, back to Unix's.
const EPOCH: i64 = 946_684_800_000_000;

/// A number as PostgreSQL keeps it. Times, fences and durations fit; nothing else is passed.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
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
pub(crate) fn response_parts(response: &StoredResponse) -> (i32, &[u8], Option<i64>, Option<&[u8]>) {
    let (length, body) = match &response.body {
        Body::Kept(bytes) => (None, Some(&bytes[..])),
        // All 64 bits survive as a signed number.
        Body::NotKept { len } => (Some(len.cast_signed()), None),
    };
    (i32::from(response.status), &response.headers, length, body)
}

/// A moment as a `timestamptz`, without a crate for dates: the driver's features for those would lock a
/// second SQLite beside ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At(pub(crate) Timestamp);

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        // Its number is PostgreSQL's own: nothing has to be asked.
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = match self.0 {
            Timestamp::NEVER => i64::MAX,
            Timestamp::ZERO => i64::MIN,
            at => int(at.as_micros()) - EPOCH,
        };
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// Reads the columns of a row, one after another. Rows are binary: each statement is prepared.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    pub(crate) fn skip(&mut self, columns: usize) -> &mut Self {
        self.next += columns;
        self
    }

    pub(crate) fn maybe_bytes(&mut self) -> Result<Option<&'r [u8]>, Corrupt> {
        let value = self.row.try_get_raw(self.next).map_err(|_| Corrupt::new("a column is missing"))?;
        self.next += 1;
        if value.is_null() {
            return Ok(None);
        }
        if value.format() != PgValueFormat::Binary {
            return Err(Corrupt::new("a column came as text"));
        }
        value.as_bytes().map(Some).map_err(|_| Corrupt::new("a column can't be read"))
    }

    fn bytes(&mut self) -> Result<&'r [u8], Corrupt> {
        self.maybe_bytes()?.ok_or(Corrupt::new("a column is null"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.bytes()?.try_into().map_err(|_| Corrupt::new("a column has another length"))
    }

    fn maybe_array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Corrupt> {
        self.maybe_bytes()?
            .map(|bytes| bytes.try_into().map_err(|_| Corrupt::new("a column has another length")))
            .transpose()
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<&'r str>, Corrupt> {
        self.maybe_bytes()?
            .map(|bytes| std::str::from_utf8(bytes).map_err(|_| Corrupt::new("a text is not UTF-8")))
            .transpose()
    }

    pub(crate) fn text(&mut self) -> Result<&'r str, Corrupt> {
        self.maybe_text()?.ok_or(Corrupt::new("a text is null"))
    }

    pub(crate) fn maybe_signed(&mut self) -> Result<Option<i64>, Corrupt> {
        Ok(self.maybe_array()?.map(i64::from_be_bytes))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Corrupt> {
        self.maybe_signed()?
            .and_then(|n| u64::try_from(n).ok())
            .ok_or(Corrupt::new("a number is missing or negative"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Corrupt> {
        self.array::<1>().map(|[byte]| byte != 0)
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>, Corrupt> {
        let time = |micros| match micros {
            i64::MAX => Ok(Timestamp::NEVER),
            i64::MIN => Ok(Timestamp::ZERO),
            micros => micros
                .checked_add(EPOCH)
                .and_then(|micros| u64::try_from(micros).ok())
                .map(Timestamp::from_micros)
                .ok_or(Corrupt::new("a time is before 1970")),
        };
        self.maybe_signed()?.map(time).transpose()
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Corrupt> {
        self.maybe_time()?.ok_or(Corrupt::new("a time is null"))
    }

    /// An `interval`: microseconds, days, months.
    fn interval(&mut self) -> Result<Duration, Corrupt> {
        let bytes: [u8; 16] = self.array()?;
        let (micros, rest) = bytes.split_at(8);
        let (days, months) = rest.split_at(4);
        let micros = micros.try_into().map(i64::from_be_bytes).unwrap_or(-1);
        let days = days.try_into().map(i32::from_be_bytes).unwrap_or(-1);
        if months != [0; 4] {
            return Err(Corrupt::new("a retention has months, which have no one length"));
        }
        let micros = i64::from(days).checked_mul(86_400_000_000).and_then(|days| days.checked_add(micros));
        micros
            .and_then(|micros| u64::try_from(micros).ok())
            .map(Duration::from_micros)
            .ok_or(Corrupt::new("a retention is negative"))
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

    pub(crate) fn policy(&mut self) -> Result<Policy, Corrupt> {
        match self.text()? {
            "take_over" => Ok(Policy::TakeOver),
            "refuse" => Ok(Policy::Refuse),
            _ => Err(Corrupt::new("a policy is neither take_over nor refuse")),
        }
    }

    pub(crate) fn fingerprint(&mut self) -> Result<Fingerprint, Corrupt> {
        self.array().map(Fingerprint::from_bytes)
    }

    pub(crate) fn checkpoint(&mut self) -> Result<Option<Checkpoint>, Corrupt> {
        match (self.number()?, self.maybe_bytes()?) {
            (0, _) => Ok(None),
            (sequence, Some(data)) => Checkpoint::new(sequence, Bytes::copy_from_slice(data))
                .map(Some)
                .map_err(|_| Corrupt::new("a checkpoint is too long")),
            (_, None) => Err(Corrupt::new("a checkpoint has a number and no data")),
        }
    }

    pub(crate) fn maybe_status(&mut self) -> Result<Option<u16>, Corrupt> {
        self.maybe_array()?
            .map(|bytes| {
                u16::try_from(i32::from_be_bytes(bytes)).map_err(|_| Corrupt::new("a status is out of range"))
            })
            .transpose()
    }

    /// The columns of `{record of ..}`, in the order of [`crate::statements::RECORD`]; none where there is
    /// no row.
    pub(crate) fn maybe_record(&mut self) -> Result<Option<Record>, Corrupt> {
        let Some(state) = self.maybe_text()? else { return Ok(None) };
        let fingerprint = self.fingerprint()?;
        let token = Token::from_bytes(self.array()?);
        let (fence, attempt, policy, begun) = (self.fence()?, self.attempt()?, self.policy()?, self.flag()?);
        let retention = self.interval()?;
        let (created_at, lease_expires_at) = (self.time()?, self.time()?);
        let (completed_at, expires_at) = (self.maybe_time()?, self.time()?);
        let checkpoint = self.checkpoint()?;
        let record = match state {
            "pending" => Record::Pending(Pending {
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
            }),
            "completed" => {
                let completed_at =
                    completed_at.ok_or(Corrupt::new("a completed record has no completed_at"))?;
                let status = self.maybe_status()?.ok_or(Corrupt::new("a completed record has no status"))?;
                let headers = Bytes::copy_from_slice(self.bytes()?);
                let response = match (self.maybe_signed()?, self.maybe_bytes()?) {
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
                Record::Completed(Completed { token, record })
            }
            "released" => Record::Released(Released { token, fence, expires_at }),
            _ => return Err(Corrupt::new("a state is none of pending, completed, released")),
        };
        Ok(Some(record))
    }
}
