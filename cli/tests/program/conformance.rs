//! `oncekey conformance`.

use std::fs;

use oncekey_testbed::postgres::Server;

use crate::kit::{Ended, Place};

fn conformance(place: &Place, options: &[&str]) -> Ended {
    Ended::of(place.program().arg("conformance").args(options).output().unwrap())
}

#[test]
fn both_stores_pass_and_a_record_that_exists_is_not_touched() {
    let place = Place::new();
    place.exec("k").command(["echo", "x"]).run().printed("x\n");
    let before = fs::read(place.path("once.db")).unwrap();
    for store in ["sqlite:once.db", "memory:"] {
        let ended = conformance(&place, &["--store", store, "--filter", "R1"]);
        assert_eq!((ended.code, ended.err()), (Some(0), ""), "{}", ended.out());
        assert!(ended.out().contains(", 0 failed"), "{}", ended.out());
    }
    assert!(fs::read(place.path("once.db")).unwrap() == before, "the store changed");
    let left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["once.db"], "nothing is left beside it");
}

#[test]
fn postgres_passes_in_a_schema_of_its_own_and_nothing_else_is_touched() {
    let server = Server::start().unwrap();
    let url = server.url("postgres");
    let place = Place::on(&url);
    place.exec("k").command(["echo", "x"]).run().printed("x\n");
    let all = "SELECT string_agg(n.nspname || '.' || c.relname, ' ' ORDER BY 1) FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
    let (before, row) =
        (server.psql(all).unwrap(), server.psql("SELECT xmin, * FROM oncekey_slots").unwrap());
    let ended = conformance(&place, &["--store", &url, "--filter", "R1", "--filter", "Q2", "--json"]);
    assert_eq!((ended.code, ended.err()), (Some(0), ""), "{}", ended.out());
    for part in
        ["{\"store\":\"postgres, postgres at /", "schema oncekey_conformance_", "\"verdict\":\"passed\""]
    {
        assert!(ended.out().contains(part), "{part} is not in {}", ended.out());
    }
    assert!(!ended.out().contains("\"verdict\":\"failed\""), "{}", ended.out());
    conformance(&place, &["--store", &url, "--filter", "no-such-case"]).refused(64, "no case has such an id");
    assert_eq!(server.psql(all).unwrap(), before, "the relations");
    assert_eq!(server.psql("SELECT xmin, * FROM oncekey_slots").unwrap(), row);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'oncekey%'";
    assert_eq!(server.psql(schemas).unwrap(), "0", "schemas are left");
}

#[test]
fn json_and_seed() {
    let place = Place::new();
    let ended = conformance(&place, &["--store", "memory:", "--filter", "R2", "--json", "--seed", "42"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["{\"store\":\"memory\"", "\"seed\":42", "\"failed\":0", "\"verdict\":\"passed\""] {
        assert!(ended.out().contains(part), "{part} is not in {}", ended.out());
    }
}

#[test]
fn the_default_store_is_looked_for_like_exec_does() {
    let place = Place::new();
    let ended = conformance(&place, &["--filter", "R1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out().contains(".local/state/oncekey"), "{}", ended.out());
    assert!(!place.path(".local/state/oncekey/oncekey.db").exists(), "the store itself is not made");
}

#[test]
fn where_no_folder_can_be_made_it_says_so() {
    let place = Place::new();
    conformance(&place, &["--store", "/proc/once.db"]).refused(69, "no folder can be made in /proc");
    conformance(&place, &["--store", "missing/once.db"]).refused(69, "no folder can be made in missing");
}

#[test]
fn a_seed_that_is_no_number_is_refused() {
    let place = Place::new();
    let mut command = place.program();
    command.args(["conformance", "--store", "memory:"]).env("ONCEKEY_SEED", "x");
    Ended::of(command.output().unwrap()).refused(64, "ONCEKEY_SEED=x");
}
