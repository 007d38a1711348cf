//! `laminar list`: executions, the newest first.

use laminar_core::store::{self, Counts, Status, Summary};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::execution::{abbreviate_all, status_word};
use crate::exit::Code;
use crate::output::Shape;
use crate::text::table::Table;
use crate::text::{count, visible, when};

/// Lists all executions.
pub(crate) fn run(context: &mut Context<'_>) -> Result<Code, Error> {
    let mut all = store::list(&context.root).map_err(|error| Error::because("cannot list the executions", &error))?;
    all.sort_by_key(|summary| std::cmp::Reverse(summary.id));
    if context.output.shape() == Shape::Json {
        for summary in &all {
            context.output.object(&object(summary))?;
        }
        return Ok(Code::Finished);
    }
    if all.is_empty() {
        let root = context.root.path().display().to_string();
        context.output.note(&format!("there are no executions in `{root}`"));
        return Ok(Code::Finished);
    }
    let ids: Vec<_> = all.iter().map(|summary| summary.id).collect();
    let mut table = Table::new(&["ID", "FLOW", "STATE", "LAYERS", "CREATED", "DURATION"]);
    let now = when::now_ms();
    for (summary, id) in all.iter().zip(abbreviate_all(&ids)) {
        let state = status_word(&summary.status);
        let took = match (summary.ended_ms, state) {
            // When its scheduler died is not known.
            (None, "interrupted" | "damaged" | "unreadable") => String::new(),
            (ended_ms, _) => when::took(summary.created_ms, ended_ms),
        };
        let created = when::ago(summary.created_ms, now);
        table.row([id, visible::line(&summary.flow), state.to_owned(), layers(summary), created, took]);
    }
    let drawn = table.draw(context.output.data_style());
    context.output.print(&drawn)?;
    let mut unread = all.iter().filter_map(|summary| match &summary.status {
        Status::Unreadable { reason } => Some(reason),
        _ => None,
    });
    if let Some(reason) = unread.next() {
        let what = count(1 + unread.count(), "execution");
        context.output.note(&format!("{what} cannot be read by this user: {}", visible::line(reason)));
    }
    Ok(Code::Finished)
}

/// How many layers there are, and how many of them are done if not all: `4`, `3 of 4`; of one with many splits `5, 50 of 52
/// tasks`.
fn layers(summary: &Summary) -> String {
    let Some(counts) = &summary.counts else { return summary.layers.to_string() };
    let Counts { running, resting, finished, cached, skipped, caught, failed, cancelled } = *counts;
    let done = finished + cached + skipped + caught;
    let all = done + running + resting + failed + cancelled;
    let of = if done == all { all.to_string() } else { format!("{done} of {all}") };
    if all == summary.layers { of } else { format!("{}, {of} task{}", summary.layers, if all == 1 { "" } else { "s" }) }
}

fn object(summary: &Summary) -> Value {
    json!({
        "id": summary.id,
        "flow": summary.flow,
        "backend": summary.backend,
        "backends": summary.backends,
        "state": status_word(&summary.status),
        "reason": match &summary.status {
            Status::Damaged { reason } | Status::Unreadable { reason } => Some(reason),
            _ => None,
        },
        "created": when::stamp(summary.created_ms),
        "ended": summary.ended_ms.map(when::stamp),
        "layers": summary.layers,
        "counts": summary.counts.as_ref().map(|counts| json!({
            "finished": counts.finished,
            "cached": counts.cached,
            "skipped": counts.skipped,
            "caught": counts.caught,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        })),
    })
}

#[cfg(test)]
mod tests {
    use laminar_core::event::Outcome;
    use laminar_core::id::ExecutionId;

    use super::*;

    #[test]
    fn layers_are_counted_and_tasks_where_they_are_others() {
        let of = |number, counts| Summary {
            id: ExecutionId::now(),
            flow: String::new(),
            backend: String::new(),
            backends: Vec::new(),
            created_ms: 0,
            ended_ms: None,
            status: Status::Ended(Outcome::Failed),
            layers: number,
            counts,
        };
        let counts = |finished, failed| Some(Counts { finished, failed, ..Counts::default() });
        let said = |number, counts| layers(&of(number, counts));
        assert_eq!([said(4, None), said(4, counts(4, 0)), said(4, counts(3, 1))], ["4", "4", "3 of 4"]);
        assert_eq!([said(5, counts(52, 0)), said(5, counts(50, 2))], ["5, 52 tasks", "5, 50 of 52 tasks"]);
    }
}
