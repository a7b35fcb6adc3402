//! The business write: it knows nothing of keys that are asked twice.

use std::borrow::Cow;

use oncekey_example_killed::step;
use oncekey_postgres::StoredResponse;
use oncekey_postgres::sqlx::{self, PgConnection};

/// The transfer was made.
pub(crate) const MADE: u16 = 201;
/// It was refused: an answer too, and kept like any other.
const REFUSED: u16 = 409;

/// What is to be transferred.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cents: i64,
}

/// Moves the money, or refuses, inside the transaction; the answer for the client.
pub(crate) async fn move_money(
    tx: &mut PgConnection,
    key: &str,
    order: &Order,
) -> Result<StoredResponse, sqlx::Error> {
    let Order { from, to, cents } = order;
    // Both rows, in the order of their names: two transfers that meet can't deadlock.
    let lock = "SELECT name, cents FROM accounts WHERE name IN ($1, $2) ORDER BY name FOR NO KEY UPDATE";
    let rows: Vec<(String, i64)> = sqlx::query_as(lock).bind(from).bind(to).fetch_all(&mut *tx).await?;
    let balance = |name: &str| rows.iter().find(|(found, _)| found == name).map(|(_, cents)| *cents);
    let refused = |why: String| Ok(StoredResponse::new(REFUSED, "", why));
    let (Some(has), Some(_)) = (balance(from), balance(to)) else {
        return refused(format!("refused: {from} or {to} has no account"));
    };
    if has < *cents {
        return refused(format!("refused: {from} has {has} cents"));
    }
    let debit = sqlx::query("UPDATE accounts SET cents = cents - $2 WHERE name = $1").bind(from).bind(cents);
    debit.execute(&mut *tx).await?;
    step("after-debit");
    let credit = sqlx::query("UPDATE accounts SET cents = cents + $2 WHERE name = $1").bind(to).bind(cents);
    credit.execute(&mut *tx).await?;
    step("after-credit");
    let entry =
        "INSERT INTO transfers (key, debtor, creditor, cents) VALUES ($1, $2, $3, $4) RETURNING number";
    let entry = sqlx::query_scalar(entry).bind(key).bind(from).bind(to).bind(cents);
    let number: i64 = entry.fetch_one(&mut *tx).await?;
    let left = has - cents;
    let text = format!("transfer {number}: {cents} cents from {from} to {to}; {from} has {left} left");
    Ok(StoredResponse::new(MADE, "", text))
}

/// What an answer says.
pub(crate) fn text(answer: &StoredResponse) -> Cow<'_, str> {
    String::from_utf8_lossy(answer.body.bytes().map_or(&[][..], |bytes| bytes))
}
