//! Stdin, passed on and, with `--stdin`, part of what a key means.

use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;

use crate::kit::{Ended, Place};

fn with_stdin(place: &Place, options: &[&str], stdin: &[u8]) -> Ended {
    fs::write(place.path("stdin"), stdin).unwrap();
    let mut call = place.exec("k").with(options).command(["cat"]);
    call.0.stdin(File::open(place.path("stdin")).unwrap());
    call.run()
}

#[test]
fn stdin_is_passed_on_and_means_nothing_by_itself() {
    let place = Place::new();
    with_stdin(&place, &[], b"first").printed("first");
    with_stdin(&place, &[], b"second").printed("first");
}

#[test]
fn stdin_is_passed_on_while_it_is_written() {
    let place = Place::new();
    let mut call = place.exec("k").sh("read line; echo \"$line\" > log; cat");
    call.0.stdin(Stdio::piped());
    let mut running = call.start();
    let mut stdin = running.child().stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(place.line_in("log"), "a", "before stdin ends");
    stdin.write_all(b"b\n").unwrap();
    drop(stdin);
    running.end().printed("b\n");
}

#[test]
fn with_stdin_its_bytes_are_part_of_the_meaning() {
    let place = Place::new();
    let long: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let first = with_stdin(&place, &["--stdin"], &long);
    assert_eq!(first.code, Some(0));
    assert!(first.out == long, "{} bytes", first.out.len());
    assert!(with_stdin(&place, &["--stdin"], &long) == first);
    with_stdin(&place, &["--stdin"], &long[1..]).refused(65, "another command");
    with_stdin(&place, &[], &long).refused(65, "another command");
}

#[test]
fn a_command_that_does_not_read_its_stdin_is_no_error() {
    let place = Place::new();
    fs::write(place.path("stdin"), vec![0; 1_000_000]).unwrap();
    let mut call = place.exec("k").with(["--stdin"]).command(["echo", "done"]);
    call.0.stdin(File::open(place.path("stdin")).unwrap());
    call.run().printed("done\n");
}

#[test]
fn a_stdin_that_is_too_long_runs_nothing() {
    let place = Place::new();
    let mut call = place.exec("k").with(["--stdin"]).sh("echo x >> log");
    call.0.stdin(File::open("/dev/zero").unwrap());
    call.run().refused(64, "stdin is over 16 MiB");
    assert_eq!(place.lines("log"), [""; 0]);
}
