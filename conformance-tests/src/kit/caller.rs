//! Who asks, and with what.

use std::time::Duration;

use oncekey_core::{
    Bytes, Checkpoint, Fence, Fingerprint, Grant, InvalidInput, Policy, Renewal, ReserveRequest,
    StoredResponse, Terms, Token,
};

/// Somebody who reserves: a token, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) token: Token,
    policy: Policy,
    lease: Duration,
    retention: Duration,
    meaning: u8,
}

impl Caller {
    pub(crate) fn fresh(lease: Duration, retention: Duration) -> Self {
        Self { token: Token::fresh(), policy: Policy::TakeOver, lease, retention, meaning: 1 }
    }

    /// Somebody else who asks for the same.
    pub(crate) fn other(self) -> Self {
        Self { token: Token::fresh(), ..self }
    }

    /// At most once.
    pub(crate) fn refusing(self) -> Self {
        Self { policy: Policy::Refuse, ..self }
    }

    pub(crate) fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    pub(crate) fn retention(self, retention: Duration) -> Self {
        Self { retention, ..self }
    }

    /// With a request of another meaning: another fingerprint.
    pub(crate) fn meaning_otherwise(self) -> Self {
        Self { meaning: self.meaning + 1, ..self }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_bytes([self.meaning; 32])
    }

    pub(crate) fn request(&self) -> Result<ReserveRequest, InvalidInput> {
        Ok(ReserveRequest::new(self.fingerprint(), Terms::new(self.policy, self.lease, self.retention)?))
    }

    /// A heartbeat for this caller's lease.
    pub(crate) fn renewal(&self) -> Result<Renewal, InvalidInput> {
        Renewal::extend(self.lease)
    }
}

/// An answer that can be told from every other by its text.
pub(crate) fn response(text: impl Into<Bytes>) -> StoredResponse {
    StoredResponse::new(200, "content-type: text/plain", text)
}

/// What a holder saves.
pub(crate) fn checkpoint(sequence: u64, text: &'static str) -> Result<Checkpoint, InvalidInput> {
    Checkpoint::new(sequence, text)
}

/// A heartbeat.
pub(crate) fn extend(lease: Duration) -> Result<Renewal, InvalidInput> {
    Renewal::extend(lease)
}

/// The same token's grant under another fence: somebody else's.
pub(crate) fn under_fence(grant: &Grant, fence: u64) -> Grant {
    let mut other = grant.clone();
    other.fence = Fence::new(fence);
    other
}

/// The same fence under another token: nobody's.
pub(crate) fn under_token(grant: &Grant, token: Token) -> Grant {
    let mut other = grant.clone();
    other.token = token;
    other
}
