//! Where records are kept: `--store`, `$ONCEKEY_STORE`, or a file in the user's state folder.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::args::StoreOption;
use crate::database::Database;
use crate::exit::{Exit, Trouble};
use crate::keyspace::{Keyspace, SCHEMES};

pub(crate) const VARIABLE: &str = "ONCEKEY_STORE";
const THERE_IS: &str = "there are sqlite:PATH (or a path alone), postgres://USER@HOST/DATABASE, redis://HOST, \
    redis+sentinel://HOST:PORT,../MASTER and redis+cluster://HOST:PORT,..";

/// A store that this build has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    Sqlite(PathBuf),
    Postgres(Database),
    Redis(Keyspace),
    /// Gone with this process.
    Memory,
}

impl Location {
    /// What the options and the environment say. The folder of the default store is created, for its user
    /// alone: it holds what commands printed.
    pub(crate) fn find(option: &StoreOption) -> Result<Self, Trouble> {
        if let Some(named) = Self::named(option)? {
            return Ok(named);
        }
        let folder = state_folder(set("XDG_STATE_HOME"), set("HOME"))?.join("oncekey");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| {
            let message = format!(
                "the folder {} can't be made: {e}; give --store PATH, or set {VARIABLE}",
                folder.display()
            );
            Trouble::new(Exit::StoreUnavailable, message)
        })?;
        Ok(Self::Sqlite(folder.join("oncekey.db")))
    }

    /// What the option or the variable names, if one of them does.
    pub(crate) fn named(option: &StoreOption) -> Result<Option<Self>, Trouble> {
        if let Some(url) = &option.store {
            return Self::parse(url).map(Some);
        }
        let Some(url) = set(VARIABLE) else { return Ok(None) };
        let named = Self::parse(&url).map_err(|t| Trouble::new(t.exit, format!("{VARIABLE}: {t}")))?;
        Ok(Some(named))
    }

    fn parse(url: &OsStr) -> Result<Self, Trouble> {
        let bytes = url.as_bytes();
        let scheme = bytes.split(|b| *b == b':').next().filter(|s| s.len() < bytes.len());
        let scheme = scheme.and_then(|s| std::str::from_utf8(s).ok()).unwrap_or_default();
        let rest = bytes.get(scheme.len() + 1..).unwrap_or_default();
        let path = match scheme {
            "memory" if rest.is_empty() => return Ok(Self::Memory),
            "postgres" | "postgresql" => {
                let url = url.to_str().ok_or_else(|| Trouble::usage("the store's URL is no UTF-8"))?;
                return Database::parse(url).map(Self::Postgres);
            }
            "sqlite" => rest.strip_prefix(b"//").unwrap_or(rest),
            _ if SCHEMES.contains(&scheme) => {
                let url = url.to_str().ok_or_else(|| Trouble::usage("the store's URL is no UTF-8"))?;
                return Keyspace::parse(url).map(Self::Redis);
            }
            // A path may have a colon; only what looks like a URL is one.
            _ if !scheme.is_empty() && rest.starts_with(b"//") => {
                return Err(Trouble::usage(format!("there is no {scheme}: store: {THERE_IS}")));
            }
            _ => bytes,
        };
        if path.is_empty() {
            return Err(Trouble::usage(
                "the store has no path: give sqlite:PATH, such as sqlite:/var/lib/once.db",
            ));
        }
        if path == b":memory:" {
            return Ok(Self::Memory);
        }
        Ok(Self::Sqlite(PathBuf::from(OsStr::from_bytes(path))))
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A variable that is set to something.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// As the XDG base directory specification has it: a relative `XDG_STATE_HOME` counts as none.
fn state_folder(xdg: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Trouble> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = absolute(xdg) {
        return Ok(folder);
    }
    absolute(home).map(|home| home.join(".local/state")).ok_or_else(|| {
        let message = "there is no default store, for neither XDG_STATE_HOME nor HOME names a folder";
        Trouble::usage(format!("{message}: give --store PATH, or set {VARIABLE}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls_are_told_apart() {
        for (url, path) in [
            ("a.db", "a.db"),
            ("/var/lib/a.db", "/var/lib/a.db"),
            ("sqlite:a.db", "a.db"),
            ("sqlite:/a.db", "/a.db"),
            ("sqlite:///a.db", "/a.db"),
            ("odd:name.db", "odd:name.db"),
            ("./sqlite:a", "./sqlite:a"),
            ("sqlite:a b%20?c", "a b%20?c"),
        ] {
            let parsed = Location::parse(OsStr::new(url)).unwrap();
            assert_eq!(parsed, Location::Sqlite(path.into()), "{url}");
        }
        for url in ["memory:", "sqlite::memory:", ":memory:"] {
            assert_eq!(Location::parse(OsStr::new(url)).unwrap(), Location::Memory, "{url}");
        }
        for url in ["postgres://h/d", "postgresql://h/d", "postgres://", "postgres:///d?host=/run/pg"] {
            let parsed = Location::parse(OsStr::new(url)).unwrap();
            assert_eq!(parsed, Location::Postgres(Database::parse(url).unwrap()), "{url}");
        }
        for url in
            ["redis://h/0", "rediss://h", "redis+unix:///s", "redis+sentinel://h:1/m", "redis+cluster://h:1"]
        {
            let parsed = Location::parse(OsStr::new(url)).unwrap();
            assert_eq!(parsed, Location::Redis(Keyspace::parse(url).unwrap()), "{url}");
        }
        for (url, words) in [
            ("redis:x", "redis+sentinel://host:port"),
            ("mysql://h", "sqlite:PATH (or a path alone), postgres://"),
            ("sqlite:", "sqlite:PATH"),
            ("sqlite://", "sqlite:PATH"),
            ("", "sqlite:PATH"),
            ("postgres:d", "postgres://USER@HOST"),
        ] {
            let trouble = Location::parse(OsStr::new(url)).unwrap_err();
            assert!(trouble.to_string().contains(words), "{url}: {trouble}");
        }
    }

    #[test]
    fn the_state_folder_is_xdgs_then_homes_then_an_error_that_helps() {
        let folder = |xdg: Option<&str>, home: Option<&str>| {
            state_folder(xdg.map(OsString::from), home.map(OsString::from))
        };
        assert_eq!(folder(Some("/s"), Some("/h")).unwrap(), Path::new("/s"));
        assert_eq!(folder(None, Some("/h")).unwrap(), Path::new("/h/.local/state"));
        assert_eq!(folder(Some("relative"), Some("/h")).unwrap(), Path::new("/h/.local/state"));
        let trouble = folder(None, None).unwrap_err();
        assert!(trouble.to_string().contains("--store PATH"), "{trouble}");
    }
}
