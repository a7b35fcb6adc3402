//! Commands that are over soon: what they say, or why they failed.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// What `command` says on its standard output, without the line's end. What it says on its standard error is
/// in the error.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let name = name.to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(Error::when(format!("`{name}` didn't start")))?;
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("`{name}`: {}: {} {said}", output.status, why.trim())))
}

/// A PostgreSQL program that minds its arguments alone: no `PG..` of the environment, no language.
pub(crate) fn postgres_program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    command
}
