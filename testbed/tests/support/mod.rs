//! What the tests of all servers need.

use std::time::Duration;

use oncekey_testbed::wait_until;
use rustix::process::{Pid, test_kill_process};

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = || if condition() { Ok(()) } else { Err("not yet".to_owned()) };
    wait_until(what, Duration::from_secs(60), holds).unwrap();
}

/// Whether there is such a process; a zombie is one.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}
