//! What a failure of the driver means: what kind of thing it is, whether the statement may have had an
//! effect, and whether it is worth another try.

use std::fmt;

use oncekey_core::{Effect, ErrorKind, StoreError};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// A failed try of a statement.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) effect: Effect,
    pub(crate) next: Next,
    /// Whether the connection may be used again.
    pub(crate) connection: Connection,
    message: String,
    source: Option<sqlx::Error>,
}

/// What to do after a failed try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It may pass: the same again, within the deadline (S6).
    Retry,
    /// A lock could not be had in time: somebody's open transaction holds a row (T3).
    Locked,
    /// One of a batch may have caused it: each alone.
    Isolate,
    /// It won't pass.
    Give,
}

/// What becomes of the connection that a statement failed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connection {
    Good,
    Broken,
}

impl Failure {
    fn new(kind: ErrorKind, effect: Effect, next: Next, connection: Connection, message: String) -> Self {
        Self { kind, effect, next, connection, message, source: None }
    }

    fn because(mut self, source: sqlx::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// No connection could be had: nothing was sent.
    pub(crate) fn no_connection(error: sqlx::Error) -> Self {
        let (next, kind, message) = match &error {
            sqlx::Error::PoolTimedOut => {
                (Next::Retry, ErrorKind::Timeout, "the pool had no connection in time".to_owned())
            }
            sqlx::Error::PoolClosed => (Next::Give, ErrorKind::Unavailable, "the pool is closed".to_owned()),
            sqlx::Error::Io(io) => {
                (Next::Retry, ErrorKind::Unavailable, format!("the server can't be reached: {io}"))
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // Starting up, shutting down, in recovery; too many connections.
                Some("57P03" | "53300" | "57P01" | "57P02" | "58000") => {
                    (Next::Retry, ErrorKind::Unavailable, format!("the server refuses: {database}"))
                }
                Some("08P01") if database.message().contains("startup parameter") => {
                    (Next::Give, ErrorKind::Other, format!("the server refuses: {database}: {POOLER}"))
                }
                // Whatever a pooler says when it has no server to give: the server starts again, perhaps.
                Some("08P01" | "08000" | "08001" | "08004" | "08006") => {
                    (Next::Retry, ErrorKind::Unavailable, format!("the server refuses: {database}"))
                }
                _ => (Next::Give, ErrorKind::Other, format!("the server refuses: {database}")),
            },
            other => (Next::Retry, ErrorKind::Unavailable, format!("the server can't be reached: {other}")),
        };
        Self::new(kind, Effect::NotApplied, next, Connection::Broken, message).because(error)
    }

    /// None in time, of a pool that has `used` of `most` in use. The driver tries again and again inside to
    /// reach a server that refuses, and doesn't say so.
    pub(crate) fn no_connection_yet(used: usize, most: u32) -> Self {
        let mut failure = Self::no_connection(sqlx::Error::PoolTimedOut);
        failure.message = format!(
            "no connection could be had in time, with {used} of the pool's {most} in use or being made: is the \
             pool too small, the server down, or at its max_connections?"
        );
        failure
    }

    /// This; or the one before it, where this says no more than that the time was over.
    pub(crate) fn unless_late(self, before: Option<Self>) -> Self {
        match before {
            Some(before) if self.is_late() => before,
            _ => self,
        }
    }

    /// Whether it says no more than that there was no connection in time.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.source, Some(sqlx::Error::PoolTimedOut))
    }

    /// The connection is in a transaction that nobody has.
    pub(crate) fn in_transaction() -> Self {
        let message = "the pool's connection was left in a transaction by whoever had it before".to_owned();
        Self::new(ErrorKind::Unavailable, Effect::NotApplied, Next::Retry, Connection::Broken, message)
    }

    /// The statement's own deadline passed. The server may apply it yet.
    pub(crate) fn no_answer() -> Self {
        let message = "the server did not answer within the statement's deadline".to_owned();
        Self::new(ErrorKind::Timeout, Effect::Unknown, Next::Retry, Connection::Broken, message)
    }

