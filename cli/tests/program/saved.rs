//! Checkpoints.

use rustix::process::Signal;

use crate::kit::{Place, until};

/// Attempt 1 saves; the last line of `log` is what an attempt found.
const SAVE: &str = "echo \"[$ONCEKEY_CHECKPOINT]\" >> log
    test $ONCEKEY_ATTEMPT = 1 || { cat \"$ONCEKEY_CHECKPOINT_FILE\"; exit 0; }
    echo 'page 4' > \"$ONCEKEY_CHECKPOINT_FILE\"";

#[test]
fn what_a_failed_command_saved_reaches_the_next() {
    let place = Place::new();
    let script = format!("{SAVE}; exit 1");
    assert_eq!(place.exec("k").sh(&script).run().code, Some(1));
    place.exec("k").sh(&script).run().printed("page 4\n");
    assert_eq!(place.lines("log"), ["[]", "[page 4]"]);
}

#[test]
fn what_a_killed_holder_saved_reaches_the_next() {
    let place = Place::new();
    place.fifo("gate");
    let script = format!("{SAVE}; read line < gate");
    let mut first = place.exec("k").with(["--lease", "500ms"]).sh(&script).start();
    place.line_in("log");
    until("the checkpoint in the store", || {
        let pending = place.pending("k");
        if pending.checkpoint.is_some() { Ok(()) } else { Err(pending.begun) }
    });
    first.signal(Signal::KILL);
    place.exec("k").with(["--wait", "30s"]).sh(&script).run().printed("page 4\n");
    assert_eq!(place.lines("log"), ["[]", "[page 4]"]);
}

#[test]
fn a_checkpoint_that_is_too_long_is_said_and_not_saved() {
    let place = Place::new();
    let script = "echo \"[$ONCEKEY_CHECKPOINT]\" >> log; test $ONCEKEY_ATTEMPT = 1 || exit 0
        head -c 65537 /dev/zero > \"$ONCEKEY_CHECKPOINT_FILE\"; exit 1";
    place.exec("k").sh(script).run().refused(1, "checkpoint is not saved: it is over 64 KiB");
    place.exec("k").sh(script).run().printed("");
    assert_eq!(place.lines("log"), ["[]", "[]"]);
}

#[test]
fn a_checkpoint_that_no_variable_can_hold_is_in_the_file() {
    let place = Place::new();
    let script = "test $ONCEKEY_ATTEMPT = 1 || { echo \"[$ONCEKEY_CHECKPOINT]\"; cat \"$ONCEKEY_CHECKPOINT_FILE\"; exit 0; }
        printf 'a\\0b' > \"$ONCEKEY_CHECKPOINT_FILE\"; exit 1";
    assert_eq!(place.exec("k").sh(script).run().code, Some(1));
    place.exec("k").sh(script).run().printed("[]\na\0b");
}

#[test]
fn nothing_is_left_in_the_temporary_folder() {
    let place = Place::new();
    place.exec("k").sh("exit 0").run().printed("");
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["once.db"], "the store alone, closed in order");
}
