//! From the words on the command line to a checked and planned flow.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::engine::Limits;
use laminar_core::flow::problem::{Format, Source};
use laminar_core::flow::template::Environment;
use laminar_core::flow::{Flow, file};
use laminar_core::plan::{Plan, Planned};
use laminar_core::scheduler::Scheduler;
use laminar_core::store::Creation;

use crate::args::FlowArgs;
use crate::backends::Backend;
use crate::context::Context;
use crate::error::Error;
use crate::program::{Inside, Placement, Program};
use crate::text::few;

/// The file that stands for standard input.
const STDIN: &str = "-";
/// What a flow is called that came from standard input.
pub(crate) const STDIN_NAME: &str = "<stdin>";
/// What a flow file is called when none is named, in the order they are looked for.
const NAMES: [&str; 3] = ["flow.yaml", "flow.yml", "flow.json"];

/// A flow with its text and its plan.
pub(crate) struct Loaded {
    /// Where it was read from.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) source: Source,
    /// The flow.
    pub(crate) flow: Arc<Flow>,
    /// Its plan.
    pub(crate) plan: Arc<Plan>,
    /// The flows whose place it took, the first before all others.
    pub(crate) earlier: Vec<Planned>,
    /// The caller's environment, as expressions see it.
    pub(crate) environment: Environment,
}

impl Loaded {
    /// The same, in the place of other flows: its layers stand where theirs do.
    pub(crate) fn after(self, earlier: Vec<Planned>) -> Loaded {
        let Some(before) = earlier.last() else { return self };
        let next = aligned(Arc::unwrap_or_clone(self.flow), before);
        Loaded { flow: next.flow, plan: next.plan, earlier, ..self }
    }

    /// The scheduler of an execution of which nothing has happened, for reading its log.
    pub(crate) fn scheduler(&self) -> Scheduler {
        let newest = Planned { flow: Arc::clone(&self.flow), plan: Arc::clone(&self.plan) };
        reader_of(self.earlier.iter().cloned().chain([newest]))
    }

    /// The folder of the flow file, absolute.
    ///
    /// # Errors
    /// When the current folder is gone.
    pub(crate) fn folder(&self) -> Result<PathBuf, Error> {
        let path = std::path::absolute(&self.path)
            .map_err(|error| Error::because("cannot find the current folder", &error))?;
        Ok(path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf))
    }
}

/// Finds, reads, checks and plans a flow.
///
/// # Errors
/// When there is no flow file, or with everything that is wrong with it.
pub(crate) fn load(context: &Context<'_>, args: &FlowArgs, backend: Option<&str>) -> Result<Loaded, Error> {
    let (path, source) = match context.program {
        Some(program) => own(context, program, backend, inside(&args.image, &args.program))?,
        None => {
            refuse_inside(&args.image, &args.program)?;
            read(args.file.as_deref())?
        }
    };
    of_source(context, path, source, &args.parameters)
}

/// What `--image` and `--program` say.
pub(crate) fn inside(image: &Option<String>, program: &Option<String>) -> Inside {
    Inside { image: image.clone(), program: program.clone() }
}

/// Both say nothing to a flow file.
///
/// # Errors
/// When one of them was given.
pub(crate) fn refuse_inside(image: &Option<String>, program: &Option<String>) -> Result<(), Error> {
    let refused = |option: &str, block: &str| {
        let hint = format!("a flow file has `container: {{ {block}: … }}`");
        Err(Error::usage(format!("`{option}` is for flow programs")).hint(hint))
    };
    match (image, program) {
        (Some(_), _) => refused("--image", "image"),
        (None, Some(_)) => refused("--program", "entrypoint"),
        (None, None) => Ok(()),
    }
}

/// The flow file that this program is. `backend` runs the layers that say no other.
///
/// # Errors
/// When there is no such backend, or with everything that is wrong with how the flow was built.
pub(crate) fn own(
    context: &Context<'_>,
    program: &Program,
    backend: Option<&str>,
    inside: Inside,
) -> Result<(PathBuf, Source), Error> {
    let in_images = context.backends.iter().filter(|backend| backend.runs_images).map(|backend| backend.name);
    let placement = Placement { main: context.backend(backend)?.name, in_images: in_images.collect(), inside };
    let without = program.without_image(&placement);
    if !without.is_empty() {
        let build = context.invocation.line(&["image", &format!("{}:1", program.name().to_lowercase())]);
        let error = Error::usage(format!("layers of this program have no image to run in: {}", few(without, 5)));
        return Err(error.hint(format!("`--image IMAGE` names one that holds the program; `{build}` builds one")));
    }
    let source = program.source(&placement)?;
    Ok((source.name.as_str().into(), source))
}

/// Whether whoever can answer what the flow asks is here.
///
/// # Errors
/// When the flow is that of a program, and this is not the program.
pub(crate) fn answered(flow: &Flow) -> Result<(), Error> {
    if flow.answers.is_some() || !file::asks(flow) {
        return Ok(());
    }
    let error = Error::usage(format!("only the program that the flow `{}` belongs to can run it", flow.name));
    Err(error.why("it decides conditions, lists or settings itself").hint("say `run` or `resume` to that program"))
}

/// Finds and reads a flow file.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn read(named: Option<&Path>) -> Result<(PathBuf, Source), Error> {
    let path = find(named)?;
    let source = if path == Path::new(STDIN) { read_stdin()? } else { file::read(&path)? };
    Ok((path, source))
}

/// A scheduler that only reads: it knows these flows, of which each takes the place of the one before.
pub(crate) fn reader_of(flows: impl IntoIterator<Item = Planned>) -> Scheduler {
    let everything = Limits { jobs: u32::MAX, cpu_millis: u64::MAX, memory: u64::MAX };
    let mut flows = flows.into_iter();
    let first = flows.next().expect("an execution has a flow");
    let mut scheduler = Scheduler::new(&first.flow, first.plan, everything);
    flows.for_each(|next| scheduler.learn(next));
    scheduler
}

