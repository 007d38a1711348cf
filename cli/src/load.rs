//! From the words on the command line to a checked and planned flow.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::flow::problem::{Format, Source};
use laminar_core::flow::template::Environment;
use laminar_core::flow::{Flow, file};
use laminar_core::plan::Plan;
use laminar_core::store::Creation;

use crate::args::FlowArgs;
use crate::backends::Backend;
use crate::error::Error;

/// The file that stands for standard input.
const STDIN: &str = "-";
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
    /// The caller's environment, as expressions see it.
    pub(crate) environment: Environment,
}

impl Loaded {
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
pub(crate) fn load(args: &FlowArgs, backends: &[Backend]) -> Result<Loaded, Error> {
    let path = find(args.file.as_deref())?;
    let source = if path == Path::new(STDIN) { read_stdin()? } else { file::read(&path)? };
    of_source(path, source, &args.parameters, backends)
}

/// The flow that an execution was created with.
///
/// # Errors
/// When this program understands it no more, or its environment lacks what it names.
pub(crate) fn stored(creation: &Creation, backends: &[Backend]) -> Result<Loaded, Error> {
    let path = creation.workdir.join(Path::new(&creation.source_name).file_name().unwrap_or_default());
    of_source(path, source_of(creation), &creation.parameters, backends)
}

/// The flow file's text as an execution has kept it.
pub(crate) fn source_of(creation: &Creation) -> Source {
    Source {
        name: creation.source_name.clone(),
        text: creation.source_text.as_str().into(),
        format: creation.source_format,
    }
}

fn of_source(
    path: PathBuf,
    source: Source,
    parameters: &[(String, String)],
    backends: &[Backend],
) -> Result<Loaded, Error> {
    let flow = file::parse(&source, parameters)?;
    let plan = Plan::new(&flow).map_err(|cycle| file::cycle(&source, &flow, &cycle.path))?;
    let known: Vec<_> = backends.iter().map(Backend::known).collect();
    if let Some(problems) = file::unknown_backends(&source, &flow, &known) {
        return Err(problems.into());
    }
    let environment = environment();
    // What can be known to fail is told now, not when the layer's turn comes.
    if let Some(problems) = file::rehearse(&source, &flow, &environment) {
        return Err(problems.into());
    }
    Ok(Loaded { path, source, flow: Arc::new(flow), plan: Arc::new(plan), environment })
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
    Ok(file::decode("<stdin>".to_owned(), bytes, Format::Yaml)?)
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
