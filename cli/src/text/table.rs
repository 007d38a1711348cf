//! A table for people: a heading, columns as wide as their widest cell, two spaces between them.

use crate::text::style::Style;

/// Rows of plain cells; colour comes last, since it has no width.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    state: Option<usize>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(heading: &[&'static str]) -> Table {
        let state = heading.iter().position(|name| *name == "STATE");
        Table { heading: heading.to_vec(), rows: Vec::new(), state }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines. The column `STATE` is coloured.
    pub(crate) fn draw(&self, style: Style) -> String {
        let widths = self.widths();
        let mut drawn = String::new();
        let heading: Vec<String> = self.heading.iter().map(ToString::to_string).collect();
        drawn.push_str(&style.dim(row(&heading, &widths, |_, cell| cell.to_owned())));
        drawn.push('\n');
        for cells in &self.rows {
            let paint = |column: usize, cell: &str| {
                if self.state == Some(column) { style.state(cell) } else { cell.to_owned() }
            };
            drawn.push_str(&row(cells, &widths, paint));
            drawn.push('\n');
        }
        drawn
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heading.iter().map(|name| name.len()).collect();
        for cells in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn row(cells: &[String], widths: &[usize], paint: impl Fn(usize, &str) -> String) -> String {
    // What follows the last cell that says something would only be spaces.
    let last = cells.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate().take(last + 1) {
        line.push_str(&paint(column, cell));
        if column < last {
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["LAYER", "STATE", "CAUSE"]);
        table.row(["Train".to_owned(), "failed".to_owned(), "exit code 3".to_owned()]);
        table.row(["Überlang".to_owned(), "finished".to_owned(), String::new()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_ends() {
        let drawn = table().draw(Style::Plain);
        assert_eq!(drawn, "LAYER     STATE     CAUSE\nTrain     failed    exit code 3\nÜberlang  finished\n");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table().draw(Style::Coloured);
        assert!(coloured.contains("\x1b[1;31mfailed\x1b[0m    exit code 3"), "{coloured}");
    }
}
