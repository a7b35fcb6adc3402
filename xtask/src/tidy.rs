//! `cargo xtask tidy`: the house rules as tests.

mod docs;
mod manifests;
mod spec;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tools;

/// A house rule: it looks at the project and says what it found.
type Rule = fn(&Project) -> Vec<Complaint>;

/// All of them, by name.
const RULES: &[(&str, Rule)] = &[
    ("every rule of the spec has a case, or an excuse", spec::covered),
    ("every rule that is spoken of exists", spec::mentioned),
    ("arrows point down", manifests::arrows),
    ("each feature has its reason beside it", manifests::reasons),
    ("the lockfiles name the public registry alone", manifests::registry),
    ("a file is a room", text::length),
    ("nothing is left unfinished or ignored", text::unfinished),
    ("nobody sleeps without an excuse", text::sleeps),
    ("SQL lives in sql files", text::sql),
    ("nothing of somebody's machine", text::local),
    ("every link leads somewhere", docs::links),
    ("decisions are numbered", docs::decisions),
];

/// What breaks a rule, and where.
pub(crate) struct Complaint {
    path: String,
    line: usize,
    what: String,
}

impl Complaint {
    /// About `line` of `path`, counted from 1.
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// One file of the project, by its path from the top with forward slashes.
pub(crate) struct File {
    path: String,
    text: String,
}

impl File {
    /// Its lines, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).map(|(line, number)| (number, line))
    }

    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, last)| last == extension)
    }
}

/// What the rules look at.
#[derive(Default)]
pub(crate) struct Project {
    /// Every text file that git knows or would take.
    files: Vec<File>,
    /// `cargo metadata` of the workspace.
    metadata: serde_json::Value,
    /// The rules that a conformance case names.
    covered: BTreeSet<String>,
}

impl Project {
    fn load() -> Result<Self, String> {
        let root = tools::root();
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .map_err(|e| format!("git did not start: {e}"))?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
        }
        let mut files = Vec::new();
        for path in listed.stdout.split(|b| *b == 0).filter(|p| !p.is_empty()) {
            let path = String::from_utf8_lossy(path).into_owned();
            // What isn't text, or was deleted and not yet committed, has nothing to say.
            if let Ok(text) = fs::read_to_string(root.join(Path::new(&path))) {
                files.push(File { path, text });
            }
        }
        Ok(Self { files, metadata: tools::metadata()?, covered: spec::cases()? })
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Checks all rules; an error says how many complaints there are.
pub(crate) fn run() -> Result<(), String> {
    let project = Project::load()?;
    let mut complaints = 0;
    for (name, rule) in RULES {
        let found = rule(&project);
        println!("{} {name}", if found.is_empty() { "ok  " } else { "FAIL" });
        for complaint in &found {
            println!("     {complaint}");
        }
        complaints += found.len();
    }
    match complaints {
        0 => Ok(()),
        1 => Err("1 complaint".to_owned()),
        n => Err(format!("{n} complaints")),
    }
}

#[cfg(test)]
impl Project {
    /// A project of these files.
    fn of(files: &[(&str, &str)]) -> Self {
        let files =
            files.iter().map(|(p, t)| File { path: (*p).to_owned(), text: (*t).to_owned() }).collect();
        Self { files, ..Self::default() }
    }
}

/// What `rule` says of a project of these files, each complaint on a line.
#[cfg(test)]
fn says(rule: Rule, files: &[(&str, &str)]) -> String {
    rule(&Project::of(files)).iter().map(|c| format!("{c}\n")).collect()
}
