//! Output: shown while it is printed, replayed byte for byte.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::kit::{Ended, Place, open_gate};

#[test]
fn every_byte_is_replayed_in_its_stream() {
    let place = Place::new();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(place.path("bytes"), &all).unwrap();
    let call = || place.exec("k").sh("cat bytes; tail -c 50001 bytes >&2; printf no-newline").run();
    let first = call();
    assert_eq!(first.code, Some(0));
    assert!(first.out == [&all[..], b"no-newline"].concat(), "stdout differs");
    assert!(first.err == all[all.len() - 50_001..], "stderr differs");
    assert!(call() == first, "the replay differs");
}

#[test]
fn a_replay_into_one_file_has_the_streams_in_their_order() {
    let place = Place::new();
    // Each line waits until the one before it has arrived.
    let script = "echo 1
        until grep -q 1 merged; do :; done; echo 2 >&2
        until grep -q 2 merged; do :; done; echo 3
        until grep -q 3 merged; do :; done; echo 4 >&2";
    for file in ["merged", "replayed"] {
        let merged = File::create(place.path(file)).unwrap();
        let mut call = place.exec("k").sh(script);
        call.0.stdout(merged.try_clone().unwrap()).stderr(merged);
        assert_eq!(call.run().code, Some(0));
        assert_eq!(place.lines(file), ["1", "2", "3", "4"], "{file}");
    }
}

#[test]
fn output_is_shown_while_the_command_runs() {
    let place = Place::new();
    let gate = place.fifo("gate");
    let mut running = place.exec("k").sh("printf first; echo; cat gate").start();
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n", "shown before the gate is open");
    open_gate(&gate);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "go\n");
    assert_eq!(running.end().code, Some(0));
}

#[test]
fn output_over_the_bound_is_shown_whole_and_its_exit_code_replayed() {
    let place = Place::new();
    let call = |key: &str, length: usize| {
        let script = format!("echo x >> log; head -c {length} /dev/zero");
        place.exec(key).with(["--max-output", "1K"]).sh(&script).run()
    };
    let first = call("long", 1020);
    assert_eq!((first.code, first.out.len()), (Some(0), 1020), "five bytes of frame: over by one");
    assert!(first.err().contains("1020 bytes is over --max-output"), "{:?}", first.err());
    call("long", 1020).refused(0, "its output of 1020 bytes was not kept");
    assert_eq!(place.lines("log").len(), 1, "not run again");
    assert_eq!(call("short", 1019).err(), "");
    assert_eq!(call("short", 1019).out.len(), 1019);
}

#[test]
fn output_over_the_default_bound_ends_the_same() {
    let place = Place::new();
    let call = || place.exec("k").with(["--keep", "always"]).sh("head -c 17000000 /dev/zero; exit 3").run();
    let first = call();
    assert_eq!((first.code, first.out.len()), (Some(3), 17_000_000));
    call().refused(3, "ran before and ended with 3; its output of 17000000 bytes was not kept");
}

#[test]
fn a_reader_who_goes_away_is_no_error_and_the_answer_is_whole() {
    let place = Place::new();
    let all: String = (1..=60_000).map(|n| format!("{n}\n")).collect();
    let oncekey = format!("{} exec --store once.db --key k -- seq 60000", env!("CARGO_BIN_EXE_oncekey"));
    // The first of these runs, the second replays.
    for which in ["run", "replay"] {
        let script = format!("{{ {oncekey}; echo $? > code; }} 2> err | head -1");
        let piped = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
        assert_eq!(Ended::of(piped).out(), "1\n", "{which}");
        // `head` may end before the other side of the pipe does.
        assert_eq!(place.line_in("code"), "0", "{which}");
        assert_eq!(place.lines("err"), [""; 0], "{which}");
        fs::remove_file(place.path("code")).unwrap();
    }
    let whole = place.exec("k").command(["seq", "60000"]).run();
    assert!(whole.out() == all, "{} bytes", whole.out.len());
}

#[test]
fn a_stdout_that_is_full_is_said_and_the_answer_is_kept() {
    let place = Place::new();
    let script = "echo x | tee -a log; until test -s err -o -e ran; do :; done; echo y >&2; touch ran";
    for which in ["run", "replay"] {
        let err = File::create(place.path("err")).unwrap();
        let mut call = place.exec("k").sh(script);
        call.0.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(err);
        assert_eq!(call.run().code, Some(74), "{which}");
        let lines = place.lines("err");
        let (ours, its): (Vec<&String>, Vec<&String>) =
            lines.iter().partition(|l| l.starts_with("oncekey: "));
        assert!(ours.len() == 1 && ours[0].contains("output could not be written"), "{which}: {lines:?}");
        assert_eq!(its, ["y"], "{which}: stderr is another matter");
    }
    let whole = place.exec("k").sh(script).run();
    assert_eq!((whole.code, whole.out(), whole.err()), (Some(0), "x\n", "y\n"));
    assert_eq!(place.lines("log"), ["x"]);
}

/// As when a terminal's other user has set it so: a write that would block is waited for.
#[test]
fn a_non_blocking_stdout_gets_everything() {
    let place = Place::new();
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut full = 0;
    while let Ok(written) = writer.write(&[0; 4096]) {
        full += written;
    }
    // A byte more than a pipe holds: once it is written, the program has read some, and finds stdout full.
    let script = "head -c 65537 /dev/zero; echo x > log; head -c 3000000 /dev/zero";
    let mut call = place.exec("k").sh(script);
    call.0.stdout(Stdio::from(OwnedFd::from(writer)));
    let running = call.start();
    place.line_in("log");
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    let ended = running.end();
    assert_eq!((ended.code, ended.err()), (Some(0), ""));
    assert_eq!(out.len() - full, 3_065_537);
}

#[test]
fn a_command_without_output_is_an_answer_too() {
    let place = Place::new();
    for _ in 0..2 {
        place.exec("k").sh("echo x >> log").run().printed("");
    }
    assert_eq!(place.lines("log"), ["x"]);
}
