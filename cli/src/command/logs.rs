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
    show(&mut context.output, &execution, &logs)?;
    Ok(Code::Finished)
}

/// One log that is there, or would be if its task had written anything.
struct Log {
    attempt: Attempt,
    path: PathBuf,
}

impl Log {
    fn new(execution: &Execution, attempt: Attempt) -> Log {
        Log { attempt, path: execution.folder.log(&task(execution, attempt)) }
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
    let rows = match layer.map(|name| execution.place(name)).transpose()? {
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
    for log in logs {
        let mut transfer = Transfer::default();
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
