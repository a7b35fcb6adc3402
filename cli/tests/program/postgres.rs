//! A PostgreSQL store: many hosts, one run.

use std::process::Command;

use oncekey_testbed::postgres;

use crate::kit::{Call, Ended, Place, Running, open_gate, pid, until};
use rustix::process::{Signal, kill_process};

/// A table of its own on the shared server.
fn store() -> String {
    let url = postgres::shared().unwrap().url("postgres");
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}oncekey_table=t{}", fastrand::u64(..))
}

fn exec(place: &Place, store: &str, key: &str) -> Call {
    let mut command = place.program();
    command.args(["exec", "--store", store, "--key", key]);
    Call(command)
}

/// The same call on a host of its own: it shares the server's socket, and no network, host name or process table
/// of the others. Needs util-linux.
fn on_host(place: &Place, name: &str, store: &str, key: &str) -> Call {
    let call = exec(place, store, key);
    let mut host = Command::new("unshare");
    host.args(["--user", "--map-root-user", "--net", "--uts", "sh", "-c"]);
    host.args([r#"hostname "$0" && exec "$@""#, name]).arg(call.0.get_program()).args(call.0.get_args());
    let plain = place.program();
    for (variable, value) in plain.get_envs() {
        match value {
            Some(value) => host.env(variable, value),
            None => host.env_remove(variable),
        };
    }
    host.current_dir(place.path(""));
    host.stdin(std::process::Stdio::null());
    host.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Call(host)
}

#[test]
fn a_second_process_replays_what_the_first_printed() {
    let (place, store) = (Place::new(), store());
    let first = exec(&place, &store, "k").sh("date +%N; echo line >> log").run();
    assert_eq!((first.code, first.err()), (Some(0), ""), "{first:?}");
    exec(&place, &store, "k").sh("date +%N; echo line >> log").run().printed(first.out());
    assert_eq!(place.lines("log"), ["line"]);
    exec(&place, &store, "k").sh("another").run().refused(65, "another command");
}

#[test]
fn of_16_at_once_one_runs_and_all_print_its_output() {
    let (place, store) = (Place::new(), store());
    let call = || exec(&place, &store, "k").with(["--wait", "30s"]).sh("echo line >> log; date +%N").start();
    let running: Vec<Running> = (0..16).map(|_| call()).collect();
    let ended: Vec<Ended> = running.into_iter().map(Running::end).collect();
    assert_eq!(place.lines("log"), ["line"]);
    for one in &ended {
        one.printed(ended[0].out());
    }
}

/// Both hosts' cron fires: the job's host writes its name.
const JOB: &str = "hostname >> log; date +%N";

#[test]
fn two_hosts_cron_runs_the_job_once() {
    let (place, store) = (Place::new(), store());
    for night in ["mon", "tue", "wed"] {
        let hosts = ["host-a", "host-b"];
        let call = |name| on_host(&place, name, &store, night).with(["--wait", "30s"]).sh(JOB).start();
        let running = hosts.map(call);
        let [a, b] = running.map(Running::end);
        a.printed(b.out());
        assert_eq!(a.out().len(), 10, "{a:?}");
    }
    let log = place.lines("log");
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log.iter().all(|host| host.starts_with("host-")), "{log:?}");
}

#[test]
fn when_the_host_that_runs_the_job_dies_the_other_takes_over() {
    let (place, store) = (Place::new(), store());
    let gate = place.fifo("gate");
    let job = "hostname >> log
        test $ONCEKEY_ATTEMPT != 1 || { echo $PPID $$ > pids; cat gate; }
        echo attempt $ONCEKEY_ATTEMPT";
    let options = ["--wait", "60s", "--lease", "1s"];
    let first = on_host(&place, "host-a", &store, "k").with(options).sh(job).start();
    let line = place.line_in("pids");
    let second = on_host(&place, "host-b", &store, "k").with(options).sh(job).start();
    let (holder, command) = line.split_once(' ').unwrap();
    kill_process(pid(holder.parse().unwrap()), Signal::KILL).unwrap();
    // It may have died with its holder already.
    let _ = kill_process(pid(command.parse().unwrap()), Signal::KILL);
    second.end().printed("attempt 2\n");
    assert_eq!(first.end().signal, Some(9));
    assert_eq!(place.lines("log"), ["host-a", "host-b"]);
    drop(gate);
}

#[test]
fn under_refuse_nobody_takes_over() {
    let (place, store) = (Place::new(), store());
    let gate = place.fifo("gate");
    let job = "echo $PPID $$ > pids; cat gate";
    let options = ["--lease", "1s", "--on-lapse", "refuse"];
    let first = exec(&place, &store, "k").with(options).sh(job).start();
    let line = place.line_in("pids");
    for id in line.split(' ') {
        let _ = kill_process(pid(id.parse().unwrap()), Signal::KILL);
    }
    assert_eq!(first.end().signal, Some(9));
    until("the lease's end", || {
        let ended = exec(&place, &store, "k").with(options).sh(job).run();
        if ended.code == Some(80) { Ok(()) } else { Err(ended) }
    });
    drop(gate);
}

#[test]
fn whoever_waits_hears_of_the_end_from_another_process() {
    let (place, store) = (Place::new(), store());
    let gate = place.fifo("gate");
    let job = "echo begun > begun; cat gate";
    let first = exec(&place, &store, "k").sh(job).start();
    place.line_in("begun");
    let second = exec(&place, &store, "k").with(["--wait", "30s"]).sh(job).start();
    open_gate(&gate);
    first.end().printed("go\n");
    second.end().printed("go\n");
}

#[test]
fn what_can_not_be_reached_is_said_without_the_password() {
    let place = Place::new();
    let closed = "postgres://me:hunter2@127.0.0.1:1/db";
    let ended = exec(&place, closed, "k").sh("echo ran >> log").run();
    ended.refused(69, "can't be reached");
    assert!(!ended.err().contains("hunter2"), "{}", ended.err());
    for bad in ["postgres:/nowhere", "postgres://h/d?sslmod=require"] {
        let ended = exec(&place, bad, "k").sh("echo ran >> log").run();
        assert_eq!(ended.code, Some(64), "{bad}: {ended:?}");
    }
    assert!(place.lines("log").is_empty());
}

#[test]
fn a_role_that_may_not_create_is_told_what_to_do_and_finds_what_its_owner_made() {
    let server = postgres::Server::start().unwrap();
    server.psql("CREATE ROLE app LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").unwrap();
    let place = Place::new();
    let app = server.url("postgres").replace("user=postgres", "user=app").replace("postgres@", "app@");
    let ended = exec(&place, &app, "k").sh("echo ran").run();
    ended.refused(69, "this role needs CREATE");
    let printed = Ended::of(place.program().args(["schema", "--store", &app]).output().unwrap());
    assert_eq!(printed.code, Some(0), "{printed:?}");
    server.psql(printed.out()).unwrap();
    server.psql("GRANT SELECT, INSERT, UPDATE, DELETE ON oncekey_slots TO app; GRANT SELECT ON oncekey_slots_meta TO app").unwrap();
    exec(&place, &app, "k").sh("echo ran").run().printed("ran\n");
}

#[test]
fn a_standby_is_refused() {
    let server = postgres::Server::start().unwrap();
    let place = Place::new();
    exec(&place, &server.url("postgres"), "k").sh("echo ran").run().printed("ran\n");
    let standby = server.replica().unwrap();
    exec(&place, &standby.url("postgres"), "k").sh("echo ran").run().refused(69, "standby");
}

#[test]
fn the_suite_passes_there_and_leaves_nothing() {
    let (place, store) = (Place::new(), store());
    let ended = Ended::of(
        place.program().args(["conformance", "--store", &store, "--filter", "R1"]).output().unwrap(),
    );
    assert_eq!((ended.code, ended.err()), (Some(0), ""), "{}", ended.out());
    assert!(ended.out().contains(", 0 failed"), "{}", ended.out());
    let left = postgres::shared()
        .unwrap()
        .psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'oncekey_conf%'");
    assert_eq!(left.unwrap(), "0");
}
