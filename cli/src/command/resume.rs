//! `laminar resume`: goes on with an execution whose scheduler is gone, or that has failed or was cancelled.
//!
//! What it was created with is read from its store: the flow's text, the parameters, the backends with their options. The
//! store is taken over only when everything else is known to be right; what is in flight goes on meanwhile.

use laminar_core::engine::{Control, Limits};
use laminar_core::event::Outcome;
use laminar_core::id::{ExecutionId, LayerId};
use laminar_core::scheduler::Scheduler;
use laminar_core::store::{Creation, RunStore, Status, StoreError};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use std::sync::Arc;

use crate::args::{DriveArgs, ResumeArgs};
use crate::choice::Choice;
use crate::command::run;
use crate::context::{Context, runtime};
use crate::detach;
use crate::drive::{Ready, drive};
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::load::{self, Loaded};
use crate::output::Shape;
use crate::place::LayerName;
use crate::signals;
use crate::text::{count, few};

/// How many events are replayed at once.
const EVENTS: usize = 10_000;
/// How many layers are named that would run.
const MOST_NAMES: usize = 10;

/// Goes on with an execution.
pub(crate) fn run(context: &mut Context<'_>, args: &ResumeArgs) -> Result<Code, Error> {
    let execution = Execution::open(context, &args.id)?;
    let status = execution.reader.status().map_err(|error| execution.unreadable(&error))?;
    if let Status::Running { pid } = status {
        return Err(held(context, execution.id, pid));
    }
    let again = again(&execution, &args.from)?;
    let is_finished = status == Status::Ended(Outcome::Finished);
    if args.dry_run {
        return preview(context, &execution, &again);
    }
    if is_finished && again.is_empty() {
        return nothing_to_do(context, execution.id);
    }
    if args.drive.detach {
        return detach::launch(context);
    }
    let creation = execution.reader.creation().clone();
    drop(execution);
    let loaded = load::stored(&creation, context.backends)?;
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        let control = signals::controls().map_err(|error| Error::because("cannot listen to signals", &error))?;
        take_over(context, &args.drive, creation, &loaded, again, control).await
    });
    runtime.shutdown_background();
    code
}

/// Takes an execution over from a scheduler that is gone, and drives it to its end.
pub(super) async fn take_over(
    context: &mut Context<'_>,
    args: &DriveArgs,
    creation: Creation,
    loaded: &Loaded,
    again: Vec<LayerId>,
    control: UnboundedReceiver<Control>,
) -> Result<Code, Error> {
    let choice = Choice::new(context, &loaded.flow, Some(&creation.backend), &creation.options)?;
    let probed = choice.probe(context).await?;
    run::notice::unenforced(context, args.strict, loaded, &choice, &probed)?;
    let limits = Limits {
        jobs: args.jobs.unwrap_or(creation.jobs),
        cpu_millis: args.cpu.unwrap_or(creation.cpu_millis),
        memory: args.memory.unwrap_or(creation.memory),
    };
    run::fits(loaded, &limits)?;
    let store = RunStore::open(&context.root, creation.id, args.durability.into())
        .map_err(|error| untaken(context, creation.id, &error))?;
    let executor = choice.executor(&loaded.flow);
    drive(context, args, loaded, Ready { executor, store, limits, creation, again }, control).await
}

/// The layers that are to run again.
fn again(execution: &Execution, names: &[String]) -> Result<Vec<LayerId>, Error> {
    let layer = |name: &String| {
        let name = LayerName::parse(name)?;
        match name.index {
            None => execution.layer(&name),
            Some(_) => Err(Error::usage(format!("`--from` takes a whole layer, not `{name}`"))),
        }
    };
    names.iter().map(layer).collect()
}

/// Says what would run.
fn preview(context: &mut Context<'_>, execution: &Execution, again: &[LayerId]) -> Result<Code, Error> {
    let loaded = load::stored(execution.reader.creation(), context.backends)?;
    let mut scheduler = replay(execution, &loaded)?;
    if let Some(busy) = scheduler.under_way(again) {
        return Err(Error::usage(format!(
            "`{}` is under way, and reads what would change",
            execution.names.layer(busy)
        )));
    }
    let resumed = laminar_core::event::Event::ExecutionResumed { again: again.to_vec() };
    scheduler.apply(&resumed).map_err(|error| execution.unreadable(&error))?;
    let names = |of: fn(laminar_core::scheduler::State) -> bool| -> Vec<&str> {
        let ids = execution.names.ids();
        let state = |layer| scheduler.state(laminar_core::id::Split { layer, index: 0 });
        ids.filter(|layer| state(*layer).is_some_and(of)).map(|layer| execution.names.layer(layer)).collect()
    };
    use laminar_core::scheduler::State;
    let under_way = names(|state| matches!(state, State::Running | State::Resting));
    let to_run = names(|state| matches!(state, State::Waiting | State::Ready));
    if context.output.shape() == Shape::Json {
        context.output.document(&json!({"execution": execution.id, "under_way": under_way, "to_run": to_run}))?;
        return Ok(Code::Finished);
    }
    let line = |names: &[&str], what: &str| match names.len() {
        0 => format!("no layer {what}\n"),
        number => format!("{} {what}: {}\n", count(number, "layer"), few(names.iter().copied(), MOST_NAMES)),
    };
    let text = line(&under_way, "under way when the scheduler died") + &line(&to_run, "to run");
    context.output.print(&text)?;
    Ok(Code::Finished)
}

/// The state of an execution, from its log.
pub(super) fn replay(execution: &Execution, loaded: &Loaded) -> Result<Scheduler, Error> {
    let everything = Limits { jobs: u32::MAX, cpu_millis: u64::MAX, memory: u64::MAX };
    let mut scheduler = Scheduler::new(&loaded.flow, Arc::clone(&loaded.plan), everything);
    let mut seen = 0;
    loop {
        let records = execution.reader.records(seen, EVENTS).map_err(|error| execution.unreadable(&error))?;
        for record in &records {
            scheduler.apply(&record.event).map_err(|error| execution.unreadable(&error))?;
            seen = record.seq;
        }
        scheduler.take_changes();
        if records.len() < EVENTS {
            return Ok(scheduler);
        }
    }
}

fn nothing_to_do(context: &mut Context<'_>, id: ExecutionId) -> Result<Code, Error> {
    let short = abbreviate(id);
    match context.output.shape() {
        Shape::Json => context.output.object(&json!({"execution": id, "outcome": Outcome::Finished.word()}))?,
        Shape::Text => {
            let look = context.invocation.line(&["artifacts", &short]);
            let from = context.invocation.line(&["resume", &short, "--from", "LAYER"]);
            let text = format!("execution {short} has finished; see `{look}`, or run a part of it again: `{from}`");
            context.output.say(&text);
        }
    }
    Ok(Code::Finished)
}

fn held(context: &Context<'_>, id: ExecutionId, pid: Option<u32>) -> Error {
    let id = abbreviate(id);
    let line = |words: &[&str]| context.invocation.line(words);
    let who = pid.map_or("its scheduler is alive".to_owned(), |pid| format!("its scheduler is process {pid}"));
    Error::usage(format!("execution {id} is running")).why(who).hint(format!(
        "`{}` follows it, `{}` stops it",
        line(&["status", &id, "-f"]),
        line(&["cancel", &id])
    ))
}

fn untaken(context: &Context<'_>, id: ExecutionId, error: &StoreError) -> Error {
    match error {
        StoreError::Locked { holder, .. } => held(context, id, holder.pid),
        error => Error::because(format!("cannot take over execution {}", abbreviate(id)), error),
    }
}
