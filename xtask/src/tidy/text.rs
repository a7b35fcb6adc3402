//! Rules about the text of the code. Words that may not be written are put together from two halves here.

use super::{Complaint, File, Project};

/// Past this, ask what second idea moved in.
const LINES: usize = 450;

/// Files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[("core/src/state.rs", "the spec's tables, read side by side with it")];

/// Files that may wait for time to pass, each with its reason.
const SLEEPS: &[(&str, &str)] = &[
    ("backend-postgres/tests/hostile/kit.rs", "other sessions don't call back: the pause between two looks"),
    ("backend-postgres/src/pause.rs", "a server that starts again is not to be stormed"),
    ("backend-redis/src/pause.rs", "a server that starts again is not to be stormed"),
    ("conformance-tests/src/kit/stage.rs", "a store whose clock can't be moved leaves nothing but waiting"),
    ("core/src/runner/retry.rs", "a call that failed is made again after a pause"),
    ("testbed/src/wait.rs", "other processes don't call back: the pause between two looks at a condition"),
];

/// No file of code is longer than [`LINES`], but those in [`LONG`].
pub(super) fn length(project: &Project) -> Vec<Complaint> {
    let mut found = Vec::new();
    for file in project.files.iter().filter(|f| f.is("rs")) {
        let lines = file.text.lines().count();
        let excused = LONG.iter().any(|(path, _)| *path == file.path);
        if lines > LINES && !excused {
            found.push(Complaint::new(&file.path, lines, format!("{lines} lines, over {LINES}")));
        }
    }
    found.extend(stale(project, LONG, |file| file.text.lines().count() > LINES));
    found
}

/// No placeholder, and no test that isn't run.
pub(super) fn unfinished(project: &Project) -> Vec<Complaint> {
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ign", "ore"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    project.files.iter().filter(|f| f.is("rs") || f.is("sql")).flat_map(|file| having(file, &words)).collect()
}

/// Nobody waits for time to pass: a test waits on a condition, or moves the store's clock.
pub(super) fn sleeps(project: &Project) -> Vec<Complaint> {
    let words = [concat!("::sl", "eep("), concat!(" sl", "eep(")];
    let excused = |file: &File| SLEEPS.iter().any(|(path, _)| *path == file.path);
    let code = project.files.iter().filter(|f| f.is("rs"));
    let mut found: Vec<_> = code.filter(|f| !excused(f)).flat_map(|file| having(file, &words)).collect();
    found.extend(stale(project, SLEEPS, |file| !having(file, &words).is_empty()));
    found
}

/// Backends and programs include their statements from files; tests may spell theirs.
pub(super) fn sql(project: &Project) -> Vec<Complaint> {
    let verbs =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "CREATE TABLE", "CREATE INDEX", "ALTER TABLE"];
    let mut found = Vec::new();
    for file in &project.files {
        let library = file.path.contains("/src/") && !file.path.ends_with("/tests.rs") && file.is("rs");
        if !library || !(file.path.starts_with("backend-") || file.path.starts_with("cli/")) {
            continue;
        }
        for (number, line) in file.lines().take_while(|(_, line)| !line.contains("#[cfg(test)]")) {
            let comment = line.trim_start().starts_with("//");
            if !comment && verbs.iter().any(|verb| line.contains(&format!("\"{verb}"))) {
                found.push(Complaint::new(
                    &file.path,
                    number,
                    "SQL in a string: one statement a file, in sql/",
                ));
            }
        }
    }
    found
}

/// No path of somebody's machine, and no host of a registry.
pub(super) fn local(project: &Project) -> Vec<Complaint> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("index.cra", "tes.io"),
        concat!("static.cra", "tes.io"),
        concat!("registry.np", "mjs"),
        concat!("pypi.o", "rg"),
        concat!("deb.deb", "ian.org"),
    ];
    let files = project.files.iter().filter(|f| !f.path.ends_with("Cargo.lock"));
    files.flat_map(|file| having(file, &words)).collect()
}

/// A complaint for each line of `file` that has one of `words`.
fn having(file: &File, words: &[&str]) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        if let Some(word) = words.iter().find(|word| line.contains(**word)) {
            found.push(Complaint::new(&file.path, number, format!("`{}`", word.trim())));
        }
    }
    found
}

/// A complaint for each excuse that nothing needs any more: the next file of that name would have it.
fn stale(project: &Project, excuses: &[(&str, &str)], needed: impl Fn(&File) -> bool) -> Vec<Complaint> {
    let unused = excuses.iter().filter(|(path, _)| !project.file(path).is_some_and(&needed));
    // Only in the whole project: a test's few files need none of the excuses.
    let whole = project.file("Cargo.toml").is_some();
    unused
        .filter(|_| whole)
        .map(|(path, _)| Complaint::new(path, 1, "has an excuse that it doesn't need"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::says;
    use super::*;

    #[test]
    fn a_long_file_is_named_and_an_excuse_that_is_not_needed_too() {
        assert_eq!(says(length, &[("a.rs", &"\n".repeat(450))]), "");
        assert_eq!(says(length, &[("a.rs", &"\n".repeat(451))]), "a.rs:451: 451 lines, over 450\n");
        assert_eq!(says(length, &[("core/src/state.rs", &"\n".repeat(451))]), "");
        let short = [("core/src/state.rs", "\n"), ("Cargo.toml", "")];
        assert_eq!(says(length, &short), "core/src/state.rs:1: has an excuse that it doesn't need\n");
    }

    #[test]
    fn unfinished_ignored_and_sleeping_code_is_named_with_its_line() {
        let ignored = format!("#[test]\n#[ign{}]\n", "ore = \"slow\"");
        assert_eq!(says(unfinished, &[("a.rs", &ignored)]), concat!("a.rs:2: `#[ign", "ore`\n"));
        let asleep = format!("fn f() {{\n    std::thread::sl{}(d);\n", "eep");
        assert_eq!(says(sleeps, &[("a.rs", &asleep)]), concat!("a.rs:2: `::sl", "eep(`\n"));
    }

    #[test]
    fn sql_is_refused_in_a_backend_and_allowed_in_its_tests() {
        let text = "let q = \"SELECT 1\";\n";
        let complaint = "backend-x/src/lib.rs:1: SQL in a string: one statement a file, in sql/\n";
        assert_eq!(says(sql, &[("backend-x/src/lib.rs", text)]), complaint);
        assert_eq!(says(sql, &[("backend-x/tests/a.rs", text), ("backend-x/src/a/tests.rs", text)]), "");
        assert_eq!(says(sql, &[("backend-x/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{text}"))]), "");
    }

    #[test]
    fn a_local_path_is_refused_anywhere_but_in_a_lockfile() {
        let path = format!("see /ho{}\n", "me/me/notes");
        assert_eq!(says(local, &[("README.md", &path)]), concat!("README.md:1: `/ho", "me/`\n"));
        assert_eq!(says(local, &[("bench/Cargo.lock", &path)]), "");
    }
}
