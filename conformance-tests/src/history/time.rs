//! What a store's clock may say, seen from outside: [`StoreTime`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::case::Failure;
use crate::harness::TimeControl;

/// Bounds on a store's clock, less an unknown constant: what the suite moved, and what passed meanwhile.
#[derive(Debug)]
pub(crate) struct StoreTime {
    control: TimeControl,
    started: Instant,
    /// Microseconds that the clock has surely moved by, and that it may have moved by: they differ while
    /// it is being moved.
    least: AtomicI64,
    most: AtomicI64,
}

impl StoreTime {
    pub(crate) fn new(control: TimeControl) -> Self {
        Self { control, started: Instant::now(), least: AtomicI64::new(0), most: AtomicI64::new(0) }
    }

    /// The least that the clock may say now, in microseconds.
    pub(crate) fn least(&self) -> i64 {
        self.least.load(Ordering::SeqCst) + self.passed()
    }

    /// The most that it may say now.
    pub(crate) fn most(&self) -> i64 {
        self.most.load(Ordering::SeqCst) + self.passed()
    }

    fn passed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Moves the clock forward.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), Failure> {
        let TimeControl::Shift(shift) = &self.control else {
            return Err(Failure("the harness says ShiftTime, and its time control is Wall".to_owned()));
        };
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.most.fetch_add(micros, Ordering::SeqCst);
        shift.advance(by);
        self.least.fetch_add(micros, Ordering::SeqCst);
        Ok(())
    }

    /// Moves the clock back, while nothing else is under way.
    pub(crate) fn rewind(&self, by: Duration) -> Result<(), Failure> {
        let rewound = matches!(&self.control, TimeControl::Shift(shift) if shift.rewind(by));
        if !rewound {
            return Err(Failure("the harness says RewindTime, and its clock doesn't step back".to_owned()));
        }
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.least.fetch_sub(micros, Ordering::SeqCst);
        self.most.fetch_sub(micros, Ordering::SeqCst);
        Ok(())
    }
}

/// A bound as a history's time, which never is before its zero.
pub(super) fn as_time(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
