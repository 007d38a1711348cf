//! From an execution that is ready to its exit code: hands everything to the engine, and says what happens and how it ended.

use std::io;
use std::sync::Arc;

use laminar_core::datastore;
use laminar_core::datastore::local::LocalDatastore;
use laminar_core::engine::{self, Again, Blocking, Control, EngineError, Limits, Progress, Reporter, Run};
use laminar_core::event::{Outcome, Record};
use laminar_core::executor::{Executor, Session};
use laminar_core::flow::{Flow, Layer};
use laminar_core::id::ExecutionId;
use laminar_core::secret::Secrets;
use laminar_core::shares::Shares;
use laminar_core::store::{Creation, RunCache, RunReader, RunStore};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::args::DriveArgs;
use crate::context::Context;
use crate::detach;
use crate::error::Error;
use crate::execution::abbreviate;
use crate::exit::Code;
use crate::load::Loaded;
use crate::mask::Mask;
use crate::names::Names;
use crate::output::{Shape, Verbosity};
use crate::report::json::Json;
use crate::report::lines::{Density, Lines};
use crate::report::live::Live;
use crate::report::masked::Masked;
use crate::report::summary::{Span, summary};
use crate::report::{Report, Subject};
use crate::secrets;
use crate::text::count;

/// What was made ready for the engine.
pub(crate) struct Ready {
    pub(crate) executor: Arc<dyn Executor>,
    /// Where its events go, held by this process.
    pub(crate) store: RunStore,
    pub(crate) limits: Limits,
    pub(crate) creation: Creation,
    /// The values of its secrets.
    pub(crate) secrets: Secrets,
    /// What runs again though it has finished.
    pub(crate) again: Again,
}

/// Drives an execution to its end.
pub(crate) async fn drive(
    context: &mut Context<'_>,
    args: &DriveArgs,
    loaded: Loaded,
    ready: Ready,
    control: UnboundedReceiver<Control>,
) -> Result<Code, Error> {
    // What was said before comes before what is reported.
    context.output.flush()?;
    let creation = &ready.creation;
    let subject = subject(context, &loaded.flow, creation.id, secrets::mask(&ready.secrets));
    introduce(context, &subject, creation, &loaded.flow);
    // Nobody reads the standard output of a detached one.
    let report: Box<dyn Report> = match args.detached {
        true => {
            let lines = Lines::new(Arc::clone(&subject), density(context, &subject), io::stderr());
            Masked::over(Box::new(lines), &subject.mask)
        }
        false => reporter(context, &subject, creation)?,
    };
    let mut reporter = Tally::new(report, loaded.plan.len(), creation.created_ms);
    reporter.lets_go = args.detached.then(|| Arc::clone(&subject));
    let outcome = engine::run(work(context, args, loaded, ready), &mut reporter, control).await;
    let told = reporter.inner.finish();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(EngineError::Executor(error)) if is_blank(context, subject.id) => {
            // Nothing of it has happened, so there is nothing to go on with.
            let _ = datastore::remove(subject.folder.path());
            return Err(Error::because("cannot begin", &error).hint("nothing was run, and nothing is left of it"));
        }
        Err(error) => return Err(stranded(&subject, &error)),
    };
    told.map_err(|error| untold(&subject, outcome, error))?;
    conclude(context, &subject, outcome, &reporter.progress, &reporter.span);
    Ok(outcome.into())
}

/// What the engine gets.
fn work(context: &mut Context<'_>, args: &DriveArgs, loaded: Loaded, ready: Ready) -> Run {
    let placed = loaded.flow.active().filter(|(_, layer)| layer.is_placed());
    let containers = placed.map(|(_, layer)| (Arc::clone(&layer.name), Arc::clone(&layer.container)));
    let folder = context.root.execution(ready.creation.id);
    Run {
        executor: ready.executor,
        datastore: Arc::new(LocalDatastore::new(context.root.objects())),
        store: Box::new(ready.store),
        again: ready.again,
        blocking: Blocking::Threads,
        session: Session {
            execution: ready.creation.id,
            flow: Arc::clone(&loaded.flow.name),
            folder: folder.path().to_path_buf(),
            workdir: ready.creation.workdir,
            containers: containers.collect(),
            withheld: loaded.flow.withheld().into_iter().collect(),
        },
        shares: shares(context, args, &loaded.flow, ready.creation.id),
        flow: loaded.flow,
        plan: loaded.plan,
        earlier: loaded.earlier,
        folder,
        limits: ready.limits,
        grace: args.grace,
        environment: loaded.environment,
        secrets: ready.secrets,
        runs: Arc::new(RunCache::new(&context.root)),
    }
}

/// Those that the machine is shared with, if the flow reserves anything of it.
fn shares(context: &mut Context<'_>, args: &DriveArgs, flow: &Flow, id: ExecutionId) -> Option<Shares> {
    let reserves = |layer: &Layer| {
        let container = &layer.container;
        let is_open = layer.open.as_ref().is_some_and(|open| open.sizes());
        is_open || container.cpu_millis.unwrap_or(0) > 0 || container.memory.unwrap_or(0) > 0
    };
    if args.no_share || !flow.layers.iter().any(reserves) {
        return None;
    }
    match Shares::join(&Shares::folder(), id) {
        Ok(shares) => Some(shares),
        Err(error) => {
            context.output.note(&format!("the machine is not shared with other executions: {error}"));
            None
        }
    }
}

