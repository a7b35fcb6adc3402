//! `cargo xtask test`: every test there is, as a list of steps.

use serde_json::Value;

use crate::range;
use crate::readme;
use crate::servers;
use crate::step::Step;
use crate::tools::{self, list, text};

/// All of them. The tests start the servers that they need; nothing is skipped where one isn't installed.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps = vec![
        // First: what the others start.
        Step::new("servers", servers::install),
        // Unit tests, integration tests, the conformance suites and doctests; examples are built.
        Step::cargo("workspace", ["test", "--workspace", "--all-features", "--no-fail-fast"]),
        Step::new("examples", examples),
        Step::new("readme", readme::check),
        Step::new("features", features),
    ];
    steps.extend(range::steps());
    // The range's reason: a service that has all of sqlx.
    steps
        .push(Step::command("beside-sqlx", tools::apart("backend-sqlite/beside-sqlx", ["test", "--locked"])));
    steps.push(Step::command("bench-tests", tools::apart("bench", ["test", "--locked"])));
    // A few seconds of each race, in a debug build: that it runs, not how fast.
    let smoke = ["run", "--locked", "--", "sqlite", "memory", "postgres", "redis", "--quick"];
    steps.push(Step::command("bench-smoke", tools::apart("bench", smoke)));
    steps
}

/// Runs each example of the workspace to its end.
fn examples() -> Result<(), String> {
    let metadata = tools::metadata()?;
    for package in list(&metadata, "packages") {
        for target in list(package, "targets") {
            if list(target, "kind").any(|kind| kind == "example") {
                let (package, example) = (text(package, "name"), text(target, "name"));
                tools::status(&mut tools::cargo([
                    "run",
                    "--quiet",
                    "-p",
                    package,
                    "--all-features",
                    "--example",
                    example,
                ]))?;
            }
        }
    }
    Ok(())
}

/// Each library with no feature, and with each of its features alone; core's tests without any.
fn features() -> Result<(), String> {
    let metadata = tools::metadata()?;
    for package in list(&metadata, "packages").filter(|p| has_library(p)) {
        let name = text(package, "name");
        let check = |more: &[&str]| {
            let args = ["check", "--quiet", "-p", name, "--lib", "--no-default-features"];
            tools::status(&mut tools::cargo(args.iter().chain(more).copied()))
        };
        check(&[])?;
        for feature in package["features"].as_object().into_iter().flatten().map(|(name, _)| name) {
            check(&["--features", feature])?;
        }
    }
    tools::status(&mut tools::cargo(["test", "-p", "oncekey-core", "--no-default-features"]))
}

fn has_library(package: &Value) -> bool {
    list(package, "targets").any(|target| list(target, "kind").any(|kind| kind == "lib"))
}
