//! What executions of the past have left: of any flow, of a program or a file, whichever backend ran it.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use laminar_core::datastore::local::LocalDatastore;
use laminar_core::datastore::{Artifact as Kept, Datastore, remove};
use laminar_core::flow::{Parameters, file};
use laminar_core::folder::Root;
use laminar_core::id::{ExecutionId, LayerId, number};
use laminar_core::store::{self, LayerRow, RunReader, Summary};
use serde_json::Value;

use super::artifact::{Artifact, RESULTS};
use super::failure::{Context, Failure, Result};
use super::input::Input;
use super::shards::Shards;
use super::source::{self, Source, Stored, Task};
use crate::execution::status_word;
use crate::load;

/// The executions that a root folder has.
///
/// ```no_run
/// let results = laminar::Results::open(".laminar")?;
/// for execution in results.executions()? {
///     println!("{} {} {}", execution.id, execution.flow, execution.state);
/// }
/// let accuracy: f64 = results.execution("latest")?.value("Train", "accuracy")?;
/// # Ok::<(), laminar::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Results {
    root: Root,
}

/// An execution, as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// The flow's name.
    pub flow: String,
    /// `running`, `interrupted`, `finished`, `failed`, `cancelled`, `damaged` or `unreadable`.
    pub state: &'static str,
    /// When it was created.
    pub created: SystemTime,
    /// When it ended, if it has.
    pub ended: Option<SystemTime>,
}

/// One execution, with what its layers have left.
#[derive(Debug)]
pub struct Execution {
    reader: RunReader,
    layers: Vec<LayerRow>,
    datastore: LocalDatastore,
    root: Root,
    /// Where what is read is laid out: links to the datastore, gone with this value.
    views: Mutex<Option<Views>>,
    parameters: OnceCell<Parameters>,
    task: Task,
}

#[derive(Debug)]
struct Views {
    folder: tempfile::TempDir,
    built: BTreeSet<PathBuf>,
}

impl Drop for Views {
    fn drop(&mut self) {
        // Its folders are read-only.
        let _ = remove(self.folder.path());
    }
}

/// A layer of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerResult {
    /// Its name.
    pub name: String,
    /// Its splits that were launched or have settled, by index; a layer without `foreach` has one. None of a layer that was
    /// skipped or has not begun.
    pub splits: Vec<SplitResult>,
    /// How many splits it has, once that is known.
    pub count: Option<u32>,
    /// What became of it as a whole, where that is not up to its splits: `skipped`, or `failed` before it had any.
    pub state: Option<&'static str>,
}

/// A split of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitResult {
    /// Which, from 0.
    pub index: u32,
    /// `waiting`, `running`, `resting`, `finished`, `cached`, `caught`, `failed` or `cancelled`.
    pub state: &'static str,
    /// The number of its last attempt; 0 if there was none.
    pub attempt: u32,
    /// How the last attempt ended: `exit code 1`, `out of memory`, `timed out`, …
    pub cause: Option<String>,
    /// What that rests on.
    pub evidence: Option<String>,
    /// How long the last attempt ran.
    pub took: Option<Duration>,
}

/// An artifact of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactResult {
    /// The layer.
    pub layer: String,
    /// The split.
    pub index: u32,
    /// Its name, with the ending.
    pub name: String,
    /// The size of all its files in bytes.
    pub size: u64,
}

impl Results {
    /// Those of a root folder: `.laminar`, or what `--root` or `LAMINAR_ROOT` named.
    ///
    /// # Errors
    /// When the path is empty or the current folder is gone.
    pub fn open(root: impl AsRef<Path>) -> Result<Results> {
        Ok(Results { root: Root::new(root.as_ref())? })
    }

    /// All executions, the newest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn executions(&self) -> Result<Vec<Listed>> {
        let mut all = store::list(&self.root).context("cannot list the executions")?;
        all.sort_by_key(|summary| std::cmp::Reverse(summary.id));
        Ok(all.iter().map(Listed::of).collect())
    }

    /// One execution: its id, a unique beginning of it, or `latest`.
    ///
    /// # Errors
    /// When there is none of this name, more than one, or it cannot be read.
    pub fn execution(&self, name: &str) -> Result<Execution> {
        let id = store::resolve(&self.root, name).context(format!("cannot find the execution `{name}`"))?;
        Execution::open(&self.root, id)
    }
}

