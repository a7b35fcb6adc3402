//! `cargo xtask lint`: what is checked without running the project.

use std::process::Stdio;

use crate::step::Step;
use crate::{tidy, tools};

/// The workspaces of their own.
const APART: [&str; 2] = ["bench", "backend-sqlite/beside-sqlx"];

/// Lockfiles, format, clippy, docs, house rules.
pub(crate) fn steps() -> Vec<Step> {
    let mut docs = tools::cargo(["doc", "--workspace", "--no-deps", "--all-features", "--keep-going"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        Step::new("lockfiles", lockfiles),
        Step::cargo("format", ["fmt", "--all", "--check"]),
        Step::new("format-apart", || {
            APART
                .into_iter()
                .try_for_each(|folder| tools::status(&mut tools::apart(folder, ["fmt", "--check"])))
        }),
        Step::cargo(
            "clippy",
            [
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--keep-going",
                "--",
                "-D",
                "warnings",
            ],
        ),
        Step::command(
            "clippy-bench",
            tools::apart("bench", ["clippy", "--locked", "--all-targets", "--", "-D", "warnings"]),
        ),
        Step::command("docs", docs),
        Step::new("tidy", tidy::run),
    ]
}

/// Each lockfile is in step with its manifests: a change of ours reaches the workspaces of their own too.
fn lockfiles() -> Result<(), String> {
    for folder in [""].into_iter().chain(APART) {
        let mut locked = tools::apart(folder, ["metadata", "--locked", "--quiet", "--format-version=1"]);
        let locked = locked.stdout(Stdio::null()).status().map_err(|e| format!("cargo metadata: {e}"))?;
        if !locked.success() {
            let file = format!("{folder}/Cargo.lock");
            let file = file.trim_start_matches('/');
            return Err(format!(
                "{file} is behind: cargo update --workspace --manifest-path {}, and commit it",
                file.replace(".lock", ".toml")
            ));
        }
    }
    Ok(())
}
