//! The results as a table: a line for each case, a column for each executor; as Markdown, to be read and to be read back.

use std::collections::BTreeMap;
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

/// What is said where a line and a column meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// It is kept.
    Kept,
    /// It is declared that it is not; why.
    Gap(String),
    /// The machine could not play it; why. On another one it may be kept.
    NotHere(String),
    /// It is not kept; what was seen.
    Failed(String),
    /// Nobody has played it.
    NotRun,
}

/// What begins the reason of a gap that the executor's factory has declared.
const LACKS: &str = "lacks ";

impl Cell {
    fn of(verdict: &Verdict) -> Cell {
        let line = |text: &str| text.replace('\n', " ");
        match verdict {
            Verdict::Passed => Cell::Kept,
            Verdict::Declared(why) if why.starts_with(LACKS) => Cell::Gap(line(why)),
            Verdict::Declared(why) => Cell::NotHere(line(why)),
            Verdict::Failed(why) => Cell::Failed(line(why)),
        }
    }
}

/// The cells of one executor, by case.
pub(super) type Column = BTreeMap<String, Cell>;

/// A table that can grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// In this order.
    pub(super) columns: Vec<(String, Column)>,
}

impl Table {
    /// What these executors made of what was played.
    pub(super) fn of(executors: &[&str], rows: &[Row]) -> Table {
        let column = |executor: &str| {
            let rows = rows.iter().filter(|row| row.executor == executor);
            (executor.to_owned(), rows.map(|row| (row.case.to_owned(), Cell::of(&row.verdict))).collect())
        };
        Table { columns: executors.iter().map(|executor| column(executor)).collect() }
    }

    /// Has a column be this one, in the place that one of its name has.
    pub(super) fn put(&mut self, name: &str, column: Column) {
        match self.columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = column,
            None => self.columns.push((name.to_owned(), column)),
        }
    }

    /// As Markdown, with the reasons below it. Equal ones are said once.
    pub(super) fn text(&self, cases: &[Case]) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let mut text = format!("| case | rules | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        let mut notes: Vec<&str> = Vec::new();
        for case in cases {
            let rules: Vec<_> = case.rules.iter().map(u8::to_string).collect();
            let _ = write!(text, "| {} | {} |", case.name.replace('_', " "), rules.join(", "));
            for (_, column) in &self.columns {
                let (word, why) = match column.get(case.name).unwrap_or(&Cell::NotRun) {
                    Cell::Kept => (KEPT, None),
                    Cell::NotRun => (NOT_RUN, None),
                    Cell::Gap(why) => (GAP, Some(why)),
                    Cell::NotHere(why) => (NOT_HERE, Some(why)),
                    Cell::Failed(why) => (FAILED, Some(why)),
                };
                let _ = match why.map(|why| number(&mut notes, why)) {
                    None => write!(text, " {word} |"),
                    Some(number) => write!(text, " {word} ({number}) |"),
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

    /// Reads what [`Table::text`] wrote; also the names of the cases that it has.
    pub(super) fn read(text: &str) -> (Table, Vec<String>) {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let columns =
            lines.next().unwrap_or_default().split(" | ").skip(2).map(|name| (name.to_owned(), Column::new()));
        let (mut table, mut cases) = (Table { columns: columns.collect() }, Vec::new());
        let notes: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(". ")).collect();
        for line in lines {
            let mut cells = line.split('|').map(str::trim);
            let case = cells.next().unwrap_or_default().replace(' ', "_");
            for ((_, column), cell) in table.columns.iter_mut().zip(cells.skip(1)) {
                let (word, note) = cell.trim_end_matches(')').split_once(" (").unwrap_or((cell, ""));
                let why = notes.get(note).copied().unwrap_or_default().to_owned();
                let cell = match word {
                    KEPT => Cell::Kept,
                    GAP => Cell::Gap(why),
                    NOT_HERE => Cell::NotHere(why),
                    FAILED => Cell::Failed(why),
                    _ => continue,
                };
                column.insert(case.clone(), cell);
            }
            cases.push(case);
        }
        (table, cases)
    }
}

const KEPT: &str = "yes";
const NOT_RUN: &str = "not run";
const GAP: &str = "gap";
const NOT_HERE: &str = "not here";
const FAILED: &str = "**no**";

/// The number of a note, the same for equal ones.
fn number<'a>(notes: &mut Vec<&'a str>, why: &'a str) -> usize {
    notes.iter().position(|known| *known == why).unwrap_or_else(|| {
        notes.push(why);
        notes.len() - 1
    }) + 1
}

/// The results as a Markdown table, with what was declared and what failed below it.
#[must_use]
pub fn table(cases: &[Case], executors: &[&str], rows: &[Row]) -> String {
    Table::of(executors, rows).text(cases)
}
