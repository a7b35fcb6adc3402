//! What a run found: [`Report`], as a table for people and as JSON for programs.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::case::Case;
use crate::harness::Capability;
use crate::options::SEED_VARIABLE;

/// What a run of the suite found. `Display` is a table for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a report that nobody reads proves nothing"]
pub struct Report {
    /// The store's name, as its harness gave it.
    pub store: String,
    /// The seed of everything random in this run.
    pub seed: u64,
    /// How long the run took.
    pub elapsed: Duration,
    /// One for each case that was started or ignored, in the registry's order.
    pub results: Vec<CaseReport>,
}

/// What one case found.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case.
    pub case: Case,
    /// What it found.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed: Duration,
}

/// How a case ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What it states holds.
    Passed,
    /// It doesn't; here is what was expected and what was seen.
    Failed(String),
    /// The store lacks these.
    Ignored(Vec<Capability>),
}

impl Report {
    pub(crate) fn new(store: String, seed: u64, elapsed: Duration, results: Vec<CaseReport>) -> Self {
        Self { store, seed, elapsed, results }
    }

    /// Whether cases ran and none failed. A run of nothing has not passed.
    pub fn passed(&self) -> bool {
        self.count(|v| matches!(v, Verdict::Passed)) > 0 && self.failures().next().is_none()
    }

    /// The cases that failed, with what they said.
    pub fn failures(&self) -> impl Iterator<Item = (&Case, &str)> {
        self.results.iter().filter_map(|result| match &result.verdict {
            Verdict::Failed(failure) => Some((&result.case, failure.as_str())),
            _ => None,
        })
    }

    fn count(&self, fits: impl Fn(&Verdict) -> bool) -> usize {
        self.results.iter().filter(|result| fits(&result.verdict)).count()
    }

    /// The report as JSON: `store`, `seed`, `seconds`, `passed`, `failed`, `ignored`, and `cases`, each
    /// with `id`, `rules`, `level`, `verdict` (`passed`, `failed` or `ignored`), `seconds`, and
    /// `failure` or `missing`.
    pub fn to_json(&self) -> String {
        let mut json = format!(
            "{{\"store\":{},\"seed\":{},\"seconds\":{:.3},\"passed\":{},\"failed\":{},\"ignored\":{},\"cases\":[",
            quoted(&self.store),
            self.seed,
            self.elapsed.as_secs_f64(),
            self.count(|v| matches!(v, Verdict::Passed)),
            self.failures().count(),
            self.count(|v| matches!(v, Verdict::Ignored(_))),
        );
        for (index, result) in self.results.iter().enumerate() {
            json.push_str(if index == 0 { "\n" } else { ",\n" });
            result.push_json(&mut json);
        }
        json.push_str("\n]}\n");
        json
    }
}

impl CaseReport {
    fn push_json(&self, json: &mut String) {
        let list = |texts: Vec<String>| texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(",");
        let (verdict, more) = match &self.verdict {
            Verdict::Passed => ("passed", String::new()),
            Verdict::Failed(failure) => ("failed", format!(",\"failure\":{}", quoted(failure))),
            Verdict::Ignored(missing) => {
                let missing = list(missing.iter().map(|m| format!("{m:?}")).collect());
                ("ignored", format!(",\"missing\":[{missing}]"))
            }
        };
        let rules = list(self.case.rules.iter().map(|r| (*r).to_owned()).collect());
        let level = quoted(&format!("{:?}", self.case.level).to_lowercase());
        let (id, seconds) = (quoted(self.case.id), self.elapsed.as_secs_f64());
        json.push_str(&format!(
            "{{\"id\":{id},\"rules\":[{rules}],\"level\":{level},\"verdict\":\"{verdict}\",\"seconds\":{seconds:.3}{more}}}"
        ));
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            // Writing to a String never fails.
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.results.iter().map(|r| r.case.id.len()).max().unwrap_or(0);
        for CaseReport { case, verdict, elapsed } in &self.results {
            let (word, more) = match verdict {
                Verdict::Passed => ("ok", String::new()),
                Verdict::Failed(_) => ("FAILED", String::new()),
                Verdict::Ignored(missing) => ("ignored", format!("  the store lacks {missing:?}")),
            };
            let (millis, rules) = (elapsed.as_millis(), case.rules.join(" "));
            writeln!(f, "{word:<8} {:<width$}  {millis:>6} ms  {rules}{more}", case.id)?;
        }
        for (case, failure) in self.failures() {
            writeln!(f, "\n{} ({})\n  {}", case.id, case.rules.join(" "), failure.replace('\n', "\n  "))?;
        }
        let (passed, failed) = (self.count(|v| matches!(v, Verdict::Passed)), self.failures().count());
        let ignored = self.count(|v| matches!(v, Verdict::Ignored(_)));
        writeln!(
            f,
            "\n{}: {passed} passed, {failed} failed, {ignored} ignored, in {:.2} s; {SEED_VARIABLE}={}",
            self.store,
            self.elapsed.as_secs_f64(),
            self.seed,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_json_must() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}\u{7f}é"), r#""a\"b\\c\nd\u0001\u007fé""#);
    }

    #[test]
    fn a_run_of_nothing_has_not_passed() {
        assert!(!Report::new("s".to_owned(), 1, Duration::ZERO, Vec::new()).passed());
    }
}
