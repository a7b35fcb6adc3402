//! `cargo xtask lint`: what is checked without running the project.

use crate::step::Step;
use crate::{tidy, tools};

/// Format, clippy, docs, house rules.
pub(crate) fn steps() -> Vec<Step> {
    let mut docs = tools::cargo(["doc", "--workspace", "--no-deps", "--all-features", "--keep-going"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        Step::cargo("format", ["fmt", "--all", "--check"]),
        Step::new("format-apart", || {
            ["bench", "backend-sqlite/beside-sqlx"]
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
            tools::apart("bench", ["clippy", "--all-targets", "--", "-D", "warnings"]),
        ),
        Step::command("docs", docs),
        Step::new("tidy", tidy::run),
    ]
}
