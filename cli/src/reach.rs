//! The way to a PostgreSQL server, and what to do where there is none.

use std::error::Error;
use std::time::Duration;

use oncekey_postgres::sqlx::postgres::PgConnectOptions;
use oncekey_postgres::sqlx::{self, ConnectOptions};
use oncekey_postgres::{PostgresStore, PostgresStoreBuilder, StoreError};
use tokio::time::{Instant, interval, timeout, timeout_at};

use crate::database::Database;
use crate::exit::{Exit, Trouble};

/// How long a server may be away: one that starts again answers within it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the first try may take, and each one after it twice as long. Within a try the driver waits longer and
/// longer for a server that refuses; a new one begins anew.
const FIRST: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// For asking why.
const LOOK: Duration = Duration::from_secs(2);

/// Connects. A server that can't be reached, or has no connection free, is tried for a while.
pub(crate) async fn open(
    database: &Database,
    builder: PostgresStoreBuilder,
) -> Result<PostgresStore, Trouble> {
    let options = database.options()?;
    let deadline = Instant::now() + PATIENCE;
    let (mut tries, mut most, mut last) = (interval(PAUSE), FIRST, None);
    while Instant::now() < deadline {
        tries.tick().await;
        let until = deadline.min(Instant::now() + most);
        match timeout_at(until, builder.clone().connect_with(options.clone())).await {
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(error)) if !error.is_retryable() => return Err(trouble(&error)),
            Ok(Err(error)) => last = Some(error),
            Err(_) => most *= 2,
        }
    }
    Err(away(database, &options, last.as_ref()).await)
}

/// Of a server that was not there in time. The pool's error is that it had no connection: the reason is what
/// one more try says.
async fn away(database: &Database, options: &PgConnectOptions, last: Option<&StoreError>) -> Trouble {
    let why = match timeout(LOOK, options.connect()).await {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => "it answers now: try again".to_owned(),
        Err(_) => last.map_or_else(|| "nobody answers there".to_owned(), ToString::to_string),
    };
    let seconds = PATIENCE.as_secs();
    let message = format!("the store can't be used: {database} can't be reached, for {seconds} s now: {why}");
    Trouble::new(Exit::StoreUnavailable, message)
}

/// The store can't be used.
pub(crate) fn trouble(error: &StoreError) -> Trouble {
    let source = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    source.and_then(advice).unwrap_or_else(|| Trouble::store(error))
}

/// What to do about something that the server said, where there is more to say than it did.
pub(crate) fn advice(error: &sqlx::Error) -> Option<Trouble> {
    let said = error.as_database_error()?;
    let advice = match &*said.code()? {
        "28P01" => "the password is the URL's, else PGPASSWORD, else that of ~/.pgpass",
        "42501" => {
            "to make its tables, this role needs CREATE; where `oncekey schema` has given their owner the SQL, \
             it needs USAGE of the schema, SELECT, INSERT, UPDATE and DELETE on the table, and SELECT on the \
             other one (.._meta)"
        }
        "08P01" | "26000" | "42P05" => {
            "where a pooler in transaction mode is before the server, say oncekey_pooler=transaction in the URL"
        }
        "25006" => "it is read-only, a standby perhaps: point the URL at the primary",
        _ => return None,
    };
    let message = format!("the store can't be used: {}: {advice}", said.message());
    Some(Trouble::new(Exit::StoreUnavailable, message))
}
