//! `laminar status`: what became of an execution and its layers.

use std::collections::HashMap;
use std::path::PathBuf;

use laminar_core::event::Outcome;
use laminar_core::folder::ExecutionFolder;
use laminar_core::id::Split;
use laminar_core::scheduler::State;
use laminar_core::store::{Creation, SplitRow, Status};
use serde_json::{Map, Value, json};

use crate::args::StatusArgs;
use crate::backends::Keeper;
use crate::context::Context;
use crate::error::Error;
use crate::execution::{Execution, abbreviate, status_word};
use crate::exit::Code;
use crate::invocation::Invocation;
use crate::names::Names;
use crate::output::{Shape, Verbosity};
use crate::report::failure::exit_words;
use crate::report::json::exit_fields;
use crate::text::style::Style;
use crate::text::table::Table;
use crate::text::{count, visible, when};

mod cancelled;
mod declined;
mod follow;

/// An execution with more layers shows only those that are not done well, and not more than this.
const LARGE: usize = 200;
/// How many folders of failed layers are named.
const MOST_LEFT: usize = 10;
/// Why a layer that was under way has not gone on.
const SCHEDULER_GONE: &str = "its scheduler is gone";
/// The most characters of a cause, unless everything is asked for.
const WIDEST: usize = 100;

/// Shows one execution.
pub(crate) fn run(context: &mut Context<'_>, args: &StatusArgs) -> Result<Code, Error> {
    let execution = Execution::open(context, &args.id)?;
    if args.follow {
        return follow::follow(context, &execution);
    }
    let view = View::new(&execution, context)?;
    if context.output.shape() == Shape::Json {
        context.output.document(&view.object())?;
        return Ok(Code::Finished);
    }
    let text = view.text(context.output.verbosity(), context.output.data_style());
    context.output.print(&text)?;
    Ok(Code::Finished)
}

/// Everything that is shown.
struct View<'a> {
    execution: &'a Execution,
    creation: &'a Creation,
    status: Status,
    ended_ms: Option<i64>,
    lines: Vec<Line>,
    /// What its layers go on under although it was interrupted.
    keeper: Keeper,
    invocation: Invocation,
}

/// A split, also one that the store has no row of: it has not started.
struct Line {
    split: Split,
    word: &'static str,
    row: Option<SplitRow>,
    /// Whether it was under way when its scheduler died.
    interrupted: bool,
    /// Why it was cancelled, where that is not its own doing.
    why: Option<String>,
    /// Why it was not tried again after it failed, where it had attempts left.
    declined: Option<String>,
    /// The folder with what its failed attempt left, if it left anything.
    left: Option<PathBuf>,
}

impl Line {
    fn new(split: Split, word: &'static str, row: Option<SplitRow>, status: &Status) -> Line {
        // Only an update of the flow does that.
        let is_gone = row.as_ref().is_some_and(|row| row.state == State::Skipped);
        let is_open = row.as_ref().is_some_and(|row| matches!(row.state, State::Running | State::Resting));
        Line {
            split,
            word,
            row,
            interrupted: is_open && *status == Status::Interrupted,
            why: is_gone.then(|| "no longer part of the flow".to_owned()),
            declined: None,
            left: None,
        }
    }

    /// The word for people: the store does not know that nobody waits for the layer any more.
    fn shown(&self) -> &'static str {
        if self.interrupted { "interrupted" } else { self.word }
    }

    /// Whether there is nothing to say of it: it settled well.
    fn is_done(&self) -> bool {
        self.row
            .as_ref()
            .is_some_and(|row| matches!(row.state, State::Finished | State::Cached | State::Skipped | State::Caught))
    }

    /// The failed ones first, then what runs, then the rest as in the flow file.
    fn order(&self) -> (u8, Split) {
        let class = match self.word {
            "failed" => 0,
            "running" => 1,
            "resting" => 2,
            _ => 3,
        };
        (class, self.split)
    }

    fn cause(&self) -> String {
        let own = [Some(self.own_cause()), self.declined.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let other = if self.interrupted { Some(SCHEDULER_GONE) } else { self.why.as_deref() };
        match other {
            None => own,
            Some(other) if own.is_empty() => other.to_owned(),
            Some(other) => format!("{other}; its last attempt: {own}"),
        }
    }

    fn own_cause(&self) -> String {
        let Some(row) = &self.row else { return String::new() };
        match (&row.reason, &row.exit) {
            (Some(reason), _) => visible::line(reason),
            // Of what still runs or finished, an exit says nothing new.
            (None, Some(exit)) if !matches!(row.state, State::Finished | State::Running | State::Skipped) => {
                exit_words(exit)
            }
            _ => String::new(),
        }
    }
}

