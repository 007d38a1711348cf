//! `laminar run`: one execution of a flow, from its file to its exit code.
//!
//! The steps, in order: read, check and plan the flow; ask each backend that is used what it finds; say what it cannot enforce; see
//! whether every layer fits at all; create the execution; hand everything to the engine; say how it ended. Nothing is
//! written to disk before all that can be known beforehand is known to be right.

use std::sync::Arc;

use laminar_core::engine::{self, Again, Limits};
use laminar_core::executor::Probe;
use laminar_core::id::ExecutionId;
use laminar_core::secret::Secrets;
use laminar_core::store::{self, Creation, RunStore, Status, StoreError, Summary};
use tokio::task::JoinHandle;

use crate::args::{DriveArgs, RunArgs};
use crate::choice::{self, Choice, Probed, Set};
use crate::command::plan;
use crate::context::{Context, runtime};
use crate::detach;
use crate::drive::{Ready, drive};
use crate::error::{Error, is_read_only};
use crate::execution::abbreviate;
use crate::exit::Code;
use crate::load::{Loaded, answered, load};
use crate::secrets;
use crate::signals;
use crate::text::when;

pub(crate) mod notice;

/// The most layers that are named when they ask for too much.
const MOST_EXCESSES: usize = 20;

/// Runs a flow.
pub(crate) fn run(context: &mut Context<'_>, args: &RunArgs) -> Result<Code, Error> {
    let loaded = load(context, &args.flow, args.backend.as_deref())?;
    answered(&loaded.flow)?;
    let main = context.backend(args.backend.as_deref().or(loaded.flow.backend.as_deref()))?;
    let set = choice::settle(context, &args.options, |_| vec![main])?;
    let choice = Choice::new(context, &loaded.flow, args.backend.as_deref(), &set)?;
    secrets::sweep(context.backends);
    let secrets = secrets::read(context, &loaded.flow, &loaded.folder()?, |_| true)?;
    if args.drive.detach && !args.dry_run {
        return detach::launch(context);
    }
    let runtime = runtime()?;
    let code = runtime.block_on(execute(context, args, loaded, (&choice, set), secrets));
    runtime.shutdown_background();
    code
}

async fn execute(
    context: &mut Context<'_>,
    args: &RunArgs,
    loaded: Loaded,
    (choice, set): (&Choice<'_>, Vec<Set>),
    secrets: Secrets,
) -> Result<Code, Error> {
    let folder = loaded.folder()?;
    // At the same time: both ask the engine. What is wrong with the layers is said last.
    let (probed, checked) = tokio::join!(choice.probe(context), choice.check(&loaded.flow, &folder));
    let probed = probed?;
    notice::unused(context, choice, &set);
    notice::unenforced(context, args.drive.strict, &loaded, choice, &probed)?;
    let limits = limits(&args.drive, &probed);
    fits(&loaded, &limits)?;
    checked?;
    if args.dry_run {
        plan::show(context, &loaded.flow, &loaded.plan)?;
        return Ok(Code::Finished);
    }
    let creation = creation(args, &loaded, (choice, set), limits)?;
    let unfinished = Unfinished::look_for(context, &creation);
    let control = signals::controls().map_err(|error| Error::because("cannot listen to signals", &error))?;
    let store =
        RunStore::create(&context.root, &creation, args.drive.durability.into()).map_err(|error| uncreated(&error))?;
    unfinished.mention(context).await;
    let executor = choice.executor(&loaded.flow);
    let ready = Ready { executor, store, limits, creation, secrets, again: Again::default() };
    drive(context, &args.drive, loaded, ready, control).await
}

/// Backends share one machine, so there is as much as the one has that has least.
pub(crate) fn limits(args: &DriveArgs, probed: &[Probed<'_>]) -> Limits {
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
pub(crate) fn fits(loaded: &Loaded, limits: &Limits) -> Result<(), Error> {
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

/// An execution whose scheduler died is easily forgotten. Once the flow was run again, it is past. It is looked for while the
/// new one is created, since there may be many to look at.
struct Unfinished(JoinHandle<Option<Summary>>);

impl Unfinished {
    fn look_for(context: &Context<'_>, creation: &Creation) -> Unfinished {
        let (root, flow, id) = (context.root.clone(), creation.flow.clone(), creation.id);
        Unfinished(tokio::task::spawn_blocking(move || {
            // A list that cannot be read is no reason not to run; creating the execution will say what is wrong.
            let all = store::list(&root).ok()?;
            let of_flow = all.into_iter().filter(|summary| summary.flow == flow && summary.id < id);
            of_flow.max_by_key(|summary| summary.id).filter(|last| last.status == Status::Interrupted)
        }))
    }

    async fn mention(self, context: &mut Context<'_>) {
        let Ok(Some(last)) = self.0.await else { return };
        let id = abbreviate(last.id);
        let ago = when::ago(last.created_ms, when::now_ms());
        let resume = context.invocation.line(&["resume", &id]);
        context
            .output
            .note(&format!("execution {id} of this flow ({ago}) was interrupted; `{resume}` goes on with it"));
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
        source_text: Arc::clone(&loaded.source.text),
        source_format: loaded.source.format,
        parameters: args.flow.parameters.clone(),
        backend: choice.main.name.to_owned(),
        elsewhere: choice.elsewhere(),
        options,
        workdir: loaded.folder()?,
        jobs: limits.jobs,
        cpu_millis: limits.cpu_millis,
        memory: limits.memory,
        layers: loaded.flow.layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
        created_ms: when::now_ms(),
        earlier: Vec::new(),
    })
}

fn uncreated(error: &StoreError) -> Error {
    let told = Error::because("cannot create the execution", error);
    if is_read_only(error) { told.hint("`--root DIR` names a folder that can be written to") } else { told }
}
