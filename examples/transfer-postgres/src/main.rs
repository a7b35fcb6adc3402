//! Transfers money between two accounts in one PostgreSQL database, exactly once per key, however often it is
//! asked, killed and asked again: in the two ways that oncekey has for it.
//!
//! ```text
//! transfer-postgres postgres://localhost/bank                             # a small demonstration
//! transfer-postgres postgres://localhost/bank ann bob 500 --key order-4711
//! transfer-postgres postgres://localhost/bank ann bob 500 --key order-4711 --way complete-in
//! ```
//!
//! The transfer itself is `Bank::transfer`; `tests/` kills it at every step.

mod bank;
mod demonstration;
mod money;
mod orders;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use bank::{Bank, BoxError, Outcome, Way};
use lexopt::prelude::*;
use money::{MADE, Order};
use oncekey_postgres::StoredResponse;
use orders::Line;

const USAGE: &str = "usage: transfer-postgres [URL]                      a small demonstration
       transfer-postgres [URL] FROM TO CENTS --key KEY [--way once|complete-in] [--lease MILLISECONDS]
       transfer-postgres [URL] --orders FILE [--at-once N] [--lease MILLISECONDS]
       transfer-postgres [URL] --open NAME=CENTS .. | --show
URL: postgres://user:password@host:5432/database, or else DATABASE_URL. Its schema oncekey_transfer is used,
and made by the demonstration and by --open.
FILE: a line `WAY KEY FROM TO CENTS` for each transfer.
exit: 0 made (now or before), 1 refused (now or before), 2 usage, 3 the key was used for another
transfer, 75 not known: ask again with the same key
";

const REFUSED: u8 = 1;
const BAD_USAGE: u8 = 2;
const KEY_REUSED: u8 = 3;
/// `EX_TEMPFAIL` of sysexits.h.
const ASK_AGAIN: u8 = 75;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let asked = match arguments() {
        Ok(asked) => asked,
        Err(why) => {
            say(&format!("{why}\n{USAGE}"));
            return ExitCode::from(BAD_USAGE);
        }
    };
    // Whatever went wrong, asking again is right: the answer is there, or nothing was done.
    carry_out(asked).await.unwrap_or_else(|error| {
        say(&format!("{error}\n"));
        ExitCode::from(ASK_AGAIN)
    })
}

/// What the command line asks for.
struct Asked {
    url: String,
    lease: Duration,
    what: What,
}

enum What {
    Demonstration,
    Transfer { way: Way, key: String, order: Order },
    Orders { lines: Vec<Line>, at_once: usize },
    Open(Vec<(String, i64)>),
    Show,
}

fn arguments() -> Result<Asked, BoxError> {
    let (mut names, mut key, mut accounts, mut show) = (Vec::new(), None, Vec::new(), false);
    let (mut way, mut lease, mut at_once, mut lines) = (Way::Once, Duration::from_secs(30), 1, None);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("key") => key = Some(args.value()?.string()?),
            Long("way") => way = args.value()?.string()?.parse()?,
            Long("lease") => lease = Duration::from_millis(args.value()?.parse()?),
            Long("at-once") => at_once = args.value()?.parse()?,
            Long("orders") => {
                let text = std::fs::read_to_string(args.value()?)?;
                lines = Some(text.lines().map(str::parse).collect::<Result<Vec<Line>, _>>()?);
            }
            Long("open") => {
                let account = args.value()?.string()?;
                let (name, cents) = account.split_once('=').ok_or("--open NAME=CENTS")?;
                accounts.push((name.to_owned(), cents.parse()?));
            }
            Long("show") => show = true,
            Value(name) => names.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let given = names.first().is_some_and(|name| name.contains("://")).then(|| names.remove(0));
    let url = given.or_else(|| std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()));
    let url = url.ok_or("which database? Give its URL, or set DATABASE_URL")?;
    let what = match (&names[..], key, lines) {
        ([from, to, cents], Some(key), None) if from != to => {
            let cents = cents.parse().ok().filter(|cents| *cents > 0).ok_or("CENTS are 1 at least")?;
            What::Transfer { way, key, order: Order { from: from.clone(), to: to.clone(), cents } }
        }
        ([], None, Some(lines)) => What::Orders { lines, at_once },
        ([], None, None) if !accounts.is_empty() => What::Open(accounts),
        ([], None, None) if show => What::Show,
        ([], None, None) => What::Demonstration,
        _ => return Err("that is no transfer".into()),
    };
    Ok(Asked { url, lease, what })
}

async fn carry_out(Asked { url, lease, what }: Asked) -> Result<ExitCode, BoxError> {
    let bank = Bank::open(&url, lease)?;
    match what {
        What::Demonstration => demonstration::show(&bank).await?,
        What::Transfer { way, key, order } => {
            return match bank.transfer(way, &key, &order).await? {
                Outcome::Now(answer) => tell(&answer),
                Outcome::Before(answer) => {
                    say("(answered before)\n");
                    tell(&answer)
                }
                Outcome::KeyReused => {
                    say("this key was used for another transfer\n");
                    Ok(ExitCode::from(KEY_REUSED))
                }
                Outcome::Busy => Err("somebody is at work on this key".into()),
            };
        }
        What::Orders { lines, at_once } => orders::carry_out(bank, lines, at_once).await?,
        What::Open(accounts) => {
            bank.prepare().await?;
            for (name, cents) in accounts {
                bank.open_account(&name, cents).await?;
            }
        }
        What::Show => {
            let lines = bank.accounts().await?.into_iter().map(|(name, cents)| format!("{name} {cents}\n"));
            stdout().write_all(lines.collect::<String>().as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer.
fn tell(answer: &StoredResponse) -> Result<ExitCode, BoxError> {
    stdout().write_all(format!("{}\n", money::text(answer)).as_bytes())?;
    Ok(if answer.status == MADE { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// To the terminal, beside the answer. If nobody reads it, nothing is lost.
fn say(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}
