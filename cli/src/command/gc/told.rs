//! What a collection says: each thing that goes, what is worth knowing, and a sum at the end.

use laminar_core::gc::{Gone, Note, Problem, Reason, Tally, Why, Witness};
use laminar_core::id::ExecutionId;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;
use crate::execution::abbreviate;
use crate::output::{Shape, Verbosity};
use crate::text::{count, duration, size, visible};

/// The most problems that are named at the end.
const MOST_PROBLEMS: usize = 50;

/// Tells what goes.
pub(super) struct Told<'c, 'b> {
    context: &'c mut Context<'b>,
    pretend: bool,
    problems: Vec<String>,
    /// Whether there was no other problem than that what runs or was interrupted is refused.
    only_refused: bool,
    /// The engines that executions ran on and that do not answer.
    silent: Vec<String>,
    hint: Option<String>,
    /// Standard output has failed.
    failed: Option<Error>,
}

impl<'c, 'b> Told<'c, 'b> {
    pub(super) fn new(context: &'c mut Context<'b>, pretend: bool) -> Told<'c, 'b> {
        let (problems, silent) = (Vec::new(), Vec::new());
        Told { context, pretend, problems, only_refused: true, silent, hint: None, failed: None }
    }

    /// The sum. An error when something could not be done.
    pub(super) fn conclude(mut self, tally: &Tally) -> Result<(), Error> {
        match self.context.output.shape() {
            Shape::Json => self.object(&summary(tally, &self.silent, self.pretend)),
            // That there was nothing to do would be said of what could not be done.
            Shape::Text if !self.problems.is_empty() && nothing(tally) => {}
            Shape::Text => self.context.output.say(&sentence(tally, &self.silent, self.pretend)),
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        let broken = match &mut self.problems[..] {
            [one] if self.only_refused => Error::usage(std::mem::take(one)),
            _ => self.several(),
        };
        Err(match self.hint {
            Some(hint) => broken.hint(hint),
            None => broken,
        })
    }

    fn several(&mut self) -> Error {
        let what = if self.pretend { "some things could not be looked at" } else { "some things could not be removed" };
        let more = self.problems.len().saturating_sub(MOST_PROBLEMS);
        let error = if self.only_refused { Error::usage(what) } else { Error::broken(what) };
        let error = self.problems.drain(..).take(MOST_PROBLEMS).fold(error, Error::at);
        if more > 0 { error.at(format!("and {more} more")) } else { error }
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
        let verbosity = self.context.output.verbosity();
        let verbose = verbosity == Verbosity::Verbose;
        let single = matches!(gone, Gone::Object { .. });
        // It is of somebody else, who may wonder.
        let foreign = matches!(gone, Gone::Leftover { why: Reason::Nobodys, .. }) && verbosity > Verbosity::Quiet;
        if self.context.output.shape() == Shape::Json {
            if verbose || !single {
                self.object(&object(gone));
            }
        } else if verbose || foreign || self.pretend && !single {
            self.line(&text(gone));
        }
    }

    fn note(&mut self, note: &Note) {
        if let Note::Unavailable { backend, used: true, .. } = note {
            self.silent.push(backend.clone());
        }
        let text = match note {
            // An engine that nobody uses is nothing to talk about.
            Note::Unavailable { used: false, .. } | Note::Young { .. }
                if self.context.output.verbosity() < Verbosity::Verbose =>
            {
                return;
            }
            Note::Unavailable { backend, reason, used } => {
                let so = if *used { "; what it has of executions that ran on it was not looked at" } else { "" };
                format!("{backend} is not available: {reason}{so}")
            }
            Note::Young { backend, count, grace, rootless } => {
                let (what, time) = (things(backend, *count), duration::short(*grace));
                let one = *count == 1;
                match rootless {
                    true if one => format!("{backend}: {what} of a deleted root stays until it is {time} old"),
                    true => format!("{backend}: {what} of deleted roots stay until they are {time} old"),
                    false if one => format!("{backend}: {what} stays until it has been of no use for {time}"),
                    false => format!("{backend}: {what} stay until they have been of no use for {time}"),
                }
            }
            Note::Elsewhere { backend, root, count } => {
                let what = things(backend, *count);
                let (verb, them) = if *count == 1 { ("belongs", "it") } else { ("belong", "them") };
                let place = visible::line(&root.display().to_string());
                // The folder of an execution that is in no root.
                let odd = root.file_name().is_some_and(|name| name.to_string_lossy().parse::<ExecutionId>().is_ok());
                if odd {
                    format!("{backend}: {what} {verb} to an execution in `{place}`")
                } else {
                    let there = self.context.invocation.elsewhere(root, &["gc"]);
                    format!("{backend}: {what} {verb} to another root, `{place}`; `{there}` looks after {them}")
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
            Problem::Damaged { denied: true, .. } => {
                Some("it belongs to another user, who can read it; so can root".to_owned())
            }
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
        self.only_refused &= matches!(problem, Problem::Refused { state: "running" | "interrupted", .. });
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
                Why::Surplus => ", beyond what `--keep` keeps",
                Why::Old => ", long ago",
                Why::TooMuch => ", and there is no room for it",
            };
            format!("execution {id} of `{flow}` ({state}{why}): {}", size::short(*bytes))
        }
        Gone::Leftover { backend, leftover, why } => {
            let why = match why {
                Reason::Removed => "its execution goes".to_owned(),
                Reason::Ended => "its execution has ended".to_owned(),
                Reason::Unknown => "its execution is gone".to_owned(),
                Reason::Nobodys => {
                    let folder = visible::line(&leftover.folder.display().to_string());
                    format!("its root is gone, with `{folder}`")
                }
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
                   "execution": leftover.execution, "folder": leftover.folder.to_string_lossy(), "why": why})
        }
        Gone::Litter { path, bytes } => json!({"kind": "litter", "path": path.to_string_lossy(), "bytes": bytes}),
        Gone::Object { digest, bytes } => json!({"kind": "object", "digest": digest, "bytes": bytes}),
    }
}

fn summary(tally: &Tally, silent: &[String], pretend: bool) -> Value {
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
        "silent": silent,
        "problems": tally.problems,
    })
}

