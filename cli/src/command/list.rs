//! `laminar list`: executions, the newest first.

use laminar_core::store::{self, Status, Summary};
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

/// How many layers there are, and how many of them are done if not all.
fn layers(summary: &Summary) -> String {
    match &summary.counts {
        Some(counts) => {
            let done = counts.finished + counts.cached + counts.skipped + counts.caught;
            if done == summary.layers { done.to_string() } else { format!("{done} of {}", summary.layers) }
        }
        None => summary.layers.to_string(),
    }
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
    })
}
