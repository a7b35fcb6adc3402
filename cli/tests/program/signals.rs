//! Signals go to the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process};

use crate::kit::{Place, Running, open_gate, pid, until};

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
        // Whoever started the tests may have it ignored (`nohup`), and then it stays so.
        let mut running = if cfg!(target_os = "linux") {
            under_env(&place, &format!("--default-signal={name}"), &script)
        } else {
            place.exec("k").sh(&script).start()
        };
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

/// `exec` of `script`, begun by `env` with this option.
fn under_env(place: &Place, option: &str, script: &str) -> Running {
    let mut env = Command::new("env");
    env.args([option, env!("CARGO_BIN_EXE_oncekey"), "exec", "--store", "once.db", "--key", "k"]);
    env.args(["--keep", "always", "--", "sh", "-c", script]).current_dir(place.path(""));
    env.stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(Some(env.spawn().unwrap()))
}

/// `nohup oncekey exec ..`: what was ignored stays ignored, for the command too.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let running =
        under_env(&place, "--ignore-signal=HUP", "echo $PPID $$ > pids; read line < gate; echo $line");
    for id in place.line_in("pids").split(' ') {
        kill_process(pid(id.parse().unwrap()), Signal::HUP).unwrap();
    }
    open_gate(&gate);
    running.end().printed("go\n");
}

/// Some daemons ignore SIGCHLD: then the system throws exit codes away.
#[cfg(target_os = "linux")]
#[test]
fn an_ignored_sigchld_does_not_lose_the_exit_code() {
    let place = Place::new();
    for which in ["run", "replay"] {
        let ended = under_env(&place, "--ignore-signal=CHLD", "echo x >> log; exit 7").end();
        assert_eq!((ended.code, ended.err()), (Some(7), ""), "{which}");
    }
    assert_eq!(place.lines("log"), ["x"]);
}

/// A command that ends and leaves somebody running who holds its output; the pid of the ended one.
fn leave_one_running(place: &Place, script: &str) -> (PathBuf, Running) {
    let gate = place.fifo("gate");
    let running = place.exec("k").sh(script).start();
    let shell = format!("/proc/{}", place.line_in("ready"));
    // Gone, and not a zombie: the program has noticed, and waits for its output alone.
    until("the end of the command", || if Path::new(&shell).exists() { Err(&shell) } else { Ok(()) });
    (gate, running)
}

#[test]
fn what_a_background_process_prints_later_belongs_to_the_answer() {
    let place = Place::new();
    let script = "{ echo $$ > ready; cat gate; } & echo done";
    let (gate, running) = leave_one_running(&place, script);
    open_gate(&gate);
    running.end().printed("done\ngo\n");
    place.exec("k").sh(script).run().printed("done\ngo\n");
}

#[test]
fn a_background_process_that_holds_the_output_is_not_waited_for_after_a_signal() {
    let place = Place::new();
    let (gate, mut running) = leave_one_running(&place, "{ echo $$ > ready; exec cat gate; } & echo done");
    running.signal(Signal::TERM);
    let ended = running.end();
    open_gate(&gate);
    assert_eq!((ended.code, ended.out()), (Some(0), "done\n"), "{ended:?}");
    assert!(ended.err().contains("what it left running"), "{ended:?}");
}
