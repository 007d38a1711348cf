//! The run store: what happened in an execution, kept in SQLite, one file per execution, and a small index beside them.
//!
//! The event log is the truth; the tables beside it are projections, written in the same transaction, that any tool can
//! read. It is unaware of executors and of what events mean: the states it projects are told to it.
//!
//! *Durability.* A write has reached the kernel when [`RunStore::append`] returns: the death of this process loses nothing.
//! A thread of its own syncs the log at most every 10 milliseconds, so the death of the machine may lose that much; the
//! log is then shorter, never torn. With [`Durability::Strict`], `append` returns when it is synced.
//!
//! *What one finds.* An execution's folder appears at once and complete. The index is a cache: what it lacks is read from the
//! executions' own stores, and a store that is damaged is listed as such. No file is trusted; damage is an error that names
//! the file, never a panic. An execution's folder is its owner's alone; see `folders.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::{CacheKey, Origin};
use crate::datastore::Artifact;
use crate::event::{Event, Outcome, Record};
use crate::executor::Exit;
use crate::flow::problem::Format;
use crate::id::{ExecutionId, LayerId, Split};
use crate::scheduler::State;

mod creation;
mod error;
mod folders;
mod index;
mod keys;
mod lock;
mod reader;
mod reference;
mod row;
mod runs;
mod schema;
mod shared;
mod sync;
#[cfg(test)]
mod tests;
mod trust;
mod writer;

pub use crate::scheduler::Change;
pub use error::StoreError;
pub use index::{list, resolve};
pub use lock::Holder;
pub use reader::RunReader;
pub use reference::{Seized, abandoned, ids, references, removed, seize, status};
pub use runs::{Run, RunCache, Runs};
pub use trust::check as check_root;
pub use writer::RunStore;

/// Where the events of one execution go, and come from: a [`RunStore`], or a simulation of one.
pub trait EventLog: Send {
    /// Appends events, in this order, and the states that follow from them, all or nothing.
    ///
    /// # Errors
    /// When they cannot be written: then nothing of them is. [`StoreError::ShutOut`] when another scheduler has taken over.
    fn append(&mut self, events: Vec<Event>, changes: &[Change]) -> Result<Vec<Record>, StoreError>;

    /// The events after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn records(&mut self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// The time by the clock that records are stamped with, in milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// Lets go of the execution; what was appended is on disk for good.
    ///
    /// # Errors
    /// When something could not be written.
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}

impl EventLog for RunStore {
    fn append(&mut self, events: Vec<Event>, changes: &[Change]) -> Result<Vec<Record>, StoreError> {
        RunStore::append(self, events, changes)
    }

    fn records(&mut self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        RunStore::records(self, after, limit)
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        RunStore::close(*self)
    }
}

/// Whether an execution waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Syncs happen beside the execution, in groups.
    #[default]
    Group,
    /// Every append waits for its sync.
    Strict,
}

/// What is kept of an execution: as it was created, and since an update of its flow, as that has made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its id.
    pub id: ExecutionId,
    /// The flow's name.
    pub flow: String,
    /// The flow file's name, as the user gave it.
    pub source_name: String,
    /// The flow file's whole text: a resumed execution is planned from this.
    pub source_text: Arc<str>,
    /// How to read it.
    pub source_format: Format,
    /// The parameters as the command line set them, by name; not the defaults.
    pub parameters: Vec<(String, String)>,
    /// The name of the backend that runs the layers which say no other.
    pub backend: String,
    /// The layers that run on another backend, in the order of the flow file.
    pub elsewhere: Vec<(LayerId, String)>,
    /// Options of backends as the command line set them: backend, option, value. Those of the flow file are in its text.
    pub options: Vec<(String, String, String)>,
    /// The folder of the flow file, absolute.
    pub workdir: PathBuf,
    /// `--jobs`
    pub jobs: u32,
    /// Cores to share out, in thousandths.
    pub cpu_millis: u64,
    /// Memory to share out, in bytes.
    pub memory: u64,
    /// The names of the layers, in the order in which they came: [`crate::id::LayerId`] is the place in this list. Those that
    /// an update has taken out stay in it.
    pub layers: Vec<Arc<str>>,
    /// The flows whose place was taken, the first before all others.
    pub earlier: Vec<Earlier>,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

/// A flow that an update has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// See [`Creation::source_name`].
    pub source_name: String,
    /// See [`Creation::source_text`].
    pub source_text: Arc<str>,
    /// See [`Creation::source_format`].
    pub source_format: Format,
    /// See [`Creation::parameters`].
    pub parameters: Vec<(String, String)>,
}

