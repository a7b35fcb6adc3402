//! Several processes on one file: one grant each, and no lock error reaches a caller (FAULTS 29).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: its failure is a panic"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use common::{answer, child_argument, child_of, request, slot};
use oncekey_sqlite::*;

const PROCESSES: usize = 8;
const SLOTS: usize = 60;

#[test]
fn many_processes_on_one_file_grant_each_slot_once() {
    let name = "many_processes_on_one_file_grant_each_slot_once";
    if let Some(path) = child_argument() {
        return race(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    // Absent: they race for making it as well.
    let path = folder.path().join("oncekey.db");
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            child_of(name, path.to_str().unwrap())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut grants = BTreeMap::<String, u32>::new();
    for child in children {
        let done = child.wait_with_output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{output}\n{}", String::from_utf8_lossy(&done.stderr));
        for key in output.lines().filter_map(|line| line.strip_prefix("granted ")) {
            *grants.entry(key.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(grants.len(), SLOTS, "each slot was granted to somebody");
    assert!(grants.values().all(|&n| n == 1), "a slot was granted twice: {grants:?}");
}

fn race(path: &Path) {
    let store = SqliteStore::open(path).expect("no lock error while the file is made").blocking();
    println!();
    for n in 0..SLOTS {
        let slot = slot(format!("slot-{n}"));
        match store.reserve_or_fetch(&slot, Token::fresh(), &request()).expect("no lock error") {
            ReservationOutcome::Reserved(grant) => {
                println!("granted {}", slot.key());
                let stored = store.complete(&slot, &grant, &answer("done")).expect("no lock error");
                assert_eq!(stored, CompleteOutcome::Stored);
            }
            ReservationOutcome::InFlight(_) | ReservationOutcome::Replay(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
