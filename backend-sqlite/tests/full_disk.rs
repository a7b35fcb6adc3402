//! A full disk: SQLite shows the row of a `RETURNING`, then fails, and the table is empty (FAULTS 1). What
//! was acknowledged is there, nothing else was said to be, and the store goes on once there is room.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: its failure is a panic"
)]

mod common;

use std::path::Path;

use common::{answer, child_argument, child_on_tmpfs, granted, request, slot, succeeds};
use oncekey_sqlite::rusqlite::Connection;
use oncekey_sqlite::*;

#[test]
fn a_full_disk_never_yields_reserved_or_stored_without_a_row() {
    match child_argument() {
        Some(folder) => fill(Path::new(&folder)),
        None => {
            let folder = tempfile::tempdir().unwrap();
            let name = "a_full_disk_never_yields_reserved_or_stored_without_a_row";
            succeeds(child_on_tmpfs(name, folder.path().to_str().unwrap(), "2m"));
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn fill(folder: &Path) {
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 256 * 1024]).unwrap();
    let path = folder.join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap();

    // Many callers at once, so that calls which fail share their transactions with calls which don't.
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move { work_until_full(&store, caller).await })
        })
        .collect();
    let (mut reserved, mut stored, mut refused) = (Vec::new(), Vec::new(), 0);
    for caller in callers {
        let (r, s, f) = caller.await.unwrap();
        reserved.extend(r);
        stored.extend(s);
        refused += f;
    }
    assert!(refused > 0, "the disk never filled: {} stored", stored.len());
    assert!(!stored.is_empty());

    // What the engine holds, asked of another connection while the disk is still full.
    let rows = Connection::open(&path).unwrap();
    for (key, grant) in &reserved {
        let found = rows
            .query_one("SELECT fence FROM oncekey_slots WHERE key = ?1", [key], |row| row.get::<_, i64>(0))
            .unwrap_or_else(|e| panic!("{key} was Reserved, and has no row: {e}"));
        assert_eq!(found, i64::try_from(grant.fence.get()).unwrap());
    }
    for (key, body) in &stored {
        let found = rows
            .query_one(
                "SELECT body FROM oncekey_slots WHERE key = ?1 AND state = 'completed'",
                [key],
                |row| row.get::<_, Vec<u8>>(0),
            )
            .unwrap_or_else(|e| panic!("{key} was Stored, and has no row: {e}"));
        assert_eq!(&found, body.as_bytes(), "{key}");
    }

    std::fs::remove_file(&ballast).unwrap();
    let token = Token::fresh();
    granted(store.reserve_or_fetch(&slot("after"), token, &request()).await.expect("there is room again"));
    let check = rows.query_one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(check, "ok");
}

type Acknowledged = (Vec<(String, Grant)>, Vec<(String, String)>, u32);

async fn work_until_full(store: &SqliteStore, caller: usize) -> Acknowledged {
    let (mut reserved, mut stored, mut refused) = (Vec::new(), Vec::new(), 0);
    for n in 0..10_000 {
        let key = format!("caller-{caller}-{n}");
        let done = async {
            let grant = granted(store.reserve_or_fetch(&slot(&key), Token::fresh(), &request()).await?);
            reserved.push((key.clone(), grant.clone()));
            let body = format!("{key}:").repeat(300);
            let completed = store.complete(&slot(&key), &grant, &answer(body.clone())).await?;
            assert_eq!(completed, CompleteOutcome::Stored);
            stored.push((key.clone(), body));
            Ok::<(), StoreError>(())
        };
        if let Err(error) = done.await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("full"), "{error}");
            refused += 1;
            if refused == 5 {
                break;
            }
        }
    }
    (reserved, stored, refused)
}
