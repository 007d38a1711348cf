//! The last line of an execution: how it ended, how many layers ended how, how long that took, and where to look.

use laminar_core::engine::Progress;
use laminar_core::event::{Event, Outcome, Record};

use crate::execution::abbreviate;
use crate::report::Subject;
use crate::report::lines::noun;
use crate::text::{count, duration};

/// The time that the last line is about: from the creation, or from the last time that somebody went on with it, to the end.
/// The log says when that was, so that whoever follows an execution says the same as whoever drives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    from_ms: i64,
    to_ms: i64,
    is_resumed: bool,
}

impl Span {
    /// Begins with the creation of an execution.
    pub(crate) fn new(created_ms: i64) -> Span {
        Span { from_ms: created_ms, to_ms: created_ms, is_resumed: false }
    }

    /// Takes note of what happened.
    pub(crate) fn note(&mut self, record: &Record) {
        if matches!(record.event, Event::ExecutionResumed { .. }) {
            (self.from_ms, self.is_resumed) = (record.at_ms, true);
        }
        self.to_ms = record.at_ms;
    }

    fn words(&self) -> String {
        let took = duration::between(self.from_ms, self.to_ms);
        if self.is_resumed { format!("{took} since it was resumed") } else { took }
    }
}

/// `finished: 12 layers in 3.4 s (1 caught); execution 019a8f3c1d2e, see …`; of a flow with a foreach layer
/// `finished: 5 layers, 52 tasks in 2.2 s (48 cached)`.
pub(crate) fn summary(subject: &Subject, outcome: Outcome, progress: &Progress, span: &Span) -> String {
    let style = subject.style;
    let is_fanned_out = subject.names.has_foreach();
    let total = progress.total as usize;
    let counts = [
        ("finished", progress.finished),
        ("cached", progress.cached),
        ("caught", progress.caught),
        ("skipped", progress.skipped),
        ("failed", progress.failed),
        ("cancelled", progress.cancelled),
    ];
    let of = |word: &str| counts.iter().find(|(name, _)| *name == word).map_or(0, |(_, number)| *number);
    let head = match outcome {
        Outcome::Finished if is_fanned_out => {
            format!("{}, {}", count(subject.names.len(), "layer"), count(total, "task"))
        }
        Outcome::Finished => count(total, "layer"),
        Outcome::Failed | Outcome::Cancelled => {
            format!("{} of {}", of(outcome.word()), count(total, noun(subject)))
        }
    };
    let others: Vec<String> = counts
        .iter()
        .filter(|(word, number)| *number > 0 && *word != outcome.word())
        .map(|(word, number)| format!("{number} {word}"))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    let id = abbreviate(subject.id);
    let look = subject.invocation.line(&[if outcome == Outcome::Finished { "artifacts" } else { "status" }, &id]);
    let word = style.state(outcome.word());
    format!("{word}: {head} in {}{others}; execution {id}, see `{look}`", span.words())
}
