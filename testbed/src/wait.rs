//! Waiting on a condition: bounded, and with the last state in the error.
//!
//! Other processes don't call back, so somebody has to look again and again. It is done here and nowhere else.

use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `condition` until it answers `Ok`; its `Err` is what it saw instead, for a human.
///
/// # Errors
///
/// The condition didn't hold `within` that time: the error says `what` was waited for and what was seen last.
///
/// ```
/// use std::time::Duration;
///
/// let mut looks = 0;
/// let third = oncekey_testbed::wait_until("the third look", Duration::from_secs(5), || {
///     looks += 1;
///     if looks == 3 { Ok(looks) } else { Err(format!("{looks} looks")) }
/// });
/// assert_eq!(third.unwrap(), 3);
/// ```
pub fn wait_until<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let last = match condition() {
            Ok(value) => return Ok(value),
            Err(last) => last,
        };
        if begun.elapsed() >= within {
            return Err(Error::new(format!("waited {within:?} for {what}; last seen: {last}")));
        }
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_in_the_error() {
        let error = wait_until::<()>("rain", Duration::ZERO, || Err("sun".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "waited 0ns for rain; last seen: sun");
    }
}
