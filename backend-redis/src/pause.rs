//! The one place that lets time pass: between two tries of what may pass.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure that may pass; each further one is twice as long, up to the last.
const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_millis(500);

/// After so many failures in a row and one more, but not past the deadline: a server that starts again is not to be
/// stormed.
pub(crate) async fn after_by(failures: u32, deadline: Instant) {
    let then = Instant::now() + FIRST.saturating_mul(1 << failures.min(8)).min(LAST);
    until(then.min(deadline)).await;
}

#[allow(clippy::disallowed_methods, reason = "library code that waits for another machine")]
pub(crate) async fn until(then: Instant) {
    tokio::time::sleep(then.saturating_duration_since(Instant::now())).await;
}