    /// A statement failed.
    ///
    /// The transaction of a statement ends when the server has read the Sync behind it: rows arrive before
    /// it is committed. So an answer counts once ReadyForQuery came, and a connection that is lost before
    /// leaves the effect unknown. An ERROR always means that it was rolled back; a FATAL may have come
    /// between the commit and its ReadyForQuery.
    pub(crate) fn of(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            let message = format!("the connection was lost: {error}");
            let failure =
                Self::new(ErrorKind::Unavailable, Effect::Unknown, Next::Retry, Connection::Broken, message);
            return failure.because(error);
        };
        let code = database.code().unwrap_or_default().into_owned();
        let fatal = database
            .try_downcast_ref::<PgDatabaseError>()
            .is_none_or(|e| matches!(e.severity(), PgSeverity::Fatal | PgSeverity::Panic));
        let text = database.message().to_owned();
        if fatal {
            let message = format!("the server ended the connection: {text}");
            return Self::new(
                ErrorKind::Unavailable,
                Effect::Unknown,
                Next::Retry,
                Connection::Broken,
                message,
            )
            .because(error);
        }
        let (kind, next, connection, message) = classify(&code, text);
        Self::new(kind, Effect::NotApplied, next, connection, message).because(error)
    }

    /// The same of a statement whose COMMIT was never sent.
    pub(crate) fn not_applied(mut self) -> Self {
        self.effect = Effect::NotApplied;
        self
    }

    /// The same in a transaction that somebody else may commit.
    pub(crate) fn roll_back(mut self) -> Self {
        self.message.push_str(": roll the transaction back");
        self
    }

    /// The same with a message that helps, if the server's SQLSTATE is `code`.
    pub(crate) fn explained(mut self, code: &str, message: &str, connection: Connection) -> Self {
        if self.code().is_some_and(|found| found == code) {
            message.clone_into(&mut self.message);
            self.connection = connection;
        }
        self
    }

    /// The server's SQLSTATE.
    pub(crate) fn code(&self) -> Option<String> {
        let database = self.source.as_ref().and_then(sqlx::Error::as_database_error);
        database.and_then(|error| error.code()).map(|code| code.into_owned())
    }

    /// Of a COMMIT whose answer was lost, and of which it was found out since that nothing of it is there.
    pub(crate) fn settled(mut self) -> Self {
        self.effect = Effect::NotApplied;
        "the transaction was not committed: make it again".clone_into(&mut self.message);
        self
    }

    /// As the caller hears it; `before` is the effect of earlier tries (S7).
    pub(crate) fn into_error(self, operation: &'static str, before: Effect) -> StoreError {
        let error = StoreError::new(self.kind, operation, self.effect.max(before), self.message);
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// The same for one of several callers: the source can't be shared.
    pub(crate) fn to_error(&self, operation: &'static str, before: Effect) -> StoreError {
        StoreError::new(self.kind, operation, self.effect.max(before), self.message.clone())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An ERROR of the server by its SQLSTATE. Nothing of its statement was applied.
fn classify(code: &str, text: String) -> (ErrorKind, Next, Connection, String) {
    use Connection::{Broken, Good};
    match code {
        // Serialization failure, deadlock: under a stricter default isolation than READ COMMITTED.
        "40001" | "40P01" => (ErrorKind::Unavailable, Next::Retry, Good, text),
        "55P03" => {
            let message = "another transaction held the slot's row until the lock timeout".to_owned();
            (ErrorKind::Timeout, Next::Locked, Good, message)
        }
        // Cancelled, by the server's statement_timeout or by an operator.
        "57014" => (ErrorKind::Timeout, Next::Retry, Good, text),
        // Read-only: a standby, or default_transaction_read_only. After a failover a new connection may
        // reach the primary, this one never will.
        "25006" => (ErrorKind::Unavailable, Next::Give, Broken, read_only()),
        // The plan of a prepared statement no longer fits the table: a new connection prepares anew.
        "0A000" if text.contains("cached plan") => (ErrorKind::Unavailable, Next::Retry, Broken, text),
        // Prepared statements that come and go: a pooler hands each transaction another connection.
        "26000" | "42P05" | "08P01" => (ErrorKind::Other, Next::Give, Broken, format!("{text}: {POOLER}")),
        // Arguments that their statement can't read: it is another one of the same name.
        "22P03" | "42804" => (ErrorKind::Other, Next::Give, Broken, format!("{text}: {POOLER}")),
        "54000" if text.contains("array dimensions") => {
            (ErrorKind::Other, Next::Give, Broken, format!("{text}: {POOLER}"))
        }
        // The table or one of its columns, or its schema, isn't there.
        "42P01" | "42703" | "3F000" => {
            let message = format!(
                "{text}: call ensure_schema() once, or run the SQL of PostgresStoreBuilder::schema_sql with \
                 your migration tool"
            );
            (ErrorKind::SchemaMissing, Next::Give, Good, message)
        }
        "42501" => {
            let message = format!(
                "{text}: grant SELECT, INSERT, UPDATE, DELETE on the table, SELECT on its _meta, and USAGE on \
                 their schema"
            );
            (ErrorKind::Other, Next::Give, Good, message)
        }
        // Out of disk, of memory, of what an operator configured.
        "53100" | "53200" | "53400" => (ErrorKind::Unavailable, Next::Isolate, Good, text),
        _ => (ErrorKind::Other, Next::Isolate, Good, text),
    }
}

/// Of one that was not told of.
const POOLER: &str = "is there a pooler in transaction mode before the server? Then say so, with \
    PostgresStoreBuilder::transaction_pooler";

/// Of a server that can't be written to.
pub(crate) fn read_only() -> String {
    "the server is read-only, a standby perhaps: nothing is read from it either, for it answers from the past; \
     point the URL at the primary"
        .to_owned()
}

/// The caller went away with its runtime, or the runner did.
pub(crate) fn gone(operation: &'static str, effect: Effect) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, operation, effect, "the runtime that ran the statement shut down")
}

/// The call's deadline passed; `trouble` is what went wrong last, if anything did.
pub(crate) fn too_late(operation: &'static str, effect: Effect, trouble: Option<&str>) -> StoreError {
    let mut message = match effect {
        Effect::NotApplied => "nothing could be sent within the call's deadline".to_owned(),
        Effect::Unknown => "no answer came within the call's deadline".to_owned(),
    };
    if let Some(trouble) = trouble {
        message.push_str(": ");
        message.push_str(trouble);
    }
    StoreError::new(ErrorKind::Timeout, operation, effect, message)
}
