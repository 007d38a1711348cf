//! `laminar resume`: goes on with an execution whose scheduler is gone, or that has failed or was cancelled.
//!
//! What it was created with is read from its store: the flow's text, the parameters, the backends with their options;
//! unless `--update` gives it another flow, see [`update`]. The store is taken over only when everything else is known to be
//! right; what is in flight goes on meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::engine::{Again, Control, Limits};
use laminar_core::event::Outcome;
use laminar_core::id::{ExecutionId, LayerId, Split};
use laminar_core::scheduler::{Scheduler, State};
use laminar_core::secret::Secrets;
use laminar_core::store::{Creation, RunStore, Status, StoreError};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::args::{DriveArgs, ResumeArgs};
use crate::choice::Choice;
use crate::command::plan::{self, Splits};
use crate::command::run;
use crate::context::{Context, runtime};
use crate::detach;
use crate::drive::{Ready, drive};
use crate::error::Error;
use crate::execution::{Execution, abbreviate, alone, out_of_range, undecided};
use crate::exit::Code;
use crate::load::{self, Loaded};
use crate::output::Shape;
use crate::place::LayerName;
use crate::secrets;
use crate::signals;
use crate::text::{count, few};

mod update;

use update::{News, Update};

/// How many events are replayed at once.
const EVENTS: usize = 10_000;
/// How long a scheduler that is gone may still seem to hold its execution.
const PARTING: Duration = Duration::from_secs(2);
/// The time from one look to the next meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// How many layers are named that would run.
const MOST_NAMES: usize = 10;
/// What is said where `--update` finds nothing new.
const AS_BEFORE: &str = "the flow is as it was";

/// Goes on with an execution.
pub(crate) fn run(context: &mut Context<'_>, args: &ResumeArgs) -> Result<Code, Error> {
    let execution = Execution::open(context, &args.id).map_err(|error| {
        let is_file = args.update == Some(None) && std::path::Path::new(&args.id).is_file();
        if is_file { error.hint(format!("write `--update={}`", args.id)) } else { error }
    })?;
    let status = settled_status(&execution)?;
    if let Status::Running { pid } = status {
        return Err(held(context, execution.id, pid));
    }
    if args.update.is_none() && !args.drive.detached {
        tell_if_changed(context, execution.reader.creation());
    }
    let is_finished = status == Status::Ended(Outcome::Finished);
    let mut update = match &args.update {
        Some(file) => update::prepare(context, &execution, args, file.as_deref())?,
        None => None,
    };
    let has_changes = update.as_ref().is_some_and(|update| !update.is_without_effect());
    // What runs again all the same sees the parameters that are said now.
    if is_finished && !has_changes && args.from.is_empty() {
        update = None;
    }
    if is_finished && update.is_none() && args.from.is_empty() && !args.dry_run {
        return nothing_to_do(context, execution.id);
    }
    let (creation, loaded, update) = match update {
        Some(Update { creation, loaded, news }) => (creation, loaded, Some(news)),
        None => {
            let creation = execution.reader.creation().clone();
            let loaded = load::stored(context, &creation)?;
            (creation, loaded, None)
        }
    };
    load::answered(&loaded.flow)?;
    let mut again = again(&loaded, &execution, &args.from)?;
    again.changed.extend(update.iter().flat_map(|news| news.changes.changed.iter().map(|changed| changed.layer)));
    if args.dry_run {
        return preview(context, &execution, &loaded, (&creation, update.as_ref()), &again);
    }
    if let Some(news) = &update {
        let outlook = outlook(context, &execution, &loaded, (&creation, Some(news)), &again)?;
        if !args.drive.detached {
            news.tell(context, execution.id, &loaded.flow, &outlook)?;
        }
    } else if args.update.is_some() && !args.drive.detached {
        context.output.say(AS_BEFORE);
    }
    secrets::sweep(context.backends);
    let launched = launched(&execution, &loaded, (&creation, update.as_ref()), &again)?;
    let secrets = secrets::read(context, &loaded.flow, &creation.workdir, |layer| launched.contains(&layer.name));
    let secrets = secrets
        .map_err(|error| error.hint("a secret that came from a variable of another shell is not in this one"))?;
    if args.drive.detach {
        return detach::launch(context);
    }
    drop(execution);
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        let control = signals::controls().map_err(|error| Error::because("cannot listen to signals", &error))?;
        take_over(context, &args.drive, creation, loaded, (again, secrets), control).await
    });
    runtime.shutdown_background();
    code
}

