//! The command's checkpoint: a file that it writes, saved while it runs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oncekey_core::{Held, MAX_CHECKPOINT_BYTES, SaveError};
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval};

use crate::outlet::say;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The run's own folder, with the checkpoint in it: at first what the last run saved, and whatever the command
/// writes over it.
#[derive(Debug)]
pub(crate) struct Notebook {
    folder: TempDir,
    file: PathBuf,
    /// The file as it was last looked at.
    seen: Option<Stamp>,
    /// The file as it was last saved, or first laid out.
    saved: Option<Stamp>,
    complained: bool,
}

/// Tells one writing from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Notebook {
    pub(crate) fn open(inherited: Option<&[u8]>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("oncekey-").tempdir().map_err(|e| {
            let message = format!("no temporary folder in {}: {e}", env::temp_dir().display());
            io::Error::new(e.kind(), message)
        })?;
        let file = folder.path().join("checkpoint");
        if let Some(inherited) = inherited {
            fs::write(&file, inherited)?;
        }
        let saved = stamp(&file);
        Ok(Self { folder, file, seen: saved, saved, complained: false })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Saves what the command writes, for as long as this is polled.
    ///
    /// A file is saved once it looked the same twice: a shell's `> file` is empty for a moment, and a longer
    /// writing is cut. Whoever wants no chance of that renames a whole file into place.
    pub(crate) async fn watch(&mut self, held: &Held) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let now = stamp(&self.file);
            if now == self.seen {
                self.save(held).await;
            }
            self.seen = now;
        }
    }

    /// Saves what is new. An empty file, or none, says nothing.
    pub(crate) async fn save(&mut self, held: &Held) {
        let now = stamp(&self.file);
        if now == self.saved || now.is_none_or(|stamp| stamp.len == 0) {
            return;
        }
        let too_long = now.is_some_and(|stamp| stamp.len > MAX_CHECKPOINT_BYTES as u64);
        let trouble = match fs::read(&self.file) {
            _ if too_long => Some("it is over 64 KiB".to_owned()),
            Err(error) => Some(error.to_string()),
            Ok(data) => match held.save(data).await {
                // A lost lease is said where it is noticed.
                Ok(()) | Err(SaveError::Lost(_)) => None,
                Err(SaveError::Store(error)) if error.is_retryable() => return,
                Err(error) => Some(error.to_string()),
            },
        };
        self.saved = now;
        if let Some(trouble) = trouble.filter(|_| !self.complained) {
            self.complained = true;
            say(format_args!("the command's checkpoint is not saved: {trouble}"));
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    let modified = (found.mtime(), found.mtime_nsec());
    Some(Stamp { inode: found.ino(), len: found.len(), modified })
}

/// A checkpoint as an environment variable holds it: without the newlines at its end, as a shell's `$(..)`;
/// empty where there is none, or where it has a NUL, which no variable can hold.
pub(crate) fn as_variable(checkpoint: Option<&[u8]>) -> OsString {
    let mut bytes = checkpoint.filter(|bytes| !bytes.contains(&0)).unwrap_or_default();
    while let Some(shorter) = bytes.strip_suffix(b"\n") {
        bytes = shorter;
    }
    OsString::from_vec(bytes.to_vec())
}
