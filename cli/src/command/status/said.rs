//! What failed splits have said last: the end of their logs, which mostly has the reason.

use laminar_core::id::TaskId;

use super::lines::{Line, failed};
use crate::execution::{Execution, abbreviate};
use crate::invocation::Invocation;
use crate::report::failure::end_of_log;
use crate::text::style::Style;

/// Of how many failed splits it is shown.
const MOST: usize = 3;

/// The ends of the logs of the first of them.
pub(super) fn ends(execution: &Execution, invocation: &Invocation, lines: &[Line], style: Style) -> String {
    let mut failed = lines.iter().filter_map(|line| Some((line, failed(line)?))).take(MOST).peekable();
    let mut text = String::new();
    if failed.peek().is_none() {
        return text;
    }
    let mask = execution.mask();
    for (line, row) in failed {
        let name = line.name(&execution.names);
        let layer = execution.names.layer(line.split.layer).into();
        let task = TaskId { execution: execution.id, layer, index: line.split.index, attempt: row.attempt };
        let all = invocation.line(&["logs", &abbreviate(execution.id), &name]);
        // A log that cannot be read is told by `logs`.
        let end = end_of_log(&execution.folder.log(&task), &mask, style, &all).unwrap_or_default();
        if !end.is_empty() {
            text.push_str(&format!("\n{name} said last:{end}\n"));
        }
    }
    text
}
