//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use oncekey_core::Policy;

use crate::exit::{Exit, Trouble};
use crate::outlet::{Outlet, Stream};

/// Under one principal, so that a key means the same to whoever calls: a cron job on three hosts, root and a
/// deploy user, share a key when they share a store, and the default store is its user's own anyway.
const PRINCIPAL: &str = "cli";

const EXIT_CODES: &str = "\
Exit codes:
  The command's own, when it ran or is replayed; 128+n when signal n killed it. Otherwise, with a line
  on stderr that begins with `oncekey:`:
  64   the command line can't be meant (option, duration, key, store, too long a stdin)
  65   the key was used for another command
  69   the store can't be used; the command did not run
  70   a bug of oncekey's
  71   no pipe, thread or temporary folder could be had; the command did not run
  74   the command ended with 0 and is kept, but its output could not be written out
  75   in flight: somebody runs this key now; try again later, or --wait
  80   indeterminate: with --on-lapse refuse, an earlier run fell silent; it may have done its work
  81   the command ran, but its lease was lost meanwhile: somebody else may have run it too
  82   the command ran, but it is not known whether the store keeps that
  126  the command is there and can't be executed; nothing is kept
  127  there is no such command; nothing is kept";

const EXEC: &str = "\
Runs a command at most once per key.

The first call with a key runs the command, and shows its output while it runs. Later calls with that
key print the same output, byte for byte, and end with the same exit code, without running it.

The command gets ONCEKEY_KEY, ONCEKEY_ATTEMPT (from 2 on, an earlier run may have done part of the work),
ONCEKEY_FENCE (larger than that of any earlier run) and ONCEKEY_CHECKPOINT (what the last run saved,
without newlines at its end; empty if nothing). To save, it writes to the file named by
ONCEKEY_CHECKPOINT_FILE, at most 64 KiB.";

const CONFORMANCE: &str = "\
Runs the conformance suite against a store, and says which rule it breaks.

Each case runs in a new place of its own: for a SQLite file, a temporary folder beside it, for a PostgreSQL
database, a table in a new schema, oncekey_conformance_<process>_<number>, in Redis, keys that begin with
oncekey-conformance- and a random number; all removed at the end. Records that exist are neither read nor changed.

Exit codes: 0 the store keeps the contract, 1 it does not, 64 bad command line, 69 no store there.";

const SCHEMA: &str = "\
Prints the SQL that makes a PostgreSQL store's tables, for a migration tool or for a role that may create them.

Nobody connects. `oncekey exec` makes the tables itself where it may, and finds those that are there.";

#[derive(Debug, Parser)]
#[command(name = "oncekey", version, about = "Runs a command at most once per key, and checks a store")]
#[command(
    after_help = "See `oncekey exec --help`, `oncekey conformance --help` and `oncekey schema --help`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command at most once per key
    #[command(long_about = EXEC, after_long_help = EXIT_CODES)]
    Exec(Exec),
    /// Check a store against the contract
    #[command(long_about = CONFORMANCE)]
    Conformance(Conformance),
    /// Print the SQL of a store's tables
    #[command(long_about = SCHEMA)]
    Schema(Schema),
}

