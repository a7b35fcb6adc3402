//! `cargo xtask test servers`: the servers that tests start are installed; on a bare machine, by this step.
//!
//! It installs programs and starts none of them: each test starts its own (testbed/). What is there already,
//! running or not, is left alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// What the tests start, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("postgres", "postgresql"),
    ("initdb", "postgresql"),
    ("pg_basebackup", "postgresql"),
    ("psql", "postgresql"),
    ("pgbench", "postgresql"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-server"),
    ("pgbouncer", "pgbouncer"),
];

/// Makes sure that they are there. Without root and apt-get it fails, and says what to type.
pub(crate) fn install() -> Result<(), String> {
    // Looked for anew each time: PostgreSQL's folder comes with it.
    let is_there = |program: &str| folders().iter().any(|folder| folder.join(program).is_file());
    let (programs, packages) = missing(is_there);
    if packages.is_empty() {
        println!("all are installed");
        return Ok(());
    }
    println!("not installed: {}", programs.join(", "));
    if !is_root() || !is_there("apt-get") {
        return Err(hint(&programs, &packages));
    }
    let mut install = Command::new(tools::root().join("xtask/src/servers.sh"));
    tools::status(install.args(packages).current_dir(tools::root()))?;
    match missing(is_there) {
        (_, packages) if packages.is_empty() => Ok(()),
        (programs, packages) => Err(hint(&programs, &packages)),
    }
}

/// The programs that aren't there, and their packages, each once.
fn missing(is_there: impl Fn(&str) -> bool) -> (Vec<&'static str>, Vec<&'static str>) {
    let lacking = PROGRAMS.iter().filter(|(program, _)| !is_there(program));
    let (programs, mut packages): (Vec<_>, Vec<_>) = lacking.copied().unzip();
    packages.dedup();
    (programs, packages)
}

fn hint(programs: &[&str], packages: &[&str]) -> String {
    format!(
        "the tests start servers that are not installed ({}). On Debian: apt-get install {}",
        programs.join(", "),
        packages.join(" "),
    )
}

/// Where testbed/ looks for them: Debian's folder of each version of PostgreSQL, `PATH`, and what isn't in
/// everybody's.
fn folders() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.extend(env::split_paths(&path).filter(|folder| folder != Path::new("")));
    folders.push("/usr/sbin".into());
    folders
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        assert_eq!(missing(|_| true), (vec![], vec![]));
        let (programs, packages) = missing(|program| !["psql", "pgbench", "pgbouncer"].contains(&program));
        let hint = hint(&programs, &packages);
        assert!(hint.contains("(psql, pgbench, pgbouncer)"), "{hint}");
        assert!(hint.ends_with("apt-get install postgresql pgbouncer"), "{hint}");
    }
}
