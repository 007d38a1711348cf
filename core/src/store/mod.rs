//! The run store: what happened in an execution, kept in SQLite, one file per execution, and a small index beside them.
//!
//! The event log is the truth; the tables beside it are projections, written in the same transaction, that any tool can
//! read. It is unaware of executors and of what events mean: the states it projects are told to it.
//!
//! *Durability.* A write has reached the kernel when [`RunStore::append`] returns: the death of this process loses nothing.
//! A thread of its own syncs the log at most every 10 milliseconds, so the death of the machine may lose that much; the
//! log is then shorter, never torn. With [`Durability::Strict`], `append` returns when it is synced.

use std::path::PathBuf;

use crate::event::{Event, Outcome, Record};
use crate::executor::{Exit, Usage};
use crate::flow::problem::Format;
use crate::folder::{ExecutionFolder, Root};
use crate::id::{ExecutionId, LayerId, Split};
use crate::scheduler::State;

/// Whether an execution waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Syncs happen beside the execution, in groups.
    #[default]
    Group,
    /// Every append waits for its sync.
    Strict,
}

/// What is kept of an execution from the moment it is created, and never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its id.
    pub id: ExecutionId,
    /// The flow's name.
    pub flow: String,
    /// The flow file's name, as the user gave it.
    pub source_name: String,
    /// The flow file's whole text: a resumed execution is planned from this.
    pub source_text: String,
    /// How to read it.
    pub source_format: Format,
    /// The parameters as the command line set them, by name; not the defaults.
    pub parameters: Vec<(String, String)>,
    /// The backend's name.
    pub backend: String,
    /// The folder of the flow file, absolute.
    pub workdir: PathBuf,
    /// `--jobs`
    pub jobs: u32,
    /// Cores to share out, in thousandths.
    pub cpu_millis: u64,
    /// Memory to share out, in bytes.
    pub memory: u64,
    /// The names of the layers, in the order of the flow file: [`LayerId`] is the place in this list.
    pub layers: Vec<String>,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

/// A split whose state has changed in the group of events that is appended. States before `running` are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub split: Split,
    /// Its state after the group.
    pub state: State,
}
