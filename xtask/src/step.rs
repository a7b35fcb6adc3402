//! Steps: what a command consists of, by name, each with its time, and how to repeat one that failed.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use lexopt::prelude::*;

use crate::tools;

/// One thing to do, by name.
pub(crate) struct Step {
    name: String,
    run: Box<dyn FnOnce() -> Result<(), String>>,
}

impl Step {
    /// A step that does `run`; what it answers as an error is the step's failure.
    pub(crate) fn new(name: &str, run: impl FnOnce() -> Result<(), String> + 'static) -> Self {
        Self { name: name.to_owned(), run: Box::new(run) }
    }

    /// A step that is one command.
    pub(crate) fn command(name: &str, mut command: Command) -> Self {
        Self::new(name, move || tools::status(&mut command))
    }

    /// A step that is one call of cargo.
    pub(crate) fn cargo<'a>(name: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        Self::command(name, tools::cargo(args))
    }
}

/// Runs `steps`, or those of them that `args` name. A failure doesn't end the run: one run tells all.
pub(crate) fn run(command: &str, steps: Vec<Step>, mut args: lexopt::Parser) -> Result<bool, String> {
    let mut wanted = Vec::new();
    while let Some(arg) = args.next().map_err(|e| e.to_string())? {
        match arg {
            Value(name) => wanted.push(name.string().map_err(|e| e.to_string())?),
            Long("list") => {
                for step in &steps {
                    println!("{}", step.name);
                }
                return Ok(true);
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    for name in &wanted {
        if !steps.iter().any(|step| step.name == *name) {
            return Err(format!("no step `{name}`: cargo xtask {command} --list"));
        }
    }

    let mut done: Vec<(String, Duration, Result<(), String>)> = Vec::new();
    for step in steps.into_iter().filter(|s| wanted.is_empty() || wanted.contains(&s.name)) {
        println!("\n==== {} ====", step.name);
        let begun = Instant::now();
        let result = (step.run)();
        let took = begun.elapsed();
        match &result {
            Ok(()) => println!("---- {}: ok, {:.1} s", step.name, took.as_secs_f64()),
            Err(why) => println!("---- {}: FAILED, {:.1} s: {why}", step.name, took.as_secs_f64()),
        }
        done.push((step.name, took, result));
    }
    let (text, passed) = summary(command, &done);
    print!("{text}");
    Ok(passed)
}

/// What a run ends with: each step's time, what failed, and how to repeat it.
fn summary(command: &str, done: &[(String, Duration, Result<(), String>)]) -> (String, bool) {
    let mut text = format!("\n==== cargo xtask {command} ====\n");
    for (name, took, result) in done {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        let _ = writeln!(text, "{:>8.1} s  {word:<6}  {name}", took.as_secs_f64());
    }
    let mut failed = 0;
    for (name, _, result) in done {
        if let Err(why) = result {
            failed += 1;
            let _ = writeln!(text, "\n{name} failed: {why}\n  repeat it with: cargo xtask {command} {name}");
        }
    }
    let _ = writeln!(text, "steps: {} passed, {failed} failed", done.len() - failed);
    (text, failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named_with_the_command_that_repeats_it() {
        let second = Duration::from_secs(1);
        let done =
            [("a".to_owned(), second, Ok(())), ("b".to_owned(), second, Err("exit status: 1".to_owned()))];
        let (text, passed) = summary("test", &done);
        assert!(!passed);
        assert!(text.contains("b failed: exit status: 1\n  repeat it with: cargo xtask test b"), "{text}");
        assert!(text.ends_with("steps: 1 passed, 1 failed\n"), "{text}");
        assert!(summary("test", &done[..1]).1);
    }
}
