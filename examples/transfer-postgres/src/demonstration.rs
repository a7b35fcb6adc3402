//! What the program shows when it is given nothing but a database.

use std::io::{Write, stdout};
use std::time::Instant;

use crate::bank::{Bank, BoxError, Outcome, Way};
use crate::money::{Order, text};

/// Makes one transfer in each way, asked for by three callers at once, and shows what each of them heard.
pub(crate) async fn show(bank: &Bank) -> Result<(), BoxError> {
    bank.prepare().await?;
    for (name, cents) in [("ann", 1_000_000), ("bob", 0)] {
        bank.open_account(name, cents).await?;
    }
    let order = Order { from: "ann".to_owned(), to: "bob".to_owned(), cents: 500 };
    for (name, way) in [("once", Way::Once), ("complete_in", Way::CompleteIn)] {
        let key = bank.new_key().await?;
        say(&format!("by {name}, asked for by three at once under the key {key}:"))?;
        let begun = Instant::now();
        let ask = || bank.transfer(way, &key, &order);
        let heard = tokio::join!(ask(), ask(), ask());
        let took = begun.elapsed();
        for outcome in [heard.0?, heard.1?, heard.2?] {
            say(&match outcome {
                Outcome::Now(answer) => format!("  now:    {}", text(&answer)),
                Outcome::Before(answer) => format!("  before: {}", text(&answer)),
                Outcome::KeyReused => "  the key was used for another transfer".to_owned(),
                Outcome::Busy => "  not yet: somebody is at work on it, ask again".to_owned(),
            })?;
        }
        say(&format!("  in {:.1} ms", took.as_secs_f64() * 1e3))?;
    }
    for (name, cents) in bank.accounts().await? {
        say(&format!("{name} {cents}"))?;
    }
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    stdout().write_all(format!("{line}\n").as_bytes())
}
