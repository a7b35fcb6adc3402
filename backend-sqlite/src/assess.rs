//! What about this database is unsafe, read from the live connection (S11).

use std::path::Path;

use oncekey_core::{Finding, Severity};
use rusqlite::Connection;

/// Which file a path leads to: device and inode.
pub(crate) type Identity = (u64, u64);

/// None where the platform doesn't tell, or the file isn't there.
#[cfg(unix)]
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
pub(crate) fn identity(_path: &Path) -> Option<Identity> {
    None
}

/// Whether the path still leads to the file that was opened.
pub(crate) fn moved(path: &Path, opened: Option<Identity>) -> Option<Finding> {
    (identity(path) != opened).then(|| {
        let message = format!(
            "{} is no longer the file that this store has open: it was replaced or removed, and what this store \
             grants and stores is seen by nobody else. Reopen the store",
            path.display()
        );
        Finding::new("sqlite.moved", Severity::Danger, message)
    })
}

/// File systems of other machines, by the names that Linux has for them.
const REMOTE: [&str; 14] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.cephfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "virtiofs",
];
/// Those that are nowhere but in memory.
const IN_MEMORY: [&str; 2] = ["ramfs", "tmpfs"];

/// Whether the file is on a file system that keeps it, and whose locks are locks. Where the system doesn't tell, nothing
/// is said.
pub(crate) fn file_system(path: &Path) -> Option<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    judge(path, kind(&mounts, &path.canonicalize().ok()?)?)
}

/// What kind of file system a path is on, by /proc/self/mountinfo: that of the longest mount point which leads to it, and
/// of two there the one that was mounted last.
fn kind<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        // .. root, mount point, options .. - kind, source ..
        let (before, after) = line.split_once(" - ")?;
        let at = before.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&at).then_some((at.len(), after.split(' ').next()?))
    });
    mounted.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn judge(path: &Path, kind: &str) -> Option<Finding> {
    let path = path.display();
    let message = match kind {
        _ if REMOTE.contains(&kind) => format!(
            "{path} is on {kind}, which other machines share: SQLite's locks and its WAL don't hold across machines, \
             and two may be granted one slot. Put the file on a local disk, or use the store of a server"
        ),
        _ if IN_MEMORY.contains(&kind) => format!(
            "{path} is on {kind}, in memory: when the machine starts again every answer is forgotten, and its work is \
             done twice. Put the file on a disk"
        ),
        _ => return None,
    };
    Some(Finding::new("sqlite.file_system", Severity::Danger, message))
}

/// Reads the whole file, on a connection of its own.
pub(crate) fn integrity(db: &Connection) -> Option<Finding> {
    // Damage enough, and the check itself fails.
    let check: String = pragma(db, "quick_check").unwrap_or_else(|error| error.to_string());
    (check != "ok").then(|| {
        let message = format!("the file is damaged: {check}. Restore it from a backup");
        Finding::new("sqlite.integrity", Severity::Danger, message)
    })
}

/// The settings of a connection.
pub(crate) fn settings(db: &Connection, durable: bool) -> rusqlite::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut say = |id, severity, message: String| findings.push(Finding::new(id, severity, message));
    let version = rusqlite::version();
    say("sqlite.library", Severity::Info, format!("SQLite {version}"));
    if !durable {
        let message = "records live in this process's memory: a restart forgets every answer. Open a file";
        say("sqlite.memory", Severity::Danger, message.to_owned());
        return Ok(findings);
    }
    let journal: String = pragma(db, "journal_mode")?;
    if !journal.eq_ignore_ascii_case("wal") {
        let message = format!(
            "journal_mode is {journal}, not wal: somebody changed it; readers and writers block each other"
        );
        say("sqlite.journal_mode", Severity::Warning, message);
    }
    let synchronous: i64 = pragma(db, "synchronous")?;
    if synchronous < 2 {
        let message = format!(
            "synchronous is {synchronous}, below 2 (FULL): a power cut may lose acknowledged records, and their work is done twice"
        );
        say("sqlite.synchronous", Severity::Danger, message);
    }
    let page_size: i64 = pragma(db, "page_size")?;
    if page_size < 4_096 {
        let message =
            format!("page_size is {page_size}: below 4096, a completion writes more pages than it must");
        say("sqlite.page_size", Severity::Info, message);
    }
    Ok(findings)
}

fn pragma<T: rusqlite::types::FromSql>(db: &Connection, name: &str) -> rusqlite::Result<T> {
    let mut statement = db.prepare(&format!("PRAGMA {name}"))?;
    let mut rows = statement.query([])?;
    let first = match rows.next()? {
        Some(row) => row.get(0),
        None => Err(rusqlite::Error::QueryReturnedNoRows),
    };
    while rows.next()?.is_some() {}
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test mounts nothing of another machine; a file in memory is in tests/files.rs.
    #[test]
    fn where_a_file_is_decides_whether_it_is_kept_and_its_locks_hold() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      30 22 0:25 / /mnt rw shared:1 master:2 - nfs4 server:/x rw\n\
                      31 30 0:26 / /mnt/a\\040b rw - tmpfs tmpfs rw\n\
                      32 30 0:27 / /mnt/local rw - nfs server:/y rw\n\
                      33 30 254:1 / /mnt/local rw - xfs /dev/vdb rw\n";
        for (path, on, danger) in [
            ("/var/oncekey.db", "ext4", false),
            ("/mntx/oncekey.db", "ext4", false),
            ("/mnt/oncekey.db", "nfs4", true),
            ("/mnt/a b/oncekey.db", "tmpfs", true),
            ("/mnt/local/oncekey.db", "xfs", false),
        ] {
            let path = Path::new(path);
            assert_eq!(kind(mounts, path), Some(on), "{path:?}");
            let found = judge(path, on).map(|finding| (finding.id, finding.severity));
            assert_eq!(found, danger.then_some(("sqlite.file_system", Severity::Danger)), "{path:?}");
        }
        assert_eq!(kind("", Path::new("/")), None);
        assert_eq!(kind("rubbish\n1 2 - 3", Path::new("/")), None);
    }

    /// On a connection of the test's own, to a file: a store puts its own into WAL, and nobody takes it out again.
    #[test]
    fn a_file_that_is_not_in_wal_mode() {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("oncekey.db")).unwrap();
        db.pragma_update(None, "synchronous", "FULL").unwrap();
        let ids = |mode: &str| -> Vec<_> {
            let now: String =
                db.pragma_update_and_check(None, "journal_mode", mode, |row| row.get(0)).unwrap();
            assert_eq!(now, mode);
            let found = settings(&db, true).unwrap().into_iter();
            found.map(|finding| (finding.id, finding.severity)).collect()
        };
        let library = ("sqlite.library", Severity::Info);
        assert_eq!(ids("wal"), [library]);
        for mode in ["delete", "truncate", "persist", "memory", "off"] {
            assert_eq!(ids(mode), [library, ("sqlite.journal_mode", Severity::Warning)], "{mode}");
        }
    }
}
