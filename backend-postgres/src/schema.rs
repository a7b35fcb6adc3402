//! The tables: made once, by whoever comes first, with a version; and the SQL of it for a migration tool of
//! the user's own.

use oncekey_core::{Effect, ErrorKind, StoreError};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor, Row};
use tokio::time::Instant;

use crate::connection::{Link, statement_timeout};
use crate::error::{Connection, Failure, Next, too_late};
use crate::identifier::{Table, literal, quote};
use crate::pause;

/// The schema's version that this program knows.
pub(crate) const VERSION: i64 = 1;
const NAME: &str = "ensure_schema";

const RECORDS: &str = include_str!("../sql/schema_1.sql");
const PARTITION: &str = include_str!("../sql/schema_partition.sql");
const EXPIRES_AT: &str = include_str!("../sql/schema_expires_at.sql");
const META: &str = include_str!("../sql/schema_meta.sql");
const HAS_META: &str = include_str!("../sql/has_meta.sql");
const SCHEMA_VERSION: &str = include_str!("../sql/schema_version.sql");
const HAS_SCHEMA: &str = include_str!("../sql/has_schema.sql");
const BEGIN: &str = include_str!("../sql/begin_schema.sql");

/// How the table is laid out on pages. Half of each page is left to the updates of its rows: a completion
/// stays on the page of its reservation (HOT), writes no index, and what it replaces is cleared away by
/// the next look at the page. Autovacuum comes before the dead rows are a fifth of the table.
const STORAGE: &str = "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, \
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05)";

/// What is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) table: Table,
    /// Into how many tables the records are divided by the hash of their slot; none: one table.
    pub(crate) partitions: Option<u32>,
}

impl Layout {
    /// The statements that make everything, the schema too.
    pub(crate) fn script(&self) -> String {
        let schema = quote(self.table.schema());
        format!("CREATE SCHEMA IF NOT EXISTS {schema};\n\n{}", self.tables())
    }

    fn tables(&self) -> String {
        let storage = if self.partitions.is_some() { "PARTITION BY HASH (principal, key)" } else { STORAGE };
        let records = self.fill(RECORDS).replace("{storage}", storage);
        let mut script = format!("{records}\n");
        let of = self.partitions.unwrap_or(0);
        for place in 0..of {
            let part = self.fill(PARTITION).replace("{part}", &self.table.quoted_with(&format!("_p{place}")));
            let part = part.replace("{of}", &of.to_string()).replace("{place}", &place.to_string());
            script.push_str(&part.replace("{storage}", STORAGE));
        }
        script.push_str(&format!("\n{}\n{}", self.fill(EXPIRES_AT), self.fill(META)));
        script
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("{slots}", &self.table.quoted())
            .replace("{meta}", &self.table.quoted_with("_meta"))
            .replace("{meta_name_literal}", &literal(&format!("{}_meta", self.table.name())))
            .replace("{schema_literal}", &literal(self.table.schema()))
            .replace("{expires_at_index}", &quote(&format!("{}_expires_at", self.table.name())))
            .replace("{version}", &VERSION.to_string())
    }
}

/// What is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Nothing,
    Version(i64),
}

/// Makes what isn't there. Many processes may do it at once: one does, the others wait for it.
pub(crate) async fn ensure(link: &Link, layout: &Layout, deadline: Instant) -> Result<(), StoreError> {
    let mut effect = Effect::NotApplied;
    let (mut failures, mut last) = (0, None);
    loop {
        let failure = match try_ensure(link, layout, deadline).await {
            Ok(found) => return found,
            Err(failure) => failure,
        };
        effect = effect.max(failure.effect);
        let failure = failure.unless_late(last);
        if failure.next != Next::Retry || Instant::now() >= deadline {
            return Err(failure.into_error(NAME, effect));
        }
        last = Some(failure);
        pause::after(failures).await;
        failures += 1;
    }
}

