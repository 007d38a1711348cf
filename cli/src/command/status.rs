//! `laminar status`: what became of an execution and its layers.

use laminar_core::event::Outcome;
use laminar_core::id::{LayerId, Split};
use laminar_core::scheduler::State;
use laminar_core::store::{Creation, Status, StoreError};
use serde::ser::{Serialize, SerializeMap, Serializer};
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
use crate::place;
use crate::report::json::exit_fields;
use crate::text::style::Style;
use crate::text::table::Table;
use crate::text::{count, visible, when};
use crate::values;

mod cancelled;
mod declined;
mod follow;
mod lines;
mod newest;
mod said;
mod skipped;

use lines::{Detail, Line};

/// An execution with more lines shows only those that are not done well, and not more than this.
const LARGE: usize = 200;
/// How many splits of a foreach layer are shown of each state that matters.
const MOST_SPLITS: usize = 10;
/// How many folders of failed layers are named.
const MOST_LEFT: usize = 10;
/// The most characters of a cause, or of the values of a split, unless everything is asked for.
const WIDEST: usize = 100;

/// Shows one execution, or one of its layers.
pub(crate) fn run(context: &mut Context<'_>, args: &StatusArgs) -> Result<Code, Error> {
    let (name, layer) = place::execution_and_layer(args.place.first.as_deref(), args.place.second.as_deref())?;
    let execution = Execution::open(context, &name)?;
    if args.follow {
        if let Some(layer) = layer {
            let hint =
                format!("`{}` follows what it prints", context.invocation.line(&["logs", "-f", &layer.to_string()]));
            return Err(Error::usage("`--follow` shows a whole execution, not one layer").hint(hint));
        }
        return follow::follow(context, &execution);
    }
    let of = layer.map(|layer| execution.place(&layer)).transpose()?;
    let view = View::new(&execution, context, of)?;
    if context.output.shape() == Shape::Json {
        context.output.document(&view)?;
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
    /// How many splits are in which state, of the whole execution or of the layer; a layer whose splits are not decided
    /// counts as one.
    counts: Vec<(&'static str, u32)>,
    /// The layer, or the split, if it is about one.
    of: Option<(LayerId, Option<u32>)>,
    /// What its layers go on under although it was interrupted.
    keeper: Keeper,
    invocation: Invocation,
}

impl<'a> View<'a> {
    fn new(
        execution: &'a Execution,
        context: &Context<'_>,
        of: Option<(LayerId, Option<u32>)>,
    ) -> Result<View<'a>, Error> {
        let reader = &execution.reader;
        let unreadable = |error: StoreError| execution.unreadable(&error);
        let status = reader.status().map_err(unreadable)?;
        let detail = match of {
            Some((layer, index)) => Detail::Of(layer, index),
            None if context.output.verbosity() == Verbosity::Verbose => Detail::All,
            None if context.output.shape() == Shape::Json => Detail::All,
            None => Detail::Troubled(MOST_SPLITS),
        };
        let mut lines = lines::lines(execution, &status, detail).map_err(unreadable)?;
        // The end of the last layer is the end of the execution, but for a millisecond.
        let ended = |line: &Line| match &line.whole {
            Some(whole) => whole.ended_ms,
            None => line.row.as_ref().and_then(|row| row.ended_ms),
        };
        let ended_ms = lines.iter().filter_map(ended).max().filter(|_| matches!(status, Status::Ended(_)));
        lines::conceal(&mut lines, &execution.mask());
        lines::find_left(execution, &mut lines).map_err(unreadable)?;
        let newest = newest::Newest::new(reader.creation());
        cancelled::explain(&execution.names, &newest, &status, &mut lines);
        skipped::explain(&execution.names, &newest, &mut lines);
        declined::explain(&newest, &mut lines);
        if let Some((layer, index)) = of {
            // Of one split there is nothing to say of the others.
            lines.retain(|line| {
                let is_asked = index.is_none_or(|index| line.whole.is_none() && line.split.index == index);
                line.split.layer == layer && is_asked
            });
        }
        let keeper = if status == Status::Interrupted { execution.keeper(context.backends) } else { Keeper::Unknown };
        let (creation, invocation) = (reader.creation(), context.invocation.clone());
        let counts = counted(&lines, status == Status::Interrupted);
        Ok(View { execution, creation, ended_ms, lines, counts, of, status, keeper, invocation })
    }

    fn text(&self, verbosity: Verbosity, style: Style) -> String {
        let mut text = self.heading(style);
        let all = verbosity == Verbosity::Verbose || self.lines.len() <= LARGE;
        // Of a layer that is asked for, its own line is always there.
        let is_shown = |line: &&Line| all || !line.is_done() || self.of.is_some() && line.is_layer;
        let shown: Vec<&Line> = self.lines.iter().filter(is_shown).collect();
        let most = if all { shown.len() } else { LARGE };
        let shown_now = &shown[..most.min(shown.len())];
        let is_one = matches!(self.of, Some((_, Some(_))));
        let columns = Columns {
            names: &self.execution.names,
            backends: self.is_mixed().then_some(self.creation),
            splits: shown_now.iter().any(|line| line.whole.is_some()),
            each: shown_now.iter().any(|line| line.each.as_ref().is_some_and(|each| !each.is_empty())),
            interrupted: self.status == Status::Interrupted,
            widest: if verbosity == Verbosity::Verbose || is_one { usize::MAX } else { WIDEST },
        };
        let mut table = Table::new(&columns.heads());
        let mut missing = Vec::new();
        for (at, line) in shown_now.iter().enumerate() {
            table.row(columns.cells(line));
            let below = shown.iter().skip(at + 1).take_while(|below| !below.is_layer);
            missing.extend(line.whole.as_ref().and_then(|whole| self.missing(line, whole, below.count())));
        }
        if !shown.is_empty() {
            text.push('\n');
            text.push_str(&table.draw(style));
        }
        if shown.len() > most {
            text.push_str(&format!("and {} more; `-v` shows all\n", shown.len() - most));
        }
        let done = self.lines.len() - shown.len();
        if done > 0 {
            let (what, are) = (if self.of.is_some() { "split" } else { "layer" }, if done == 1 { "is" } else { "are" });
            text.push_str(&format!("and {} that {are} done; `-v` shows all\n", count(done, what)));
        }
        missing.iter().for_each(|line| text.push_str(line));
        text.push_str(&said::ends(self.execution, &self.invocation, &self.lines, style));
        for line in self.lines.iter().filter(|line| line.left.is_some()).take(MOST_LEFT) {
            let left = line.left.as_deref().map_or(String::new(), |left| left.display().to_string());
            let name = line.name(&self.execution.names);
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

    /// Says where the splits are that matter and have no line.
    fn missing(&self, line: &Line, whole: &lines::Whole, shown: usize) -> Option<String> {
        if self.of.is_some() {
            return None;
        }
        let matter = |word: &str| matches!(word, "failed" | "running" | "resting");
        let all: u32 = whole.counts.iter().filter(|(word, _)| matter(word)).map(|(_, number)| number).sum();
        let name = line.name(&self.execution.names);
        let look = self.invocation.line(&["status", &abbreviate(self.execution.id), &name]);
        (all as usize > shown).then(|| format!("{name} has {} like these; `{look}` shows them\n", all as usize - shown))
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
        let total: u32 = self.counts.iter().map(|(_, number)| number).sum();
        let counts: Vec<String> = self.counts.iter().map(|(word, number)| format!("{number} {word}")).collect();
        let head = match self.of {
            Some((layer, None)) if self.execution.names.is_foreach(layer) => {
                format!("{}, {}", self.execution.names.layer(layer), count(total as usize, "split"))
            }
            Some((layer, index)) => self.execution.names.split(Split { layer, index: index.unwrap_or(0) }),
            None if self.execution.names.has_foreach() => {
                format!("{}, {}", count(self.execution.names.len(), "layer"), count(total as usize, "task"))
            }
            None => count(self.execution.names.len(), "layer"),
        };
        if counts.is_empty() { format!("{head}\n") } else { format!("{head}: {}\n", counts.join(", ")) }
    }

    /// What the document says besides `layers`.
    fn head(&self) -> Value {
        let supervisor = match self.keeper {
            Keeper::Works(pid) => json!({"pid": pid}),
            Keeper::Gone | Keeper::Unknown => Value::Null,
        };
        let counts = |counts: &[(&'static str, u32)]| -> Map<String, Value> {
            counts.iter().map(|(word, number)| ((*word).to_owned(), (*number).into())).collect()
        };
        let foreach = self.lines.iter().filter_map(|line| {
            let whole = line.whole.as_ref()?;
            Some(json!({
                "layer": self.execution.names.layer(line.split.layer),
                "state": line.word,
                "interrupted": line.interrupted,
                "why": line.why,
                "splits": whole.splits,
                "counts": counts(&whole.counts),
                "launched": whole.launched_ms.map(when::stamp),
                "ended": whole.ended_ms.map(when::stamp),
            }))
        });
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
            "tasks": self.counts.iter().map(|(_, number)| number).sum::<u32>(),
            "counts": counts(&counted(&self.lines, false)),
            "foreach": foreach.collect::<Vec<_>>(),
        })
    }

    /// A layer or a split, for programs.
    fn line(&self, line: &Line) -> Value {
        let row = line.row.as_ref();
        json!({
            "layer": self.execution.names.layer(line.split.layer),
            "index": line.split.index,
            "backend": self.creation.backend_of(line.split.layer),
            "each": line.each,
            "state": line.word,
            "interrupted": line.interrupted,
            "why": line.why,
            "declined": line.declined,
            "from": line.from,
            "attempt": row.map(|row| row.attempt),
            "launched": row.and_then(|row| row.launched_ms).map(when::stamp),
            "ended": row.and_then(|row| row.ended_ms).map(when::stamp),
            "exit": row.and_then(|row| row.exit.as_ref()).map(exit_fields),
            "reason": row.and_then(|row| row.reason.as_ref()).or(line.reason.as_ref()),
            "outputs": line.left.as_ref().map(|left| left.to_string_lossy()),
        })
    }
}

/// The document, written line by line: there may be a million.
impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let head = self.head();
        let head = head.as_object().into_iter().flatten();
        let mut document = serializer.serialize_map(None)?;
        for (name, value) in head {
            document.serialize_entry(name, value)?;
        }
        document.serialize_entry("layers", &Lines(self))?;
        document.end()
    }
}

