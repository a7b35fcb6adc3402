//! The statements of `sql/`, with the table's name put in.
//!
//! `{slots}` is the table; `{record of x}` is the columns of a record, from the relation `x`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};

use crate::identifier::Table;

/// The columns of a record, in the order in which [`crate::row::Columns::maybe_record`] reads them.
pub(crate) const RECORD: [&str; 18] = [
    "state",
    "fingerprint",
    "token",
    "fence",
    "attempt",
    "policy",
    "begun",
    "retention",
    "created_at",
    "lease_expires_at",
    "completed_at",
    "expires_at",
    "checkpoint_sequence",
    "checkpoint",
    "status",
    "headers",
    "body_length",
    "body",
];

/// A statement's text. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sql(Arc<str>);

impl Sql {
    pub(crate) fn render(template: &str, table: &Table) -> Self {
        // Comments first: a name may hold whatever it likes.
        let mut text = without_comments(template);
        while let Some(start) = text.find("{record of ") {
            let rest = &text[start + "{record of ".len()..];
            let Some(end) = rest.find('}') else { break };
            let relation = rest[..end].to_owned();
            let columns: Vec<String> = RECORD.iter().map(|column| format!("{relation}.{column}")).collect();
            text.replace_range(start..start + "{record of ".len() + end + 1, &columns.join(", "));
        }
        Self(text.replace("{slots}", &table.quoted()).into())
    }

    #[cfg(test)]
    fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs it, prepared, and reads to the end: its transaction is committed when the last message has come,
    /// and not with its rows.
    pub(crate) async fn fetch(
        &self,
        connection: &mut PgConnection,
        arguments: PgArguments,
        kept: bool,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        // The text is ours, and what was put in is a quoted identifier.
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&self.0)), arguments).persistent(kept);
        query.fetch_all(connection).await
    }
}

/// The comments are for readers of the file; sent with each preparation they would only be long.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("--") {
        Some((code, _)) => code.trim_end(),
        None => line,
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

macro_rules! statements {
    ($($name:ident,)*) => {
        /// All of them, for one table.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $(pub(crate) $name: Sql,)*
        }

        impl Statements {
            /// With the texts of this folder, where a file of it has one: for a test that takes a guard out.
            pub(crate) fn new(table: &Table, folder: Option<&Path>) -> Self {
                let text = |name: &str, ours: &'static str| {
                    let theirs = folder.and_then(|folder| std::fs::read_to_string(folder.join(name)).ok());
                    theirs.map_or(Cow::Borrowed(ours), Cow::Owned)
                };
                Self { $($name: {
                    let name = concat!(stringify!($name), ".sql");
                    let ours = include_str!(concat!("../sql/", stringify!($name), ".sql"));
                    Sql::render(&text(name, ours), table)
                },)* }
            }

            #[cfg(test)]
            fn all(&self) -> Vec<(&'static str, &Sql)> {
                vec![$((stringify!($name), &self.$name),)*]
            }
        }
    };
}

statements! {
    reserve, reserve_one, reserve_again, retry, take_over,
    complete, complete_one, renew, hand_over, release,
    lookup, resolve_complete, resolve_release, purge, garbage_collect, scan, stats, notify,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled_and_no_comment_is_sent() {
        let table = Table::new("my \"schema", "slo--ts").unwrap();
        for (name, sql) in Statements::new(&table, None).all() {
            assert!(!sql.as_str().contains(['{', '}']), "{name}: {}", sql.as_str());
            assert!(!sql.as_str().lines().any(|line| line.trim_start().starts_with("--")), "{name}");
            assert!(name == "notify" || sql.as_str().contains(r#""my ""schema"."slo--ts""#), "{name}");
        }
    }
}
