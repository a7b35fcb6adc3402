//! What is kept, and what a later call gets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::kit::Place;

#[test]
fn the_same_key_prints_the_same_nanoseconds_and_another_key_others() {
    let place = Place::new();
    let nanoseconds = |key: &str| {
        let ended = place.exec(key).command(["date", "+%N"]).run();
        ended.printed(ended.out());
        assert_eq!(ended.out.len(), 10, "{ended:?}");
        ended.out
    };
    let first = nanoseconds("hello");
    assert_eq!(nanoseconds("hello"), first);
    assert_ne!(nanoseconds("other"), first);
    assert_eq!(nanoseconds("hello"), first);
}

#[test]
fn a_key_used_for_another_command_is_refused_and_another_principal_is_free() {
    let place = Place::new();
    place.exec("k").command(["echo", "a b"]).run().printed("a b\n");
    place.exec("k").command(["echo", "a", "b"]).run().refused(65, "another command");
    place.exec("k").with(["--principal", "other"]).command(["echo", "a", "b"]).run().printed("a b\n");
    place.exec("k").command(["echo", "a b"]).run().printed("a b\n");
}

#[test]
fn a_failure_is_not_kept_and_runs_again_as_a_later_attempt() {
    let place = Place::new();
    let call =
        || place.exec("k").sh("echo $ONCEKEY_ATTEMPT >> log; test $ONCEKEY_ATTEMPT = 3 || exit 9").run();
    assert_eq!([call().code, call().code, call().code], [Some(9), Some(9), Some(0)]);
    assert_eq!(call().code, Some(0), "kept");
    assert_eq!(place.lines("log"), ["1", "2", "3"]);
}

#[test]
fn a_failure_that_is_kept_is_replayed() {
    let place = Place::new();
    let call =
        || place.exec("k").with(["--keep", "always"]).sh("echo x | tee -a log; echo y >&2; exit 9").run();
    let first = call();
    assert_eq!((first.code, first.out(), first.err()), (Some(9), "x\n", "y\n"));
    assert_eq!(call(), first);
    assert_eq!(place.lines("log"), ["x"]);
}

#[test]
fn a_command_that_a_signal_killed_ends_like_in_a_shell() {
    let place = Place::new();
    let call = || place.exec("k").with(["--keep", "always"]).sh("echo x; kill -9 $$").run();
    let first = call();
    assert_eq!((first.code, first.out()), (Some(128 + 9), "x\n"), "{first:?}");
    assert_eq!(call(), first);
}

/// A command that says itself that it failed may run again; one that was killed said nothing.
#[test]
fn at_most_once_runs_a_failure_again_but_not_a_killed_command() {
    let place = Place::new();
    let call = |key, script| place.exec(key).with(["--on-lapse", "refuse"]).sh(script).run();
    let failing = || call("failing", "echo $ONCEKEY_ATTEMPT >> failing; exit 3");
    assert_eq!([failing().code, failing().code], [Some(3), Some(3)]);
    assert_eq!(place.lines("failing"), ["1", "1"]);
    let killed = || call("killed", "echo x >> killed; kill -9 $$");
    let first = killed();
    assert_eq!(first.code, Some(128 + 9));
    assert!(first.err().starts_with("oncekey: the command was killed"), "{first:?}");
    killed().refused(80, "indeterminate");
    assert_eq!(place.lines("killed"), ["x"]);
}

#[test]
fn a_command_that_cannot_start_leaves_the_key_free() {
    for policy in ["takeover", "refuse"] {
        let place = Place::new();
        fs::write(place.path("plain"), "echo never").unwrap();
        fs::set_permissions(place.path("plain"), fs::Permissions::from_mode(0o644)).unwrap();
        let call = |words: &[&str]| place.exec("k").with(["--on-lapse", policy]).command(words).run();
        call(&["no-such-command", "x"]).refused(127, "no-such-command: command not found");
        call(&["./no/such/path"]).refused(127, "command not found");
        call(&["./plain"]).refused(126, "./plain: can't be executed");
        call(&["."]).refused(126, "can't be executed");
        call(&["sh", "-c", "echo $ONCEKEY_ATTEMPT"]).printed("1\n");
    }
}

#[test]
fn a_commands_own_126_and_127_are_its_own() {
    let place = Place::new();
    for code in [126, 127] {
        let ended = place.exec(&code.to_string()).sh(&format!("exit {code}")).run();
        assert_eq!((ended.code, ended.err()), (Some(code), ""));
    }
}

#[test]
fn the_command_learns_its_key_attempt_and_fence() {
    let place = Place::new();
    let script = "echo \"$ONCEKEY_KEY $ONCEKEY_ATTEMPT [$ONCEKEY_CHECKPOINT] $ONCEKEY_FENCE\" >> log; exit 1";
    for _ in 0..2 {
        assert_eq!(place.exec("a key").sh(script).run().code, Some(1));
    }
    let lines = place.lines("log");
    let fence = |line: &str, start: &str| -> u64 {
        line.strip_prefix(start).unwrap_or_else(|| panic!("{lines:?}")).parse().unwrap()
    };
    let (first, second) = (fence(&lines[0], "a key 1 [] "), fence(&lines[1], "a key 2 [] "));
    assert!(second > first, "{lines:?}");
}

#[test]
fn an_answer_is_kept_for_its_retention_and_then_runs_anew() {
    let place = Place::new();
    // The record ends with the lease: one that a starved machine outlasts would be lost before its answer is kept.
    let call = || place.exec("k").with(["--retention", "1ms", "--lease", "4s"]).sh("echo x >> log").run();
    crate::kit::until("a second run", || {
        call().printed("");
        if place.lines("log").len() == 2 { Ok(()) } else { Err(place.lines("log")) }
    });
}