impl Listed {
    fn of(summary: &Summary) -> Listed {
        Listed {
            id: summary.id.to_string(),
            flow: summary.flow.clone(),
            state: status_word(&summary.status),
            created: time(summary.created_ms),
            ended: summary.ended_ms.map(time),
        }
    }
}

fn time(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Execution {
    pub(super) fn open(root: &Root, id: ExecutionId) -> Result<Execution> {
        let told = || format!("cannot read execution {id}");
        let reader = RunReader::open(root, id).context(told())?;
        let layers = reader.layers().context(told())?;
        let task = Task {
            execution: id.to_string(),
            flow: reader.creation().flow.clone(),
            layer: String::new(),
            index: 0,
            splits: 1,
            attempt: 1,
        };
        let datastore = LocalDatastore::new(root.objects());
        let (views, parameters) = (Mutex::default(), OnceCell::new());
        Ok(Execution { reader, layers, datastore, root: root.clone(), views, parameters, task })
    }

    /// Its id: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.task.execution
    }

    /// The flow's name.
    #[must_use]
    pub fn flow(&self) -> &str {
        &self.task.flow
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        time(self.reader.creation().created_ms)
    }

    /// `running`, `interrupted`, `finished`, `failed` or `cancelled`.
    ///
    /// # Errors
    /// When its store cannot be read.
    pub fn state(&self) -> Result<&'static str> {
        Ok(status_word(&self.reader.status().context("cannot read the execution's state")?))
    }

    /// Its layers, in the order of the flow.
    ///
    /// # Errors
    /// When its store cannot be read.
    pub fn layers(&self) -> Result<Vec<LayerResult>> {
        let mut all: Vec<LayerResult> = self.reader.creation().layers.iter().zip(&self.layers).map(layer).collect();
        for row in self.reader.splits().context("cannot read the splits")? {
            let exit = row.exit.as_ref();
            if let Some(layer) = all.get_mut(row.split.layer.at()) {
                layer.splits.push(SplitResult {
                    index: row.split.index,
                    state: row.state.word(),
                    attempt: row.attempt,
                    cause: exit.map(|exit| exit.cause.to_string()),
                    evidence: exit.map(|exit| exit.evidence.clone()).or(row.reason).filter(|text| !text.is_empty()),
                    took: exit.map(|exit| Duration::from_micros(exit.usage.wall_us)),
                });
            }
        }
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none of this name, or the store cannot be read.
    pub fn layer(&self, name: &str) -> Result<LayerResult> {
        let id = self.find(name)?;
        Ok(self.layers()?.swap_remove(id.at()))
    }

    /// Everything that its layers have left, by layer, index and name.
    ///
    /// # Errors
    /// When its store cannot be read.
    pub fn artifacts(&self) -> Result<Vec<ArtifactResult>> {
        let names = &self.reader.creation().layers;
        let rows = self.reader.artifacts(None).context("cannot read the artifacts")?;
        let result = |row: store::ArtifactRow| ArtifactResult {
            layer: names.get(row.split.layer.at()).map(|name| name.to_string()).unwrap_or_default(),
            index: row.split.index,
            size: row.artifact.content.size(),
            name: row.artifact.name,
        };
        Ok(rows.into_iter().map(result).collect())
    }

    /// What a layer has left: `value("Train", "accuracy")` is the value in `accuracy.json`; files and folders have their whole
    /// names. What a function has returned is called `value`.
    ///
    /// # Errors
    /// When it has left nothing of this name, or something else than a `T`.
    pub fn value<T: Artifact>(&self, layer: &str, artifact: &str) -> Result<T> {
        let name = super::artifacts::file::<T>(artifact);
        let found = self.artifact(layer, &name)?;
        let told = || {
            let left = self.left(layer, &name).map_or(String::new(), |left| format!("; {left}"));
            Failure::new(format!("`{layer}` has left no `{name}` in execution {}{left}", self.id()))
        };
        found.ok_or_else(told)?.read()
    }

    /// What each split of a foreach layer has left, read when it is asked for.
    ///
    /// # Errors
    /// When there is no such layer, or it has no splits.
    pub fn values<T: Artifact>(&self, layer: &str, artifact: &str) -> Result<Shards<T>> {
        if !self.layers[self.find(layer)?.at()].foreach {
            return Err(Failure::new(format!("`{layer}` is not fanned out; `value` reads what it has left")));
        }
        Stored::read_all(self.artifact(layer, &super::artifacts::file::<T>(artifact))?)
    }

    /// What a layer would be given that reads this: by the handles of the flow that was run, with their types.
    ///
    /// # Errors
    /// When it is not there, or is something else.
    pub fn read<'f, I: Input<'f>>(&self, input: I) -> Result<I::Value> {
        (input.plug().read)(self)
    }

    fn find(&self, layer: &str) -> Result<LayerId> {
        let found = self.reader.creation().layers.iter().position(|name| **name == *layer);
        let id = found.and_then(|at| u32::try_from(at).ok()).map(LayerId);
        id.ok_or_else(|| Failure::new(format!("there is no layer `{layer}` in execution {}", self.id())))
    }

    /// Lays artifacts out where they can be read by path.
    fn lay_out(&self, place: &Path, artifacts: &[Kept]) -> Result<PathBuf> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.is_none() {
            // Beside the objects, where links can be made; of somebody else's root there are copies elsewhere.
            let mut hidden = tempfile::Builder::new();
            let hidden = hidden.prefix(RESULTS);
            let folder = hidden.tempdir_in(self.root.path()).or_else(|_| hidden.tempdir());
            let folder = folder.context("cannot make a folder to read artifacts in")?;
            *views = Some(Views { folder, built: BTreeSet::new() });
        }
        let Some(Views { folder, built }) = &mut *views else { unreachable!("it was made above") };
        let path = folder.path().join(place);
        if built.insert(place.to_owned()) {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            self.datastore.view(artifacts, &path).context("cannot read the artifact")?;
        }
        Ok(path)
    }
}

