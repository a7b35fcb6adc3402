//! PostgreSQL servers: what they survive, and that nothing survives them.
#![allow(clippy::unwrap_used, reason = "the tests' helpers are tests too")]

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

mod support;

use oncekey_testbed::postgres::{self, Server};
use oncekey_testbed::proxy::{Direction, Ending, Proxy};
use oncekey_testbed::wait_until;
use support::{exists, until};

#[test]
fn two_servers_run_at_once_each_with_its_own_data() {
    let (one, two) = (Server::start().unwrap(), Server::builder().tcp().start().unwrap());
    let url = one.create_database("of \"one\"").unwrap();
    assert_eq!(url, one.url("of \"one\""));
    assert_eq!(one.psql_in("of \"one\"", "select current_database()").unwrap(), "of \"one\"");
    assert!(two.psql_in("of \"one\"", "select 1").unwrap_err().to_string().contains("does not exist"));
    assert_eq!(one.tcp_address(), None);
    let by_tcp = two.url_by(two.tcp_address().unwrap(), "postgres");
    let mut asks = two.program("psql");
    let asks = asks.args(["-XAtc", "select inet_server_port() is not null", "-d", &by_tcp]).output().unwrap();
    assert_eq!(asks.stdout, b"t\n");
}

#[test]
fn settings_are_durable_unless_said_otherwise() {
    let server = Server::builder().setting("synchronous_commit", "off").setting("work_mem", "3MB").start();
    let server = server.unwrap();
    let shown = |name: &str| server.psql(&format!("show {name}")).unwrap();
    assert_eq!(shown("fsync"), "on");
    assert_eq!(shown("full_page_writes"), "on");
    assert_eq!(shown("synchronous_commit"), "off");
    assert_eq!(shown("work_mem"), "3MB");
    assert_eq!(shown("server_encoding"), "UTF8");
    assert_eq!(shown("lc_collate"), "C");
}

#[test]
fn a_setting_that_is_wrong_is_told_by_the_log() {
    let error = Server::builder().setting("no_such_thing", "1").start().unwrap_err().to_string();
    assert!(error.contains("the server ended while it started"), "{error}");
    assert!(error.contains("no_such_thing"), "{error}");
}

#[test]
fn missing_binaries_are_told_with_the_command_that_installs_them() {
    let error = Server::builder().binaries_in(["/nonexistent"]).start().unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}

#[test]
fn a_killed_server_starts_again_with_what_it_committed() {
    let server = Server::builder().tcp().start().unwrap();
    let (url, address) = (server.url("postgres"), server.tcp_address());
    server.psql("create table t as select 7 as n").unwrap();
    server.kill().unwrap();
    assert!(!server.is_running());
    server.psql("select 1").unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.psql("select n from t").unwrap(), "7");
    assert_eq!((server.url("postgres"), server.tcp_address()), (url, address));
    TcpStream::connect(address.unwrap()).unwrap();

    server.restart().unwrap();
    assert_eq!(server.psql("select n from t").unwrap(), "7");
    assert!(server.start_again().unwrap_err().to_string().contains("runs already"));
}

#[test]
fn a_stopped_server_answers_when_it_goes_on() {
    let server = Server::start().unwrap();
    server.stop();
    let mut asks = server.program("psql");
    let asks = asks.args(["-XAtc", "select 5", "-d", &server.url("postgres")]).stdout(Stdio::piped());
    let mut asks = asks.spawn().unwrap();
    let within = Duration::from_millis(300);
    let answer = wait_until("an answer", within, || asks.try_wait().unwrap().ok_or("none".to_owned()));
    assert!(answer.unwrap_err().to_string().contains("last seen: none"));
    assert!(server.is_running());
    server.cont();
    assert_eq!(asks.wait_with_output().unwrap().stdout, b"5\n");
}

#[test]
fn a_replica_follows_refuses_writes_and_can_be_promoted() {
    let primary = Server::start().unwrap();
    primary.psql("create table t as select 1 as n").unwrap();
    let replica = primary.replica().unwrap();
    assert_eq!(replica.psql("select n from t").unwrap(), "1");
    primary.psql("insert into t values (2)").unwrap();
    until("the second row", || replica.psql("select count(*) from t").unwrap() == "2");
    let refused = replica.psql("insert into t values (3)").unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");

    primary.kill().unwrap();
    replica.promote().unwrap();
    replica.psql("insert into t values (3)").unwrap();
    assert_eq!(replica.psql("select count(*) from t").unwrap(), "3");
}

#[test]
fn a_commit_whose_answer_is_cut_off_has_happened() {
    let server = Server::start().unwrap();
    server.psql("create table t (n int)").unwrap();
    let proxy = Proxy::before(server.socket()).unwrap();
    let url = server.url_by(proxy.address(), "postgres");
    let insert = || {
        let mut psql = server.program("psql");
        psql.args(["-XAtc", "insert into t values (1)", "-d", &url]).output().unwrap().status.success()
    };
    assert!(insert());
    proxy.cut_after(Direction::ToClient, proxy.seen(Direction::ToClient) - 1, Ending::Reset);
    assert!(!insert());
    assert_eq!(server.psql("select count(*) from t").unwrap(), "2");
    proxy.cut_after(Direction::ToServer, 10, Ending::Reset);
    assert!(!insert());
    assert_eq!(server.psql("select count(*) from t").unwrap(), "2");
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() {
    for state in ["running", "stopped", "killed"] {
        let server = Server::start().unwrap();
        let (folder, pid) = (server.folder().to_owned(), server.pid());
        match state {
            "stopped" => server.stop(),
            "killed" => server.kill().unwrap(),
            _ => {}
        }
        drop(server);
        assert!(!folder.exists(), "{state}: {}", folder.display());
        assert!(!exists(pid), "{state}");
    }
}

#[test]
fn the_shared_server_is_the_same_for_all() {
    let shared = postgres::shared().unwrap();
    let name = format!("testbed_{}", std::process::id());
    shared.create_database(&name).unwrap();
    let again = postgres::shared().unwrap();
    assert_eq!(again.psql_in(&name, "select current_database()").unwrap(), name);
    shared.psql(&format!("drop database {name}")).unwrap();
}