/// The execution, as reporters know it.
pub(crate) fn subject(context: &Context<'_>, flow: &Flow, id: ExecutionId, mask: Mask) -> Arc<Subject> {
    Arc::new(Subject {
        id,
        flow: Arc::clone(&flow.name),
        names: Names::of_flow(flow),
        folder: context.root.execution(id),
        invocation: context.invocation.clone(),
        style: context.output.talk_style(),
        mask,
    })
}

/// The id, for whoever wants to look at it from elsewhere.
pub(crate) fn introduce(context: &mut Context<'_>, subject: &Subject, creation: &Creation, flow: &Flow) {
    if context.output.shape() == Shape::Text {
        let layers = count(flow.active().count(), "layer");
        let id = abbreviate(subject.id);
        let backends = creation.backends();
        let word = if backends.len() == 1 { "backend" } else { "backends" };
        let backends = backends.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        context.output.say(&format!("execution {id}: flow `{}`, {layers}, {word} {backends}", subject.flow));
    }
}

/// What tells of its events, in the way that was asked for.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn reporter(
    context: &Context<'_>,
    subject: &Arc<Subject>,
    creation: &Creation,
) -> Result<Box<dyn Report>, Error> {
    Ok(Masked::over(unmasked(context, Arc::clone(subject), creation)?, &subject.mask))
}

fn unmasked(context: &Context<'_>, subject: Arc<Subject>, creation: &Creation) -> Result<Box<dyn Report>, Error> {
    let output = &context.output;
    if output.shape() == Shape::Json {
        return Ok(Box::new(Json::new(
            subject,
            &creation.backend,
            &creation.backends(),
            creation.created_ms,
            io::stdout(),
        )));
    }
    let density = density(context, &subject);
    if output.talk_is_live() && output.verbosity() > Verbosity::Quiet {
        let live = Live::new(subject, density);
        return Ok(Box::new(live.map_err(|error| Error::because("cannot start a thread", &error))?));
    }
    Ok(Box::new(Lines::new(subject, density, io::stderr())))
}

/// Whether nothing is on record of an execution but that it was created.
fn is_blank(context: &Context<'_>, id: ExecutionId) -> bool {
    RunReader::open(&context.root, id).and_then(|reader| reader.last_event()).is_ok_and(|last| last == 0)
}

fn density(context: &Context<'_>, subject: &Subject) -> Density {
    Density::of(context.output.verbosity(), subject.names.len())
}

/// The engine could not go on: the execution is there to be looked at, and to be gone on with.
fn stranded(subject: &Subject, error: &EngineError) -> Error {
    let id = abbreviate(subject.id);
    let line = |words: &[&str]| subject.invocation.line(words);
    let what = format!("cannot go on with execution {id}");
    match error {
        EngineError::UnderWay { .. } => Error::usage(what).why(error.to_string()).hint(format!(
            "`{}` waits for it, `{}` stops it; then it can run again",
            line(&["resume", &id]),
            line(&["cancel", &id])
        )),
        error => Error::because(what, error).hint(format!(
            "see `{}`; `{}` goes on where it was",
            line(&["status", &id]),
            line(&["resume", &id])
        )),
    }
}

/// The execution is over, but whoever reads our standard output does not know all of it.
fn untold(subject: &Subject, outcome: Outcome, error: io::Error) -> Error {
    let id = abbreviate(subject.id);
    let look = subject.invocation.line(&["status", &id, "--json"]);
    Error::from(error).hint(format!("execution {id} went on without it, and is {}; see `{look}`", outcome.word()))
}

/// Says how it ended.
pub(crate) fn conclude(
    context: &mut Context<'_>,
    subject: &Subject,
    outcome: Outcome,
    progress: &Progress,
    span: &Span,
) {
    if context.output.shape() == Shape::Json {
        return;
    }
    let line = summary(subject, outcome, progress, span);
    match outcome {
        Outcome::Finished => context.output.say(&line),
        Outcome::Failed | Outcome::Cancelled => context.output.tell(&line),
    }
}

/// Passes everything on, and remembers how far it was at last, and when.
struct Tally {
    inner: Box<dyn Report>,
    progress: Progress,
    span: Span,
    /// The execution that is let go of when its first event is on record: whoever looks at it then sees that it runs.
    lets_go: Option<Arc<Subject>>,
}

impl Tally {
    fn new(inner: Box<dyn Report>, layers: usize, created_ms: i64) -> Tally {
        let total = u32::try_from(layers).unwrap_or(u32::MAX);
        let progress = Progress { total, ..Progress::default() };
        Tally { inner, progress, span: Span::new(created_ms), lets_go: None }
    }
}

impl Reporter for Tally {
    fn report(&mut self, record: &Record, progress: &Progress) {
        if let Some(subject) = self.lets_go.take()
            && let Err(error) = detach::let_go(&subject)
        {
            self.inner.notice(&format!("cannot let go of the terminal: {error}"));
        }
        self.progress = *progress;
        self.span.note(record);
        self.inner.report(record, progress);
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        self.progress = *progress;
        self.span.note(record);
        self.inner.recall(record, progress);
    }

    fn notice(&mut self, text: &str) {
        self.inner.notice(text);
    }
}
