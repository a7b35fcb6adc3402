//! What is kept and what is shown of it: [`StoredResponse`], [`IdempotencyRecord`], [`Entry`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::clock::Timestamp;
use crate::fingerprint::Fingerprint;
use crate::request::Policy;
use crate::token::Fence;

/// An answer, as the first caller got it. What status and headers mean is the caller's affair; the store
/// keeps them byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoredResponse {
    /// An HTTP status, an exit code, or whatever the caller says.
    pub status: u16,
    /// Headers, in the caller's own encoding.
    pub headers: Bytes,
    /// The body, or how long it was.
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Kept, byte for byte.
    Kept(Bytes),
    /// Too long to keep: only its length in bytes is known. That the work was done is known too.
    NotKept {
        /// Its length in bytes.
        len: u64,
    },
}

impl StoredResponse {
    /// An answer whose body is kept.
    ///
    /// ```
    /// use oncekey_core::StoredResponse;
    /// let paid = StoredResponse::new(201, "", r#"{"payment":"p-1"}"#);
    /// assert_eq!(paid.len(), 17);
    /// ```
    pub fn new(status: u16, headers: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self { status, headers: headers.into(), body: Body::Kept(body.into()) }
    }

    /// An answer whose body of `len` bytes is not kept.
    pub fn not_kept(status: u16, headers: impl Into<Bytes>, len: u64) -> Self {
        Self { status, headers: headers.into(), body: Body::NotKept { len } }
    }

    /// The bytes that a store has to keep: headers and kept body.
    pub fn len(&self) -> usize {
        self.headers.len() + self.body.bytes().map_or(0, Bytes::len)
    }

    /// Whether there is nothing to keep but the status.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Body {
    /// The body, if it was kept.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Kept(bytes) => Some(bytes),
            Self::NotKept { .. } => None,
        }
    }
}

impl fmt::Debug for StoredResponse {
    /// Lengths alone: an answer may hold what a stranger shouldn't read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("headers", &format_args!("{} bytes", self.headers.len()))
            .field("body", &self.body)
            .finish()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::NotKept { len } => write!(f, "{len} bytes, not kept"),
        }
    }
}

/// A finished record, as `Replay` and `AlreadyStored` show it. It holds no token (Q1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct IdempotencyRecord {
    /// What the request meant.
    pub fingerprint: Fingerprint,
    /// The fence of the holder that completed it.
    pub fence: Fence,
    /// Which attempt completed it.
    pub attempt: u32,
    /// The answer.
    pub response: StoredResponse,
    /// When the first holder reserved it, on the store's clock.
    pub created_at: Timestamp,
    /// When it was completed, on the store's clock.
    pub completed_at: Timestamp,
    /// When it ends, on the store's clock.
    pub expires_at: Timestamp,
}

impl IdempotencyRecord {
    /// A finished record as a store shows it.
    pub fn new(
        fingerprint: Fingerprint,
        fence: Fence,
        attempt: u32,
        response: StoredResponse,
        created_at: Timestamp,
        completed_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self { fingerprint, fence, attempt, response, created_at, completed_at, expires_at }
    }
}

/// A reservation that nobody has completed, as `lookup` shows it. It holds no token (Q1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct PendingEntry {
    /// What the request means.
    pub fingerprint: Fingerprint,
    /// The fence of the last grant.
    pub fence: Fence,
    /// Which attempt holds it.
    pub attempt: u32,
    /// The record's policy.
    pub policy: Policy,
    /// Whether the holder has renewed, and so may have begun to work.
    pub begun: bool,
    /// What the holder saved, or inherited.
    pub checkpoint: Option<Checkpoint>,
    /// When the first holder reserved it, on the store's clock.
    pub created_at: Timestamp,
    /// When the lease ends; [`Timestamp::ZERO`] when it was handed over. With the fence, this is what
    /// `resolve` compares.
    pub lease_expires_at: Timestamp,
    /// When the record ends; [`Timestamp::NEVER`] for an at-most-once record that has begun.
    pub expires_at: Timestamp,
    /// The rest of the lease when it was read; none when lapsed.
    pub lease_left: Option<Duration>,
}

impl PendingEntry {
    /// A reservation as a store shows it, read when its clock said `now`.
    #[allow(clippy::too_many_arguments, reason = "a constructor for a non-exhaustive struct of ten fields")]
    pub fn new(
        fingerprint: Fingerprint,
        fence: Fence,
        attempt: u32,
        policy: Policy,
        begun: bool,
        checkpoint: Option<Checkpoint>,
        created_at: Timestamp,
        lease_expires_at: Timestamp,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let lease_left = lease_expires_at.since(now).filter(|left| !left.is_zero());
        Self {
            fingerprint,
            fence,
            attempt,
            policy,
            begun,
            checkpoint,
            created_at,
            lease_expires_at,
            expires_at,
            lease_left,
        }
    }

    /// Whether the holder was silent for longer than its lease.
    pub fn is_lapsed(&self) -> bool {
        self.lease_left.is_none()
    }
}

/// What `lookup` finds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// Reserved, lapsed or not.
    Pending(PendingEntry),
    /// Done.
    Completed(IdempotencyRecord),
}