#[derive(Debug, Args)]
#[command(override_usage = "oncekey exec --key KEY [OPTIONS] -- COMMAND [ARGS]..")]
pub(crate) struct Exec {
    /// What is done once: a name that the same work has again, such as deploy-4711
    #[arg(long)]
    pub(crate) key: String,
    /// Whose key it is: keys of different principals never meet
    #[arg(long, default_value = PRINCIPAL)]
    pub(crate) principal: String,
    #[command(flatten)]
    pub(crate) store: StoreOption,
    /// How long a run may be silent before it counts as dead; renewed at a third of it
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) lease: Duration,
    /// How long the answer is kept
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) retention: Duration,
    /// When an earlier run fell silent: run again, or refuse
    #[arg(long, value_enum, default_value_t = OnLapse::Takeover)]
    pub(crate) on_lapse: OnLapse,
    /// How long to wait for somebody else's running command, instead of exit 75
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    /// Which ends are kept: only exit code 0, or all
    #[arg(long, value_enum, default_value_t = Keep::Success)]
    pub(crate) keep: Keep,
    /// Read stdin to its end first: it is part of what the key means, and goes to the command
    #[arg(long)]
    pub(crate) stdin: bool,
    /// The longest output to keep, in bytes or with K, M or G; at most 512M
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = bytes)]
    pub(crate) max_output: usize,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    #[command(flatten)]
    pub(crate) store: StoreOption,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Only cases whose id contains this, or that test the rule of this name; may be given again
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,
    /// The seed of everything random; ONCEKEY_SEED by default, else drawn and printed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    #[command(flatten)]
    pub(crate) store: StoreOption,
    /// The schema of the tables [default: the URL's oncekey_schema, or else public]
    #[arg(long, value_name = "NAME")]
    pub(crate) schema: Option<String>,
    /// The table [default: the URL's oncekey_table, or else oncekey_slots]
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Divide the records by the hash of their slot into so many tables
    #[arg(long, value_name = "COUNT")]
    pub(crate) partitions: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct StoreOption {
    /// Where records are kept: sqlite:PATH, PATH, postgres://USER@HOST/DATABASE, redis://HOST (rediss://,
    /// redis+unix:///PATH), redis+sentinel://HOST:PORT,../MASTER, or redis+cluster://HOST:PORT,.. [default:
    /// $ONCEKEY_STORE, or else oncekey/oncekey.db in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum OnLapse {
    /// Run again, as a later attempt: somebody finishes the work
    Takeover,
    /// Don't run again: exit 80 until somebody has looked
    Refuse,
}

impl OnLapse {
    pub(crate) fn policy(self) -> Policy {
        match self {
            Self::Takeover => Policy::TakeOver,
            Self::Refuse => Policy::Refuse,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Keep {
    /// Keep exit code 0; after a failure the next call runs the command again
    Success,
    /// Keep failures too: the next call replays them
    Always,
}

/// What is asked for; an exit where clap has answered it (`--help`).
pub(crate) fn parse() -> Result<Command, Result<Exit, Trouble>> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(cli.command),
        Err(error) => error,
    };
    let text = error.render().to_string();
    Err(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let shown = Outlet::new(Stream::Out).write(text.as_bytes());
            shown.map(|()| Exit::Code(0)).map_err(|e| Trouble::new(Exit::OutputLost, format!("stdout: {e}")))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Trouble::usage(
            "say what to do: `oncekey exec`, `oncekey conformance` or `oncekey schema`; see `oncekey --help`",
        )),
        _ => Err(Trouble::usage(one_line(&text))),
    })
}

/// Clap's paragraphs in a line: the error and its tips, without the usage and without `--help` twice.
fn one_line(text: &str) -> String {
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = text.replace("\n  tip: ", "\n\ntip: ");
    let parts: Vec<_> = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()).collect();
    format!("{}; see --help", parts.join("; "))
}

/// The most that `--max-output` may be: it is held in memory, and SQLite's own limit is 1 GB.
const MOST: usize = 512 << 20;

fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        unit => return Err(format!("{unit} is none of K, M, G")),
    };
    let number: usize =
        digits.parse().map_err(|_| "give a number of bytes, such as 65536 or 16M".to_owned())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= MOST);
    bytes.ok_or_else(|| "512M is the most".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_finds_nothing_wrong_with_the_options() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_as_written_and_bounded() {
        for (text, expected) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("2K", Some(2048)),
            ("16MiB", Some(16 << 20)),
            ("512M", Some(MOST)),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
        for text in ["", "M", "-1", "1.5M", "1G", "16 M", "10X", "99999999999999999999", "18014398509481984K"]
        {
            assert!(bytes(text).is_err(), "{text}: {:?}", bytes(text));
        }
    }
}
