//! The schema and its version: created, migrated from an older one, refused when newer.

use std::time::Instant;

use oncekey_core::{Effect, ErrorKind, StoreError};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::calls::one_row;
use crate::connection::until;
use crate::error::store_error;
use crate::statements as sql;

/// The version that this program writes and reads.
const VERSION: usize = sql::SCHEMA.len();

/// Brings the schema to this program's version, in one transaction. Safe from many processes at once: the
/// write lock lets one do it, and the others find it done.
pub(crate) fn ensure(db: &Connection, operation: &'static str, deadline: Instant) -> Result<(), StoreError> {
    let failed = |error| store_error(operation, Effect::NotApplied, error);
    if version(db).map_err(failed)? == VERSION as u64 {
        return Ok(());
    }
    let tx =
        until(deadline, || Transaction::new_unchecked(db, TransactionBehavior::Immediate)).map_err(failed)?;
    let found = version(&tx).map_err(failed)?;
    let steps = sql::SCHEMA.get(usize::try_from(found).unwrap_or(usize::MAX)..);
    let Some(steps) = steps else { return Err(newer(operation, found)) };
    let migrate = || {
        if found == 0 {
            tx.execute_batch(sql::SCHEMA_META)?;
        }
        for step in steps {
            tx.execute_batch(step)?;
        }
        tx.execute(sql::SET_SCHEMA_VERSION, params![VERSION as u64 as i64])
    };
    migrate().map_err(failed)?;
    tx.commit().map_err(|error| store_error(operation, Effect::Unknown, error))
}

/// For a store that doesn't manage its schema: one that is newer can't be worked with.
pub(crate) fn refuse_newer(db: &Connection, operation: &'static str) -> Result<(), StoreError> {
    let found = version(db).map_err(|error| store_error(operation, Effect::NotApplied, error))?;
    if found > VERSION as u64 { Err(newer(operation, found)) } else { Ok(()) }
}

/// The version that is there; 0 for none.
fn version(db: &Connection) -> rusqlite::Result<u64> {
    let there = one_row(db, sql::HAS_TABLE, params!["oncekey_meta"], |_| ())?;
    if there.is_none() {
        return Ok(0);
    }
    let found = one_row(db, sql::SCHEMA_VERSION, [], |row| row.get::<_, i64>(0))?.transpose()?;
    Ok(found.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

fn newer(operation: &'static str, found: u64) -> StoreError {
    let message = format!(
        "the file has oncekey's schema version {found}, and this program knows up to {VERSION}: upgrade the program"
    );
    StoreError::new(ErrorKind::SchemaMissing, operation, Effect::NotApplied, message)
}
