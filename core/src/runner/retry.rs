//! Calls made again until a deadline (S6), and the pauses between them.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{Effect, ErrorKind, StoreError};

/// Makes `call` until it answers, fails for good, or `deadline` comes. Each try is a call of its own
/// (S9), with the same token or grant, so a repeat has no second effect; the error that remains has the
/// worst effect of all tries (S7).
///
/// The first try is made even when the deadline has passed.
pub(super) async fn within<T, F, C>(
    deadline: Instant,
    operation: &'static str,
    mut call: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> C,
    C: Future<Output = Result<T, StoreError>>,
{
    let mut worst = Effect::NotApplied;
    let mut backoff = Backoff::for_tries();
    loop {
        let error = match timeout_at(deadline, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            // The store kept no deadline of its own. What it was asked may still happen.
            Err(_) => {
                let message = "the store gave no answer by the runner's deadline";
                StoreError::new(ErrorKind::Timeout, operation, Effect::Unknown, message)
            }
        };
        worst = worst.max(error.effect());
        let wait = backoff.next();
        if !error.is_retryable() || Instant::now() + wait >= deadline {
            return Err(error.or_worse(worst));
        }
        pause(wait).await;
    }
}

const FIRST_STEP: Duration = Duration::from_millis(10);

/// Growing pauses with jitter, so that callers who failed together don't come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    now: Duration,
    most: Duration,
}

impl Backoff {
    /// Between two tries of a call that failed: 10 ms to 1 s.
    pub(super) fn for_tries() -> Self {
        Self { now: FIRST_STEP, most: Duration::from_secs(1) }
    }

    /// Between two looks at a slot that somebody holds: 10 ms to half a second.
    pub(super) fn for_polls() -> Self {
        Self { now: FIRST_STEP, most: Duration::from_millis(500) }
    }

    /// The next pause, but not long past `hint`, when the slot may be open. However small the hint, it
    /// is never below the first step's half, and those who wait for the same moment come apart.
    pub(super) fn next_before(&mut self, hint: Duration) -> Duration {
        let floor = FIRST_STEP.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next().min(hint.saturating_add(floor))
    }

    /// The next pause: between half and the whole of a step that doubles.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.now;
        self.now = (step * 2).min(self.most);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Waits. The one place of the runner that sleeps for its own sake.
#[allow(clippy::disallowed_methods, reason = "a pause between tries of a real call, not a bet on timing")]
pub(super) async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// `from + by`; thirty years on where that overflows, for a `Duration::MAX` that means *never*.
pub(super) fn later(from: Instant, by: Duration) -> Instant {
    let never = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    from + by.min(never)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn failing(kind: ErrorKind, effect: Effect) -> StoreError {
        StoreError::new(kind, "complete", effect, "on purpose")
    }

    #[tokio::test(start_paused = true)]
    async fn the_effect_is_the_worst_of_all_tries() {
        let tries = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let error = within(deadline, "complete", || async {
            let effect = match tries.fetch_add(1, Ordering::Relaxed) {
                1 => Effect::Unknown,
                _ => Effect::NotApplied,
            };
            Err::<(), _>(failing(ErrorKind::Unavailable, effect))
        })
        .await
        .unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "one of the tries may have had an effect");
        assert!(tries.load(Ordering::Relaxed) >= 3, "tried {tries:?} times");
        assert!(Instant::now() < deadline, "no try is made past the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_repeated() {
        let tries = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_secs(1);
        let error = within(deadline, "complete", || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(failing(ErrorKind::Corrupt, Effect::NotApplied))
        })
        .await
        .unwrap_err();
        assert_eq!((error.kind(), tries.load(Ordering::Relaxed)), (ErrorKind::Corrupt, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_answers_ends_unknown_at_the_deadline() {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(3);
        let hanging = within(deadline, "renew", std::future::pending::<Result<(), _>>);
        let error = timeout_at(started + Duration::from_secs(60), hanging).await.expect("ends").unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let mut backoff = Backoff::for_tries();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(
            pauses[0] >= Duration::from_millis(5) && pauses[0] <= Duration::from_millis(10),
            "{pauses:?}"
        );
        let late = &pauses[10..];
        assert!(
            late.iter().all(|p| *p >= Duration::from_millis(500) && *p <= Duration::from_secs(1)),
            "{late:?}"
        );
        let hinted: Vec<_> = (0..20).map(|_| backoff.next_before(Duration::from_millis(1))).collect();
        let bounds = Duration::from_millis(6)..=Duration::from_millis(11);
        assert!(hinted.iter().all(|p| bounds.contains(p)), "a hint of 1 ms is no busy loop: {hinted:?}");
        assert!(late.windows(2).any(|pair| pair[0] != pair[1]), "no jitter: {late:?}");
    }
}
