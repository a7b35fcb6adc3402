//! The one place that lets time pass: between two tries of what may pass.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure that may pass; each further one is twice as long, up to the last.
const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_millis(500);

/// After so many failures in a row and one more, but not past the deadline: a server that starts again is not to be
/// stormed.
pub(crate) async fn after_by(failures: u32, deadline: Instant) {
    until(end(failures, Instant::now(), deadline)).await;
}

fn end(failures: u32, now: Instant, deadline: Instant) -> Instant {
    (now + FIRST.saturating_mul(1 << failures.min(8)).min(LAST)).min(deadline)
}

#[allow(clippy::disallowed_methods, reason = "library code that waits for another machine")]
pub(crate) async fn until(then: Instant) {
    tokio::time::sleep(then.saturating_duration_since(Instant::now())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_goes_past_the_deadline() {
        let now = Instant::now();
        for failures in [0, 1, 5, 8, u32::MAX] {
            for left in [Duration::ZERO, FIRST / 2, LAST / 2] {
                assert!(end(failures, now, now + left) <= now + left, "{failures} {left:?}");
            }
            assert!(end(failures, now, now + 10 * LAST) <= now + LAST);
        }
        assert_eq!(end(2, now, now + LAST), now + 4 * FIRST);
    }
}
