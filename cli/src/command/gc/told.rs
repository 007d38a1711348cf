//! What a collection says: each thing that goes, what is worth knowing, and a sum at the end.

use laminar_core::gc::{Gone, Note, Problem, Reason, Tally, Why, Witness};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::execution::abbreviate;
use crate::output::{Shape, Verbosity};
use crate::text::{count, size, visible};

/// The most problems that are named at the end.
const MOST_PROBLEMS: usize = 50;

/// Tells what goes.
pub(super) struct Told<'c, 'b> {
    context: &'c mut Context<'b>,
    pretend: bool,
    problems: Vec<String>,
    hint: Option<String>,
    /// Standard output has failed.
    failed: Option<Error>,
}

impl<'c, 'b> Told<'c, 'b> {
    pub(super) fn new(context: &'c mut Context<'b>, pretend: bool) -> Told<'c, 'b> {
        Told { context, pretend, problems: Vec::new(), hint: None, failed: None }
    }

    /// The sum. An error when something could not be done.
    pub(super) fn conclude(mut self, tally: &Tally) -> Result<(), Error> {
        match self.context.output.shape() {
            Shape::Json => self.object(&summary(tally, self.pretend)),
            Shape::Text => self.context.output.say(&sentence(tally, self.pretend)),
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        let what = if self.pretend { "some things could not be looked at" } else { "some things could not be removed" };
        let more = self.problems.len().saturating_sub(MOST_PROBLEMS);
        let mut error = self.problems.drain(..).take(MOST_PROBLEMS).fold(Error::broken(what), Error::at);
        if more > 0 {
            error = error.at(format!("and {more} more"));
        }
        Err(match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    fn object(&mut self, object: &Value) {
        if self.failed.is_none() {
            self.failed = self.context.output.object(object).err();
        }
    }

    fn line(&mut self, text: &str) {
        let verb = if self.pretend { "would remove" } else { "removed" };
        if self.failed.is_none() {
            self.failed = self.context.output.print(&format!("{verb} {text}\n")).err();
        }
    }
}

impl Witness for Told<'_, '_> {
    fn gone(&mut self, gone: &Gone<'_>) {
        let verbose = self.context.output.verbosity() == Verbosity::Verbose;
        let single = matches!(gone, Gone::Object { .. });
        if self.context.output.shape() == Shape::Json {
            if verbose || !single {
                self.object(&object(gone));
            }
        } else if verbose || self.pretend && !single {
            self.line(&text(gone));
        }
    }

    fn note(&mut self, note: &Note) {
        let text = match note {
            // An engine that nobody uses is nothing to talk about.
            Note::Unavailable { .. } | Note::Young { .. } if self.context.output.verbosity() < Verbosity::Verbose => {
                return;
            }
            Note::Unavailable { backend, reason } => format!("{backend} is not available: {reason}"),
            Note::Young { backend, count } => {
                format!("{backend} has {count} more that may go when they have been of no use for the grace")
            }
            Note::Elsewhere { backend, root, count } => {
                let there = self.context.invocation.elsewhere(root, &["gc"]);
                if root.join("executions").is_dir() {
                    format!("{backend} has {count} of executions in another root: `{there}` looks after those")
                } else {
                    format!("{backend} has {count} of executions in `{}`", root.display())
                }
            }
            Note::InUse(id) => format!("execution {} is in use, and stays", abbreviate(*id)),
            Note::Missing(count) => {
                format!("{count} lists of folders are missing from the datastore, so those artifacts cannot be read")
            }
        };
        match self.context.output.shape() {
            Shape::Json => self.object(&json!({"kind": "note", "text": text})),
            Shape::Text => self.context.output.note(&text),
        }
    }

    fn problem(&mut self, problem: &Problem) {
        let line = |words: &[&str]| self.context.invocation.line(words);
        let hint = match problem {
            Problem::Damaged { id, .. } | Problem::Refused { id, state: "damaged" } => {
                Some(format!("`{}` gives it up", line(&["rm", "--damaged", &abbreviate(*id)])))
            }
            Problem::Refused { id, state: "running" } => {
                Some(format!("`{}` stops it", line(&["cancel", &abbreviate(*id)])))
            }
            Problem::Refused { id, .. } => {
                let id = abbreviate(*id);
                let (resume, remove) = (line(&["resume", &id]), line(&["rm", "--interrupted", &id]));
                Some(format!("`{resume}` goes on with it, `{remove}` gives it up"))
            }
            _ => None,
        };
        self.hint = self.hint.take().or(hint);
        self.problems.push(problem.to_string());
    }
}

fn text(gone: &Gone<'_>) -> String {
    match gone {
        Gone::Execution { id, flow, state, why, bytes } => {
            let (id, flow) = (abbreviate(*id), visible::line(flow));
            let why = match why {
                Why::Named => "",
                Why::Surplus => ", and newer ones stay",
                Why::Old => ", long ago",
                Why::TooMuch => ", and there is no room for it",
            };
            format!("execution {id} of `{flow}` ({state}{why}): {}", size::short(*bytes))
        }
        Gone::Leftover { backend, leftover, why } => {
            let why = match why {
                Reason::Removed => "its execution goes",
                Reason::Ended => "its execution has ended",
                Reason::Unknown => "its execution is gone",
                Reason::Nobodys => "its root is gone",
            };
            let running = if leftover.running { ", running" } else { "" };
            format!("{backend}'s {}{running} ({why})", visible::line(&leftover.name))
        }
        Gone::Litter { path, bytes } => {
            format!("{}: {}", visible::line(&path.display().to_string()), size::short(*bytes))
        }
        Gone::Object { digest, bytes } => format!("object {digest}: {}", size::short(*bytes)),
    }
}

fn object(gone: &Gone<'_>) -> Value {
    match gone {
        Gone::Execution { id, flow, state, why, bytes } => {
            let why = match why {
                Why::Named => "named",
                Why::Surplus => "surplus",
                Why::Old => "old",
                Why::TooMuch => "too_much",
            };
            json!({"kind": "execution", "id": id, "flow": flow, "state": state, "why": why, "bytes": bytes})
        }
        Gone::Leftover { backend, leftover, why } => {
            let why = match why {
                Reason::Removed => "removed",
                Reason::Ended => "ended",
                Reason::Unknown => "unknown",
                Reason::Nobodys => "nobodys",
            };
            json!({"kind": "leftover", "backend": backend, "name": leftover.name, "id": leftover.id,
                   "execution": leftover.execution, "why": why})
        }
        Gone::Litter { path, bytes } => json!({"kind": "litter", "path": path.to_string_lossy(), "bytes": bytes}),
        Gone::Object { digest, bytes } => json!({"kind": "object", "digest": digest, "bytes": bytes}),
    }
}

fn summary(tally: &Tally, pretend: bool) -> Value {
    let pair = |(count, bytes): (u64, u64)| json!({"count": count, "bytes": bytes});
    json!({
        "kind": "summary",
        "dry_run": pretend,
        "bytes": tally.bytes(),
        "executions": pair(tally.executions),
        "leftovers": tally.leftovers,
        "litter": pair(tally.litter),
        "objects": pair(tally.objects),
        "young": pair(tally.young),
        "problems": tally.problems,
    })
}

fn sentence(tally: &Tally, pretend: bool) -> String {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let parts = [
        (tally.executions.0, "execution"),
        (tally.objects.0, "object"),
        (tally.leftovers, "leftover"),
        (tally.litter.0, "abandoned file"),
    ];
    let named = parts.iter().filter(|(many, _)| *many > 0).map(|(many, noun)| count(number(*many), noun));
    let named: Vec<String> = named.collect();
    let young = match tally.young {
        (0, _) => String::new(),
        (many, bytes) => {
            format!("; {} with {} stay for the grace", count(number(many), "unused object"), size::short(bytes))
        }
    };
    if named.is_empty() {
        return format!("{}{young}", if pretend { "nothing would go" } else { "there was nothing to remove" });
    }
    let verb = if pretend { "would free" } else { "freed" };
    format!("{verb} {}: {}{young}", size::short(tally.bytes()), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_names_what_there_was() {
        let tally =
            Tally { executions: (1, 1024), objects: (2, 2048), leftovers: 3, litter: (4, 1024), ..Tally::default() };
        let said = "freed 4.0 KiB: 1 execution, 2 objects, 3 leftovers, 4 abandoned files";
        assert_eq!(sentence(&tally, false), said);
        assert_eq!(sentence(&Tally::default(), true), "nothing would go");
        let young = Tally { young: (1, 5), ..Tally::default() };
        assert_eq!(sentence(&young, false), "there was nothing to remove; 1 unused object with 5 B stay for the grace");
    }
}
