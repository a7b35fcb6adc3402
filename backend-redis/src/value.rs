//! What a key holds: a [`Record`] and its slot, as the scripts read and write them.
//!
//! ```text
//! byte   1  version 1    2  state    3  expires    11  created    19  lease_end or completed    27  fence
//!       35  token[16], with which a Released one ends    51  fingerprint[32]    83  attempt
//!       87  E where the key ends with its record, L where it lingers
//! P     88  policy T or R    89  begun    90  retention    98  checkpoint's number    106  length of slot    108  slot
//!       checkpoint's data
//! C     88  status    90  body kept?    91  length of headers    95  length of body    103  length of slot    105  slot
//!       headers    body
//! ```
//!
//! Numbers are little endian: 8 bytes, an attempt and the headers' length 4, status and the slot's length 2. But a
//! checkpoint's number has its highest byte first. Times and spans are microseconds; *never* is all ones. What only the
//! server knows comes first, so that a new record is that and what the caller sent.

use std::time::Duration;

use bytes::Bytes;
use oncekey_core::codec::Corrupt;
use oncekey_core::state::{self, Completed, Pending, Record, Released};
use oncekey_core::{
    Body, Checkpoint, Fence, Fingerprint, Grant, IdempotencyRecord, Policy, ReserveRequest, Slot,
    StoredResponse, Timestamp, Token,
};

/// The most bytes that a value has before its checkpoint, headers or body.
pub(crate) const HEAD: usize = 107 + 2 * 256;

/// A record, and whose it is.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    slot: Bytes,
}

impl Stored {
    /// Whose it is, which nobody asks who knows the slot: a Released one doesn't say.
    pub(crate) fn slot(&self) -> Result<Slot, Corrupt> {
        Slot::from_bytes(&self.slot).map_err(|_| Corrupt::new("its slot is none"))
    }
}

/// Reads a value; with `whole` unset the first [`HEAD`] bytes of one, without what follows them.
pub(crate) fn read(value: &Bytes, whole: bool) -> Result<Stored, Corrupt> {
    let mut input = Reader { bytes: value, at: 0 };
    if input.byte()? != 1 {
        return Err(Corrupt::new("its version is not 1"));
    }
    let state = input.byte()?;
    let expires_at = match input.u64()? {
        u64::MAX => Timestamp::NEVER,
        micros => time(micros)?,
    };
    let created_at = input.u64().and_then(time)?;
    let lease_end_or_completed = input.u64().and_then(time)?;
    let fence = input.u64().and_then(signed).map(Fence::new)?;
    let token = Token::from_bytes(input.array()?);
    if state == b'R' {
        let record = Record::Released(Released { token, fence, expires_at });
        let stored = Stored { record, slot: Bytes::new() };
        return if input.left() == 0 { Ok(stored) } else { Err(longer()) };
    }
    let fingerprint = Fingerprint::from_bytes(input.array()?);
    let attempt = match u32::from_le_bytes(input.array()?) {
        0 => return Err(Corrupt::new("its attempt is 0")),
        attempt => attempt,
    };
    if !matches!(input.byte()?, b'E' | b'L') {
        return Err(Corrupt::new("its key's end is neither E nor L"));
    }
    match state {
        b'P' => {
            let policy = match input.byte()? {
                b'T' => Policy::TakeOver,
                b'R' => Policy::Refuse,
                _ => return Err(Corrupt::new("its policy is neither T nor R")),
            };
            let begun = input.flag()?;
            let retention = Duration::from_micros(input.u64()?);
            let sequence = u64::from_be_bytes(input.array()?);
            let slot = input.slot()?;
            let data = input.take(input.left())?;
            let checkpoint = match sequence {
                0 if whole && !data.is_empty() => return Err(longer()),
                0 => None,
                _ if !whole => None,
                sequence => Some(
                    Checkpoint::new(sequence, data)
                        .map_err(|_| Corrupt::new("its checkpoint is too long"))?,
                ),
            };
            let pending = Pending {
                fingerprint,
                token,
                fence,
                attempt,
                checkpoint,
                begun,
                policy,
                retention,
                created_at,
                lease_expires_at: lease_end_or_completed,
                expires_at,
            };
            Ok(Stored { record: Record::Pending(pending), slot })
        }
        b'C' => {
            let status = u16::from_le_bytes(input.array()?);
            let kept = input.flag()?;
            let headers = u32::from_le_bytes(input.array()?);
            let length = input.u64()?;
            let slot = input.slot()?;
            let response = if whole {
                let headers = input.take(usize::try_from(headers).map_err(|_| cut())?)?;
                if kept {
                    let body = input.take(usize::try_from(length).map_err(|_| cut())?)?;
                    StoredResponse::new(status, headers, body)
                } else {
                    StoredResponse::not_kept(status, headers, length)
                }
            } else {
                StoredResponse::not_kept(status, Bytes::new(), 0)
            };
            if whole && input.left() > 0 {
                return Err(longer());
            }
            let record = IdempotencyRecord::new(
                fingerprint,
                fence,
                attempt,
                response,
                created_at,
                lease_end_or_completed,
                expires_at,
            );
            Ok(Stored { record: Record::Completed(Completed { token, record }), slot })
        }
        _ => Err(Corrupt::new("its state is none of P, C, R")),
    }
}

