//! Where the servers' binaries are, and what to type where they aren't.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Folders to look for binaries in, the first match wins.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    folders: Vec<PathBuf>,
    /// The Debian package that they come with.
    package: &'static str,
}

impl Binaries {
    /// Debian's folders of PostgreSQL, the newest version first, then `PATH`.
    pub(crate) fn of_postgres() -> Self {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versions.sort_unstable();
        let newest_first = versions.into_iter().rev().map(|(_, folder)| folder);
        Self { folders: newest_first.chain(search_path()).collect(), package: "postgresql" }
    }

    /// What a Debian package puts into `PATH`.
    pub(crate) fn of(package: &'static str) -> Self {
        Self { folders: search_path(), package }
    }

    /// Only these folders: for another version than the newest.
    pub(crate) fn only_in<P: Into<PathBuf>>(mut self, folders: impl IntoIterator<Item = P>) -> Self {
        self.folders = folders.into_iter().map(Into::into).collect();
        self
    }

    /// The binary of this name.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, Error> {
        let found = self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let looked: Vec<String> = self.folders.iter().map(|f| f.display().to_string()).collect();
            Error::new(format!(
                "`{name}` is not installed: install it with `apt-get install {}` or `cargo xtask test servers` \
                 (looked in {})",
                self.package,
                looked.join(", "),
            ))
        })
    }
}

/// `PATH`, and where Debian keeps what only root calls: it isn't in everybody's.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = Path::new("/usr/sbin").to_path_buf();
    env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()).chain([system]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_named_with_the_command_that_installs_it() {
        let nowhere = Binaries::of_postgres().only_in(["/nonexistent"]);
        let error = nowhere.find("initdb").unwrap_err().to_string();
        assert!(error.contains("`initdb` is not installed"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
