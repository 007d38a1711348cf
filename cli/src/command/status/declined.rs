//! Why failed layers were not tried again although they had attempts left: the store has only that they failed.
//!
//! It follows from how they ended and from what the flow, which the execution keeps, says of retries.

use laminar_core::flow::{Failure, Flow};
use laminar_core::scheduler::State;

use super::lines::Line;
use super::newest::Newest;

/// Writes down why, for each layer that failed with attempts left and an end that its `retry.only` does not name.
pub(super) fn explain(newest: &Newest<'_>, lines: &mut [Line]) {
    if !newest.mentions("only") || !lines.iter().any(|line| has_failed(line).is_some()) {
        return;
    }
    if let Some(newest) = newest.get() {
        lines.iter_mut().for_each(|line| line.declined = reason(&newest.flow, line));
    }
}

fn has_failed(line: &Line) -> Option<(u32, Failure<'_>)> {
    let row = line.row.as_ref().filter(|row| row.state == State::Failed)?;
    let failure = match (&row.reason, &row.exit) {
        (Some(_), _) => Failure::Rejected,
        (None, exit) => Failure::Exit(&exit.as_ref()?.cause),
    };
    Some((row.attempt, failure))
}

fn reason(flow: &Flow, line: &Line) -> Option<String> {
    let retry = &flow.layers.get(line.split.layer.at())?.retry;
    let (attempt, failure) = has_failed(line)?;
    (attempt < retry.attempts && !retry.covers(failure))
        .then(|| "not tried again: `retry.only` does not name that".to_owned())
}