async fn try_ensure(
    link: &Link,
    layout: &Layout,
    deadline: Instant,
) -> Result<Result<(), StoreError>, Failure> {
    let mut connection = link.connection(deadline).await?;
    let work = tokio::time::timeout_at(deadline, make(&mut connection, layout, deadline));
    let made = match work.await {
        Ok(Ok(made)) => return Ok(made),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Ok(Err(too_late(NAME, Effect::Unknown, None))),
    };
    // Whatever transaction is left open ends with its connection.
    drop(connection.detach());
    made
}

async fn make(
    connection: &mut PgConnection,
    layout: &Layout,
    deadline: Instant,
) -> Result<Result<(), StoreError>, Failure> {
    match found(connection, layout).await? {
        Found::Version(VERSION) => return Ok(Ok(())),
        Found::Version(other) if other > VERSION => return Ok(Err(newer(other))),
        Found::Version(_) | Found::Nothing => {}
    }
    let timeout = statement_timeout(deadline.saturating_duration_since(Instant::now()));
    run(connection, BEGIN.replace("{call_deadline}", &timeout)).await?;
    // Somebody else may have made it while this waited for the lock.
    match found(connection, layout).await? {
        Found::Version(VERSION) => {}
        Found::Version(other) if other > VERSION => {
            run(connection, "ROLLBACK".to_owned()).await?;
            return Ok(Err(newer(other)));
        }
        Found::Version(_) | Found::Nothing => {
            if run(connection, layout.fill(HAS_SCHEMA)).await?.is_empty() {
                let create = format!("CREATE SCHEMA {}", quote(layout.table.schema()));
                run(connection, create).await.map_err(without_right)?;
            }
            run(connection, layout.tables()).await.map_err(without_right)?;
        }
    }
    (*connection).execute("COMMIT").await.map_err(Failure::of)?;
    Ok(Ok(()))
}

/// The version of the tables that are there.
pub(crate) async fn found(connection: &mut PgConnection, layout: &Layout) -> Result<Found, Failure> {
    let there = run(connection, layout.fill(HAS_META)).await?;
    if there.first().and_then(text).as_deref() != Some("t") {
        return Ok(Found::Nothing);
    }
    let version = run(connection, layout.fill(SCHEMA_VERSION)).await?;
    let version = version.first().and_then(text).and_then(|text| text.parse().ok());
    Ok(version.map_or(Found::Nothing, Found::Version))
}

/// By the simple protocol, which a pooler passes on whole.
async fn run(connection: &mut PgConnection, sql: String) -> Result<Vec<PgRow>, Failure> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await;
    rows.map_err(|error| Failure::of(error).not_applied())
}

fn text(row: &PgRow) -> Option<String> {
    row.try_get_raw(0).ok()?.as_str().ok().map(str::to_owned)
}

pub(crate) fn newer(version: i64) -> StoreError {
    let message = format!(
        "the tables are of version {version}, and this program knows version {VERSION}: upgrade it before it \
         writes there"
    );
    StoreError::new(ErrorKind::SchemaMissing, NAME, Effect::NotApplied, message)
}

fn without_right(failure: Failure) -> Failure {
    failure.explained(
        "42501",
        "this role may not create the tables: let their owner call ensure_schema(), or run the SQL of \
         PostgresStoreBuilder::schema_sql, and grant SELECT, INSERT, UPDATE and DELETE to this role",
        Connection::Broken,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_holds_no_placeholder_and_as_many_partitions_as_asked() {
        for (partitions, parts) in [(None, 0), (Some(4), 4)] {
            let layout = Layout { table: Table::new("app", "keys").unwrap(), partitions };
            let script = layout.script();
            assert!(!script.contains(['{', '}']), "{script}");
            assert_eq!(script.matches("PARTITION OF").count(), parts, "{script}");
            assert_eq!(script.contains("PARTITION BY HASH"), partitions.is_some());
        }
    }
}
