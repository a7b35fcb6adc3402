//! What a caller asks for: [`ReserveRequest`] with its [`Terms`] and [`Policy`], [`Renewal`],
//! [`Completion`]. Each is valid once it exists.

use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::clock::micros;
use crate::error::InvalidInput;
use crate::fingerprint::Fingerprint;
use crate::record::StoredResponse;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(1);
/// The longest lease: a year of 365 days.
pub const MAX_LEASE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The longest retention: ten years of 365 days.
pub const MAX_RETENTION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What happens to a record whose holder fell silent. The record keeps the policy of its first grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Policy {
    /// At least once: the next caller takes over, and somebody finishes the work.
    TakeOver,
    /// At most once: a holder that began and fell silent leaves an *unknown*, which only it or an
    /// operator may resolve.
    Refuse,
}

/// How long a holder may be silent, how long an answer is kept, and what happens in between.
///
/// ```
/// use oncekey_core::{Policy, Terms};
/// use std::time::Duration;
///
/// let terms = Terms::new(Policy::TakeOver, Duration::from_secs(30), Duration::from_secs(86_400))?;
/// assert_eq!(terms, Terms::default());
/// assert!(Terms::new(Policy::Refuse, Duration::from_secs(30), Duration::ZERO).is_err());
/// # Ok::<(), oncekey_core::InvalidInput>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Terms {
    policy: Policy,
    lease: Duration,
    retention: Duration,
}

impl Terms {
    /// `lease`: how long a holder may be silent before it counts as lapsed, 1 ms to 1 year. `retention`:
    /// how long an answer is kept, at least, after a holder in its lease completed; up to 10 years.
    /// With [`Policy::TakeOver`] it may be 0, which gives the classic table with a single TTL.
    /// Both are kept in whole microseconds, rounded up.
    ///
    /// # Errors
    /// [`InvalidInput`] outside these bounds.
    pub fn new(policy: Policy, lease: Duration, retention: Duration) -> Result<Self, InvalidInput> {
        let lease = valid_lease(lease)?;
        let retention = whole_micros(retention);
        if retention > MAX_RETENTION {
            return Err(InvalidInput::new("retention is over 10 years"));
        }
        if policy == Policy::Refuse && retention.is_zero() {
            return Err(InvalidInput::new(
                "retention is 0 under Policy::Refuse, where a record must outlive its lease: give it hours",
            ));
        }
        Ok(Self { policy, lease, retention })
    }

    /// A lease of 30 s and 24 h of retention, under `policy`.
    pub fn standard(policy: Policy) -> Self {
        Self { policy, lease: Duration::from_secs(30), retention: DAY }
    }

    /// What happens when the holder falls silent.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How long a holder may be silent.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long an answer is kept.
    pub fn retention(&self) -> Duration {
        self.retention
    }
}

impl Default for Terms {
    /// [`Policy::TakeOver`], a lease of 30 s, and 24 h of retention.
    fn default() -> Self {
        Self::standard(Policy::TakeOver)
    }
}

/// What a reserve asks, beside slot and token. No token inside: a request value used twice must not be
/// one reservation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct ReserveRequest {
    /// What the request means.
    pub fingerprint: Fingerprint,
    /// For how long, and what if the holder falls silent.
    pub terms: Terms,
}

impl ReserveRequest {
    /// A request for `fingerprint` on `terms`.
    pub fn new(fingerprint: Fingerprint, terms: Terms) -> Self {
        Self { fingerprint, terms }
    }
}

/// What a renew asks: a longer lease, or a step back.
///
/// ```
/// use oncekey_core::{Checkpoint, Renewal};
/// use std::time::Duration;
///
/// let heartbeat = Renewal::extend(Duration::from_secs(30))?;
/// let with_progress = Renewal::extend(Duration::from_secs(30))?.with_checkpoint(Checkpoint::new(1, "page 4")?);
/// let step_back = Renewal::hand_over();
/// # Ok::<(), oncekey_core::InvalidInput>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Renewal {
    lease: Option<Duration>,
    checkpoint: Option<Checkpoint>,
}

impl Renewal {
    /// Holds for `lease` from now, at least (W1).
    ///
    /// # Errors
    /// [`InvalidInput`] when the lease is outside 1 ms .. 1 year.
    pub fn extend(lease: Duration) -> Result<Self, InvalidInput> {
        Ok(Self { lease: Some(valid_lease(lease)?), checkpoint: None })
    }

    /// Steps back: the lease lapses at once, and what the holder may have done stays known (W4).
    pub fn hand_over() -> Self {
        Self { lease: None, checkpoint: None }
    }

    /// Saves `checkpoint` as well. An older sequence than the stored one changes nothing.
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// The lease asked for; none when the holder hands over.
    pub fn lease(&self) -> Option<Duration> {
        self.lease
    }

    /// What to save.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }
}

/// What a complete stores.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Completion {
    response: StoredResponse,
    retention: Option<Duration>,
}

impl Completion {
    /// Stores `response`, kept for the retention that the reservation asked for.
    pub fn new(response: StoredResponse) -> Self {
        Self { response, retention: None }
    }

    /// Keeps the answer for `retention` from now instead: shorter (a 5xx) or longer (C5).
    ///
    /// # Errors
    /// [`InvalidInput`] when it is 0 or over 10 years.
    pub fn keep_for(mut self, retention: Duration) -> Result<Self, InvalidInput> {
        let retention = whole_micros(retention);
        if retention.is_zero() || retention > MAX_RETENTION {
            return Err(InvalidInput::new("a completion's retention is over 0 and at most 10 years"));
        }
        self.retention = Some(retention);
        Ok(self)
    }

    /// What to store.
    pub fn response(&self) -> &StoredResponse {
        &self.response
    }

    /// The retention that replaces the reservation's.
    pub fn retention(&self) -> Option<Duration> {
        self.retention
    }
}

fn valid_lease(lease: Duration) -> Result<Duration, InvalidInput> {
    let lease = whole_micros(lease);
    if lease < MIN_LEASE || lease > MAX_LEASE {
        return Err(InvalidInput::new(format!("a lease of {lease:?} is outside 1 ms .. 1 year")));
    }
    Ok(lease)
}

fn whole_micros(d: Duration) -> Duration {
    Duration::from_micros(micros(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_both_ends() {
        let terms = |lease, retention| Terms::new(Policy::TakeOver, lease, retention);
        assert!(terms(MIN_LEASE, Duration::ZERO).is_ok());
        assert!(terms(MAX_LEASE, MAX_RETENTION).is_ok());
        assert!(terms(Duration::from_micros(999), Duration::ZERO).is_err());
        assert!(terms(MAX_LEASE + Duration::from_micros(1), Duration::ZERO).is_err());
        assert!(terms(MIN_LEASE, MAX_RETENTION + Duration::from_micros(1)).is_err());
        assert!(terms(Duration::MAX, Duration::MAX).is_err());
        assert!(Terms::new(Policy::Refuse, MIN_LEASE, Duration::from_nanos(1)).is_ok(), "rounds up");
        let completion = || Completion::new(StoredResponse::new(200, "", ""));
        assert!(completion().keep_for(Duration::ZERO).is_err());
        assert!(completion().keep_for(MAX_RETENTION).is_ok());
        assert!(completion().keep_for(Duration::MAX).is_err());
        assert!(Renewal::extend(Duration::ZERO).is_err());
    }
}
