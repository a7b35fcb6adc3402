//! What each way costs, as the README says: round trips, counted by a proxy, and flushes, as the server counts
//! them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::Proxy;
use oncekey_testbed::wait_until;

/// What is spent on connections and prepared statements is in both of two runs, and the difference of these many
/// transfers is theirs alone.
const FEW: u32 = 10;
const MANY: u32 = 60;

struct Bank {
    server: Server,
    proxy: Proxy,
}

/// Round trips, and flushes of the log.
#[derive(Clone, Copy, Debug)]
struct Spent([u64; 2]);

impl Bank {
    fn new() -> Self {
        // Nobody writes and flushes but the transfers.
        let quiet = [("autovacuum", "off"), ("wal_writer_delay", "10s"), ("checkpoint_timeout", "1h")];
        let builder = quiet.into_iter().fold(Server::builder(), |b, (name, value)| b.setting(name, value));
        let server = builder.start().unwrap();
        let proxy = Proxy::before(server.socket()).unwrap();
        let bank = Self { server, proxy };
        run(bank.command().args(["--open=ann=1000000", "--open=bob=0"]));
        bank
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transfer-postgres"));
        command.arg(self.server.url_by(self.proxy.address(), "postgres"));
        command
    }

    fn spent(&self) -> Spent {
        // A session tells what it has flushed when it ends, at the latest.
        wait_until("the end of all sessions", Duration::from_secs(30), || {
            let sessions = "SELECT count(*) FROM pg_stat_activity \
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            match self.server.psql(sessions) {
                Ok(count) if count == "0" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap();
        let flushes = self.server.psql("SELECT wal_sync FROM pg_stat_wal").unwrap();
        Spent([self.proxy.round_trips(), flushes.parse().unwrap()])
    }

    /// What so many transfers cost, one after another, with whatever a program costs besides.
    fn transfers(&self, way: &str, count: u32) -> [u64; 2] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut text = String::new();
        for n in 0..count {
            writeln!(text, "{way} {way}-{count}-{n} ann bob 1").unwrap();
        }
        std::fs::write(file.path(), text).unwrap();
        let Spent(before) = self.spent();
        run(self.command().arg("--orders").arg(file.path()));
        let Spent(after) = self.spent();
        [after[0] - before[0], after[1] - before[1]]
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn it_costs_what_the_readme_says() {
    let bank = Bank::new();
    let mut lines = Vec::new();
    for (way, name) in [("once", "`once`"), ("complete-in", "`complete_in`")] {
        let (few, many) = (bank.transfers(way, FEW), bank.transfers(way, MANY));
        // A few more come with the time that it takes: whether anybody listens is asked now and then.
        let each = |n| ((many[n] - few[n]) as f64 / f64::from(MANY - FEW)).round();
        lines.push(format!("| {name} | {} | {} |", each(0), each(1)));
        let again = bank.transfers(way, MANY);
        println!("{way}: {FEW} cost {few:?}, {MANY} cost {many:?}, and asked again {again:?}");
        assert_eq!(again[1], 0, "a replay flushes nothing");
    }
    let readme = include_str!("../README.md");
    for line in lines {
        assert!(readme.contains(&line), "the README lacks `{line}`");
    }
}
