//! A document with the results: held against what is seen, and written anew when that is wanted.
//!
//! Several test programs may have columns in one document; each looks after its own. An executor that is missing on a
//! machine, and a case that the machine cannot play, say nothing about what is written there.

use std::path::Path;
use std::sync::Arc;

use super::case::Case;
use super::factory::Factory;
use super::table::{Cell, Column, Row, Table};

/// Set where the document shall be written anew.
const BLESS: &str = "LAMINAR_TEST_BLESS";

const HEAD: &str = "\
# What executors keep

Each line is a case of the conformance kit and the rules of the contract it stands for (`core/src/executor.rs`); each column
an executor. *yes*: the rule is kept. *gap*: the executor is declared not to be able to, for the reason that the number leads
to. *not here*: the machine where this was written has not what it takes, or the executor says that it does not enforce such a
limit there. *not run*: it takes long, and runs when it is asked for. `fake` plays parts in tests of the engine; `bare-` is an
engine in whose containers laminar itself does not run; in those of a `warm-` one tasks follow each other (looked
at with `LAMINAR_TEST_THOROUGH=1` only); `local+docker` is a flow on both.

The tests write this with `LAMINAR_TEST_BLESS=1`, and fail when it is not so. How to have a column:
[backends.md](backends.md).

";

/// What of the document is not as it was seen; nothing once it was written anew.
pub(super) fn hold(path: &Path, cases: &[Case], factories: &[Arc<dyn Factory>], rows: &[Row]) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (written, known) = Table::read(&text);
    let seen = seen(cases, factories, rows);
    if std::env::var_os(BLESS).is_some() {
        let mut table = written;
        for (name, column) in seen.columns {
            table.put(&name, column);
        }
        let result = std::fs::write(path, format!("{HEAD}{}", table.text(cases)));
        return result.err().map(|error| format!("cannot write {}: {error}", path.display())).into_iter().collect();
    }
    let mut wrong = differences(&written, &seen);
    if !seen.columns.is_empty() && known != cases.iter().map(|case| case.name).collect::<Vec<_>>() {
        wrong.push("its cases are not those of the kit".to_owned());
    }
    wrong
}

/// The columns of executors that are here, and of which every case was played that is not run on request only.
fn seen(cases: &[Case], factories: &[Arc<dyn Factory>], rows: &[Row]) -> Table {
    let here: Vec<&str> = factories.iter().filter(|it| it.unavailable().is_none()).map(|it| it.name()).collect();
    let mut table = Table::of(&here, rows);
    let is_asked = |case: &Case| case.on_request;
    let is_whole = |column: &Column| cases.iter().all(|case| is_asked(case) || column.contains_key(case.name));
    table.columns.retain(|(_, column)| is_whole(column));
    for (_, column) in &mut table.columns {
        column.retain(|name, _| !cases.iter().any(|case| case.name == name && is_asked(case)));
    }
    table
}

fn differences(written: &Table, seen: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, column) in &seen.columns {
        let Some((_, told)) = written.columns.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("there is no column for {name}"));
            continue;
        };
        for (case, cell) in column {
            let told = told.get(case).unwrap_or(&Cell::NotRun);
            // What failed is told as such; what depends on the machine may be so here and otherwise there.
            let is_free = |cell: &Cell| matches!(cell, Cell::NotHere(_) | Cell::Failed(_));
            if told != cell && !is_free(cell) && !(matches!(told, Cell::NotHere(_)) && *cell == Cell::Kept) {
                wrong.push(format!("{name}::{case} is {cell:?}, and not {told:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    fn table(cells: &[(&str, &str, Cell)]) -> Table {
        let mut table = Table::default();
        for (executor, case, cell) in cells {
            let known = table.columns.iter().find(|(name, _)| name == executor).map(|(_, column)| column.clone());
            let mut column = known.unwrap_or_default();
            column.insert((*case).to_owned(), cell.clone());
            table.put(executor, column);
        }
        table
    }

    #[test]
    fn what_was_written_is_read_back() {
        let cases = suite();
        let (gap, not_here) = (Cell::Gap("lacks a: b. C (d)".to_owned()), Cell::NotHere("no disk: e".to_owned()));
        let written = table(&[
            ("x", cases[0].name, Cell::Kept),
            ("x", cases[1].name, gap.clone()),
            ("y-z", cases[0].name, gap),
            ("y-z", cases[1].name, not_here),
        ]);
        let (read, names) = Table::read(&format!("{HEAD}{}", written.text(&cases)));
        assert_eq!(read, written);
        assert_eq!(names, cases.iter().map(|case| case.name).collect::<Vec<_>>());
    }

    #[test]
    fn what_depends_on_the_machine_is_no_difference_and_all_else_is() {
        let (gap, not_here) = (|| Cell::Gap("lacks a: b".to_owned()), || Cell::NotHere("c".to_owned()));
        let differs =
            |told: Cell, cell: Cell| !differences(&table(&[("x", "a", told)]), &table(&[("x", "a", cell)])).is_empty();
        assert!(
            !differs(Cell::Kept, Cell::Kept) && !differs(Cell::Kept, not_here()) && !differs(not_here(), Cell::Kept)
        );
        assert!(differs(Cell::Kept, gap()) && differs(gap(), Cell::Kept) && differs(not_here(), gap()));
        assert_eq!(differences(&Table::default(), &table(&[("x", "a", Cell::Kept)])), ["there is no column for x"]);
        assert_eq!(differences(&table(&[("x", "a", Cell::Kept)]), &Table::default()), [""; 0]);
    }
}
