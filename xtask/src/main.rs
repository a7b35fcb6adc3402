//! The project's own commands. `cargo xtask help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output is its purpose")]

mod guards;
mod lint;
mod range;
mod readme;
mod servers;
mod step;
mod test;
mod tidy;
mod tools;
mod torture;

use std::process::ExitCode;

use lexopt::prelude::*;

const HELP: &str = "\
cargo xtask COMMAND

  test [STEP..]     every test: the workspace, doctests, examples, features, the rusqlite range
  lint [STEP..]     format, clippy, docs without warnings, the house rules
  ci                lint, then test
  tidy              the house rules alone
  torture [PROOF..] the long proofs: --seed N, --rounds N; `--list` names them
  guards [FILE..]   takes each guard of the statements and of state.rs out: which case notices?
  mutants           the suite on stores that are wrong on purpose: writes docs/conformance.md
  bench ARGS..      bench/ in release, with these arguments
  help              this

With a STEP's name, only that step: `cargo xtask test features`. `--list` names them.
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}

/// Whether what was asked for passed; an error when it could not be asked.
fn run() -> Result<bool, String> {
    let mut args = lexopt::Parser::from_env();
    let command = match args.next().map_err(|e| e.to_string())? {
        Some(Value(word)) => word.string().map_err(|e| e.to_string())?,
        Some(Long("help") | Short('h')) | None => "help".to_owned(),
        Some(other) => return Err(format!("{}\n{HELP}", other.unexpected())),
    };
    match command.as_str() {
        "test" => step::run("test", test::steps(), args),
        "lint" => step::run("lint", lint::steps(), args),
        "ci" => {
            let steps = lint::steps().into_iter().chain(test::steps()).collect();
            step::run("ci", steps, args)
        }
        "torture" => torture::run(args),
        "guards" => guards::run(args),
        "mutants" => {
            let mut write =
                tools::cargo(["test", "--quiet", "-p", "oncekey-conformance", "--test", "mutants"]);
            write.env("ONCEKEY_MUTANTS", "write");
            tools::status(&mut write).map(|()| true)
        }
        "tidy" => tidy::run().map(|()| true),
        "bench" => {
            let args: Vec<_> = args.raw_args().map_err(|e| e.to_string())?.collect();
            let mut bench = tools::cargo(["run", "--release", "--manifest-path", "bench/Cargo.toml", "--"]);
            bench.args(args);
            tools::status(&mut bench).map(|()| true)
        }
        "help" => {
            print!("{HELP}");
            Ok(true)
        }
        other => Err(format!("no command `{other}`\n{HELP}")),
    }
}
