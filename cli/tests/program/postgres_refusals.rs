//! What is said when a PostgreSQL database can't be used, and that no password is in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use oncekey_testbed::postgres::Server;

use crate::kit::{Call, Ended, Place, until};
use crate::postgres::with;

const SECRET: &str = "hunter2";

/// A call that would leave a line.
fn call(place: &Place) -> Ended {
    ended(place.exec("k"))
}

/// The same by a call in the making. Whatever is said, it isn't the password.
fn ended(call: Call) -> Ended {
    let ended = call.sh("echo ran; echo ran >> log").run();
    assert!(!ended.err().contains(SECRET), "{ended:?}");
    ended
}

#[test]
fn a_server_that_is_not_there_is_said_with_the_reason() {
    let server = Server::start().unwrap();
    let gone = server.url("postgres");
    drop(server);
    let refused = format!("postgres://me:{SECRET}@127.0.0.1:1/db");
    // All at once: each takes its time.
    let calls = [
        (refused.as_str(), "db at 127.0.0.1:1 can't be reached, for 10 s now: "),
        (&refused, "Connection refused"),
        ("postgres://me:hunter2@nowhere.invalid/db", "db at nowhere.invalid:5432 can't be reached"),
        (&gone, "No such file or directory"),
    ]
    .map(|(url, words)| {
        let place = Place::on(url);
        (place.exec("k").sh("echo ran >> log").start(), place, words)
    });
    for (running, place, words) in calls {
        let ended = running.end();
        ended.refused(69, words);
        assert!(!ended.err().contains(SECRET), "{ended:?}");
        assert_eq!(place.lines("log"), [""; 0], "nothing ran");
    }
}

#[test]
fn a_server_that_starts_again_is_waited_for() {
    let server = Server::start().unwrap();
    let place = Place::on(server.url("postgres"));
    server.shut_down_fast().unwrap();
    let running = place.exec("k").sh("echo ran").start();
    server.start_again().unwrap();
    running.end().printed("ran\n");
}

#[test]
fn urls_that_can_not_be_meant_are_refused_at_once() {
    for (url, words) in [
        ("postgres:db", "none of PostgreSQL's"),
        ("postgres:me:hunter2@h/db", "none of PostgreSQL's"),
        ("postgres://me:hunter2@h:port/db", "none of PostgreSQL's"),
        ("postgres://me:hun/hunter2@h/db", "is written as %3A %2F"),
        ("postgres://me:hun#hunter2@h/db", "is written as %3A %2F"),
        ("postgres://me:hunter2@h/db?sslmod=require", "there is no parameter sslmod"),
        ("postgres://me:hunter2@h/db?sslmode=hunter2", "none of PostgreSQL's"),
        ("postgres://me:hunter2@h/db?oncekey_table=", "table's name is empty"),
        ("POSTGRES://me:hunter2@h/db", "there is no POSTGRES: store"),
    ] {
        let place = Place::on(url);
        call(&place).refused(64, words);
        assert_eq!(place.lines("log"), [""; 0], "nothing ran");
    }
    // As a word too many, which is repeated.
    let place = Place::new();
    let mut program = place.program();
    program.args(["exec", "--key", "k", "postgres://me:hunter2@h/db", "--", "date"]);
    let said = Ended::of(program.output().unwrap());
    said.refused(64, "postgres://me:***@h/db");
}

