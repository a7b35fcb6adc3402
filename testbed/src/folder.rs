//! A server's own folder: data, sockets, configuration and log.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::user::User;

/// A socket's path has at most 107 bytes (103 on some systems), and the socket's name is within the folder.
const LONGEST: usize = 60;

/// A new folder that `user` owns and nobody else may enter. `inside` where it is given, else in the folder
/// for temporary files, or in `/tmp` where that one is too long or closed to `user`.
pub(crate) fn create(prefix: &str, inside: Option<&Path>, user: User) -> Result<TempDir, Error> {
    let usual = env::temp_dir();
    let fits = usual.as_os_str().len() <= LONGEST && (!user.is_other() || open_to_all(&usual));
    let parent = inside.unwrap_or(if fits { &usual } else { Path::new("/tmp") });
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .map_err(Error::when(format!("a folder in {}", parent.display())))?;
    user.owns(folder.path())?;
    Ok(folder)
}

/// Writes a file of `user`'s.
pub(crate) fn write(path: &Path, text: &str, user: User) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::when(path.display()))?;
    user.owns(path)
}

/// Whether every user may go through all of `path`.
fn open_to_all(path: &Path) -> bool {
    let enters = |folder: &Path| fs::metadata(folder).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    path.ancestors().all(enters)
}

/// The last lines of the file at `path`, for an error.
pub(crate) fn tail(path: &PathBuf) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