/// Whether it runs. A scheduler that was killed while it started a process is still seen to hold the execution until that
/// process has become what it was started for; so one that is gone is not believed at once.
fn settled_status(execution: &Execution) -> Result<Status, Error> {
    let end = Instant::now() + PARTING;
    loop {
        let status = execution.reader.status().map_err(|error| execution.unreadable(&error))?;
        match &status {
            Status::Running { pid: Some(pid) }
                if Instant::now() < end && !Path::new(&format!("/proc/{pid}")).exists() =>
            {
                std::thread::sleep(LOOK);
            }
            _ => return Ok(status),
        }
    }
}

/// Takes an execution over from a scheduler that is gone, and drives it to its end. Its flow may be one more than its store
/// has.
pub(super) async fn take_over(
    context: &mut Context<'_>,
    args: &DriveArgs,
    creation: Creation,
    loaded: Loaded,
    (again, secrets): (Again, Secrets),
    control: UnboundedReceiver<Control>,
) -> Result<Code, Error> {
    let choice = Choice::new(context, &loaded.flow, Some(&creation.backend), &creation.options)?;
    let probed = choice.probe(context).await?;
    run::notice::unenforced(context, args.strict, &loaded, &choice, &probed)?;
    let limits = Limits {
        jobs: args.jobs.unwrap_or(creation.jobs),
        cpu_millis: args.cpu.unwrap_or(creation.cpu_millis),
        memory: args.memory.unwrap_or(creation.memory),
    };
    run::fits(&loaded, &limits)?;
    let mut store = RunStore::open(&context.root, creation.id, args.durability.into())
        .map_err(|error| untaken(context, creation.id, &error))?;
    store.propose(creation.clone()).map_err(|error| untaken(context, creation.id, &error))?;
    let executor = choice.executor(&loaded.flow);
    drive(context, args, loaded, Ready { executor, store, limits, creation, secrets, again }, control).await
}

/// What is to run again: layers, or single splits of foreach layers.
fn again(loaded: &Loaded, execution: &Execution, names: &[String]) -> Result<Again, Error> {
    let mut again = Again::default();
    for name in names {
        let name = LayerName::parse(name)?;
        let found = loaded.flow.active().find(|(_, layer)| *layer.name == *name.layer);
        let (id, layer) = found.ok_or_else(|| {
            let names = few(loaded.flow.active().map(|(_, layer)| &*layer.name), MOST_NAMES);
            Error::missing(format!("there is no layer `{}` in execution {}", name.layer, abbreviate(execution.id)))
                .hint(format!("it has {names}"))
        })?;
        let row = execution.layers.get(id.at());
        match (name.index, row.and_then(|row| row.splits)) {
            (None, _) => again.layers.push(id),
            (Some(0), _) if layer.foreach.is_none() => again.layers.push(id),
            (Some(index), _) if layer.foreach.is_none() => return Err(alone(&name.layer, index)),
            (Some(index), Some(splits)) if index < splits => again.splits.push(Split { layer: id, index }),
            (Some(index), Some(splits)) => return Err(out_of_range(&name.layer, index, splits)),
            (Some(_), None) => {
                let needs = few(layer.needs.iter().map(|need| &*loaded.flow.layer(*need).name), MOST_NAMES);
                return Err(undecided(&name.layer, row.and_then(|row| row.state), &needs));
            }
        }
    }
    Ok(again)
}

/// What becomes of the layers when the execution is resumed.
struct Outlook<'a> {
    /// Those that were under way when the scheduler died.
    under_way: Vec<Share<'a>>,
    /// Those that will run, or run again.
    to_run: Vec<Share<'a>>,
    /// How many tasks are done, and how many there are as far as that is decided.
    done: (u32, u32),
}

/// A layer, and how many of its splits it is about.
struct Share<'a> {
    name: &'a str,
    tasks: u32,
    /// Of how many; nothing if it is not fanned out.
    splits: Option<Splits>,
}

