//! PgBouncer before a server of ours.
#![allow(clippy::unwrap_used, reason = "the tests' helpers are tests too")]

use std::process::{Command, Stdio};

use oncekey_testbed::pgbouncer::{Bouncer, PoolMode};
use oncekey_testbed::postgres::Server;

/// Holds a session through the pooler in which it asked for its backend, and then asks another client's.
fn backends(server: &Server, bouncer: &Bouncer, begin: &str) -> (String, String) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut psql: Command = server.program("psql");
    psql.args(["-XAtq", "-d", &bouncer.url("postgres")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holds = psql.spawn().unwrap();
    let mut asks = holds.stdin.take().unwrap();
    writeln!(asks, "{begin} select pg_backend_pid();").unwrap();
    let first = BufReader::new(holds.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let second = bouncer.psql_in("postgres", "select pg_backend_pid()").unwrap();
    drop(asks);
    holds.wait().unwrap();
    (first, second)
}

#[test]
fn a_session_is_another_clients_after_each_transaction_and_not_within() {
    let server = Server::start().unwrap();
    let bouncer = Bouncer::before(&server, PoolMode::Transaction).start().unwrap();
    let (first, second) = backends(&server, &bouncer, "");
    assert_eq!(first, second);
    let (first, second) = backends(&server, &bouncer, "begin;");
    assert_ne!(first, second);

    let sessions = Bouncer::before(&server, PoolMode::Session).start().unwrap();
    let (first, second) = backends(&server, &sessions, "");
    assert_ne!(first, second);
}

#[test]
fn it_stands_before_all_databases_by_socket_and_by_tcp_also_after_a_kill() {
    let server = Server::start().unwrap();
    server.create_database("app").unwrap();
    let bouncer = Bouncer::before(&server, PoolMode::Transaction).tcp().setting("default_pool_size", "3");
    let bouncer = bouncer.start().unwrap();
    let by_tcp = bouncer.url_by(bouncer.tcp_address().unwrap(), "app");
    for _ in 0..2 {
        assert_eq!(bouncer.psql_in("app", "select current_database()").unwrap(), "app");
        let asked = server.program("psql").args(["-XAtc", "select current_user", "-d", &by_tcp]).output();
        assert_eq!(asked.unwrap().stdout, b"postgres\n");
        let config = bouncer.psql_in("pgbouncer", "show config").unwrap();
        assert!(config.contains("default_pool_size|3|"), "{config}");
        bouncer.kill().unwrap();
        assert!(!bouncer.is_running());
        bouncer.start_again().unwrap();
    }
}

#[test]
fn a_missing_binary_is_told_with_the_command_that_installs_it() {
    let server = Server::start().unwrap();
    let builder = Bouncer::before(&server, PoolMode::Statement).binaries_in(["/nonexistent"]);
    let error = builder.start().unwrap_err().to_string();
    assert!(error.contains("apt-get install pgbouncer"), "{error}");
}
