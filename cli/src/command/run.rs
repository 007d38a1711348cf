//! `laminar run`: one execution of a flow, from its file to its exit code.
//!
//! The steps, in order: read, check and plan the flow; ask each backend that is used what it finds; say what it cannot enforce; see
//! whether every layer fits at all; create the execution; hand everything to the engine; say how it ended. Nothing is
//! written to disk before all that can be known beforehand is known to be right.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::datastore::local::LocalDatastore;
use laminar_core::engine::{self, Limits, Progress, Reporter, Run};
use laminar_core::event::{Outcome, Record};
use laminar_core::executor::{Executor, Probe, Session};
use laminar_core::id::ExecutionId;
use laminar_core::store::{self, Creation, RunStore, Status, StoreError};

use crate::args::RunArgs;
use crate::choice::{self, Choice, Probed, Set};
use crate::command::plan;
use crate::context::{Context, runtime};
use crate::error::{Error, is_read_only};
use crate::execution::abbreviate;
use crate::exit::Code;
use crate::load::{Loaded, load};
use crate::names::Names;
use crate::output::{Shape, Verbosity};
use crate::report::json::Json;
use crate::report::lines::{Density, Lines};
use crate::report::live::Live;
use crate::report::summary::summary;
use crate::report::{Report, Subject};
use crate::signals;
use crate::text::{count, when};

mod notice;

/// The most layers that are named when they ask for too much.
const MOST_EXCESSES: usize = 20;

/// Runs a flow.
pub(crate) fn run(context: &mut Context<'_>, args: &RunArgs) -> Result<Code, Error> {
    let loaded = load(&args.flow, context.backends)?;
    let main = context.backend(args.backend.as_deref().or(loaded.flow.backend.as_deref()))?;
    let set = choice::settle(context, &args.options, |_| vec![main])?;
    let choice = Choice::new(context, &loaded.flow, args.backend.as_deref(), &set)?;
    let runtime = runtime()?;
    let code = runtime.block_on(execute(context, args, &loaded, (&choice, set)));
    runtime.shutdown_background();
    code
}