impl Share<'_> {
    fn words(&self) -> String {
        match self.splits {
            None | Some(Splits::One) => self.name.to_owned(),
            Some(Splits::Known(splits)) if splits == self.tasks => {
                format!("{} ({})", self.name, count(splits as usize, "split"))
            }
            Some(Splits::Known(splits)) => format!("{} ({} of {splits} splits)", self.name, self.tasks),
            Some(Splits::Unknown) => format!("{} (? splits)", self.name),
        }
    }
}

/// The layers with secrets of which something will be launched, as far as can be told beforehand: what runs has all it needs.
fn launched(
    execution: &Execution,
    loaded: &Loaded,
    (creation, news): (&Creation, Option<&News>),
    again: &Again,
) -> Result<HashSet<Arc<str>>, Error> {
    let wanting = || (0..).map(LayerId).zip(&loaded.flow.layers).filter(|(_, layer)| !layer.secrets.is_empty());
    if wanting().next().is_none() {
        return Ok(HashSet::new());
    }
    let mut scheduler = replay(execution, loaded)?;
    let update = news.and_then(|_| u32::try_from(creation.earlier.len()).ok());
    scheduler.apply(&again.event(update)).map_err(|error| execution.unreadable(&error))?;
    let is_launched = |state| matches!(state, State::Waiting | State::Ready | State::Resting);
    let launched = wanting().filter(|(id, _)| of_layer(&scheduler, *id).any(is_launched));
    Ok(launched.map(|(_, layer)| Arc::clone(&layer.name)).collect())
}

fn outlook<'a>(
    context: &Context<'_>,
    execution: &Execution,
    loaded: &'a Loaded,
    (creation, news): (&Creation, Option<&News>),
    again: &Again,
) -> Result<Outlook<'a>, Error> {
    let name = |layer: LayerId| &*loaded.flow.layer(layer).name;
    let mut scheduler = replay(execution, loaded)?;
    let update = news.and_then(|_| u32::try_from(creation.earlier.len()).ok());
    if let Some(busy) = scheduler.under_way(&again.whole(), &again.splits, update) {
        let why = match loaded.flow.layer(busy).retired {
            true => "would be taken out of the flow",
            false => "would change, or reads what would change",
        };
        return Err(occupied(context, execution, name(busy), why));
    }
    let all = || (0..).map(LayerId).take(loaded.plan.len());
    let is_running = |layer: &LayerId| of_layer(&scheduler, *layer).any(|state| state == State::Running);
    let is_moved = |layer: &LayerId| news.is_some_and(|news| news.moves(creation.backend_of(*layer)));
    if let Some(busy) = all().filter(is_moved).find(is_running) {
        let why = format!("runs on `{}`, whose options would change", creation.backend_of(busy));
        return Err(occupied(context, execution, name(busy), &why));
    }
    scheduler.apply(&again.event(update)).map_err(|error| execution.unreadable(&error))?;
    let shares = |of: fn(State) -> bool| {
        let share = |layer: LayerId| {
            let tasks = of_layer(&scheduler, layer).filter(|state| of(*state)).count();
            let declared = loaded.flow.layer(layer);
            let splits = declared.foreach.is_some().then(|| match scheduler.splits(layer) {
                Some(splits) => Splits::Known(splits),
                None => plan::splits(&loaded.flow, declared),
            });
            (tasks > 0).then(|| {
                // One whose splits are not decided anew stands for all of them.
                let tasks = match splits {
                    Some(Splits::Known(splits)) if scheduler.splits(layer).is_none() => splits,
                    _ => u32::try_from(tasks).unwrap_or(u32::MAX),
                };
                Share { name: name(layer), tasks, splits }
            })
        };
        all().filter_map(share).collect()
    };
    Ok(Outlook {
        under_way: shares(|state| matches!(state, State::Running | State::Resting)),
        to_run: shares(|state| matches!(state, State::Waiting | State::Ready)),
        done: (scheduler.progress().settled(), scheduler.progress().total),
    })
}

/// The states of a layer's splits.
fn of_layer(scheduler: &Scheduler, layer: LayerId) -> impl Iterator<Item = State> {
    (0..scheduler.splits(layer).unwrap_or(1)).filter_map(move |index| scheduler.state(Split { layer, index }))
}

