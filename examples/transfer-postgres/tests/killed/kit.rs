//! A bank in a database of its own, the program, and what an auditor sees.

use std::fmt::Write;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_testbed::postgres::Server;
use oncekey_testbed::wait_until;

pub(crate) const ACCOUNTS: [&str; 4] = ["ann", "bob", "cyd", "dan"];
/// In each account at first.
pub(crate) const CENTS: i64 = 1_000_000;
/// Of a holder that was killed: so long the next one has to wait.
pub(crate) const LEASE: &str = "--lease=300";

/// The program's exit code where it isn't known yet.
pub(crate) const ASK_AGAIN: Option<i32> = Some(75);

pub(crate) struct Bank<'s> {
    server: &'s Server,
    database: String,
}

impl Bank<'static> {
    /// On a server that nobody kills.
    pub(crate) fn new() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        Self::on(SERVER.get_or_init(|| Server::start().unwrap()))
    }
}

impl<'s> Bank<'s> {
    pub(crate) fn on(server: &'s Server) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = format!("bank_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.create_database(&database).unwrap();
        let bank = Self { server, database };
        let open =
            bank.command().args(ACCOUNTS.map(|name| format!("--open={name}={CENTS}"))).output().unwrap();
        assert!(open.status.success(), "{open:?}");
        bank
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transfer-postgres"));
        command.arg(self.server.url(&self.database)).arg(LEASE);
        command
    }

    pub(crate) fn transfer(&self, way: &str, order: &Order) -> Command {
        let mut command = self.command();
        command.args([order.from, order.to, &order.cents.to_string(), "--key", &order.key, "--way", way]);
        command
    }

    /// Asks until it hears the answer: a server that is busy may see late that a client is gone.
    pub(crate) fn ask(&self, way: &str, order: &Order) -> String {
        wait_until("an answer", Duration::from_secs(30), || {
            let output = self.transfer(way, order).output().unwrap();
            match output.status.code() {
                Some(0) => Ok(said(&output)),
                ASK_AGAIN => Err(format!("{output:?}")),
                _ => panic!("{order:?}: {output:?}"),
            }
        })
        .unwrap()
    }

    /// What an auditor's query says, a line for each row.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.server.psql_in(&self.database, &format!("SET search_path = oncekey_transfer; {sql}")).unwrap()
    }

    /// How often the transfer was made.
    pub(crate) fn made(&self, key: &str) -> u32 {
        self.query(&format!("SELECT count(*) FROM transfers WHERE key = '{key}'")).parse().unwrap()
    }

    /// No money came or went, each account is what its transfers say, and no key has two.
    pub(crate) fn assert_whole(&self, when: &str) {
        let mut wrong = self.query(&format!(
            "SELECT 'account ' || name || ' has ' || cents FROM accounts a
             WHERE cents != {CENTS} + (SELECT coalesce(sum(CASE a.name WHEN creditor THEN cents ELSE -cents END), 0)
                                       FROM transfers WHERE a.name IN (creditor, debtor))
             UNION ALL
             SELECT 'twice: ' || key FROM transfers GROUP BY key HAVING count(*) > 1"
        ));
        let all = self.query("SELECT sum(cents) FROM accounts");
        if all != (CENTS * ACCOUNTS.len() as i64).to_string() {
            write!(wrong, "\nthe money is {all}").unwrap();
        }
        assert!(wrong.is_empty(), "{when}: {wrong}");
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) key: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) cents: i64,
}

impl Order {
    pub(crate) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), from: "ann", to: "bob", cents: 500 }
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