impl Creation {
    /// The names of the backends that are used, each once, that of the layers which say no other first.
    #[must_use]
    pub fn backends(&self) -> Vec<&str> {
        let rest = (self.elsewhere.len() < self.layers.len()).then_some(self.backend.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in rest.into_iter().chain(self.elsewhere.iter().map(|(_, name)| name.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Its flow, as that of an execution that has another one.
    #[must_use]
    pub fn to_earlier(&self) -> Earlier {
        Earlier {
            source_name: self.source_name.clone(),
            source_text: Arc::clone(&self.source_text),
            source_format: self.source_format,
            parameters: self.parameters.clone(),
        }
    }

    /// The name of the backend that runs a layer.
    #[must_use]
    pub fn backend_of(&self, layer: LayerId) -> &str {
        let elsewhere = self.elsewhere.binary_search_by_key(&layer, |(layer, _)| *layer);
        elsewhere.map_or(&self.backend, |at| &self.elsewhere[at].1)
    }
}

/// Whether an execution runs, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its scheduler is alive.
    Running {
        /// The scheduler's process id, if it has told it yet.
        pid: Option<u32>,
    },
    /// It has not ended, and its scheduler is gone.
    Interrupted,
    /// It has ended.
    Ended(Outcome),
    /// Its store cannot be read. Only lists have this; whoever opens the store gets the error itself.
    Damaged {
        /// Why not.
        reason: String,
    },
    /// It is somebody else's, and we may not read its store. Only lists have this, too.
    Unreadable {
        /// What the kernel said, of which file.
        reason: String,
    },
}

impl Status {
    /// Of an execution whose store could not be read.
    fn unread(error: &StoreError) -> Status {
        let reason = error.to_string();
        if error.is_denied() { Status::Unreadable { reason } } else { Status::Damaged { reason } }
    }
}

/// What is stored of a split that was launched or has settled. All but the state is about its last attempt; of one that
/// is cached there is nothing but the attempt's number.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitRow {
    /// Which.
    pub split: Split,
    /// Its state.
    pub state: State,
    /// The attempt's number; 0: it was never launched.
    pub attempt: u32,
    /// When it was launched, in milliseconds since 1970.
    pub launched_ms: Option<i64>,
    /// When its process was over, or when it settled without one.
    pub ended_ms: Option<i64>,
    /// How its process ended.
    pub exit: Option<Exit>,
    /// Why what it left was rejected.
    pub reason: Option<String>,
    /// The number of its outputs folder.
    pub outputs: Option<u32>,
}

/// What is stored of a layer as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// Which.
    pub layer: LayerId,
    /// How many splits it had when it was opened last: also while it is asked anew. `None`: it was not opened, or it was
    /// skipped or could not be opened since; one that has neither `when` nor `foreach` never is, and has one split.
    pub splits: Option<u32>,
    /// [`State::Skipped`] or [`State::Failed`], where it is that as a whole; or else its splits tell.
    pub state: Option<State>,
    /// Why its `when` or `foreach` could not be evaluated.
    pub reason: Option<String>,
    /// Whether it is known to be fanned out: it was opened with values, or has a row of another split than the first.
    pub foreach: bool,
}

/// How many splits of a layer are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitCount {
    /// The layer.
    pub layer: LayerId,
    /// The state.
    pub state: State,
    /// How many.
    pub splits: u32,
    /// When the first of them was launched, in milliseconds since 1970.
    pub launched_ms: Option<i64>,
    /// When the last of them ended.
    pub ended_ms: Option<i64>,
}

/// What a split was looked for by in the cache, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The number of the event that says so.
    pub seq: u64,
    /// When that was, in milliseconds since 1970.
    pub at_ms: i64,
    /// Which split.
    pub split: Split,
    /// The key.
    pub key: CacheKey,
    /// Whose artifacts were found by it, if any were.
    pub from: Option<Origin>,
}

/// One thing that a split left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRow {
    /// Which split.
    pub split: Split,
    /// What it left.
    pub artifact: Artifact,
}

/// How many splits are in each state that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// An attempt is under way.
    pub running: u32,
    /// Another attempt follows.
    pub resting: u32,
    /// Exited with 0.
    pub finished: u32,
    /// Taken from an earlier run.
    pub cached: u32,
    /// Not to run.
    pub skipped: u32,
    /// Exited with a code that is caught.
    pub caught: u32,
    /// Failed for good.
    pub failed: u32,
    /// Stopped, or never started.
    pub cancelled: u32,
}

/// One line of the list of executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: ExecutionId,
    /// The flow's name; empty where damage hides it.
    pub flow: String,
    /// The name of the backend that runs the layers which say no other; empty where damage hides it.
    pub backend: String,
    /// The names of all backends that are used.
    pub backends: Vec<String>,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Whether it runs.
    pub status: Status,
    /// How many layers its flow has; 0 where damage hides it.
    pub layers: u32,
    /// How many splits are in which state; once it has ended.
    pub counts: Option<Counts>,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
