//! `laminar logs`: what layers wrote to their standard output and standard error.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use laminar_core::id::{Attempt, Split, TaskId};
use laminar_core::scheduler::State;
use laminar_core::store::SplitRow;
use serde_json::json;

use crate::args::LogsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::names::Names;
use crate::output::{Output, Shape};
use crate::place::{self, LayerName};
use crate::transfer::Transfer;

mod follow;

/// Shows logs.
pub(crate) fn run(context: &mut Context<'_>, args: &LogsArgs) -> Result<Code, Error> {
    let (name, layer) = place::execution_and_layer(args.place.first.as_deref(), args.place.second.as_deref())?;
    let execution = Execution::open(context, &name)?;
    if args.follow {
        if context.output.shape() == Shape::Json {
            return Err(Error::usage("`--follow` has no JSON form"));
        }
        follow::follow(context, &execution, layer.as_ref())?;
        return Ok(Code::Finished);
    }
    let logs = logs(&execution, layer.as_ref(), args.attempt)?;
    if context.output.shape() == Shape::Json {
        for log in &logs {
            context.output.object(&log.object(&execution))?;
        }
        return Ok(Code::Finished);
    }
    if logs.is_empty() {
        context.output.note("nothing has started yet, so there are no logs");
    }
    if let Some(log) = logs.iter().find(|log| log.is_earlier) {
        let name = layer.map_or_else(|| execution.names.split(log.attempt.split), |name| name.to_string());
        let number = log.attempt.number;
        context.output.note(&format!("there is no `{name}` any more; this is what its attempt {number} printed"));
    }
    show(&mut context.output, &execution, &logs)?;
    Ok(Code::Finished)
}

/// One log that is there, or would be if its task had written anything.
struct Log {
    attempt: Attempt,
    path: PathBuf,
    /// Whether its layer had more splits then.
    is_earlier: bool,
}

impl Log {
    fn new(execution: &Execution, attempt: Attempt) -> Log {
        Log { attempt, path: execution.folder.log(&task(execution, attempt)), is_earlier: false }
    }

    /// The file, unless the task wrote nothing.
    fn open(&self) -> Result<Option<File>, Error> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        Error::because(format!("cannot read `{}`", self.path.display()), error)
    }

    fn object(&self, execution: &Execution) -> serde_json::Value {
        json!({
            "layer": execution.names.layer(self.attempt.split.layer),
            "index": self.attempt.split.index,
            "attempt": self.attempt.number,
            "path": self.path,
            "size": self.path.metadata().map_or(0, |metadata| metadata.len()),
        })
    }
}

fn task(execution: &Execution, attempt: Attempt) -> TaskId {
    let Attempt { split, number } = attempt;
    let layer = execution.names.layer(split.layer).into();
    TaskId { execution: execution.id, layer, index: split.index, attempt: number }
}

/// The logs that are asked for, in the order of launch: the last attempt of each split, or the one that is named.
fn logs(execution: &Execution, layer: Option<&LayerName>, attempt: Option<u32>) -> Result<Vec<Log>, Error> {
    if attempt.is_some() && layer.is_none() {
        return Err(Error::usage("`--attempt` needs a layer"));
    }
    let place = match layer.map(|name| (name, execution.place(name))) {
        Some((name, Err(error))) => return earlier(execution, name, attempt).map(|log| vec![log]).ok_or(error),
        Some((_, Ok(place))) => Some(place),
        None => None,
    };
    let rows = match place {
        None => execution.reader.splits(),
        Some((layer, None)) => execution.reader.splits_of(layer, None, usize::MAX),
        Some((layer, Some(index))) => {
            execution.reader.split(Split { layer, index }).map(|row| row.into_iter().collect())
        }
    };
    let mut rows = rows.map_err(|error| execution.unreadable(&error))?;
    let are_cached = !rows.is_empty() && rows.iter().all(|row| row.state == State::Cached);
    rows.retain(|row| row.attempt > 0);
    if let Some(name) = layer
        && rows.is_empty()
    {
        let id = abbreviate(execution.id);
        let why = if are_cached { "what it left was taken from the cache" } else { "it has not started" };
        return Err(Error::missing(format!("`{name}` has no log: {why} in execution {id}")));
    }
    rows.sort_by_key(|row| (row.launched_ms, row.split));
    rows.iter().map(|row| Ok(Log::new(execution, wanted(execution, row, attempt)?))).collect()
}

/// The log of a split that there is not any more, since its layer was opened again with fewer: that of its last attempt, or
/// of the one that is named. The store has forgotten it, so that only its file says that it was there.
fn earlier(execution: &Execution, name: &LayerName, attempt: Option<u32>) -> Option<Log> {
    let split = Split { layer: execution.names.find(&name.layer)?, index: name.index? };
    let prefix = format!("{}.{}.", name.layer, split.index);
    let numbers = execution.folder.logs().read_dir().ok()?.filter_map(|entry| {
        let file = entry.ok()?.file_name();
        file.to_str()?.strip_prefix(&prefix)?.strip_suffix(".log")?.parse().ok()
    });
    let number = numbers.filter(|number| attempt.is_none_or(|wanted| wanted == *number)).max()?;
    Some(Log { is_earlier: true, ..Log::new(execution, Attempt { split, number }) })
}

fn wanted(execution: &Execution, row: &SplitRow, attempt: Option<u32>) -> Result<Attempt, Error> {
    let split: Split = row.split;
    match attempt {
        None => Ok(Attempt { split, number: row.attempt }),
        Some(number) if number <= row.attempt => Ok(Attempt { split, number }),
        Some(number) => {
            let name = execution.names.split(split);
            Err(Error::missing(format!("`{name}` has no attempt {number}"))
                .hint(format!("its last is {}", row.attempt)))
        }
    }
}

/// Writes logs one after the other, each below its name if there are several. Those that printed nothing have none.
fn show(output: &mut Output, execution: &Execution, logs: &[Log]) -> Result<(), Error> {
    let mut unfinished = false;
    let mask = execution.mask();
    for log in logs {
        let mut transfer = Transfer::masked(&mask);
        match log.open()? {
            Some(mut file) => {
                if logs.len() > 1 {
                    heading(output, &execution.names, log.attempt, unfinished)?;
                }
                transfer.copy(&mut file, output, &|error| log.unreadable(error))?;
                transfer.end(output)?;
            }
            None if logs.len() == 1 => output.note("it has printed nothing"),
            None => continue,
        }
        unfinished = transfer.is_unfinished();
    }
    if unfinished && output.data_is_terminal() {
        output.print("\n")?;
    }
    Ok(())
}

/// `==> Train (attempt 2) <==`, on a line of its own.
fn heading(output: &mut Output, names: &Names, attempt: Attempt, unfinished: bool) -> Result<(), Error> {
    let number = if attempt.number > 1 { format!(" (attempt {})", attempt.number) } else { String::new() };
    let name = names.split(attempt.split);
    let heading = output.data_style().bold(format!("==> {name}{number} <=="));
    output.print(&format!("{}{heading}\n", if unfinished { "\n" } else { "" }))
}
