//! Files that are not what a store hopes for: each a clear error, and nothing half done.

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

fn refused(path: impl AsRef<Path>) -> StoreError {
    SqliteStore::open(path).expect_err("opening should have failed")
}

#[test]
fn a_directory_in_its_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path());
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidInput, Effect::NotApplied));
    assert!(error.to_string().contains("is a directory"), "{error}");
}

#[test]
fn a_folder_that_is_missing_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path().join("no/oncekey.db"));
    assert!(error.to_string().contains("isn't there"), "{error}");
    assert!(!folder.path().join("no").exists());
}

#[test]
fn memory_is_asked_for_by_its_own_name() {
    for path in ["", ":memory:"] {
        assert!(refused(path).to_string().contains("in_memory()"));
    }
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let text = "a letter to my aunt, and nothing else. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_file_answers_corrupt_and_assess_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap().blocking();
    for n in 0..200 {
        let grant =
            granted(store.reserve_or_fetch(&slot(format!("{n}")), Token::fresh(), &request()).unwrap());
        assert_eq!(
            store.complete(&slot(format!("{n}")), &grant, &answer("x".repeat(500))).unwrap(),
            CompleteOutcome::Stored
        );
    }
    store.close();
    Connection::open(&path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 4_096;
    bytes[8 * 4_096..end].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();

    let store = SqliteStore::open(&path).expect("the schema's pages are whole").blocking();
    let errors: Vec<_> = (0..200).filter_map(|n| store.lookup(&slot(format!("{n}"))).err()).collect();
    assert!(!errors.is_empty(), "no lookup met the damage");
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let findings = store.assess().unwrap();
    assert!(
        findings.iter().any(|f| f.id == "sqlite.integrity" && f.severity == Severity::Danger),
        "{findings:?}"
    );
}

#[test]
fn a_record_that_cannot_be_read_is_corrupt_never_a_guess() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap().blocking();
    let other = Connection::open(&path).unwrap();
    for (n, damage) in [
        "token = x'00'",
        "fence = -1",
        "attempt = 0",
        "begun = 7",
        "lease_expires_at = -5",
        "checkpoint_sequence = 3, checkpoint = NULL",
        "fingerprint = x'0102'",
    ]
    .iter()
    .enumerate()
    {
        let slot = slot(format!("damaged-{n}"));
        let grant = granted(store.reserve_or_fetch(&slot, Token::fresh(), &request()).unwrap());
        other.execute(&format!("UPDATE oncekey_slots SET {damage} WHERE key = ?1"), [slot.key()]).unwrap();
        assert_eq!(store.lookup(&slot).unwrap_err().kind(), ErrorKind::Corrupt, "{damage}");
        let again = store.reserve_or_fetch(&slot, Token::fresh(), &request());
        match again {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}"),
            Ok(outcome) => panic!("{damage}: {outcome:?} of {grant:?}"),
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_at_opening() {
    let name = "a_file_that_cannot_be_written_is_refused_at_opening";
    if let Some(folder) = child_argument() {
        let path = Path::new(&folder).join("oncekey.db");
        SqliteStore::open(&path).unwrap().blocking().close();
        let remounted =
            std::process::Command::new("mount").args(["-o", "remount,ro", &folder]).status().unwrap();
        assert!(remounted.success());
        let error = refused(&path);
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied));
        assert!(error.to_string().contains("can't be written"), "{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(child_on_tmpfs(name, folder.path().to_str().unwrap(), "2m"));
}

#[test]
fn an_older_schema_is_migrated_with_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap().blocking();
    let token = Token::fresh();
    let grant = granted(store.reserve_or_fetch(&slot("kept"), token, &request()).unwrap());
    store.close();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("DROP INDEX oncekey_slots_expires_at; UPDATE oncekey_meta SET value = 1").unwrap();

    let store = SqliteStore::open(&path).unwrap().blocking();
    let again = granted(store.reserve_or_fetch(&slot("kept"), token, &request()).unwrap());
    assert_eq!(again.fence, grant.fence);
    let version: i64 = db.query_one("SELECT value FROM oncekey_meta", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
    let index: i64 = db
        .query_one("SELECT count(*) FROM sqlite_schema WHERE name = 'oncekey_slots_expires_at'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(index, 1);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    SqliteStore::open(&path).unwrap().blocking().close();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("UPDATE oncekey_meta SET value = 99").unwrap();
    for manage in [true, false] {
        let error = SqliteStore::builder().manage_schema(manage).open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMissing);
        assert!(error.to_string().contains("version 99"), "{error}");
    }
}

#[test]
fn a_store_that_does_not_manage_its_schema_says_that_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::builder().manage_schema(false).open(&path).unwrap().blocking();
    let error = store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::SchemaMissing, Effect::NotApplied));
    assert_eq!(store.lookup(&slot("a")).unwrap_err().kind(), ErrorKind::SchemaMissing);
    store.ensure_schema().unwrap();
    granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
}

