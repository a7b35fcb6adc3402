//! Errors: what went wrong, in which operation, and whether the operation may have had an effect.
//!
//! A business result (a replay, a conflict, a lost grant) is never an error (S7): it is an outcome.

use std::error::Error;
use std::fmt;

type Source = Box<dyn Error + Send + Sync + 'static>;

/// What kind of thing went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed something that the contract forbids. Nothing was sent.
    InvalidInput,
    /// The store can't be reached, or can't write now (disk full, read-only, shutting down).
    Unavailable,
    /// The call's deadline passed.
    Timeout,
    /// The store's tables are absent, or of a version that this program doesn't know.
    SchemaMissing,
    /// What is stored can't be read. It is never guessed at.
    Corrupt,
    /// This store can't do that.
    Unsupported,
    /// The token's reservation was released (R11): draw a new token.
    TokenSpent,
    /// A store with a capacity has reached it. Completing what is reserved still works.
    Full,
    /// Anything else; the source tells.
    Other,
}

/// Whether a failed operation may have changed the record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Effect {
    /// It surely changed nothing, and never will.
    NotApplied,
    /// It may have changed the record, or may yet. After reserve: don't execute. After complete: repeat
    /// it, never release.
    Unknown,
}

/// Why an operation of a store gave no answer.
///
/// ```
/// use oncekey_core::{Effect, ErrorKind, StoreError};
///
/// let e = StoreError::new(ErrorKind::Timeout, "complete", Effect::Unknown, "no answer within 5 s");
/// assert!(e.is_retryable());
/// assert_eq!(e.effect(), Effect::Unknown);
/// assert_eq!(e.to_string(), "complete: no answer within 5 s (timeout; effect unknown)");
/// ```
#[derive(Debug)]
pub struct StoreError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    effect: Effect,
    message: String,
    source: Option<Source>,
}

impl StoreError {
    /// An error of `operation` (the trait method's name). The message says what happened and what to do,
    /// and holds neither a key nor a token.
    pub fn new(kind: ErrorKind, operation: &'static str, effect: Effect, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, operation, effect, message: message.into(), source: None }))
    }

    /// The same, with the driver's own error as its source.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same with the worse of its own effect and `effect`: the effect of an operation is the worst
    /// of all its tries (S7).
    pub fn or_worse(mut self, effect: Effect) -> Self {
        self.0.effect = self.0.effect.max(effect);
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed: the trait method's name.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Whether the operation may have had an effect.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Whether the same call, repeated as it is, may succeed: true for [`ErrorKind::Unavailable`] and
    /// [`ErrorKind::Timeout`]. Repeating is always safe (S6).
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Whether the call broke the contract's bounds, and nothing was sent.
    pub fn is_invalid_input(&self) -> bool {
        self.0.kind == ErrorKind::InvalidInput
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.kind {
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timeout",
            ErrorKind::SchemaMissing => "schema missing",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::TokenSpent => "token spent",
            ErrorKind::Full => "full",
            ErrorKind::Other => "other",
        };
        let effect = match self.0.effect {
            Effect::NotApplied => "not applied",
            Effect::Unknown => "effect unknown",
        };
        write!(f, "{}: {} ({kind}; {effect})", self.0.operation, self.0.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

/// A value that the contract forbids, found before anything was sent.
///
/// ```
/// use oncekey_core::Principal;
/// let e = Principal::new("").unwrap_err();
/// assert_eq!(e.to_string(), "principal is empty: name who asks, such as a tenant's id");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidInput(String);

impl InvalidInput {
    /// With a message that says what is wrong and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The same as a [`StoreError`] of `operation`.
    pub fn in_operation(self, operation: &'static str) -> StoreError {
        StoreError::new(ErrorKind::InvalidInput, operation, Effect::NotApplied, self.0)
    }
}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidInput {}

impl From<InvalidInput> for StoreError {
    fn from(invalid: InvalidInput) -> Self {
        invalid.in_operation("input")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_only_worsens() {
        let e = || StoreError::new(ErrorKind::Unavailable, "reserve_or_fetch", Effect::NotApplied, "x");
        assert_eq!(e().or_worse(Effect::NotApplied).effect(), Effect::NotApplied);
        assert_eq!(e().or_worse(Effect::Unknown).effect(), Effect::Unknown);
        assert_eq!(e().or_worse(Effect::Unknown).or_worse(Effect::NotApplied).effect(), Effect::Unknown);
    }
}