impl<'a> View<'a> {
    fn new(execution: &'a Execution, context: &Context<'_>) -> Result<View<'a>, Error> {
        let reader = &execution.reader;
        let status = reader.status().map_err(|error| execution.unreadable(&error))?;
        let rows = reader.splits().map_err(|error| execution.unreadable(&error))?;
        // The end of the last layer is the end of the execution, but for a millisecond.
        let last_ms = rows.iter().filter_map(|row| row.ended_ms).max();
        let ended_ms = last_ms.filter(|_| matches!(status, Status::Ended(_)));
        let mut lines = lines(&execution.names, rows, &status);
        find_left(&execution.folder, &mut lines);
        cancelled::explain(execution, &status, &mut lines);
        declined::explain(execution, &mut lines);
        let keeper = if status == Status::Interrupted { execution.keeper(context.backends) } else { Keeper::Unknown };
        let invocation = context.invocation.clone();
        Ok(View { execution, creation: reader.creation(), ended_ms, lines, status, keeper, invocation })
    }

    fn text(&self, verbosity: Verbosity, style: Style) -> String {
        let mut text = self.heading(style);
        let all = verbosity == Verbosity::Verbose || self.lines.len() <= LARGE;
        let shown: Vec<&Line> = self.lines.iter().filter(|line| all || !line.is_done()).collect();
        let most = if all { shown.len() } else { LARGE };
        let widest = if verbosity == Verbosity::Verbose { usize::MAX } else { WIDEST };
        let heads: &[&str] = if self.is_mixed() {
            &["LAYER", "BACKEND", "STATE", "ATTEMPTS", "DURATION", "CAUSE"]
        } else {
            &["LAYER", "STATE", "ATTEMPTS", "DURATION", "CAUSE"]
        };
        let mut table = Table::new(heads);
        for line in shown.iter().take(most) {
            table.row(self.cells(line, widest));
        }
        if !shown.is_empty() {
            text.push('\n');
            text.push_str(&table.draw(style));
        }
        if shown.len() > most {
            text.push_str(&format!("and {} more; `-v` shows all\n", shown.len() - most));
        }
        for line in self.lines.iter().filter(|line| line.left.is_some()).take(MOST_LEFT) {
            let left = line.left.as_deref().map_or(String::new(), |left| left.display().to_string());
            let name = self.execution.names.split(line.split);
            text.push_str(&format!("\nwhat {name} left: {}", visible::line(&left)));
        }
        text.push_str(if self.lines.iter().any(|line| line.left.is_some()) { "\n\n" } else { "\n" });
        text.push_str(&self.counts_line());
        if let Some(line) = self.goes_on() {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn heading(&self, style: Style) -> String {
        let word = style.state(status_word(&self.status));
        let flow = style.bold(visible::line(&self.creation.flow));
        let created_ms = self.creation.created_ms;
        let took = match (&self.status, self.ended_ms) {
            (Status::Running { .. }, _) => format!(", for {}", when::took(created_ms, None)),
            (_, Some(ended_ms)) => format!(", took {}", when::took(created_ms, Some(ended_ms))),
            _ => String::new(),
        };
        format!(
            "{flow}: {word}\nexecution {}\ncreated {} ({}), {}{took}\n",
            self.execution.id,
            when::stamp(created_ms),
            when::ago(created_ms, when::now_ms()),
            self.backends(),
        )
    }

    /// Whether its layers run in different places.
    fn is_mixed(&self) -> bool {
        self.creation.backends().len() > 1
    }

    /// The backends of its layers.
    fn backends(&self) -> String {
        let names = self.creation.backends();
        let word = if names.len() == 1 { "backend" } else { "backends" };
        format!("{word} {}", visible::line(&names.join(", ")))
    }

    fn cells(&self, line: &Line, widest: usize) -> Vec<String> {
        let name = self.execution.names.split(line.split);
        let row = line.row.as_ref();
        let attempts = row.map(|row| row.attempt).filter(|attempt| *attempt > 0);
        let took = row.and_then(|row| {
            let is_open = row.ended_ms.is_none() && row.state != State::Running;
            if is_open { None } else { Some(when::took(row.launched_ms?, row.ended_ms)) }
        });
        // Nobody knows how long a layer has run whose scheduler is gone.
        let took = took.filter(|_| self.status != Status::Interrupted || row.is_some_and(|row| row.ended_ms.is_some()));
        let attempts = attempts.map_or(String::new(), |number| number.to_string());
        let backend = self.is_mixed().then(|| visible::line(self.creation.backend_of(line.split.layer)));
        let rest = [line.shown().to_owned(), attempts, took.unwrap_or_default(), visible::cut(&line.cause(), widest)];
        [name].into_iter().chain(backend).chain(rest).collect()
    }

    fn counts(&self, word_of: impl Fn(&Line) -> &'static str) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for line in &self.lines {
            match counts.iter_mut().find(|(word, _)| *word == word_of(line)) {
                Some((_, number)) => *number += 1,
                None => counts.push((word_of(line), 1)),
            }
        }
        counts
    }

    /// What goes on without a scheduler, and what to do about it; of one that has not ended well, how to go on.
    fn goes_on(&self) -> Option<String> {
        let id = abbreviate(self.execution.id);
        let line = |word: &str| self.invocation.line(&[word, &id]);
        let (resume, cancel) = (line("resume"), line("cancel"));
        match self.status {
            Status::Interrupted => {}
            Status::Ended(Outcome::Failed | Outcome::Cancelled) => {
                return Some(format!("`{resume}` runs what has not finished"));
            }
            _ => return None,
        }
        let is_open = self.lines.iter().any(|line| line.interrupted);
        let what = match self.keeper {
            _ if !is_open => "",
            Keeper::Works(_) => "layers that still run go on under their supervisor, and their output is kept; ",
            Keeper::Gone => "no supervisor is at work for its layers any more; what they wrote is kept; ",
            Keeper::Unknown => "layers that still run go on, and their output is kept; ",
        };
        Some(format!("{what}`{resume}` goes on with the execution, `{cancel}` stops it"))
    }

    fn counts_line(&self) -> String {
        let counts: Vec<String> =
            self.counts(Line::shown).iter().map(|(word, number)| format!("{number} {word}")).collect();
        format!("{}: {}\n", count(self.lines.len(), "layer"), counts.join(", "))
    }

    fn object(&self) -> Value {
        let supervisor = match self.keeper {
            Keeper::Works(pid) => json!({"pid": pid}),
            Keeper::Gone | Keeper::Unknown => Value::Null,
        };
        let counts: Map<String, Value> =
            self.counts(|line| line.word).into_iter().map(|(word, number)| (word.to_owned(), number.into())).collect();
        json!({
            "id": self.execution.id,
            "flow": self.creation.flow,
            "state": status_word(&self.status),
            "backend": self.creation.backend,
            "backends": self.creation.backends(),
            "file": self.creation.source_name,
            "created": when::stamp(self.creation.created_ms),
            "ended": self.ended_ms.map(when::stamp),
            "supervisor": supervisor,
            "counts": counts,
            "layers": self.lines.iter().map(|line| object(self.creation, &self.execution.names, line)).collect::<Vec<_>>(),
        })
    }
}

