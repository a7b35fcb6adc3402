//! Opening a database: what is refused, and how each connection is set up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oncekey_core::{Clock, Effect, ErrorKind, Limits, StoreError};
use rusqlite::{Connection, OpenFlags};

use crate::error::{is_busy, store_error};
use crate::schema;
use crate::store::SqliteStore;
use crate::worker::Worker;

const NAME: &str = "open";
/// The first library without the WAL-reset corruption, which needs but two connections to a file.
const OLDEST_LIBRARY: i32 = 3_051_003;
/// Longer than anybody waits, and short enough for SQLite's own count of milliseconds.
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
/// Statements kept prepared on a connection: all of ours, and some of a user's.
const PREPARED: usize = 64;

/// What survives a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Durability {
    /// `synchronous=FULL`: every acknowledged record, as far as the disk honours fsync.
    #[default]
    Full,
    /// `synchronous=NORMAL`: several times faster, and a power cut or a crash of the system may lose what
    /// was acknowledged since the last checkpoint of the WAL. A slot that was completed is then free again,
    /// and its work is done **twice**. A crash of the process alone loses nothing.
    Normal,
}

impl Durability {
    fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// Sets up a [`SqliteStore`].
///
/// ```
/// use oncekey_sqlite::{Limits, SqliteStore};
/// use std::time::Duration;
///
/// let store = SqliteStore::builder()
///     .limits(Limits::new(1024 * 1024))
///     .call_deadline(Duration::from_secs(2))
///     .in_memory()?;
/// # Ok::<(), oncekey_sqlite::StoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SqliteStoreBuilder {
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) durability: Durability,
    pub(crate) call_deadline: Duration,
    pub(crate) manage_schema: bool,
}

impl Default for SqliteStoreBuilder {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            limits: Limits::default(),
            durability: Durability::Full,
            call_deadline: Duration::from_secs(5),
            manage_schema: true,
        }
    }
}

impl SqliteStoreBuilder {
    /// The clock that decides; the host's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What a response may be; 16 MiB by default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What survives a power cut; everything by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a call waits for the database's write lock before it gives up: 5 s by default, a day at
    /// most.
    #[must_use]
    pub fn call_deadline(mut self, deadline: Duration) -> Self {
        self.call_deadline = deadline.min(LONGEST_DEADLINE);
        self
    }

    /// Whether opening creates and migrates the tables; it does by default. Without, a file that has none
    /// answers [`SchemaMissing`](ErrorKind::SchemaMissing) until
    /// [`ensure_schema`](oncekey_core::IdempotencyStore::ensure_schema) is called.
    #[must_use]
    pub fn manage_schema(mut self, manage: bool) -> Self {
        self.manage_schema = manage;
        self
    }