struct Lines<'v, 'a>(&'v View<'a>);

impl Serialize for Lines<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Lines(view) = self;
        serializer.collect_seq(view.lines.iter().filter(|line| line.whole.is_none()).map(|line| view.line(line)))
    }
}

/// How many splits are in which state, in the order of the lines; by what was recorded last, or by what has become of them
/// now that nobody drives the execution.
fn counted(lines: &[Line], is_interrupted: bool) -> Vec<(&'static str, u32)> {
    let mut counts: Vec<(&'static str, u32)> = Vec::new();
    let mut note = |word: &'static str, number: u32| match counts.iter_mut().find(|(of, _)| *of == word) {
        Some((_, all)) => *all += number,
        None => counts.push((word, number)),
    };
    let has_layers = lines.iter().any(|line| line.is_layer);
    for line in lines.iter().filter(|line| line.is_layer || !has_layers) {
        let is_open = |word: &str| is_interrupted && matches!(word, "running" | "resting");
        match &line.whole {
            None => note(if is_open(line.word) { "interrupted" } else { line.word }, 1),
            Some(whole) => {
                whole.counts.iter().for_each(|(word, of)| note(if is_open(word) { "interrupted" } else { word }, *of));
            }
        }
    }
    counts
}

/// The columns that there are something in.
struct Columns<'a> {
    names: &'a Names,
    /// Where its layers run in different places.
    backends: Option<&'a Creation>,
    splits: bool,
    each: bool,
    interrupted: bool,
    widest: usize,
}

