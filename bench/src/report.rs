//! Tables in Markdown, and their place in docs/benchmarks.md: a section an engine, replaced alone.

use std::fs;
use std::path::Path;

use crate::load::Failure;
use crate::plot;
use crate::race::{Line, Outcome, Role};
use crate::stats::{Spread, rate, ratio};

/// What one engine's run has to say.
#[derive(Debug)]
pub(crate) struct Section {
    /// Names the section's marks and the plots' files.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What was compared, how; where, when.
    pub(crate) notes: Vec<String>,
    pub(crate) outcomes: Vec<Outcome>,
    /// A plot's file name and its title, over the outcomes that it shows.
    pub(crate) plots: Vec<(&'static str, &'static str, Vec<usize>)>,
    /// What to say below the table.
    pub(crate) remarks: Vec<String>,
}

impl Section {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for note in &self.notes {
            text.push_str(&format!("- {note}\n"));
        }
        if !self.outcomes.is_empty() {
            text.push_str(
                "\n| work | callers | who | ops/s, median | least .. most | ratio to it | goal | reached |\n",
            );
            text.push_str("| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |\n");
        }
        for outcome in &self.outcomes {
            for (i, line) in outcome.lines.iter().enumerate() {
                let (work, callers) = match i {
                    0 => (outcome.work.name().to_owned(), outcome.callers.to_string()),
                    _ => (String::new(), String::new()),
                };
                text.push_str(&format!("| {work} | {callers} {}\n", row(line)));
            }
        }
        for remark in &self.remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        for (file, title, _) in &self.plots {
            text.push_str(&format!("\n![{title}]({file})\n"));
        }
        text
    }

    /// The goals and whether they are reached, one a line.
    pub(crate) fn goals(&self) -> Vec<String> {
        let judged = |line: &Line, outcome: &Outcome| {
            let (goal, ratio_of, reached) = (line.goal?, line.ratio?, line.reached()?);
            let verdict = if reached { "reached" } else { "NOT reached" };
            let (work, callers, label) = (outcome.work.name(), outcome.callers, &line.label);
            let (got, least) = (ratio(ratio_of.median), ratio(goal.at_least));
            let callers = if callers == 1 { "1 caller".to_owned() } else { format!("{callers} callers") };
            Some(format!("{} {verdict}: {work}, {callers}, {got} of {label} (goal {least})", goal.id))
        };
        self.outcomes.iter().flat_map(|o| o.lines.iter().filter_map(move |line| judged(line, o))).collect()
    }

    /// Writes the section and its plots into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        fs::create_dir_all(dir)?;
        for (file, title, shown) in &self.plots {
            let shown: Vec<&Outcome> = shown.iter().filter_map(|i| self.outcomes.get(*i)).collect();
            fs::write(dir.join(file), plot::bars(title, &shown))?;
        }
        let path = dir.join("benchmarks.md");
        let before = if path.exists() { fs::read_to_string(&path)? } else { HEAD.to_owned() };
        fs::write(&path, placed(&before, self.id, &self.markdown()))?;
        Ok(())
    }
}

/// What benchmarks.md begins with, when it isn't there.
const HEAD: &str = include_str!("head.md");

/// `document` with the marked section `id` replaced, or added at its end.
fn placed(document: &str, id: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- begin {id} -->\n"), format!("<!-- end {id} -->\n"));
    let marked = format!("{begin}{section}{end}");
    match document.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1))) {
        Some((before, after)) => format!("{before}{marked}{after}"),
        None => format!("{}\n\n{marked}", document.trim_end()),
    }
}

fn row(line: &Line) -> String {
    let spread = |s: Spread, write: fn(f64) -> String| format!("{} .. {}", write(s.least), write(s.most));
    let who = if line.role == Role::Ours { format!("**{}**", line.label) } else { line.label.clone() };
    let share = line
        .ratio
        .map_or(String::new(), |r| format!("{} ({} .. {})", ratio(r.median), ratio(r.least), ratio(r.most)));
    let goal = line.goal.map_or(String::new(), |goal| format!("{}: >= {}", goal.id, ratio(goal.at_least)));
    let reached = match line.reached() {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let (median, rates) = (rate(line.rate.median), spread(line.rate, rate));
    format!("| {who} | {median} | {rates} | {share} | {goal} | {reached} |")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Work;
    use crate::race::Goal;

    #[test]
    fn a_section_replaces_itself_and_nothing_else() {
        let first = placed("# Head\n", "sqlite", "one\n");
        let second = placed(&first, "memory", "two\n");
        let third = placed(&second, "sqlite", "three\n");
        assert_eq!(
            third,
            "# Head\n\n<!-- begin sqlite -->\nthree\n<!-- end sqlite -->\n\n<!-- begin memory -->\ntwo\n<!-- end memory -->\n"
        );
    }

    #[test]
    fn a_goal_that_was_missed_is_said() {
        let spread = |median| Spread { median, least: median, most: median };
        let goal = |at_least| Some(Goal { id: "P4", at_least });
        let line = |label: &str, role, rate, ratio: Option<f64>, goal| Line {
            label: label.to_owned(),
            role,
            rate: spread(rate),
            ratio: ratio.map(spread),
            goal,
        };
        let lines = vec![
            line("oncekey", Role::Ours, 30_000.0, None, None),
            line("pool", Role::Peer, 1_000.0, Some(30.0), goal(25.0)),
            line("bare loop", Role::Limit, 60_000.0, Some(0.5), goal(0.8)),
        ];
        let outcomes = vec![Outcome { work: Work::Cycle, callers: 64, lines }];
        let section = Section {
            id: "sqlite",
            title: "SQLite",
            notes: vec![],
            outcomes,
            plots: vec![],
            remarks: vec![],
        };
        let expected = [
            "P4 reached: cycle, 64 callers, 30.0 of pool (goal 25.0)",
            "P4 NOT reached: cycle, 64 callers, 0.50 of bare loop (goal 0.80)",
        ];
        assert_eq!(section.goals(), expected);
        let markdown = section.markdown();
        assert!(markdown.contains("| P4: >= 0.80 | **no** |"), "{markdown}");
        assert!(
            markdown.contains("| cycle | 64 | **oncekey** | 30 000 | 30 000 .. 30 000 |  |  |  |"),
            "{markdown}"
        );
    }
}
