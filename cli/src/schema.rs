//! `oncekey schema`: the SQL of a database's tables, for whoever makes them with a migration tool.

use crate::args::Schema;
use crate::exit::{Exit, Trouble};
use crate::location::{Location, VARIABLE};
use crate::outlet::{Outlet, Stream};

pub(crate) fn run(args: &Schema) -> Result<Exit, Trouble> {
    let database = match Location::named(&args.store)? {
        Some(Location::Postgres(database)) => database,
        Some(_) => {
            return Err(Trouble::usage(
                "such a store makes its tables itself, or has none: there is no SQL to run",
            ));
        }
        None => {
            return Err(Trouble::usage(format!(
                "say for which store: --store postgres://.. or {VARIABLE}; nobody connects to it"
            )));
        }
    };
    let mut builder = database.builder();
    if let Some(schema) = &args.schema {
        builder = builder.schema(schema);
    }
    if let Some(table) = &args.table {
        builder = builder.table(table);
    }
    if let Some(count) = args.partitions {
        builder = builder.partitions(count);
    }
    let sql = builder.schema_sql()?;
    let written = Outlet::new(Stream::Out).write(sql.as_bytes());
    written.map_err(|e| Trouble::new(Exit::OutputLost, format!("the SQL could not be written: {e}")))?;
    Ok(Exit::Code(0))
}
