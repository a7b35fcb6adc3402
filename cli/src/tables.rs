//! The suite's tables in a PostgreSQL database: in a schema of their own, dropped at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_conformance::{BoxError, Capabilities, Capability, Harness, Namespace, ShiftTime, TimeControl};
use oncekey_core::{IdempotencyStore, async_trait};
use oncekey_postgres::ClockOffset;
use oncekey_postgres::sqlx::postgres::PgConnection;
use oncekey_postgres::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection};

use crate::database::Database;
use crate::exit::{Exit, Trouble};
use crate::reach;

/// A schema of that name is somebody's.
const DUPLICATE_SCHEMA: &str = "42P06";
/// How many names are tried.
const NAMES: u32 = 100;

/// Tables in a schema that is the suite's alone.
#[derive(Debug)]
pub(crate) struct Tables {
    name: String,
    database: Database,
    schema: String,
    /// How many there are.
    count: AtomicU32,
}

impl Tables {
    /// Makes the schema.
    pub(crate) async fn begin(database: Database) -> Result<Self, Trouble> {
        // Looks at the server as `exec` does.
        let store = reach::open(&database, database.builder()).await?;
        store.pool().close().await;
        let mut connection = database.options()?.connect().await.map_err(|e| trouble(&e))?;
        let schema = make(&mut connection).await.map_err(|e| trouble(&e))?;
        let _best_effort = connection.close().await;
        let name = format!("postgres, {database}, schema {schema}");
        Ok(Self { name, database, schema, count: AtomicU32::new(0) })
    }

    /// Drops what was made, and nothing else.
    pub(crate) async fn end(&self) -> Result<(), Trouble> {
        self.drop_all().await.map_err(|error| {
            let schema = &self.schema;
            let message = format!(
                "the suite's tables are left there: {error}; end them with DROP SCHEMA {schema} CASCADE"
            );
            Trouble::new(Exit::StoreUnavailable, message)
        })
    }

    async fn drop_all(&self) -> Result<(), Box<dyn std::error::Error>> {
        let options = self.database.options().map_err(|e| e.to_string())?;
        let mut connection = options.connect().await?;
        // One at a time: all at once are more locks than a small server has.
        for number in 0..self.count.load(Ordering::SeqCst) {
            let (schema, table) = (&self.schema, table(number));
            // A case that was given up may still hold it; and behind a pooler no setting may stay.
            let drop = format!(
                "BEGIN; SET LOCAL lock_timeout = '10s'; \
                 DROP TABLE IF EXISTS {schema}.{table}, {schema}.{table}_meta; COMMIT"
            );
            run(&mut connection, drop).await?;
        }
        run(&mut connection, format!("DROP SCHEMA {}", self.schema)).await?;
        Ok(connection.close().await?)
    }
}

/// A new schema; its name. The process's number alone is that of a process of another host, too.
async fn make(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let mut number = 0;
    loop {
        let name = format!("oncekey_conformance_{}_{number}", std::process::id());
        match run(connection, format!("CREATE SCHEMA {name}")).await {
            Ok(()) => return Ok(name),
            Err(error) if number < NAMES && code(&error).as_deref() == Some(DUPLICATE_SCHEMA) => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn table(number: u32) -> String {
    format!("t{number}")
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn trouble(error: &sqlx::Error) -> Trouble {
    if code(error).as_deref() == Some("42501") {
        let message = "the suite has a schema of its own, and this role may not create one in this database";
        return Trouble::new(Exit::StoreUnavailable, message);
    }
    reach::advice(error).unwrap_or_else(|| {
        Trouble::new(Exit::StoreUnavailable, format!("the suite's schema can't be made: {error}"))
    })
}

struct Clock(ClockOffset);

impl ShiftTime for Clock {
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rewind(&self, by: Duration) -> bool {
        self.0.rewind(by);
        true
    }
}

#[async_trait]
impl Harness for Tables {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let all = Capabilities::all();
        if self.database.wakes() { all } else { all.without(Capability::Wake) }
    }

    async fn open(&self) -> Result<Namespace, BoxError> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let offset = ClockOffset::shiftable();
        let builder = self.database.builder().schema(&self.schema).table(table(number));
        let builder = builder.clock_offset(offset.clone());
        let url = self.database.url().to_owned();
        builder.clone().connect_lazy(&url)?.ensure_schema().await?;
        let connect = move || Ok(Arc::new(builder.clone().connect_lazy(&url)?) as _);
        Ok(Namespace::new(TimeControl::Shift(Arc::new(Clock(offset))), connect))
    }
}
