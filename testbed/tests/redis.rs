//! Redis servers: what they survive, and that nothing survives them.
#![allow(clippy::unwrap_used, reason = "the tests' helpers are tests too")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use oncekey_testbed::proxy::{Direction, Ending, Proxy};
use oncekey_testbed::redis::{self, Server};
use support::{exists, until};

#[test]
fn two_servers_run_at_once_each_with_its_own_data() {
    let (one, two) = (Server::start().unwrap(), Server::builder().tcp().start().unwrap());
    assert_eq!(one.cli(["set", "k", "1"]).unwrap(), "OK");
    assert_eq!(two.cli(["exists", "k"]).unwrap(), "0");
    assert_eq!(one.tcp_address(), None);
    assert!(one.url(3).ends_with("/redis.sock?db=3"), "{}", one.url(3));
    let mut client = TcpStream::connect(two.tcp_address().unwrap()).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    client.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
}

#[test]
fn an_answer_that_is_an_error_is_one() {
    let server = Server::start().unwrap();
    let error = server.cli(["no-such-command"]).unwrap_err().to_string();
    assert!(error.contains("unknown command"), "{error}");
}

#[test]
fn settings_are_durable_unless_said_otherwise() {
    let server = Server::builder().setting("appendfsync", "everysec").setting("maxmemory", "8mb").start();
    let server = server.unwrap();
    let shown = |name| server.cli(["config", "get", name]).unwrap();
    assert_eq!(shown("appendonly"), "appendonly\nyes");
    assert_eq!(shown("appendfsync"), "appendfsync\neverysec");
    assert_eq!(shown("maxmemory"), "maxmemory\n8388608");
    let usual = Server::start().unwrap();
    assert_eq!(usual.cli(["config", "get", "appendfsync"]).unwrap(), "appendfsync\nalways");
}

#[test]
fn a_setting_that_is_wrong_is_told_by_the_log() {
    let error = Server::builder().setting("no-such-thing", "1").start().unwrap_err().to_string();
    assert!(error.contains("the server ended while it started"), "{error}");
    assert!(error.contains("no-such-thing"), "{error}");
}

#[test]
fn missing_binaries_are_told_with_the_command_that_installs_them() {
    let error = Server::builder().binaries_in(["/nonexistent"]).start().unwrap_err().to_string();
    assert!(error.contains("apt-get install redis-server"), "{error}");
}

#[test]
fn a_killed_server_starts_again_with_what_it_answered() {
    let server = Server::builder().tcp().start().unwrap();
    let (url, address) = (server.url(0), server.tcp_address());
    server.cli(["set", "k", "7"]).unwrap();
    server.kill().unwrap();
    assert!(!server.is_running());
    server.cli(["get", "k"]).unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.cli(["get", "k"]).unwrap(), "7");
    assert_eq!((server.url(0), server.tcp_address()), (url, address));
    TcpStream::connect(address.unwrap()).unwrap();

    server.restart().unwrap();
    assert_eq!(server.cli(["get", "k"]).unwrap(), "7");
    assert!(server.start_again().unwrap_err().to_string().contains("runs already"));
}

#[test]
fn a_stopped_server_answers_when_it_goes_on() {
    let server = Server::start().unwrap();
    server.stop();
    let mut client = UnixStream::connect(server.socket()).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.read(&mut [0]).unwrap_err();
    assert!(server.is_running());
    server.cont();
    client.set_read_timeout(None).unwrap();
    let mut pong = [0; 7];
    client.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
}

#[test]
fn a_replica_follows_refuses_writes_and_can_be_promoted() {
    let primary = Server::builder().tcp().start().unwrap();
    primary.cli(["set", "k", "1"]).unwrap();
    let replica = Server::builder().replica_of(&primary).start().unwrap();
    assert_eq!(replica.cli(["get", "k"]).unwrap(), "1");
    primary.cli(["set", "k", "2"]).unwrap();
    until("the second value", || replica.cli(["get", "k"]).unwrap() == "2");
    let refused = replica.cli(["set", "k", "3"]).unwrap_err().to_string();
    assert!(refused.contains("READONLY"), "{refused}");

    primary.kill().unwrap();
    replica.promote().unwrap();
    assert_eq!(replica.cli(["incr", "k"]).unwrap(), "3");

    let alone = Server::start().unwrap();
    let error = Server::builder().replica_of(&alone).start().unwrap_err().to_string();
    assert!(error.contains("tcp()"), "{error}");
}

#[test]
fn a_swallowed_write_arrives_behind_the_retry() {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(server.socket()).unwrap();
    let request = b"SET k late\r\n";
    proxy.swallow_requests();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(request).unwrap();
    proxy.wait_seen(Direction::ToServer, request.len() as u64).unwrap();
    assert_eq!(proxy.strand(), 1);
    server.cli(["set", "k", "retry"]).unwrap();
    proxy.deliver().unwrap();
    until("the late write", || server.cli(["get", "k"]).unwrap() == "late");

    // And one whose answer is cut off has happened.
    proxy.pass().unwrap();
    proxy.cut_after(Direction::ToClient, 0, Ending::Reset);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"SET k cut\r\n").unwrap();
    client.read(&mut [0]).unwrap_err();
    assert_eq!(server.cli(["get", "k"]).unwrap(), "cut");
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
    let url = redis::shared().unwrap().url();
    assert!(url.starts_with("redis"), "{url}");
    assert_eq!(url, redis::shared().unwrap().url());
}
