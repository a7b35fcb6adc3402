//! A [`Record`] as bytes, for stores whose values are bytes: versioned, and read strictly or not at all.
//!
//! ```text
//! version 1 · tag · fields in the order below · nothing after them
//! Pending    P  fingerprint[32] token[16] fence attempt policy begun retention created lease_end expires
//!               checkpoint: sequence (0: none) [length data]
//! Completed  C  fingerprint[32] token[16] fence attempt created completed expires
//!               status length headers kept? length [body]
//! Released   R  token[16] fence expires
//! ```
//!
//! Numbers are u64, little endian; attempts u32, status u16; flags one byte, 0 or 1.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::clock::{Timestamp, micros};
use crate::error::{Effect, ErrorKind, StoreError};
use crate::fingerprint::Fingerprint;
use crate::record::{Body, IdempotencyRecord, StoredResponse};
use crate::request::Policy;
use crate::state::{Completed, Pending, Record, Released};
use crate::token::{Fence, Token};

const VERSION: u8 = 1;

/// A stored record that can't be read. It is never guessed at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corrupt(&'static str);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stored record can't be read: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}

impl Corrupt {
    /// With what is wrong about it.
    pub const fn new(reason: &'static str) -> Self {
        Self(reason)
    }

    /// The same as a [`StoreError`] of `operation`.
    pub fn in_operation(self, operation: &'static str) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, operation, Effect::NotApplied, self.to_string()).with_source(self)
    }
}

