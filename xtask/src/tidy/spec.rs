//! Rules about docs/spec.md: each of its rules is tested, and no other is spoken of.

use std::collections::BTreeSet;
use std::process::Stdio;

use super::{Complaint, File, Project};
use crate::tools;

const SPEC: &str = "docs/spec.md";
/// The section that says why a rule has no case.
const EXCUSES: &str = "## Seen only from inside";
/// What looks like a rule and is none: the control characters.
const NOT_RULES: &[&str] = &["C0"];

/// Each row of the spec's tables has a conformance case, or a row under [`EXCUSES`] that says why not.
pub(super) fn covered(project: &Project) -> Vec<Complaint> {
    let Some(spec) = project.file(SPEC) else {
        return vec![Complaint::new(SPEC, 1, "is missing")];
    };
    let (rules, excuses) = rows(spec);
    let mut found = Vec::new();
    for (rule, line) in &rules {
        let excused = excuses.iter().any(|(excuse, _)| excuse == rule);
        let what = match (project.covered.contains(rule), excused) {
            (false, false) => "has no conformance case",
            (true, true) => "has an excuse, and a case",
            (true, false) | (false, true) => continue,
        };
        found.push(Complaint::new(SPEC, *line, format!("{rule} {what}")));
    }
    for (excuse, line) in excuses.iter().filter(|(excuse, _)| !rules.iter().any(|(rule, _)| rule == excuse)) {
        found.push(Complaint::new(SPEC, *line, format!("{excuse} is excused, and is no rule")));
    }
    for rule in project.covered.iter().filter(|covered| !rules.iter().any(|(rule, _)| rule == *covered)) {
        found.push(Complaint::new(SPEC, 1, format!("a case names {rule}, which is no rule")));
    }
    if rules.is_empty() {
        found.push(Complaint::new(SPEC, 1, "has no rules: are its rows still `| R1 | ..`?"));
    }
    found
}

/// Each rule that a comment, a statement or a document speaks of is in the spec.
pub(super) fn mentioned(project: &Project) -> Vec<Complaint> {
    let Some(spec) = project.file(SPEC) else { return Vec::new() };
    let rules: BTreeSet<String> = rows(spec).0.into_iter().map(|(rule, _)| rule).collect();
    let letters: BTreeSet<char> = rules.iter().filter_map(|rule| rule.chars().next()).collect();
    let mut found = Vec::new();
    for file in &project.files {
        for (number, line) in file.lines() {
            for word in words(prose(file, line)) {
                let rule = is_rule(word) && word.starts_with(|c| letters.contains(&c));
                if rule && !rules.contains(word) && !NOT_RULES.contains(&word) {
                    found.push(Complaint::new(&file.path, number, format!("{word} is no rule of {SPEC}")));
                }
            }
        }
    }
    found
}

/// The rules that the suite's cases name, as the suite itself tells them.
pub(super) fn cases() -> Result<BTreeSet<String>, String> {
    let mut tell = tools::cargo(["run", "--quiet", "-p", "oncekey-conformance", "--example", "rules"]);
    let told = tell.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo did not start: {e}"))?;
    if !told.status.success() {
        return Err(format!("the list of the suite's cases: {}", told.status));
    }
    let told = String::from_utf8_lossy(&told.stdout);
    Ok(told.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// A rule, and the line of its row.
type Row = (String, usize);

/// The rules of the spec, and its excuses.
fn rows(spec: &File) -> (Vec<Row>, Vec<Row>) {
    let (mut rules, mut excuses, mut inside) = (Vec::new(), Vec::new(), false);
    for (number, line) in spec.lines() {
        if line.starts_with("## ") {
            inside = line.starts_with(EXCUSES);
        }
        let first = line.strip_prefix('|').and_then(|rest| rest.split('|').next()).unwrap_or_default().trim();
        if is_rule(first) {
            let list = if inside { &mut excuses } else { &mut rules };
            list.push((first.to_owned(), number));
        }
    }
    (rules, excuses)
}

/// One capital letter and one or two digits.
fn is_rule(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_uppercase())
        && (2..=3).contains(&word.len())
        && chars.all(|c| c.is_ascii_digit())
}

/// The part of `line` that people read: a comment in code, all of a document.
fn prose<'a>(file: &File, line: &'a str) -> &'a str {
    let mark = match file.path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => "//",
        Some("sql") => "--",
        Some("md") => return line,
        _ => return "",
    };
    line.find(mark).map_or("", |at| &line[at..])
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::says;
    use super::*;

    const SPEC_TEXT: &str =
        "## Tables\n| id | x |\n| R1 | a |\n| S1 | b |\n\n## Seen only from inside\n| S1 | why |\n";

    fn said(spec: &str, covered: &[&str]) -> String {
        let covered = covered.iter().map(|rule| (*rule).to_owned()).collect();
        let project = Project { covered, ..Project::of(&[(SPEC, spec)]) };
        super::covered(&project).iter().map(|c| format!("{c}\n")).collect()
    }

    #[test]
    fn a_rule_without_case_or_excuse_is_named() {
        assert_eq!(said(SPEC_TEXT, &["R1"]), "");
        assert_eq!(said(SPEC_TEXT, &[]), "docs/spec.md:3: R1 has no conformance case\n");
        assert_eq!(said("# Other\n", &[]), "docs/spec.md:1: has no rules: are its rows still `| R1 | ..`?\n");
    }

    #[test]
    fn an_excuse_must_be_needed_and_of_a_rule() {
        assert_eq!(said(SPEC_TEXT, &["R1", "S1"]), "docs/spec.md:4: S1 has an excuse, and a case\n");
        let spec = SPEC_TEXT.replace("| S1 | why |", "| S9 | why |");
        assert_eq!(said(&spec, &["R1", "S1"]), "docs/spec.md:7: S9 is excused, and is no rule\n");
    }

    #[test]
    fn a_case_may_name_no_rule_that_does_not_exist() {
        assert_eq!(said(SPEC_TEXT, &["R1", "R7"]), "docs/spec.md:1: a case names R7, which is no rule\n");
    }

    #[test]
    fn a_rule_that_does_not_exist_is_named_where_it_is_spoken_of() {
        let code = ("core/src/a.rs", "let R2 = 1;\nfn f() {} // keeps R1, and R2 too\n// C0 and C1, X9\n");
        let said = says(mentioned, &[("docs/spec.md", SPEC_TEXT), code]);
        assert_eq!(said, "core/src/a.rs:2: R2 is no rule of docs/spec.md\n");
        let sql = ("backend-x/src/sql/a.sql", "-- R1: yes\nSELECT 1; -- S7\n");
        let said = says(mentioned, &[("docs/spec.md", SPEC_TEXT), sql]);
        assert_eq!(said, "backend-x/src/sql/a.sql:2: S7 is no rule of docs/spec.md\n");
    }
}
