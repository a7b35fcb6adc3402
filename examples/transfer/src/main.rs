//! Transfers money between two accounts in one SQLite file, exactly once per key, however often it is asked,
//! killed and asked again.
//!
//! ```text
//! transfer bank.db --open ann=10000 --open bob=0
//! transfer bank.db ann bob 500 --key order-4711
//! transfer bank.db ann bob 500 --key order-4711      # the same answer, and no second transfer
//! transfer bank.db --show
//! ```
//!
//! The transfer itself is `Bank::transfer`; `tests/killed.rs` kills it at every step.

mod bank;

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use bank::{Bank, MADE, Order, Outcome};
use lexopt::prelude::*;
use oncekey_sqlite::StoredResponse;

const USAGE: &str = "usage: transfer DB FROM TO CENTS --key KEY
       transfer DB --open NAME=CENTS ..
       transfer DB --show
exit: 0 made (now or before), 1 refused (now or before), 2 usage, 3 the key was used for another
transfer, 75 not known: ask again with the same key
";

const REFUSED: u8 = 1;
const BAD_USAGE: u8 = 2;
const KEY_REUSED: u8 = 3;
/// `EX_TEMPFAIL` of sysexits.h.
const ASK_AGAIN: u8 = 75;

fn main() -> ExitCode {
    let Ok(asked) = arguments() else {
        say(USAGE);
        return ExitCode::from(BAD_USAGE);
    };
    // Whatever went wrong, asking again is right: the answer is there, or nothing was done.
    carry_out(asked).unwrap_or_else(|error| {
        say(&format!("{error}\n"));
        ExitCode::from(ASK_AGAIN)
    })
}

/// What the command line asks for.
struct Asked {
    db: String,
    what: What,
}

enum What {
    Transfer { key: String, order: Order },
    Open(Vec<(String, i64)>),
    Show,
}

fn arguments() -> Result<Asked, Box<dyn Error>> {
    let (mut names, mut key, mut accounts, mut show) = (Vec::new(), None, Vec::new(), false);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("key") => key = Some(args.value()?.string()?),
            Long("open") => {
                let account = args.value()?.string()?;
                let (name, cents) = account.split_once('=').ok_or("NAME=CENTS")?;
                accounts.push((name.to_owned(), cents.parse()?));
            }
            Long("show") => show = true,
            Value(name) => names.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut names = names.into_iter();
    let db = names.next().ok_or("no DB")?;
    let what = match (names.next(), names.next(), names.next(), names.next(), key) {
        (Some(from), Some(to), Some(cents), None, Some(key)) if from != to => {
            let cents = cents.parse().ok().filter(|cents| *cents > 0).ok_or("CENTS are 1 at least")?;
            What::Transfer { key, order: Order { from, to, cents } }
        }
        (None, .., None) if !accounts.is_empty() => What::Open(accounts),
        (None, .., None) if show => What::Show,
        _ => return Err("neither of the three".into()),
    };
    Ok(Asked { db, what })
}

fn carry_out(Asked { db, what }: Asked) -> Result<ExitCode, Box<dyn Error>> {
    let mut bank = Bank::open(Path::new(&db))?;
    match what {
        What::Transfer { key, order } => match bank.transfer(&key, &order)? {
            Outcome::Now(answer) => tell(&answer),
            Outcome::Before(answer) => {
                say("(answered before)\n");
                tell(&answer)
            }
            Outcome::KeyReused => {
                say("this key was used for another transfer\n");
                Ok(ExitCode::from(KEY_REUSED))
            }
            Outcome::Busy => Err("this key is held by somebody".into()),
        },
        What::Open(accounts) => {
            for (name, cents) in accounts {
                bank.open_account(&name, cents)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Show => {
            let lines = bank.accounts()?.into_iter().map(|(name, cents)| format!("{name} {cents}\n"));
            stdout().write_all(lines.collect::<String>().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The answer, byte for byte.
fn tell(answer: &StoredResponse) -> Result<ExitCode, Box<dyn Error>> {
    stdout().write_all(answer.body.bytes().map_or(&[][..], |bytes| bytes))?;
    Ok(if answer.status == MADE { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// To the terminal, beside the answer. If nobody reads it, nothing is lost.
fn say(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}