impl Record {
    /// The record as bytes.
    ///
    /// ```
    /// use oncekey_core::{Fence, Timestamp, Token, state::{Record, Released}};
    ///
    /// let expires_at = Timestamp::from_micros(9);
    /// let record = Record::Released(Released { token: Token::fresh(), fence: Fence::new(3), expires_at });
    /// let bytes = record.to_bytes();
    /// assert_eq!(Record::from_bytes(&bytes)?, record);
    /// assert!(Record::from_bytes(&bytes[1..]).is_err());
    /// # Ok::<(), oncekey_core::codec::Corrupt>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        match self {
            Self::Pending(p) => {
                out.raw(b"P").raw(p.fingerprint.as_bytes()).raw(p.token.as_bytes()).u64(p.fence.get());
                out.u32(p.attempt).flag(p.policy == Policy::Refuse).flag(p.begun).u64(micros(p.retention));
                out.time(p.created_at).time(p.lease_expires_at).time(p.expires_at);
                out.u64(p.checkpoint.as_ref().map_or(0, Checkpoint::sequence));
                if let Some(checkpoint) = &p.checkpoint {
                    out.blob(checkpoint.data());
                }
            }
            Self::Completed(Completed { token, record: r }) => {
                out.raw(b"C").raw(r.fingerprint.as_bytes()).raw(token.as_bytes()).u64(r.fence.get());
                out.u32(r.attempt).time(r.created_at).time(r.completed_at).time(r.expires_at);
                out.raw(&r.response.status.to_le_bytes()).blob(&r.response.headers);
                match &r.response.body {
                    Body::Kept(bytes) => out.flag(true).blob(bytes),
                    Body::NotKept { len } => out.flag(false).u64(*len),
                };
            }
            Self::Released(r) => {
                out.raw(b"R").raw(r.token.as_bytes()).u64(r.fence.get()).time(r.expires_at);
            }
        }
        out.0
    }

    /// The record whose [`Record::to_bytes`] these are.
    ///
    /// # Errors
    /// [`Corrupt`] when they are cut, longer than a record, of another version, or hold a value that no
    /// record has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Reader(bytes);
        if input.byte()? != VERSION {
            return Err(Corrupt("its version is not 1"));
        }
        let record = match input.byte()? {
            b'P' => Self::Pending(Pending {
                fingerprint: Fingerprint::from_bytes(input.array()?),
                token: Token::from_bytes(input.array()?),
                fence: input.fence()?,
                attempt: input.attempt()?,
                policy: if input.flag()? { Policy::Refuse } else { Policy::TakeOver },
                begun: input.flag()?,
                retention: Duration::from_micros(input.u64()?),
                created_at: input.time()?,
                lease_expires_at: input.time()?,
                expires_at: input.time()?,
                checkpoint: match input.u64()? {
                    0 => None,
                    sequence => {
                        let data = input.blob()?;
                        Some(
                            Checkpoint::new(sequence, data)
                                .map_err(|_| Corrupt("its checkpoint is too long"))?,
                        )
                    }
                },
            }),
            b'C' => {
                let fingerprint = Fingerprint::from_bytes(input.array()?);
                let token = Token::from_bytes(input.array()?);
                let (fence, attempt) = (input.fence()?, input.attempt()?);
                let (created_at, completed_at, expires_at) = (input.time()?, input.time()?, input.time()?);
                let status = u16::from_le_bytes(input.array()?);
                let headers = input.blob()?;
                let response = match input.flag()? {
                    true => StoredResponse::new(status, headers, input.blob()?),
                    false => StoredResponse::not_kept(status, headers, input.u64()?),
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
                Self::Completed(Completed { token, record })
            }
            b'R' => Self::Released(Released {
                token: Token::from_bytes(input.array()?),
                fence: input.fence()?,
                expires_at: input.time()?,
            }),
            _ => return Err(Corrupt("its tag is none of P, C, R")),
        };
        if input.0.is_empty() { Ok(record) } else { Err(Corrupt("bytes follow its end")) }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(&mut self, n: u32) -> &mut Self {
        self.raw(&n.to_le_bytes())
    }
    fn u64(&mut self, n: u64) -> &mut Self {
        self.raw(&n.to_le_bytes())
    }
    fn time(&mut self, t: Timestamp) -> &mut Self {
        self.u64(t.as_micros())
    }
    fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(&[u8::from(flag)])
    }
    fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(bytes.len() as u64).raw(bytes)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Corrupt("it is cut"))?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.take(N)?.try_into().map_err(|_| Corrupt("it is cut"))
    }
    fn byte(&mut self) -> Result<u8, Corrupt> {
        let [byte] = self.array()?;
        Ok(byte)
    }
    fn u64(&mut self) -> Result<u64, Corrupt> {
        self.array().map(u64::from_le_bytes)
    }
    fn attempt(&mut self) -> Result<u32, Corrupt> {
        match self.array().map(u32::from_le_bytes)? {
            0 => Err(Corrupt("its attempt is 0")),
            attempt => Ok(attempt),
        }
    }
    fn signed(&mut self) -> Result<u64, Corrupt> {
        let n = self.u64()?;
        i64::try_from(n).map(|_| n).map_err(|_| Corrupt("a time or fence is past i64::MAX"))
    }
    fn time(&mut self) -> Result<Timestamp, Corrupt> {
        self.signed().map(Timestamp::from_micros)
    }
    fn fence(&mut self) -> Result<Fence, Corrupt> {
        self.signed().map(Fence::new)
    }
    fn flag(&mut self) -> Result<bool, Corrupt> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt("a flag is neither 0 nor 1")),
        }
    }
    fn blob(&mut self) -> Result<Bytes, Corrupt> {
        let length = usize::try_from(self.u64()?).map_err(|_| Corrupt("a length is past usize"))?;
        self.take(length).map(Bytes::copy_from_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let (fingerprint, token, fence) =
            (Fingerprint::from_bytes([1; 32]), Token::from_bytes([2; 16]), Fence::new(3));
        let at = Timestamp::from_micros;
        let pending = Pending {
            fingerprint,
            token,
            fence,
            attempt: 4,
            checkpoint: Some(Checkpoint::new(5, "saved").unwrap()),
            begun: true,
            policy: Policy::Refuse,
            retention: Duration::from_secs(6),
            created_at: at(7),
            lease_expires_at: at(0),
            expires_at: Timestamp::NEVER,
        };
        let completed = |response| {
            let record = IdempotencyRecord::new(fingerprint, fence, 1, response, at(1), at(2), at(3));
            Record::Completed(Completed { token, record })
        };
        vec![
            Record::Pending(Pending { checkpoint: None, begun: false, ..pending.clone() }),
            Record::Pending(pending),
            completed(StoredResponse::new(200, "h: 1", (0..=255u8).collect::<Vec<_>>())),
            completed(StoredResponse::not_kept(0, "", u64::MAX)),
            Record::Released(Released { token, fence, expires_at: at(9) }),
        ]
    }

    #[test]
    fn a_record_survives_its_bytes() {
        for record in records() {
            assert_eq!(Record::from_bytes(&record.to_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn a_cut_or_longer_record_is_corrupt_never_a_guess() {
        for record in records() {
            let bytes = record.to_bytes();
            for cut in 0..bytes.len() {
                assert!(Record::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}: {record:?}");
            }
            assert!(Record::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn rubbish_is_never_a_panic() {
        let mut random = fastrand_like(7);
        for record in records() {
            let bytes = record.to_bytes();
            for _ in 0..2_000 {
                let mut bad = bytes.clone();
                let at = (random() as usize) % bad.len();
                bad[at] ^= (random() as u8).max(1);
                if let Ok(read) = Record::from_bytes(&bad) {
                    assert_eq!(read.to_bytes(), bad, "what is read is what was written");
                }
            }
        }
    }

    fn fastrand_like(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        }
    }
}
