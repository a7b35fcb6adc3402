//! Records in PostgreSQL: what holds for a file holds there too, and what only a server has.

use std::env;
use std::fs;

use oncekey_testbed::pgbouncer::{Bouncer, PoolMode};
use oncekey_testbed::postgres::{self, Server};

use crate::kit::{Ended, Place, open_gate, until};
use crate::{death, races};

const MANY: usize = 32;

/// A table of its own on the server that tests share.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    pub(crate) url: String,
}

impl Table {
    pub(crate) fn new() -> Self {
        let name = format!("t{}", fastrand::u64(..));
        let url = postgres::shared().unwrap().url("postgres");
        Self { url: with(&url, &format!("oncekey_table={name}")), name }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Ours is gone with its server.
        if env::var_os("DATABASE_URL").is_some()
            && let Ok(server) = postgres::shared()
        {
            let name = &self.name;
            let _ = server.psql_in("postgres", &format!("DROP TABLE IF EXISTS {name}, {name}_meta"));
        }
    }
}

/// A URL with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

#[test]
fn a_second_process_replays_what_the_first_printed() {
    let table = Table::new();
    let place = Place::on(&table.url);
    let call = || place.exec("k").sh("date +%N; echo line >> log; echo err >&2").run();
    let first = call();
    assert_eq!((first.code, first.err(), first.out.len()), (Some(0), "err\n", 10), "{first:?}");
    assert_eq!(call(), first);
    assert_eq!(place.lines("log"), ["line"]);
    place.exec("k").sh("another").run().refused(65, "another command");
}

/// The first of them make the tables, too.
#[test]
fn of_32_at_once_one_runs_and_all_print_its_output() {
    races::one_runs(&Place::on(&Table::new().url), MANY);
}

#[test]
fn of_32_one_takes_over_from_the_killed_winner_as_attempt_2() {
    death::one_takes_over(&Place::on(&Table::new().url), MANY);
}

#[test]
fn of_32_none_takes_over_from_the_killed_winner_under_refuse() {
    death::none_takes_over(&Place::on(&Table::new().url), MANY);
}

/// What `server` has logged so far.
fn log(server: &Server) -> String {
    fs::read_to_string(server.folder().join("log")).unwrap()
}

/// The statement that wakes goes out behind the answer, when the program is about to end.
#[test]
fn whoever_waits_is_told_of_an_answer_and_of_a_failure_by_the_process_that_ends() {
    for exit in [0, 9] {
        let server = Server::builder().setting("log_statement", "all").start().unwrap();
        let place = Place::on(server.url("postgres"));
        let gate = place.fifo("gate");
        let script = format!(
            "echo $ONCEKEY_ATTEMPT >> log
            test $ONCEKEY_ATTEMPT != 1 || {{ cat gate; exit {exit}; }}; echo again"
        );
        let first = place.exec("k").sh(&script).start();
        place.line_in("log");
        let second = place.exec("k").with(["--wait", "30s"]).sh(&script).start();
        // It listens, and nothing was told so far.
        until("a call that listens", || match log(&server) {
            log if log.contains("statement: LISTEN ") => Ok(()),
            log => Err(log),
        });
        assert!(!log(&server).contains("pg_notify"), "{}", log(&server));
        open_gate(&gate);
        let first = first.end();
        assert_eq!((first.code, first.out()), (Some(exit), "go\n"), "{first:?}");
        assert!(log(&server).contains("pg_notify"), "exit {exit}: {}", log(&server));
        second.end().printed(if exit == 0 { "go\n" } else { "again\n" });
    }
}

#[test]
fn an_answer_of_24_mib_is_kept_where_that_is_asked_for() {
    let table = Table::new();
    let place = Place::on(&table.url);
    let call = || {
        let script = "echo line >> log; head -c 25165824 /dev/zero | tr '\\0' x";
        place.exec("k").with(["--max-output", "32M"]).sh(script).run()
    };
    let first = call();
    assert_eq!((first.code, first.err(), first.out.len()), (Some(0), "", 24 << 20));
    assert!(call() == first, "another answer");
    assert_eq!(place.lines("log"), ["line"]);
}

#[test]
fn schema_and_table_are_those_of_the_url_and_made_at_first_use() {
    let server = Server::start().unwrap();
    let url = with(&server.url("postgres"), "oncekey_schema=cron%20jobs&oncekey_table=nights");
    let place = Place::on(url);
    place.exec("k").command(["echo", "x"]).run().printed("x\n");
    assert_eq!(server.psql("SELECT key FROM \"cron jobs\".nights").unwrap(), "k");
    let public = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql(public).unwrap(), "0");
}

#[test]
fn a_pooler_in_transaction_mode_is_named_in_the_url() {
    let server = Server::start().unwrap();
    // As it is installed: it lets none of the settings pass with which drivers begin a session.
    let pooler = Bouncer::before(&server, PoolMode::Transaction).setting("ignore_startup_parameters", "");
    let pooler = pooler.start().unwrap();
    let url = pooler.url("postgres");
    Place::on(&url).exec("k").command(["echo"]).run().refused(69, "say oncekey_pooler=transaction");

    let place = Place::on(with(&url, "oncekey_pooler=transaction"));
    races::one_runs(&place, 8);
    let mut suite = place.program();
    suite.args(["conformance", "--filter", "Q2"]);
    suite.args(["--store", &with(&url, "oncekey_pooler=transaction")]);
    let suite = Ended::of(suite.output().unwrap());
    assert_eq!((suite.code, suite.err()), (Some(0), ""), "{}", suite.out());
    assert!(suite.out().contains(", 0 failed, "), "{}", suite.out());
    assert!(suite.out().contains("the store lacks [Wake]"), "{}", suite.out());

    let other = with(&url, "oncekey_pooler=session");
    Place::on(other).exec("k").command(["echo"]).run().refused(64, "oncekey_pooler may be transaction");
}