fn layer((name, row): (&Arc<str>, &LayerRow)) -> LayerResult {
    let state = row.state.map(laminar_core::scheduler::State::word);
    LayerResult { name: name.to_string(), splits: Vec::new(), count: row.splits, state }
}

impl Source for Execution {
    fn task(&self) -> &Task {
        &self.task
    }

    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Stored>> {
        let id = self.find(layer)?;
        let row = &self.layers[id.at()];
        let mut rows = self.reader.artifacts(Some(id)).context("cannot read the artifacts")?;
        rows.retain(|row| row.artifact.name == name);
        if rows.is_empty() {
            return Ok(None);
        }
        if row.foreach {
            let splits = row.splits.unwrap_or(1);
            rows.iter_mut().for_each(|row| {
                row.artifact.name = format!("{name}/{}", number(row.split.index, splits));
            });
        }
        let artifacts: Vec<Kept> = rows.into_iter().map(|row| row.artifact).collect();
        let folder = self.lay_out(&Path::new(&format!("of-{name}")).join(layer), &artifacts)?;
        Ok(Some(Stored::At(folder.join(name))))
    }

    fn left(&self, layer: &str, _: &str) -> Option<String> {
        let rows = self.reader.artifacts(Some(self.find(layer).ok()?)).ok()?;
        let names: BTreeSet<&str> = rows.iter().map(|row| row.artifact.name.as_str()).collect();
        source::left(names.into_iter())
    }

    fn each(&self, name: &str) -> Result<Value> {
        Err(Failure::new(format!("only a split has a value `{name}`")))
    }

    fn parameters(&self, names: &[String]) -> Result<Parameters> {
        let creation = self.reader.creation();
        let all = match self.parameters.get() {
            Some(all) => all,
            None => {
                let flow = file::parse(&load::source_of(creation), &creation.parameters);
                let flow = flow.map_err(|_| Failure::new("the execution's flow cannot be read any more"))?;
                self.parameters.get_or_init(|| Arc::unwrap_or_clone(flow.parameters))
            }
        };
        Ok(names.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone()))).collect())
    }
}
