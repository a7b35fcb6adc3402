//! A story that went wrong, told: [`Told`].

use std::fmt::Write;

use oncekey_core::state::{Answer, Operation};

use crate::history::names::Names;

/// What happened in a story, for the timeline.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) names: Names,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug)]
pub(super) enum Line {
    Call {
        at: i64,
        slot: usize,
        operation: Box<Operation>,
        seen: Result<Box<Answer>, String>,
        expected: Option<String>,
    },
    Else {
        at: i64,
        what: String,
    },
}

impl Told {
    /// What was done, when, and what came of it.
    pub(super) fn timeline(&self) -> String {
        let mut text = String::from("  when       slot  call -> answer\n");
        for line in &self.lines {
            match line {
                Line::Else { at, what } => {
                    let _ = writeln!(text, "  {:<10}       ({what})", when(*at));
                }
                Line::Call { at, slot, operation, seen, expected } => {
                    let seen = match seen {
                        Ok(answer) => self.names.answer(answer),
                        Err(error) => error.clone(),
                    };
                    let what = self.names.operation(operation);
                    let _ = writeln!(text, "  {:<10} {:<5} {what} -> {seen}", when(*at), slot + 1);
                    if let Some(expected) = expected {
                        let _ = writeln!(text, "{:18}expected: {expected}", "");
                        let _ = writeln!(text, "{:18}seen:     {seen}", "");
                    }
                }
            }
        }
        text
    }
}

fn when(at: i64) -> String {
    format!("{:+.3} s", at as f64 / 1e6)
}