/// Whether the server deletes this Completed value's key in the millisecond in which its record expires.
pub(crate) fn ends_with_key(completed: &[u8]) -> bool {
    completed.get(86) == Some(&b'E')
}

/// The part of a Completed value that its holder sends.
pub(crate) fn response(slot: &Slot, response: &StoredResponse) -> Vec<u8> {
    let (kept, length, body) = match &response.body {
        Body::Kept(bytes) => (1, bytes.len() as u64, &bytes[..]),
        Body::NotKept { len } => (0, *len, &[][..]),
    };
    let slot = slot.to_bytes();
    let mut out = Vec::with_capacity(17 + slot.len() + response.headers.len() + body.len());
    out.extend_from_slice(&response.status.to_le_bytes());
    out.push(kept);
    // Responses are limited to far less.
    out.extend_from_slice(&u32::try_from(response.headers.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&u16::try_from(slot.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&slot);
    out.extend_from_slice(&response.headers);
    out.extend_from_slice(body);
    out
}

/// A new record from its token on, which its first holder sends; and whether its key will outlive it.
pub(crate) fn first(slot: &Slot, token: Token, request: &ReserveRequest, lingers: bool) -> Vec<u8> {
    let slot = slot.to_bytes();
    let mut out = Vec::with_capacity(73 + slot.len());
    out.extend_from_slice(token.as_bytes());
    out.extend_from_slice(request.fingerprint.as_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&[if lingers { b'L' } else { b'E' }, policy(request.terms.policy()), 0]);
    out.extend_from_slice(&span(request.terms.retention()).to_le_bytes());
    out.extend_from_slice(&0_u64.to_be_bytes());
    out.extend_from_slice(&u16::try_from(slot.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&slot);
    out
}

fn policy(policy: Policy) -> u8 {
    match policy {
        Policy::TakeOver => b'T',
        Policy::Refuse => b'R',
    }
}

/// What a holder is known by.
pub(crate) fn own(grant: &Grant) -> [u8; 24] {
    let mut own = [0; 24];
    own[..8].copy_from_slice(&grant.fence.get().to_le_bytes());
    own[8..].copy_from_slice(grant.token.as_bytes());
    own
}

/// Numbers, as a script unpacks them: one argument costs it less than several, and digits more than bytes.
pub(crate) fn spans<const N: usize>(spans: [u64; N]) -> Vec<u8> {
    spans.iter().flat_map(|span| span.to_le_bytes()).collect()
}

/// In microseconds.
pub(crate) fn span(duration: Duration) -> u64 {
    state::micros_of(duration)
}

fn cut() -> Corrupt {
    Corrupt::new("it is cut")
}

fn longer() -> Corrupt {
    Corrupt::new("bytes follow its end")
}

fn signed(n: u64) -> Result<u64, Corrupt> {
    i64::try_from(n).map(|_| n).map_err(|_| Corrupt::new("a time or fence is past i64::MAX"))
}

fn time(micros: u64) -> Result<Timestamp, Corrupt> {
    signed(micros).map(Timestamp::from_micros)
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize) -> Result<Bytes, Corrupt> {
        if n > self.left() {
            return Err(cut());
        }
        let taken = self.bytes.slice(self.at..self.at + n);
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk().copied().ok_or_else(cut)?;
        self.at += N;
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Corrupt> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt::new("a flag is neither 0 nor 1")),
        }
    }

    fn u64(&mut self) -> Result<u64, Corrupt> {
        self.array().map(u64::from_le_bytes)
    }

    fn slot(&mut self) -> Result<Bytes, Corrupt> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(usize::from(length))
    }
}