/// With a role `app` that has a password.
fn guarded() -> Server {
    let server = Server::start().unwrap();
    let rules = "local all postgres trust\nlocal all all scram-sha-256\n";
    fs::write(server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.psql("CREATE ROLE app LOGIN PASSWORD 'hunter2'; GRANT CREATE ON SCHEMA public TO app").unwrap();
    server.restart().unwrap();
    server
}

/// As `role`, rather than as the superuser.
fn as_role(server: &Server, role: &str) -> String {
    server.url("postgres").replace("user=postgres", &format!("user={role}"))
}

#[test]
fn a_password_comes_by_the_url_a_variable_or_a_file_and_reaches_neither_command_nor_log() {
    let server = guarded();
    let bare = as_role(&server, "app");
    let whole = with(&bare, &format!("password={SECRET}"));
    let place = Place::on(&bare);
    call(&place).refused(69, "the password is the URL's, else PGPASSWORD, else that of ~/.pgpass");
    let wrong = with(&bare, "password=wrong");
    call(&Place::on(wrong)).refused(69, "password authentication failed for user \"app\": the password is");

    // What the command sees of its own environment, and of the process that started it.
    let see = "echo $ONCEKEY_STORE; tr '\\0' ' ' < /proc/$PPID/cmdline; tr '\\0' ' ' < /proc/$$/cmdline";
    let mut by_variable = place.program();
    by_variable.args(["exec", "--key", "variable"]).env("ONCEKEY_STORE", &whole);
    let seen = Call(by_variable).sh(see).run();
    assert_eq!((seen.code, seen.err()), (Some(0), ""), "{seen:?}");
    assert!(seen.out().starts_with(&bare), "the URL without its password: {}", seen.out());
    assert!(seen.out().contains("--key variable"), "{}", seen.out());
    assert!(!seen.out().contains(SECRET), "{}", seen.out());

    let mut by_libpqs = place.exec("libpq's");
    by_libpqs.0.env("PGPASSWORD", SECRET);
    ended(by_libpqs).printed("ran\n");

    let file = place.path(".pgpass");
    fs::write(&file, format!("*:*:*:app:{SECRET}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    ended(place.exec("file")).printed("ran\n");

    let log = fs::read_to_string(server.folder().join("log")).unwrap();
    assert!(log.contains("password authentication failed"), "{log}");
    let of_calls = log.lines().filter(|line| !line.contains("CREATE ROLE"));
    let leaked: Vec<_> = of_calls.filter(|line| line.contains(SECRET)).collect();
    assert_eq!(leaked, [""; 0]);
}

#[test]
fn a_database_or_a_role_that_is_not_there_is_named() {
    let server = Server::start().unwrap();
    call(&Place::on(server.url("nowhere"))).refused(69, "database \"nowhere\" does not exist");
    call(&Place::on(as_role(&server, "nobody"))).refused(69, "role \"nobody\" does not exist");
}

#[test]
fn a_role_that_may_not_create_is_told_what_to_do_and_finds_what_the_owner_made() {
    let server = Server::start().unwrap();
    server.psql("CREATE ROLE app LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").unwrap();
    let url = as_role(&server, "app");
    for url in [&url, &with(&url, "oncekey_schema=elsewhere")] {
        let place = Place::on(url);
        call(&place)
            .refused(69, "this role needs CREATE; where `oncekey schema` has given their owner the SQL");
        let mut suite = place.program();
        suite.args(["conformance", "--filter", "R1", "--store", url]);
        Ended::of(suite.output().unwrap()).refused(69, "this role may not create one in this database");
    }

    // The owner runs what is printed; then the rights come one by one.
    let place = Place::on(&url);
    let mut schema = place.program();
    let schema = Ended::of(schema.args(["schema", "--store", &url]).output().unwrap());
    assert_eq!((schema.code, schema.err()), (Some(0), ""), "{schema:?}");
    server.psql(schema.out()).unwrap();
    call(&place).refused(69, "permission denied for table oncekey_slots_meta");
    server.psql("GRANT SELECT ON oncekey_slots_meta TO app").unwrap();
    call(&place).refused(69, "permission denied for table oncekey_slots");
    assert_eq!(place.lines("log"), [""; 0], "nothing ran");
    server.psql("GRANT SELECT, INSERT, UPDATE, DELETE ON oncekey_slots TO app").unwrap();
    call(&place).printed("ran\n");
    call(&place).printed("ran\n");
    assert_eq!(place.lines("log"), ["ran"]);
}

#[test]
fn a_standby_is_refused_whether_the_tables_are_there_or_not() {
    let server = Server::start().unwrap();
    let standby = server.replica().unwrap();
    let there = Place::on(standby.url("postgres"));
    call(&there).refused(69, "point the URL at the primary");
    let mut suite = there.program();
    suite.args(["conformance", "--filter", "R1", "--store", &standby.url("postgres")]);
    Ended::of(suite.output().unwrap()).refused(69, "point the URL at the primary");

    let primary = Place::on(server.url("postgres"));
    call(&primary).printed("ran\n");
    // The standby has them, too, once the primary's log has arrived.
    let arrived = format!(
        "SELECT pg_last_wal_replay_lsn() >= '{}'",
        server.psql("SELECT pg_current_wal_lsn()").unwrap()
    );
    until("the standby's catching up", || match standby.psql(&arrived) {
        Ok(arrived) if arrived == "t" => Ok(()),
        other => Err(other),
    });
    call(&there).refused(69, "point the URL at the primary");
    assert_eq!(there.lines("log"), [""; 0], "nothing ran");
}