/// All flows of an execution, the first before all others, each aligned with the one before; the last is the one that it has.
///
/// # Errors
/// When this program understands one no more.
pub(crate) fn flows(creation: &Creation) -> Result<Vec<Planned>, Error> {
    let mut flows = earlier(creation)?;
    flows.push(stored_after(flows.last(), &source_of(creation), &creation.parameters)?);
    Ok(flows)
}

fn earlier(creation: &Creation) -> Result<Vec<Planned>, Error> {
    let mut flows: Vec<Planned> = Vec::new();
    for earlier in &creation.earlier {
        let source = Source {
            name: earlier.source_name.clone(),
            text: Arc::clone(&earlier.source_text),
            format: earlier.source_format,
        };
        flows.push(stored_after(flows.last(), &source, &earlier.parameters)?);
    }
    Ok(flows)
}

fn stored_after(before: Option<&Planned>, source: &Source, parameters: &[(String, String)]) -> Result<Planned, Error> {
    let flow = file::parse(source, parameters)?;
    match before {
        Some(before) => Ok(aligned(flow, before)),
        None => {
            let plan = plan(source, &flow)?;
            Ok(Planned { flow: Arc::new(flow), plan: Arc::new(plan) })
        }
    }
}

fn plan(source: &Source, flow: &Flow) -> Result<Plan, Error> {
    Ok(Plan::new(flow).map_err(|cycle| file::cycle(source, flow, &cycle.path))?)
}

/// A flow without cycles in the place of another.
fn aligned(flow: Flow, before: &Planned) -> Planned {
    Planned::new(flow.aligned(&before.flow)).expect("places make no cycle")
}

/// The flow that an execution has.
///
/// # Errors
/// When this program understands it no more, or its environment lacks what it names.
pub(crate) fn stored(context: &Context<'_>, creation: &Creation) -> Result<Loaded, Error> {
    let loaded = of_source(context, path_of(creation), source_of(creation), &creation.parameters)?;
    Ok(loaded.after(earlier(creation)?))
}

/// Where an execution's flow file was read from. A name that is no absolute path is that of a file in its folder.
pub(crate) fn path_of(creation: &Creation) -> PathBuf {
    let name = Path::new(&creation.source_name);
    let name = if name.is_absolute() { name.as_os_str() } else { name.file_name().unwrap_or_default() };
    creation.workdir.join(name)
}

/// The flow file's text as an execution has kept it.
pub(crate) fn source_of(creation: &Creation) -> Source {
    Source {
        name: creation.source_name.clone(),
        text: Arc::clone(&creation.source_text),
        format: creation.source_format,
    }
}

/// Checks and plans a flow.
///
/// # Errors
/// With everything that is wrong with it.
pub(crate) fn of_source(
    context: &Context<'_>,
    path: PathBuf,
    source: Source,
    parameters: &[(String, String)],
) -> Result<Loaded, Error> {
    let mut flow = file::parse(&source, parameters)?;
    if let Some(program) = context.program.filter(|program| *program.name() == *flow.name) {
        let fits = program.check_parameters(&flow.parameters);
        fits.map_err(|why| Error::usage("the parameters do not fit the program").why(why))?;
        flow.answers = Some(program.clone());
    }
    let plan = plan(&source, &flow)?;
    let known: Vec<_> = context.backends.iter().map(Backend::known).collect();
    if let Some(problems) = file::unknown_backends(&source, &flow, &known) {
        return Err(problems.into());
    }
    let mut environment = environment();
    // No expression can name a secret.
    flow.withheld().iter().for_each(|name| drop(environment.remove(&**name)));
    // What can be known to fail is told now, not when the layer's turn comes.
    if let Some(problems) = file::rehearse(&source, &flow, &environment) {
        return Err(problems.into());
    }
    Ok(Loaded { path, source, flow: Arc::new(flow), plan: Arc::new(plan), earlier: Vec::new(), environment })
}

/// The variables that expressions can name: those a process would get too. What is no text cannot be named.
fn environment() -> Environment {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| !name.starts_with("LAMINAR_")).collect()
}

/// Reads a flow from standard input. JSON is YAML too.
fn read_stdin() -> Result<Source, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(file::LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::because("cannot read standard input", &error))?;
    Ok(file::decode(STDIN_NAME.to_owned(), bytes, Format::Yaml)?)
}

fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    let folder = match named {
        Some(file) if !file.is_dir() => return Ok(file.to_path_buf()),
        Some(folder) => folder,
        None => Path::new(""),
    };
    // Not only what can be opened: a file that cannot be read shall be complained about, not passed over.
    let found = NAMES.iter().map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_ok());
    found.ok_or_else(|| {
        let place = named.map_or("the current folder".to_owned(), |folder| format!("`{}`", folder.display()));
        Error::usage(format!("there is no flow file in {place}"))
            .hint(format!("it is called `{}`; or name another file", NAMES.join("`, `")))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_the_flow_file_in_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(Some(folder.path())).is_err());
        std::fs::write(folder.path().join("flow.json"), "{}").unwrap();
        assert_eq!(find(Some(folder.path())).unwrap(), folder.path().join("flow.json"));
        std::fs::write(folder.path().join("flow.yaml"), "").unwrap();
        assert_eq!(find(Some(folder.path())).unwrap(), folder.path().join("flow.yaml"));
        let elsewhere = folder.path().join("missing.yaml");
        assert_eq!(find(Some(&elsewhere)).unwrap(), elsewhere);
    }
}
