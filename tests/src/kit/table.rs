//! The results as a table: a line for each case, a column for each executor.

use std::fmt::Write as _;

use super::case::{Case, Verdict};

/// What one executor made of one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// The executor.
    pub executor: String,
    /// The case.
    pub case: &'static str,
    /// What came of it.
    pub verdict: Verdict,
}

/// The results as a Markdown table, with what was declared and what failed below it.
#[must_use]
pub fn table(cases: &[Case], executors: &[&str], rows: &[Row]) -> String {
    let mut text =
        format!("| case | rules | {} |\n|---|---|{}\n", executors.join(" | "), "---|".repeat(executors.len()));
    let mut notes: Vec<String> = Vec::new();
    for case in cases {
        let rules: Vec<_> = case.rules.iter().map(u8::to_string).collect();
        let _ = write!(text, "| {} | {} |", case.name.replace('_', " "), rules.join(", "));
        for executor in executors {
            let row = rows.iter().find(|row| row.case == case.name && row.executor == *executor);
            let _ = match row.map(|row| &row.verdict) {
                None => write!(text, " not run |"),
                Some(Verdict::Passed) => write!(text, " yes |"),
                Some(Verdict::Declared(why)) => write!(text, " declared {} |", number(&mut notes, executor, why)),
                Some(Verdict::Failed(why)) => write!(text, " **no** {} |", number(&mut notes, executor, why)),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    for (at, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", at + 1);
    }
    text
}

/// The number of a note, the same for equal ones.
fn number(notes: &mut Vec<String>, executor: &str, why: &str) -> String {
    let note = format!("{executor}: {}", why.replace('\n', " "));
    let at = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    });
    format!("({})", at + 1)
}
