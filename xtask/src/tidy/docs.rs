//! Rules about the documents.

use std::collections::BTreeSet;

use super::{Complaint, File, Project};

/// Each relative link of a document leads to a file or a folder of the project, and to a heading there.
pub(super) fn links(project: &Project) -> Vec<Complaint> {
    let mut found = Vec::new();
    for file in project.files.iter().filter(|f| f.is("md")) {
        for (number, target) in targets(file) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { file.path.clone() } else { resolved(&file.path, path) };
            let folder =
                path.is_empty() || project.files.iter().any(|f| f.path.starts_with(&format!("{path}/")));
            let there = project.file(&path);
            if there.is_none() && !folder {
                found.push(Complaint::new(&file.path, number, format!("`{target}` leads nowhere")));
            } else if !heading.is_empty() && !there.is_some_and(|f| headings(f).contains(heading)) {
                found.push(Complaint::new(&file.path, number, format!("`{target}`: no such heading")));
            }
        }
    }
    found
}

/// The records of decisions are numbered from 0001, without a gap, and each says its number.
pub(super) fn decisions(project: &Project) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut records: Vec<&File> =
        project.files.iter().filter(|f| f.path.starts_with("docs/decisions/") && f.is("md")).collect();
    records.sort_by_key(|file| &file.path);
    for (record, number) in records.iter().zip(1..) {
        let name = record.path.trim_start_matches("docs/decisions/");
        if !name.starts_with(&format!("{number:04}-")) {
            found.push(Complaint::new(
                &record.path,
                1,
                format!("is number {number}: call it {number:04}-.."),
            ));
        } else if !record.text.starts_with(&format!("# {number:04} ")) {
            found.push(Complaint::new(&record.path, 1, format!("begins with `# {number:04} ..`")));
        }
    }
    found
}

/// The lines of a document that are no code.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    file.lines().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence && !line.starts_with("    ")
    })
}

/// What a document links to, with the lines.
fn targets(file: &File) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(file) {
        // Between backticks nothing is a link.
        for part in line.split('`').step_by(2).flat_map(|part| part.split("](").skip(1)) {
            found.extend(part.split_once(')').map(|(target, _)| (number, target)));
        }
        // `[name]: target`, by which links elsewhere in the document find their way.
        if let Some(target) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            found.push((number, target.1.trim()));
        }
    }
    found
}

/// The names under which a document's headings can be linked to.
fn headings(file: &File) -> BTreeSet<String> {
    let lines = prose(file)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    lines.map(slug).collect()
}

/// The path of `target`, which `from` links to.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::says;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let spec = ("docs/spec.md", "# The `spec`: R1\n");
        let good = "[a](spec.md) [b](../README.md) [c](https://x.org/y) [`d`](spec.md#the-spec-r1) [e](#here) [f](.)\n# Here\n";
        assert_eq!(says(links, &[spec, ("README.md", ""), ("docs/a.md", good)]), "");
        let bad = "[a](spec.txt)\n`[b](nowhere)`\n```\n[c](nowhere)\n```\n[d](spec.md#gone)\n";
        let said = says(links, &[spec, ("docs/a.md", bad)]);
        assert_eq!(
            said,
            "docs/a.md:1: `spec.txt` leads nowhere\ndocs/a.md:6: `spec.md#gone`: no such heading\n"
        );
    }

    #[test]
    fn decisions_have_their_numbers() {
        let first = ("docs/decisions/0001-a.md", "# 0001 A\n");
        assert_eq!(says(decisions, &[first]), "");
        let said = says(decisions, &[first, ("docs/decisions/0003-b.md", "# 0003 B\n")]);
        assert!(said.contains("is number 2"), "{said}");
    }
}
