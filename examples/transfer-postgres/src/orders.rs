//! Many transfers at once, from a file: each is asked for until it is answered.

use std::io::{Write, stdout};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Mutex;

use oncekey_postgres::StoredResponse;
use tokio::task::LocalSet;

use crate::bank::{Bank, BoxError, Outcome, Way};
use crate::money::{Order, text};

/// A line of the file: `WAY KEY FROM TO CENTS`.
pub(crate) struct Line {
    way: Way,
    key: String,
    order: Order,
}

impl FromStr for Line {
    type Err = BoxError;

    fn from_str(line: &str) -> Result<Self, BoxError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [way, key, from, to, cents] = words[..] else {
            return Err(format!("`{line}` is not: WAY KEY FROM TO CENTS").into());
        };
        let order = Order { from: from.to_owned(), to: to.to_owned(), cents: cents.parse()? };
        Ok(Self { way: way.parse()?, key: key.to_owned(), order })
    }
}

/// Carries them out, so many at a time, and says each one's answer: `KEY STATUS TEXT`.
pub(crate) async fn carry_out(bank: Bank, lines: Vec<Line>, at_once: usize) -> Result<(), BoxError> {
    let (bank, lines) = (Rc::new(bank), Rc::new(Mutex::new(lines.into_iter())));
    let workers = LocalSet::new();
    for _ in 0..at_once {
        let (bank, lines) = (Rc::clone(&bank), Rc::clone(&lines));
        workers.spawn_local(async move {
            let next = || lines.lock().ok().and_then(|mut lines| lines.next());
            while let Some(line) = next() {
                let answer = until_answered(&bank, &line).await;
                let said = format!("{} {} {}\n", line.key, answer.status, text(&answer));
                // One write, so that half a line is said only when it is the last.
                let _ = stdout().write_all(said.as_bytes());
            }
        });
    }
    workers.await;
    Ok(())
}

/// Whatever went wrong, asking again is right: the answer is there, or nothing was done.
async fn until_answered(bank: &Bank, line: &Line) -> StoredResponse {
    loop {
        match bank.transfer(line.way, &line.key, &line.order).await {
            Ok(Outcome::Now(answer) | Outcome::Before(answer)) => return answer,
            Ok(Outcome::KeyReused) => {
                return StoredResponse::new(422, "", "the key was used for another one");
            }
            Ok(Outcome::Busy) | Err(_) => {}
        }
        let _ = bank.pass(&line.key).await;
    }
}
