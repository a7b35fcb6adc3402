//! Whom a server runs as. PostgreSQL and PgBouncer refuse to run as root, and containers run tests as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::{Error, run};

/// Another user than root; none where this process isn't root's, and its own user will do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    other: Option<(u32, u32)>,
}

impl User {
    /// The user of this process, or, for root, `postgres` where there is one and else `nobody`.
    pub(crate) fn find() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { other: None });
        }
        for name in ["postgres", "nobody"] {
            let id = |which| {
                let said = run::output(Command::new("id").args([which, name])).ok()?;
                said.trim().parse::<u32>().ok()
            };
            if let Some(other) = id("-u").zip(id("-g")) {
                return Ok(Self { other: Some(other) });
            }
        }
        Err(Error::new(
            "servers don't run as root, and there is no user `postgres` or `nobody` to run them as",
        ))
    }

    /// Whether a server's user is another one than ours, who may not enter all our folders.
    pub(crate) fn is_other(self) -> bool {
        self.other.is_some()
    }

    /// Makes `command` run as this user.
    pub(crate) fn runs(self, command: &mut Command) -> &mut Command {
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command
    }

    /// Gives `path` to this user.
    pub(crate) fn owns(self, path: &Path) -> Result<(), Error> {
        let Some((user, group)) = self.other else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(Error::when(format!("chown {}", path.display())))
    }
}
