//! Signals go to the command.

use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::kit::{Place, open_gate, pid, until};

#[test]
fn each_signal_is_forwarded_and_the_command_decides() {
    for (name, signal) in [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
    ] {
        let place = Place::new();
        let script =
            format!("trap 'echo got {name}; exit 0' {name}; echo ready > ready; while :; do :; done");
        let mut running = place.exec("k").sh(&script).start();
        place.line_in("ready");
        running.signal(signal);
        running.end().printed(&format!("got {name}\n"));
        place.exec("k").sh(&script).run().printed(&format!("got {name}\n"));
    }
}

#[test]
fn a_command_that_a_forwarded_signal_ends_leaves_the_key_to_a_later_attempt() {
    let place = Place::new();
    let script = "test $ONCEKEY_ATTEMPT = 1 || exit 0; echo ready > ready; while :; do :; done";
    let mut running = place.exec("k").sh(script).start();
    place.line_in("ready");
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!((ended.code, ended.err()), (Some(128 + 15), ""), "{ended:?}");
    place.exec("k").sh(script).run().printed("");
}

/// `nohup oncekey exec ..`: what was ignored stays ignored, for the command too.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let oncekey = env!("CARGO_BIN_EXE_oncekey");
    let inner = "echo $PPID $$ > pids; read line < gate; echo $line";
    let script = format!("trap '' HUP; exec {oncekey} exec --store once.db --key k -- sh -c '{inner}'");
    let mut call = place.exec("unused");
    call.0 = {
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", &script]).current_dir(place.path(""));
        sh.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        sh
    };
    let running = call.start();
    let line = place.line_in("pids");
    for id in line.split(' ') {
        kill_process(pid(id.parse().unwrap()), Signal::HUP).unwrap();
    }
    open_gate(&gate);
    running.end().printed("go\n");
}

#[test]
fn a_background_process_that_holds_the_output_is_not_waited_for_after_a_signal() {
    let place = Place::new();
    let gate = place.fifo("gate");
    // The command ends at once; what it left running holds stdout.
    let script = "{ echo $$ > ready; exec cat gate; } & echo done";
    let mut running = place.exec("k").sh(script).start();
    let shell = format!("/proc/{}", place.line_in("ready"));
    // Gone, and not a zombie: the program has noticed, and waits for its output alone.
    until("the end of the command", || if Path::new(&shell).exists() { Err(&shell) } else { Ok(()) });
    running.signal(Signal::TERM);
    let ended = running.end();
    open_gate(&gate);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out(), "done\n");
    assert!(ended.err().contains("what it left running"), "{ended:?}");
}
