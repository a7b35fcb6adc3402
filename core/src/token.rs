//! What a holder shows: [`Token`], [`Fence`], and the [`Grant`] made of both.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::request::Policy;

/// 128 random bits, drawn by the caller *before* a reserve, so that a call whose answer was lost can be
/// made again (S6). It serves one reservation of one executor.
///
/// Its `Debug` shows nothing of it.
///
/// ```
/// use oncekey_core::Token;
/// let token = Token::fresh();
/// assert_ne!(token, Token::fresh());
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A new token, from a cryptographic generator.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// A token that was drawn before, such as one kept across a restart of the caller.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, for a store's column. Never for a log.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Given by the store with each grant, and rising per slot (S4): a downstream system that remembers the
/// highest fence it saw can refuse an older holder. At most `i64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fence(u64);

impl Fence {
    /// From a stored number; anything past `i64::MAX` is `i64::MAX`.
    pub const fn new(value: u64) -> Self {
        if value > i64::MAX as u64 { Self(i64::MAX as u64) } else { Self(value) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reservation as its holder knows it: what complete, renew and release are shown.
///
/// *Own* means that token and fence are both the record's: the same token with another fence is somebody
/// else's grant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// The caller's token.
    pub token: Token,
    /// The store's fence.
    pub fence: Fence,
    /// 1 for the first holder of a record, and one more with each takeover: at 2, a predecessor may have
    /// done part of the work.
    pub attempt: u32,
    /// The record's policy: that of its first grant, whatever this caller asked for (R1, R5). Whoever
    /// holds a [`Policy::Refuse`] record renews before it begins to work.
    pub policy: Policy,
    /// What the predecessor saved, or what this holder saved itself, if the call is its own retry (R3).
    pub checkpoint: Option<Checkpoint>,
}

impl Grant {
    /// A grant as a store gives it.
    pub fn new(
        token: Token,
        fence: Fence,
        attempt: u32,
        policy: Policy,
        checkpoint: Option<Checkpoint>,
    ) -> Self {
        Self { token, fence, attempt, policy, checkpoint }
    }
}