impl Columns<'_> {
    fn heads(&self) -> Vec<&'static str> {
        let all = [
            ("LAYER", true),
            ("BACKEND", self.backends.is_some()),
            ("STATE", true),
            ("SPLITS", self.splits),
            ("ATTEMPTS", true),
            ("DURATION", true),
            ("EACH", self.each),
            ("CAUSE", true),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(head, _)| head).collect()
    }

    fn cells(&self, line: &Line) -> Vec<String> {
        let row = line.row.as_ref();
        let of_splits = line.whole.as_ref().and_then(|whole| whole.attempts);
        let attempts = row.map(|row| row.attempt).filter(|attempt| *attempt > 0).or(of_splits);
        let splits = line.whole.as_ref().map(|whole| match whole.splits {
            0 => "0".to_owned(),
            splits => format!("{}/{splits}", whole.settled()),
        });
        let each = line.each.as_ref().zip(line.common.as_deref());
        let each = each.map(|(each, common)| values::line(each, common, self.widest)).unwrap_or_default();
        let all = [
            Some(line.name(self.names)),
            self.backends.map(|creation| visible::line(creation.backend_of(line.split.layer))),
            Some(line.shown().to_owned()),
            self.splits.then(|| splits.unwrap_or_default()),
            Some(attempts.map_or(String::new(), |number| number.to_string())),
            Some(self.took(line).unwrap_or_default()),
            self.each.then_some(each),
            Some(visible::cut(&line.cause(), self.widest)),
        ];
        all.into_iter().flatten().collect()
    }

    fn took(&self, line: &Line) -> Option<String> {
        let (launched_ms, ended_ms, runs) = match (&line.whole, &line.row) {
            (Some(whole), _) => (whole.launched_ms, whole.ended_ms, line.word == "running"),
            (None, Some(row)) => (row.launched_ms, row.ended_ms, row.state == State::Running),
            (None, None) => return None,
        };
        // Nobody knows how long a layer has run whose scheduler is gone.
        let is_known = ended_ms.is_some() || runs && !self.interrupted;
        is_known.then(|| Some(when::took(launched_ms?, ended_ms))).flatten()
    }
}
