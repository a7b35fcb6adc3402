//! What the tests of a file share: slots and requests, and tests that run again as a child process.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "for tests: their failure is a panic"
)]

use std::process::{Command, Stdio};
use std::time::Duration;

use oncekey_sqlite::{
    Completion, Fingerprint, Grant, Policy, Principal, ReservationOutcome, ReserveRequest, Slot,
    StoredResponse, Terms,
};

pub const CHILD: &str = "ONCEKEY_CHILD";

pub fn slot(key: impl AsRef<str>) -> Slot {
    Principal::new("test").unwrap().slot(key).unwrap()
}

pub fn request_with(policy: Policy, lease: Duration) -> ReserveRequest {
    let terms = Terms::new(policy, lease, Duration::from_secs(3_600)).unwrap();
    ReserveRequest::new(Fingerprint::builder("test").finish(), terms)
}

pub fn request() -> ReserveRequest {
    request_with(Policy::TakeOver, Duration::from_secs(300))
}

pub fn answer(text: impl Into<String>) -> Completion {
    Completion::new(StoredResponse::new(200, "", text.into()))
}

#[track_caller]
pub fn granted(outcome: ReservationOutcome) -> Grant {
    match outcome {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

/// The argument of a test that runs as a child process of itself; none in the parent.
pub fn child_argument() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// This test binary again, running `test` alone with `argument`, its output inherited line by line.
pub fn child_of(test: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, argument).stdin(Stdio::null());
    command
}

/// The same inside a mount namespace of its own, with an empty tmpfs of `size` at `folder`. Needs no more
/// than util-linux, and the rights to make a user namespace.
pub fn child_on_tmpfs(test: &str, folder: &str, size: &str) -> Command {
    let script = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", size, folder]);
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, folder).stdin(Stdio::null());
    command
}

/// Runs a child to its end, and fails with all that it said.
#[track_caller]
pub fn succeeds(mut command: Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: install util-linux"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
    assert!(out.contains("1 passed"), "the child ran no test:\n{out}\n{err}");
}

/// A count of rounds from `ONCEKEY_ROUNDS`, or few.
pub fn rounds(few: u64) -> u64 {
    std::env::var("ONCEKEY_ROUNDS").map_or(few, |n| n.parse().expect("ONCEKEY_ROUNDS is a number"))
}

/// A generator seeded from `ONCEKEY_SEED`, or anew; the seed is printed, for a failure to be replayed.
pub fn random() -> fastrand::Rng {
    let seed = std::env::var("ONCEKEY_SEED")
        .map_or_else(|_| fastrand::u64(..), |n| n.parse().expect("ONCEKEY_SEED is a number"));
    println!("ONCEKEY_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