/// Every split with its row, or without one.
fn lines(names: &Names, rows: Vec<SplitRow>, status: &Status) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::with_capacity(names.len());
    let mut of_layer: HashMap<_, Vec<SplitRow>> = HashMap::new();
    for row in rows {
        of_layer.entry(row.split.layer).or_default().push(row);
    }
    let absent = if matches!(status, Status::Running { .. }) { "waiting" } else { "not started" };
    for layer in names.ids() {
        match of_layer.remove(&layer) {
            None => lines.push(Line::new(Split { layer, index: 0 }, absent, None, status)),
            Some(rows) => {
                lines.extend(rows.into_iter().map(|row| Line::new(row.split, row.state.word(), Some(row), status)));
            }
        }
    }
    lines.sort_by_key(Line::order);
    lines
}

/// Finds what failed layers left. A folder that was left empty is used again, and then belongs to whoever came last.
fn find_left(folder: &ExecutionFolder, lines: &mut [Line]) {
    let mut last: HashMap<u32, Option<i64>> = HashMap::new();
    for row in lines.iter().filter_map(|line| line.row.as_ref()) {
        if let Some(number) = row.outputs {
            let launched_ms = last.entry(number).or_default();
            *launched_ms = (*launched_ms).max(row.launched_ms);
        }
    }
    for line in lines {
        let failed = line.row.as_ref().filter(|row| row.state == State::Failed);
        line.left = failed.and_then(|row| {
            let number = row.outputs.filter(|number| last.get(number) == Some(&row.launched_ms))?;
            let path = folder.outputs(number);
            path.read_dir().ok()?.next().map(|_| path)
        });
    }
}

