//! The limit under PostgreSQL: its own `pgbench`, which sends one prepared statement a transaction and does
//! nothing else.

use std::path::PathBuf;
use std::time::Duration;

use oncekey_testbed::postgres::Server;
use tempfile::TempDir;

use crate::load::{BODY_BYTES, Failure, WORKERS, Work};

pub(crate) const SCHEMA: &str = include_str!("../../sql/postgres/schema.sql");
const RESERVE: &str = include_str!("../../sql/postgres/pgbench_reserve.sql");
const COMPLETE: &str = include_str!("../../sql/postgres/pgbench_complete.sql");
const REPLAY: &str = include_str!("../../sql/postgres/pgbench_replay.sql");
const FILL: &str = include_str!("../../sql/postgres/pgbench_fill.sql");

/// Scripts in a directory that goes with this.
#[derive(Debug)]
pub(crate) struct Pgbench(TempDir);

impl Pgbench {
    /// Writes the scripts; replays ask for `records` slots.
    pub(crate) fn new(records: usize) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("oncekey-pgbench-").tempdir()?;
        let scripts = [
            (Work::Reserve, RESERVE.to_owned()),
            (Work::Cycle, format!("{RESERVE}{}", filled(COMPLETE, records))),
            (Work::Replay, filled(REPLAY, records)),
        ];
        let pgbench = Self(home);
        for (work, script) in scripts {
            std::fs::write(pgbench.script(work), script)?;
        }
        Ok(pgbench)
    }

    /// The statement that completes slots for replays.
    pub(crate) fn fill(records: usize) -> String {
        filled(FILL, records)
    }

    fn script(&self, work: Work) -> PathBuf {
        self.0.path().join(work.name())
    }

    /// Operations a second by so many clients, after connections were made.
    pub(crate) fn run(
        &self,
        server: &Server,
        url: &str,
        work: Work,
        clients: usize,
        span: Duration,
    ) -> Result<f64, Failure> {
        let mut command = server.program("pgbench");
        command.args(["-n", "-M", "prepared", "-c", &clients.to_string()]);
        command.args(["-j", &WORKERS.min(clients).to_string()]);
        command.args(["-T", &format!("{:.0}", span.as_secs_f64().ceil())]);
        let output = command.arg("-f").arg(self.script(work)).arg(url).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        rate(&said)
    }
}

fn filled(script: &str, records: usize) -> String {
    script.replace("{records}", &records.to_string()).replace("{body}", &"78".repeat(BODY_BYTES))
}

/// The rate in what pgbench says; an error where a transaction of it failed.
fn rate(said: &str) -> Result<f64, Failure> {
    let of = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    // Servers before 15 say nothing of it, and end at the first.
    if of("number of failed transactions: ").is_some_and(|failed| failed != "0") {
        return Err(format!("transactions failed: {said}").into());
    }
    Ok(of("tps = ").ok_or_else(|| format!("pgbench said no rate: {said}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_and_failures_are_seen() {
        let said = |failed| {
            format!(
                "number of transactions actually processed: 8\nnumber of failed transactions: {failed} (0.0%)\n\
                 latency average = 0.6 ms\ntps = 1665.413 (without initial connection time)\n"
            )
        };
        assert_eq!(rate(&said(0)).unwrap(), 1_665.413);
        assert!(rate(&said(1)).is_err());
        assert!(rate("").is_err());
    }
}
