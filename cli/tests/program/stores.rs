//! Where records are kept, and what is said when they can't be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::kit::{Ended, Place};

/// `exec` with this environment and these options, nothing else said about the store.
fn exec(place: &Place, environment: &[(&str, &str)], options: &[&str]) -> Ended {
    let mut command = place.program();
    command.args(["exec", "--key", "k"]).args(options).args(["--", "sh", "-c", "echo x >> log"]);
    command.envs(environment.iter().copied());
    Ended::of(command.output().unwrap())
}

#[test]
fn the_default_store_is_in_the_state_folder_for_its_user_alone() {
    let place = Place::new();
    exec(&place, &[], &[]).printed("");
    let folder = place.path(".local/state/oncekey");
    assert!(folder.join("oncekey.db").is_file());
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);

    let xdg = place.path("xdg");
    exec(&place, &[("XDG_STATE_HOME", xdg.to_str().unwrap())], &[]).printed("");
    assert!(xdg.join("oncekey/oncekey.db").is_file());
    assert_eq!(place.lines("log").len(), 2, "two stores");
}

#[test]
fn the_variable_names_a_store_and_the_option_goes_before_it() {
    let place = Place::new();
    exec(&place, &[("ONCEKEY_STORE", "sqlite:a.db")], &[]).printed("");
    exec(&place, &[("ONCEKEY_STORE", "sqlite:a.db")], &["--store", "b.db"]).printed("");
    exec(&place, &[("ONCEKEY_STORE", "b.db")], &[]).printed("");
    assert!(place.path("a.db").is_file() && place.path("b.db").is_file());
    assert!(!place.path(".local").exists(), "no default store was made");
    assert_eq!(place.lines("log").len(), 2, "the third was a replay");
    exec(&place, &[("ONCEKEY_STORE", "mysql://h")], &[])
        .refused(64, "ONCEKEY_STORE: there is no mysql: store");
}

#[test]
fn urls_name_the_same_file_in_each_spelling() {
    let place = Place::new();
    let path = place.path("once.db");
    let path = path.to_str().unwrap();
    for url in ["once.db".into(), path.to_owned(), "sqlite:once.db".into(), format!("sqlite://{path}")] {
        exec(&place, &[], &["--store", &url]).printed("");
    }
    assert_eq!(place.lines("log"), ["x"]);
}

#[test]
fn without_a_home_it_says_what_to_give() {
    let place = Place::new();
    exec(&place, &[("HOME", "")], &[]).refused(64, "give --store PATH, or set ONCEKEY_STORE");
}

#[test]
fn stores_that_cannot_be_meant_are_refused() {
    let place = Place::new();
    for (url, words) in [
        ("memory:", "ends with this process"),
        ("sqlite::memory:", "ends with this process"),
        ("postgres:host/db", "postgres://"),
        ("redis+sentinel://host:1", "sentinels know their masters by name"),
        ("mysql://host", "there is no mysql: store"),
        ("sqlite:", "the store has no path"),
        ("", "the store has no path"),
        ("/", "is a directory"),
    ] {
        exec(&place, &[], &["--store", url]).refused(64, words);
    }
    assert_eq!(place.lines("log"), [""; 0], "nothing ran");
}

#[test]
fn stores_that_cannot_be_used_are_said_and_nothing_runs() {
    let place = Place::new();
    fs::write(place.path("text.db"), "this is no database, and long enough to be taken for one".repeat(100))
        .unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("file"), "").unwrap();
    for (url, words) in [
        ("text.db", "not a whole SQLite database"),
        ("missing/once.db", "missing isn't there"),
        ("file/once.db", "file isn't there"),
        // Nobody may make a file there, not even root.
        ("/proc/once.db", "can't be opened"),
    ] {
        exec(&place, &[], &["--store", url]).refused(69, words);
    }
    exec(&place, &[], &["--store", "folder"]).refused(64, "folder is a directory");
    // A state folder that can't be made.
    let file = place.path("file");
    exec(&place, &[("XDG_STATE_HOME", file.to_str().unwrap())], &[]).refused(69, "can't be made");
    assert_eq!(place.lines("log"), [""; 0], "nothing ran");
}
