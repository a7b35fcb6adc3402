//! `oncekey`: runs a command at most once per key, and checks a store.
//!
//! ```text
//!  args ──▶ exec ────────▶ job: child, its output, signals, checkpoint      (under core's runner)
//!      ├──▶ conformance ─▶ the suite, in namespaces of its own
//!      └──▶ schema ──────▶ the SQL of a database's tables
//! ```

#[cfg(not(unix))]
compile_error!("oncekey runs commands by Unix's rules (signals, exit codes): there is no other build yet");

mod args;
mod conformance;
mod database;
mod exec;
mod exit;
mod fingerprint;
mod job;
mod keys;
mod keyspace;
mod location;
mod notebook;
mod outlet;
mod reach;
mod recorder;
mod schema;
mod secret;
mod signals;
mod store;
mod tables;
mod tether;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    if let Some(code) = tether::begin() {
        return code;
    }
    let result = match args::parse() {
        Ok(Command::Exec(exec)) => exec::run(exec),
        Ok(Command::Conformance(conformance)) => conformance::run(&conformance),
        Ok(Command::Schema(schema)) => schema::run(&schema),
        Err(exit) => exit,
    };
    match result {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            outlet::say(&trouble);
            trouble.exit.into()
        }
    }
}