/// A layer that is under way is in the way.
fn occupied(context: &Context<'_>, execution: &Execution, layer: &str, why: &str) -> Error {
    let id = abbreviate(execution.id);
    let line = |words: &[&str]| context.invocation.line(words);
    Error::usage(format!("`{layer}` is under way, and {why}")).hint(format!(
        "`{}` goes on with it as it is, `{}` stops it; then it can run again",
        line(&["resume", &id]),
        line(&["cancel", &id])
    ))
}

/// Says what would run.
fn preview(
    context: &mut Context<'_>,
    execution: &Execution,
    loaded: &Loaded,
    (creation, news): (&Creation, Option<&News>),
    again: &Again,
) -> Result<Code, Error> {
    let outlook = outlook(context, execution, loaded, (creation, news), again)?;
    if context.output.shape() == Shape::Json {
        let update = news.map(|news| news.object(&loaded.flow));
        let mut document = json!({"execution": execution.id, "update": update});
        outlook.push(&mut document);
        context.output.document(&document)?;
        return Ok(Code::Finished);
    }
    let mut lines = news.map(|news| news.lines(&loaded.flow)).unwrap_or_default();
    lines.extend(outlook.lines());
    context.output.print(&(lines.join("\n") + "\n"))?;
    Ok(Code::Finished)
}

impl Outlook<'_> {
    fn lines(&self) -> Vec<String> {
        let line = |shares: &[Share<'_>], what: &str| {
            let words: Vec<String> = shares.iter().map(Share::words).collect();
            let shown = || few(words.iter().map(String::as_str), MOST_NAMES);
            (!shares.is_empty()).then(|| format!("{} {what}: {}", count(shares.len(), "layer"), shown()))
        };
        let all = [line(&self.under_way, "under way when the scheduler died"), line(&self.to_run, "to run")];
        let mut lines: Vec<String> = all.into_iter().flatten().collect();
        if lines.is_empty() {
            lines.push("nothing to run".to_owned());
        }
        if self.under_way.iter().chain(&self.to_run).any(|share| share.splits.is_some()) {
            let (done, all) = self.done;
            lines.push(format!(
                "{done} of {} {} done",
                count(all as usize, "task"),
                if done == 1 { "is" } else { "are" }
            ));
        }
        lines
    }

    /// The same for programs: names, and of layers that are fanned out how many splits.
    fn push(&self, object: &mut Value) {
        let names = |shares: &[Share<'_>]| shares.iter().map(|share| Value::from(share.name)).collect::<Vec<_>>();
        let splits = |shares: &[Share<'_>]| -> Map<String, Value> {
            let fanned_out = shares.iter().filter(|share| share.splits.is_some());
            let tasks = |share: &Share<'_>| (share.splits != Some(Splits::Unknown)).then_some(share.tasks);
            fanned_out.map(|share| (share.name.to_owned(), tasks(share).into())).collect()
        };
        object["under_way"] = names(&self.under_way).into();
        object["to_run"] = names(&self.to_run).into();
        object["splits"] = json!({"under_way": splits(&self.under_way), "to_run": splits(&self.to_run)});
        object["done"] = self.done.0.into();
        object["tasks"] = self.done.1.into();
    }
}

/// Says that the flow file is not what the execution has, where that is found: the execution goes on with what it has.
fn tell_if_changed(context: &mut Context<'_>, creation: &Creation) {
    if let Some(program) = context.program {
        let inside = program.inside(&creation.source_text);
        let now = load::own(context, program, Some(&creation.backend), inside);
        if now.is_ok_and(|(_, now)| *now.text != *creation.source_text) {
            context.output.note("the program's flow has changed since; `--update` takes it as it is now");
        }
        return;
    }
    if creation.source_name == load::STDIN_NAME {
        return;
    }
    let path = load::path_of(creation);
    // Whoever cannot read the file now does not ask for it either.
    if load::read(Some(&path)).is_ok_and(|(_, now)| *now.text != *creation.source_text) {
        context.output.note(&format!("`{}` has changed since; `--update` takes it as it is now", creation.source_name));
    }
}

/// The state of an execution, from its log.
fn replay(execution: &Execution, loaded: &Loaded) -> Result<Scheduler, Error> {
    let mut scheduler = loaded.scheduler();
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
