//! kill -9 of a process that reserves and completes, at any instant: what it was told is there.
//!
//! `ONCEKEY_ROUNDS=1000 cargo test --release -p oncekey-sqlite --test crash` is the long proof.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: its failure is a panic"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use common::{answer, child_argument, child_of, granted, random, request, rounds, slot};
use oncekey_sqlite::rusqlite::Connection;
use oncekey_sqlite::*;

const NAME: &str = "no_acknowledged_record_is_lost_when_its_process_is_killed";
const CALLERS: usize = 6;

#[test]
fn no_acknowledged_record_is_lost_when_its_process_is_killed() {
    if let Some(argument) = child_argument() {
        let (round, path) = argument.split_once(' ').unwrap();
        return work(Path::new(path), round);
    }
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let (rounds, mut acknowledged) = (rounds(12), 0);
    for round in 0..rounds {
        let told = kill_after(&path, round, random.usize(0..400), random.u32(0..20_000));
        acknowledged += told.len();
        let store = SqliteStore::open(&path).expect("the file opens after a kill").blocking();
        for (key, what) in &told {
            verify(&store, key, what);
        }
        store.close();
        if round % 10 == 9 || round + 1 == rounds {
            let db = Connection::open(&path).unwrap();
            let check = db.query_one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap();
            assert_eq!(check, "ok", "after round {round}");
        }
    }
    println!("{rounds} kills, {acknowledged} slots acknowledged, none lost, integrity_check ok");
}

/// What the child was told of a slot: the fence of its Reserved, and whether its Stored came back.
#[derive(Default)]
struct Told {
    fence: u64,
    stored: bool,
}

fn kill_after(path: &Path, round: u64, lines: usize, spins: u32) -> BTreeMap<String, Told> {
    let mut child = child_of(NAME, &format!("{round} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut seen: Vec<String> = output.by_ref().filter(|line| is_told(line)).take(lines).collect();
    // A random moment between two lines as well.
    (0..spins).for_each(|_| std::hint::spin_loop());
    child.kill().unwrap();
    child.wait().unwrap();
    // What it was told before it died, and was still in the pipe.
    seen.extend(output.filter(|line| is_told(line)));

    let mut told = BTreeMap::<String, Told>::new();
    for line in seen {
        // The last line may be cut; then its answer was never heard.
        let mut words = line.split(' ').skip(1);
        let (Some(what), Some(key), Some(fence), Some("end")) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let slot = told.entry(key.to_owned()).or_default();
        slot.fence = fence.parse().unwrap();
        slot.stored |= what == "stored";
    }
    told
}

fn is_told(line: &str) -> bool {
    line.starts_with("told ")
}

fn verify(store: &BlockingSqliteStore, key: &str, told: &Told) {
    match store.lookup(&slot(key)).unwrap() {
        Some(Entry::Completed(record)) => {
            assert_eq!(record.fence.get(), told.fence, "{key}");
            assert_eq!(record.response, *answer(format!("answer of {key}")).response(), "{key}");
        }
        Some(Entry::Pending(pending)) => {
            assert!(!told.stored, "{key} was Stored, and is pending");
            assert_eq!(pending.fence.get(), told.fence, "{key}");
        }
        None => panic!("{key} was Reserved (stored: {}), and is gone", told.stored),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn work(path: &Path, round: &str) {
    let store = SqliteStore::open(path).unwrap();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, round) = (store.clone(), round.to_owned());
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("{round}-{caller}-{n}");
                    let grant = granted(
                        store.reserve_or_fetch(&slot(&key), Token::fresh(), &request()).await.unwrap(),
                    );
                    tell("reserved", &key, &grant);
                    let done = answer(format!("answer of {key}"));
                    let completed = store.complete(&slot(&key), &grant, &done).await.unwrap();
                    assert_eq!(completed, CompleteOutcome::Stored);
                    tell("stored", &key, &grant);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// One write, so that lines of several callers don't mix.
fn tell(what: &str, key: &str, grant: &Grant) {
    let line = format!("told {what} {key} {} end\n", grant.fence);
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