fn object(creation: &Creation, names: &Names, line: &Line) -> Value {
    let row = line.row.as_ref();
    json!({
        "layer": names.layer(line.split.layer),
        "index": line.split.index,
        "backend": creation.backend_of(line.split.layer),
        "state": line.word,
        "interrupted": line.interrupted,
        "why": line.why,
        "declined": line.declined,
        "attempt": row.map(|row| row.attempt),
        "launched": row.and_then(|row| row.launched_ms).map(when::stamp),
        "ended": row.and_then(|row| row.ended_ms).map(when::stamp),
        "exit": row.and_then(|row| row.exit.as_ref()).map(exit_fields),
        "reason": row.and_then(|row| row.reason.as_ref()),
        "outputs": line.left.as_ref().map(|left| left.to_string_lossy()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use laminar_core::folder::Root;
    use laminar_core::id::{ExecutionId, LayerId};

    use super::*;

    fn row(layer: u32, state: State, outputs: u32, launched_ms: i64) -> SplitRow {
        SplitRow {
            split: Split { layer: LayerId(layer), index: 0 },
            state,
            attempt: 1,
            launched_ms: Some(launched_ms),
            ended_ms: None,
            exit: None,
            reason: None,
            outputs: Some(outputs),
        }
    }

    fn names() -> Names {
        Names::stored(&["A", "B", "C", "D"].map(str::to_owned), [])
    }

    #[test]
    fn the_failed_come_first_and_what_has_no_row_has_not_started() {
        let rows = vec![row(0, State::Finished, 0, 1), row(1, State::Running, 1, 2), row(3, State::Failed, 2, 3)];
        let lines = lines(&names(), rows, &Status::Running { pid: None });
        let words: Vec<_> = lines.iter().map(|line| (line.split.layer.0, line.word)).collect();
        assert_eq!(words, [(3, "failed"), (1, "running"), (0, "finished"), (2, "waiting")]);
        assert_eq!(super::lines(&names(), Vec::new(), &Status::Interrupted)[0].word, "not started");
    }

    #[test]
    fn what_ran_when_its_scheduler_died_does_not_run() {
        let rows = || vec![row(0, State::Running, 0, 1), row(1, State::Finished, 1, 2)];
        let interrupted = lines(&names(), rows(), &Status::Interrupted);
        assert_eq!((interrupted[0].shown(), interrupted[0].word), ("interrupted", "running"));
        assert_eq!(interrupted[0].cause(), "its scheduler is gone");
        assert_eq!((interrupted[1].shown(), interrupted[1].cause().as_str()), ("finished", ""));
        assert_eq!(lines(&names(), rows(), &Status::Running { pid: None })[0].shown(), "running");
    }

    #[test]
    fn a_folder_that_was_used_again_is_not_what_a_failed_layer_left() {
        let root = tempfile::tempdir().unwrap();
        let folder = Root::new(root.path()).unwrap().execution(ExecutionId::now());
        for (number, content) in [(0, "x"), (1, "x"), (2, "")] {
            std::fs::create_dir_all(folder.outputs(number).join(content)).unwrap();
        }
        let rows = vec![
            row(0, State::Failed, 0, 1),
            row(1, State::Failed, 1, 1),
            row(2, State::Failed, 2, 1),
            row(3, State::Running, 1, 2),
        ];
        let mut lines = lines(&names(), rows, &Status::Interrupted);
        find_left(&folder, &mut lines);
        let left: Vec<_> = lines.iter().filter_map(|line| line.left.clone()).collect();
        assert_eq!(left, [folder.outputs(0)]);
    }
}
