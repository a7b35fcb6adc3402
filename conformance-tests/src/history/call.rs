//! A history: [`Call`]s with their real times.

use std::time::Duration;

use oncekey_core::state::{Answer, Operation};

/// One call of one operation on one slot, as its client saw it.
///
/// Each try that was sent is a call of its own (S9). A call that was dropped, or ended in an error of
/// unknown effect, is open for ever: it may have happened at any time since, or may yet, or never. A call
/// that surely had no effect doesn't belong into a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Who called: a number that names a lane in the drawing.
    pub client: usize,
    /// What it asked.
    pub operation: Operation,
    /// Just before it was sent.
    pub called: Moment,
    /// Just after the answer came, and the answer.
    pub answered: Option<(Moment, Answer)>,
}

/// When something happened in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Its place in the one order of all calls and answers: an answer with a smaller number than a call
    /// really came before that call was sent.
    pub order: u64,
    /// A bound on what the store's clock said, less an unknown constant: on a call, the least that it may
    /// have said then; on an answer, the most. A test that moves the store's clock adds what it moved.
    pub time: Duration,
}

/// How far a right store's times may be from the state machine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tolerance {
    /// Between a reading of the store's clock and the bounds in [`Moment::time`]: how far apart the two
    /// clocks may drift in a history.
    pub clock: Duration,
    /// Between a moment or duration that a store computes and the same computed from one reading of its
    /// clock: a statement may read the clock twice, and lose its processor in between.
    pub reckoning: Duration,
}

impl Tolerance {
    /// None: for histories that the state machine itself made.
    pub const EXACT: Self = Self { clock: Duration::ZERO, reckoning: Duration::ZERO };

    /// For real stores on busy machines: far below the leases that the suite's histories take.
    pub const COARSE: Self =
        Self { clock: Duration::from_millis(200), reckoning: Duration::from_millis(500) };
}