#[test]
fn another_programs_tables_and_user_version_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA user_version = 41; CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7)",
    )
    .unwrap();
    SqliteStore::open(&path).unwrap().blocking().close();
    let version: i64 = db.query_one("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let order: i64 = db.query_one("SELECT id FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!((version, order), (41, 7));
}

#[test]
fn assess_finds_the_weaker_durability() {
    let folder = tempfile::tempdir().unwrap();
    let found = |store: SqliteStore| -> Vec<_> {
        let found = store.blocking().assess().unwrap().into_iter();
        // Where temporary files are is the machine's choice.
        found.map(|f| (f.id, f.severity)).filter(|(id, _)| *id != "sqlite.file_system").collect()
    };
    let full = found(SqliteStore::open(folder.path().join("full.db")).unwrap());
    assert_eq!(full, [("sqlite.library", Severity::Info)]);
    let normal =
        SqliteStore::builder().durability(Durability::Normal).open(folder.path().join("normal.db")).unwrap();
    assert!(found(normal).contains(&("sqlite.synchronous", Severity::Danger)));
    assert!(found(SqliteStore::in_memory().unwrap()).contains(&("sqlite.memory", Severity::Danger)));
}

#[test]
fn assess_finds_a_file_that_is_in_memory() {
    let name = "assess_finds_a_file_that_is_in_memory";
    if let Some(folder) = child_argument() {
        let store = SqliteStore::open(Path::new(&folder).join("oncekey.db")).unwrap();
        let findings = store.blocking().assess().unwrap();
        let found = findings.iter().find(|finding| finding.id == "sqlite.file_system");
        assert!(
            found.is_some_and(|f| f.severity == Severity::Danger && f.message.contains("tmpfs")),
            "{findings:?}"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(child_on_tmpfs(name, folder.path().to_str().unwrap(), "20m"));
}

#[test]
fn assess_finds_small_pages() {
    let folder = tempfile::tempdir().unwrap();
    for (size, is_found) in [(1_024, true), (2_048, true), (4_096, false), (8_192, false)] {
        let path = folder.path().join(format!("{size}.db"));
        let theirs = format!("PRAGMA page_size = {size}; CREATE TABLE theirs (id INTEGER PRIMARY KEY)");
        Connection::open(&path).unwrap().execute_batch(&theirs).unwrap();
        let findings = SqliteStore::open(&path).unwrap().blocking().assess().unwrap();
        let found = findings.iter().find(|finding| finding.id == "sqlite.page_size");
        assert_eq!(found.map(|finding| finding.severity), is_found.then_some(Severity::Info), "{findings:?}");
        assert!(found.is_none_or(|finding| finding.message.contains(&size.to_string())), "{findings:?}");
    }
}

/// What assess says of it is tested beside it: nobody comes so far while a store has the file open.
#[test]
fn nobody_else_takes_an_open_file_out_of_wal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap().blocking();
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let refused =
        other.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
    assert!(refused.is_err(), "{refused:?}");
    let findings = store.assess().unwrap();
    assert!(findings.iter().all(|finding| finding.id != "sqlite.journal_mode"), "{findings:?}");
}