    /// Opens the file, creating it if it isn't there.
    ///
    /// # Errors
    /// [`StoreError`] that says what to do: the path is a directory, the file is no database, can't be
    /// written, or holds a newer schema; the SQLite library is older than 3.51.3.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        refuse_old_library(rusqlite::version_number())?;
        refuse_odd_path(path)?;
        // Absolute, a path is a path: SQLite would take `file:..` for a URI, and a later change of the
        // working directory for another file.
        let path = &std::path::absolute(path).map_err(|error| {
            let message = format!("{} can't be made an absolute path: {error}", path.display());
            StoreError::new(ErrorKind::Unavailable, NAME, Effect::NotApplied, message)
        })?;
        let writer = self.connect(path)?;
        self.prepare_schema(&writer)?;
        let reader = self.connect(path)?;
        self.start(writer, Some(reader), Some(path.to_owned()))
    }

    /// Opens a store in memory, private to this store and its clones, with its tables ready.
    ///
    /// # Errors
    /// [`StoreError`] when the SQLite library is older than 3.51.3, or no thread can be started.
    pub fn in_memory(self) -> Result<SqliteStore, StoreError> {
        refuse_old_library(rusqlite::version_number())?;
        let failed = |error| store_error(NAME, Effect::NotApplied, error);
        let writer = Connection::open_in_memory().map_err(failed)?;
        writer.set_prepared_statement_cache_capacity(PREPARED);
        self.prepare_schema(&writer)?;
        self.start(writer, None, None)
    }

    fn prepare_schema(&self, writer: &Connection) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.call_deadline;
        if self.manage_schema {
            schema::ensure(writer, NAME, deadline)
        } else {
            schema::refuse_newer(writer, NAME)
        }
    }

    fn start(
        self,
        writer: Connection,
        reader: Option<Connection>,
        path: Option<PathBuf>,
    ) -> Result<SqliteStore, StoreError> {
        let spawn = |name, db| {
            Worker::spawn(name, db, self.clock.clone()).map_err(|error| {
                let message = format!("the store's thread could not be started: {error}");
                StoreError::new(ErrorKind::Unavailable, NAME, Effect::NotApplied, message).with_source(error)
            })
        };
        let writer = spawn("oncekey-writer", writer)?;
        // A database in memory belongs to its connection: there the writer reads as well.
        let reader = match reader {
            Some(reader) => spawn("oncekey-reader", reader)?,
            None => writer.clone(),
        };
        Ok(SqliteStore::new(writer, reader, path, &self))
    }

    fn connect(&self, path: &Path) -> Result<Connection, StoreError> {
        let deadline = Instant::now() + self.call_deadline;
        let failed = |error| store_error(NAME, Effect::NotApplied, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        // SQLite opens what it may not write as read-only, and says so at the first write.
        if db.is_readonly("main").map_err(failed)? {
            let message = format!(
                "{} can't be written by this user: check the rights of the file and its folder",
                path.display()
            );
            return Err(StoreError::new(ErrorKind::Unavailable, NAME, Effect::NotApplied, message));
        }
        // Changing to WAL may meet another process doing the same, and is not made to wait by itself.
        let mode: String = until(deadline, || {
            db.busy_timeout(Duration::from_millis(50))?;
            db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        })
        .map_err(failed)?;
        if !mode.eq_ignore_ascii_case("wal") {
            let message = format!(
                "{} can't be put into WAL mode (it is in {mode}): is it on a network file system?",
                path.display()
            );
            return Err(StoreError::new(ErrorKind::Unsupported, NAME, Effect::NotApplied, message));
        }
        db.pragma_update(None, "synchronous", self.durability.pragma()).map_err(failed)?;
        // Fewer, larger checkpoints: half the 99th percentile at 10 000 pages (docs/benchmarks.md).
        db.pragma_update(None, "wal_autocheckpoint", 10_000).map_err(failed)?;
        // 32 MiB of pages, as a negative number of KiB.
        db.pragma_update(None, "cache_size", -32 * 1024).map_err(failed)?;
        db.busy_timeout(self.call_deadline).map_err(failed)?;
        db.set_prepared_statement_cache_capacity(PREPARED);
        Ok(db)
    }
}

/// One more connection, for a read that takes long.
pub(crate) fn connect_aside(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(patience)?;
    Ok(db)
}

/// Tries again while another connection is in the way, until the deadline.
pub(crate) fn until<T>(
    deadline: Instant,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn refuse_odd_path(path: &Path) -> Result<(), StoreError> {
    let refuse = |kind, message| Err(StoreError::new(kind, NAME, Effect::NotApplied, message));
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return refuse(ErrorKind::InvalidInput, "for a store in memory, call in_memory()".to_owned());
    }
    if path.is_dir() {
        let message = format!("{} is a directory: give the path of a file in it", path.display());
        return refuse(ErrorKind::InvalidInput, message);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        let message = format!("the folder {} isn't there: make it first", folder.display());
        return refuse(ErrorKind::Unavailable, message);
    }
    Ok(())
}

fn refuse_old_library(version: i32) -> Result<(), StoreError> {
    if version >= OLDEST_LIBRARY {
        return Ok(());
    }
    let (major, minor, patch) = (version / 1_000_000, version / 1_000 % 1_000, version % 1_000);
    let message = format!(
        "SQLite {major}.{minor}.{patch} can corrupt a WAL that two connections share; 3.51.3 mended it: \
         link a newer one, or use the feature `bundled`"
    );
    Err(StoreError::new(ErrorKind::Unsupported, NAME, Effect::NotApplied, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_with_the_wal_reset_corruption_is_refused_by_name() {
        let error = refuse_old_library(3_051_002).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("SQLite 3.51.2"), "{error}");
        assert!(refuse_old_library(3_051_003).is_ok());
    }
}