/// Whether nothing has gone, nor waits to.
fn nothing(tally: &Tally) -> bool {
    Tally { problems: 0, ..*tally } == Tally::default()
}

/// So many of what a backend has.
fn things(backend: &str, count: u64) -> String {
    let noun = match backend {
        "local" => "supervisor",
        "docker" | "podman" => "container",
        // Whoever's backend it is knows.
        _ => "leftover",
    };
    self::count(usize::try_from(count).unwrap_or(usize::MAX), noun)
}

fn sentence(tally: &Tally, silent: &[String], pretend: bool) -> String {
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
    let silent = match silent {
        [] => String::new(),
        [one] => format!("; {one} does not answer"),
        more => format!("; {} do not answer", more.join(" and ")),
    };
    if named.is_empty() {
        return format!("{}{young}{silent}", if pretend { "nothing would go" } else { "there was nothing to remove" });
    }
    let verb = if pretend { "would free" } else { "freed" };
    format!("{verb} {}: {}{young}{silent}", size::short(tally.bytes()), named.join(", "))
}

#[cfg(test)]
mod tests {
    use laminar_core::executor::Leftover;

    use super::*;

    #[test]
    fn the_sum_names_what_there_was() {
        let tally =
            Tally { executions: (1, 1024), objects: (2, 2048), leftovers: 3, litter: (4, 1024), ..Tally::default() };
        let said = "freed 4.0 KiB: 1 execution, 2 objects, 3 leftovers, 4 abandoned files";
        assert_eq!(sentence(&tally, &[], false), said);
        assert_eq!(sentence(&Tally::default(), &[], true), "nothing would go");
        let young = Tally { young: (1, 5), ..Tally::default() };
        assert_eq!(
            sentence(&young, &[], false),
            "there was nothing to remove; 1 unused object with 5 B stay for the grace"
        );
        let silent = ["docker".to_owned()];
        assert_eq!(sentence(&Tally::default(), &silent, false), "there was nothing to remove; docker does not answer");
    }

    #[test]
    fn what_goes_of_a_root_that_is_gone_says_whose_it_was() {
        let leftover = Leftover {
            id: "1".into(),
            name: "laminar-x-A-0-1".into(),
            execution: ExecutionId::now(),
            folder: "/gone/.laminar/executions/x".into(),
            created: None,
            running: false,
        };
        let said = text(&Gone::Leftover { backend: "docker", leftover: &leftover, why: Reason::Nobodys });
        assert_eq!(said, "docker's laminar-x-A-0-1 (its root is gone, with `/gone/.laminar/executions/x`)");
    }
}
