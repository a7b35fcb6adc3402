//! A server ends with its owner's process, in whichever way that ends.
#![allow(clippy::unwrap_used, reason = "the tests' helpers are tests too")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{exists, until};

/// A process that owns a server of this kind, the server's process and its folder.
fn owner_of(kind: &str) -> (Child, u32, PathBuf) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_oncekey-testbed"));
    let mut owner = owner.arg(kind).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
    let (url, pid) = (said.next().unwrap().unwrap(), said.next().unwrap().unwrap());
    // postgres:///postgres?host=FOLDER&.., redis+unix://FOLDER/redis.sock?..
    let path = url.split_once("host=").or_else(|| url.split_once("://")).unwrap().1;
    let path = Path::new(path.split(['&', '?']).next().unwrap());
    let folder = path.ancestors().find(|folder| folder.is_dir()).unwrap().to_owned();
    let pid = pid.parse().unwrap();
    assert!(exists(pid), "{url}");
    assert!(folder.join("log").exists(), "{url}");
    (owner, pid, folder)
}

#[test]
fn nothing_is_left_of_a_server_whose_owner_was_killed() {
    for kind in ["postgres", "redis", "pgbouncer"] {
        let (mut owner, pid, folder) = owner_of(kind);
        // SIGKILL.
        owner.kill().unwrap();
        owner.wait().unwrap();
        until(&format!("the end of {kind}"), || !exists(pid));
        until(&format!("the end of {}", folder.display()), || !folder.exists());
    }
}

#[test]
fn nothing_is_left_of_a_stopped_server_whose_owner_was_killed() {
    for kind in ["postgres", "redis"] {
        let (mut owner, pid, folder) = owner_of(kind);
        let stopped = Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
        assert!(stopped.success());
        owner.kill().unwrap();
        owner.wait().unwrap();
        until(&format!("the end of {kind}"), || !exists(pid));
        until(&format!("the end of {}", folder.display()), || !folder.exists());
    }
}

#[test]
fn an_owner_that_ends_in_order_leaves_nothing_either() {
    let (mut owner, pid, folder) = owner_of("redis");
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
    assert!(!exists(pid) && !folder.exists(), "{}", folder.display());
}