async fn execute(
    context: &mut Context<'_>,
    args: &RunArgs,
    loaded: &Loaded,
    (choice, set): (&Choice<'_>, Vec<Set>),
) -> Result<Code, Error> {
    let probed = choice.probe(context).await?;
    notice::unused(context, choice, &set);
    notice::unenforced(context, args.strict, loaded, choice, &probed)?;
    let limits = limits(args, &probed);
    fits(loaded, &limits)?;
    if args.dry_run {
        plan::show(context, &loaded.flow, &loaded.plan)?;
        return Ok(Code::Finished);
    }
    mention_unfinished(context, loaded);
    let creation = creation(args, loaded, (choice, set), limits)?;
    let control = signals::controls().map_err(|error| Error::because("cannot listen to signals", &error))?;
    let store =
        RunStore::create(&context.root, &creation, args.durability.into()).map_err(|error| uncreated(&error))?;
    let subject = subject(context, loaded, creation.id);
    introduce(context, &subject, &creation);
    let mut reporter = Tally::new(reporter(context, &subject, &creation)?, loaded.plan.len());
    let begun = Instant::now();
    let executor = choice.executor(&loaded.flow);
    let run = work(context, args, loaded, Ready { executor, store, limits }, &creation);
    let outcome = engine::run(run, &mut reporter, control).await;
    let told = reporter.inner.finish();
    let outcome = outcome.map_err(|error| stranded(&subject, &error))?;
    told.map_err(|error| untold(&subject, outcome, error))?;
    conclude(context, &subject, outcome, &reporter.progress, begun.elapsed());
    Ok(outcome.into())
}

/// What was made ready for the engine.
struct Ready {
    executor: Arc<dyn Executor>,
    store: RunStore,
    limits: Limits,
}

/// What the engine gets.
fn work(context: &Context<'_>, args: &RunArgs, loaded: &Loaded, ready: Ready, creation: &Creation) -> Run {
    let containers = loaded.flow.layers.iter().map(|layer| (Arc::clone(&layer.name), Arc::clone(&layer.container)));
    Run {
        flow: Arc::clone(&loaded.flow),
        plan: Arc::clone(&loaded.plan),
        executor: ready.executor,
        datastore: Arc::new(LocalDatastore::new(context.root.objects())),
        folder: context.root.execution(creation.id),
        store: Box::new(ready.store),
        again: Vec::new(),
        blocking: engine::Blocking::Threads,
        session: Session {
            execution: creation.id,
            flow: Arc::clone(&loaded.flow.name),
            folder: context.root.execution(creation.id).path().to_path_buf(),
            workdir: creation.workdir.clone(),
            containers: containers.collect(),
        },
        limits: ready.limits,
        grace: args.grace,
        environment: loaded.environment.clone(),
    }
}

/// Backends share one machine, so there is as much as the one has that has least.
fn limits(args: &RunArgs, probed: &[Probed<'_>]) -> Limits {
    let least = |what: fn(&Probe) -> u64| probed.iter().map(|probed| what(&probed.probe)).min().unwrap_or(0);
    let cpu_millis = args.cpu.unwrap_or_else(|| least(|probe| probe.cpu_millis));
    let cores = u32::try_from(cpu_millis.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    Limits {
        jobs: args.jobs.unwrap_or(cores),
        cpu_millis,
        memory: args.memory.unwrap_or_else(|| least(|probe| probe.memory)),
    }
}

/// A layer that asks for more than there is would wait forever.
fn fits(loaded: &Loaded, limits: &Limits) -> Result<(), Error> {
    let excesses = engine::excess(&loaded.flow, limits);
    if excesses.is_empty() {
        return Ok(());
    }
    let mut error = Error::usage("there are layers that ask for more than there is");
    for excess in excesses.iter().take(MOST_EXCESSES) {
        let name = &loaded.flow.layer(excess.layer).name;
        let line = format!("layer `{name}`: {} {}, but there is {}", excess.what, excess.asked, excess.there);
        error = error.at(line);
    }
    if excesses.len() > MOST_EXCESSES {
        error = error.at(format!("and {} more", excesses.len() - MOST_EXCESSES));
    }
    Err(error
        .hint("`--cpu` and `--memory` say how much there is to share out; without them it is what the backend has"))
}

/// An execution whose scheduler died is easily forgotten. Once the flow was run again, it is past.
fn mention_unfinished(context: &mut Context<'_>, loaded: &Loaded) {
    // A list that cannot be read is no reason not to run; creating the execution will say what is wrong.
    let Ok(all) = store::list(&context.root) else { return };
    let of_flow = all.iter().filter(|summary| *summary.flow == *loaded.flow.name);
    if let Some(last) = of_flow.max_by_key(|summary| summary.id).filter(|last| last.status == Status::Interrupted) {
        let id = abbreviate(last.id);
        let ago = when::ago(last.created_ms, when::now_ms());
        let status = context.invocation.line(&["status", &id]);
        context.output.note(&format!("execution {id} of this flow ({ago}) was interrupted; see `{status}`"));
    }
}

fn creation(
    args: &RunArgs,
    loaded: &Loaded,
    (choice, options): (&Choice<'_>, Vec<Set>),
    limits: Limits,
) -> Result<Creation, Error> {
    Ok(Creation {
        id: ExecutionId::now(),
        flow: loaded.flow.name.to_string(),
        source_name: loaded.source.name.clone(),
        source_text: loaded.source.text.to_string(),
        source_format: loaded.source.format,
        parameters: args.flow.parameters.clone(),
        backend: choice.main.name.to_owned(),
        elsewhere: choice.elsewhere(),
        options,
        workdir: loaded.folder()?,
        jobs: limits.jobs,
        cpu_millis: limits.cpu_millis,
        memory: limits.memory,
        layers: loaded.flow.layers.iter().map(|layer| layer.name.to_string()).collect(),
        created_ms: when::now_ms(),
    })
}

fn subject(context: &Context<'_>, loaded: &Loaded, id: ExecutionId) -> Arc<Subject> {
    Arc::new(Subject {
        id,
        flow: Arc::clone(&loaded.flow.name),
        names: Names::of_flow(&loaded.flow),
        folder: context.root.execution(id),
        invocation: context.invocation.clone(),
        style: context.output.talk_style(),
    })
}

/// The id, for whoever wants to look at it from elsewhere.
fn introduce(context: &mut Context<'_>, subject: &Subject, creation: &Creation) {
    if context.output.shape() == Shape::Text {
        let layers = count(subject.names.len(), "layer");
        let id = abbreviate(subject.id);
        let backends = creation.backends();
        let word = if backends.len() == 1 { "backend" } else { "backends" };
        let backends = backends.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        context.output.say(&format!("execution {id}: flow `{}`, {layers}, {word} {backends}", subject.flow));
    }
}

fn reporter(context: &Context<'_>, subject: &Arc<Subject>, creation: &Creation) -> Result<Box<dyn Report>, Error> {
    let (output, subject) = (&context.output, Arc::clone(subject));
    if output.shape() == Shape::Json {
        return Ok(Box::new(Json::new(
            subject,
            &creation.backend,
            &creation.backends(),
            creation.created_ms,
            io::stdout(),
        )));
    }
    let density = Density::of(output.verbosity(), subject.names.len());
    if output.talk_is_live() && output.verbosity() > Verbosity::Quiet {
        let live = Live::new(subject, density);
        return Ok(Box::new(live.map_err(|error| Error::because("cannot start a thread", &error))?));
    }
    Ok(Box::new(Lines::new(subject, density, io::stderr())))
}

/// The engine could not go on: what runs goes on, and the execution is there to be looked at.
fn stranded(subject: &Subject, error: &(dyn std::error::Error + 'static)) -> Error {
    let id = abbreviate(subject.id);
    Error::because(format!("cannot go on with execution {id}"), error)
        .hint(format!("see `{}`", subject.invocation.line(&["status", &id])))
}

fn uncreated(error: &StoreError) -> Error {
    let told = Error::because("cannot create the execution", error);
    if is_read_only(error) { told.hint("`--root DIR` names a folder that can be written to") } else { told }
}

/// The execution is over, but whoever reads our standard output does not know all of it.
fn untold(subject: &Subject, outcome: Outcome, error: io::Error) -> Error {
    let id = abbreviate(subject.id);
    let look = subject.invocation.line(&["status", &id, "--json"]);
    Error::from(error).hint(format!("execution {id} went on without it, and is {}; see `{look}`", outcome.word()))
}

fn conclude(context: &mut Context<'_>, subject: &Subject, outcome: Outcome, progress: &Progress, took: Duration) {
    if context.output.shape() == Shape::Json {
        return;
    }
    let line = summary(subject, outcome, progress, took);
    match outcome {
        Outcome::Finished => context.output.say(&line),
        Outcome::Failed | Outcome::Cancelled => context.output.tell(&line),
    }
}

/// Passes everything on, and remembers how far it was at last.
struct Tally {
    inner: Box<dyn Report>,
    progress: Progress,
}

impl Tally {
    fn new(inner: Box<dyn Report>, layers: usize) -> Tally {
        let total = u32::try_from(layers).unwrap_or(u32::MAX);
        Tally { inner, progress: Progress { total, ..Progress::default() } }
    }
}

impl Reporter for Tally {
    fn report(&mut self, record: &Record, progress: &Progress) {
        self.progress = *progress;
        self.inner.report(record, progress);
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        self.progress = *progress;
        self.inner.recall(record, progress);
    }

    fn notice(&mut self, text: &str) {
        self.inner.notice(text);
    }
}
