//! The one place of time: [`Timestamp`], and the [`Clock`] that a store in this process reads.
//!
//! A record is judged by the *store's* clock alone (the spec's word **now**). For a store that lives in
//! this process, or in a file beside it, that is the host's clock, read here and nowhere else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A moment on a store's clock: microseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use oncekey_core::Timestamp;
/// use std::time::Duration;
///
/// let t = Timestamp::from_micros(1_000_000) + Duration::from_secs(2);
/// assert_eq!(t.as_micros(), 3_000_000);
/// assert_eq!(t - Timestamp::from_micros(500_000), Duration::from_millis(2_500));
/// assert!(Timestamp::NEVER > t);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Before every reading of a clock. As a lease's end it means *lapsed at once*, which no step of the
    /// clock undoes.
    pub const ZERO: Self = Self(0);
    /// After every reading of a clock: the `expires_at` of an at-most-once record that has begun. It is
    /// the largest value that a signed 64-bit column holds.
    pub const NEVER: Self = Self(i64::MAX as u64);

    /// From microseconds since the epoch; anything past [`Timestamp::NEVER`] is `NEVER`.
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::NEVER.0 { Self::NEVER } else { Self(micros) }
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long from `earlier` to `self`; none where `earlier` is not earlier.
    ///
    /// ```
    /// use oncekey_core::Timestamp;
    /// let (a, b) = (Timestamp::from_micros(1), Timestamp::from_micros(3));
    /// assert_eq!(b.since(a).map(|d| d.as_micros()), Some(2));
    /// assert_eq!(a.since(b), None);
    /// ```
    pub fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_micros)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    /// Rounded up to a whole microsecond, and never past [`Timestamp::NEVER`].
    fn add(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(by)))
    }
}

impl std::ops::Sub for Timestamp {
    type Output = Duration;
    /// Zero where `earlier` is not earlier.
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier).unwrap_or_default()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(micros) => write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000),
        }
    }
}

/// A duration in whole microseconds, rounded up so that a lease is never shorter than was asked.
pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The clock of a store that lives in this process: the host's, moved by an offset that is zero in
/// production.
///
/// A test moves its store's time with `Clock::shiftable`, behind the feature `test-util`.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds to add, shared with every clone; none in production.
    offset: Option<Arc<AtomicI64>>,
    /// A clock that stands still reads this instead of the host's time.
    frozen_at: Option<Timestamp>,
}

impl Clock {
    /// The host's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// What the clock says now.
    pub fn now(&self) -> Timestamp {
        let base = self.frozen_at.unwrap_or_else(host_now);
        let offset = self.offset.as_ref().map_or(0, |offset| offset.load(Ordering::SeqCst));
        Timestamp::from_micros(base.0.saturating_add_signed(offset))
    }
}

/// What tests add.
#[cfg(any(test, feature = "test-util"))]
impl Clock {
    /// The host's clock, and a handle that moves it. Clones of the clock move together.
    ///
    /// ```
    /// use oncekey_core::Clock;
    /// use std::time::Duration;
    ///
    /// let clock = Clock::shiftable();
    /// let before = clock.now();
    /// clock.advance(Duration::from_secs(3600));
    /// assert!(clock.now() - before >= Duration::from_secs(3600));
    /// ```
    pub fn shiftable() -> Self {
        Self { offset: Some(Arc::default()), frozen_at: None }
    }

    /// A clock that stands still at `at`, until it is moved. Clones move together.
    pub fn frozen(at: Timestamp) -> Self {
        Self { offset: Some(Arc::default()), frozen_at: Some(at) }
    }

    /// Moves the clock, and all its clones, forward. A [`Clock::system`] clock does not move.
    pub fn advance(&self, by: Duration) {
        self.shift(i64::try_from(micros(by)).unwrap_or(i64::MAX));
    }

    /// Moves the clock, and all its clones, back. A [`Clock::system`] clock does not move.
    pub fn rewind(&self, by: Duration) {
        self.shift(i64::try_from(micros(by)).unwrap_or(i64::MAX).saturating_neg());
    }

    fn shift(&self, micros: i64) {
        if let Some(offset) = &self.offset {
            offset.fetch_add(micros, Ordering::SeqCst);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the host's time")]
fn host_now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(micros(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_to_a_microsecond() {
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1_000)), 1);
        assert_eq!(micros(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }

    #[test]
    fn clones_of_a_frozen_clock_move_together_both_ways() {
        let clock = Clock::frozen(Timestamp::from_micros(5_000_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(2));
        assert_eq!(other.now().as_micros(), 7_000_000);
        other.rewind(Duration::from_secs(4));
        assert_eq!(clock.now().as_micros(), 3_000_000);
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::NEVER + Duration::MAX, Timestamp::NEVER);
        assert_eq!(Timestamp::ZERO - Timestamp::NEVER, Duration::ZERO);
    }
}
