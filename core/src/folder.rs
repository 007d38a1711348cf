//! Where things live on disk. Paths only; making and filling them is the business of those who use them.
//!
//! ```text
//! .laminar/
//!   index.db                    which executions there are (rebuilt when it is lost)
//!   cache.db                    what was run before, by what it did (may be lost: then things run again)
//!   objects/                    the datastore, shared by all executions
//!   executions/<id>/
//!     store.db                  the run store
//!     lock                      held by the scheduler as long as it lives
//!     scheduler.log             what a detached scheduler says
//!     logs/<Layer>.<index>.<attempt>.log
//!     outputs/<n>/              what attempts write to; used again when left empty
//!     views/<Layer>/<artifact>  what a layer left, linked from the objects; views/Parameters/<name>.json
//!     inputs/<n>/<Layer>        links to views: one folder per set of needed layers
//!     each/<n>/each.json        the values of the split that writes to outputs/<n>, of a foreach layer
//!     <backend>/                what the executor keeps for itself
//! ```

use std::path::{Path, PathBuf};

use crate::id::{ExecutionId, TaskId};

/// The folder that holds all state: `.laminar` in the current folder, unless told otherwise. Always absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// A root at this path, which is made absolute against the current folder. Nothing is created.
    ///
    /// # Errors
    /// When the path is empty or the current folder is gone.
    pub fn new(path: &Path) -> std::io::Result<Root> {
        std::path::absolute(path).map(Root)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The index of executions.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.0.join("index.db")
    }

    /// What was run before, for the cache.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.0.join("cache.db")
    }

    /// The datastore's objects.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// The folder that has one folder per execution.
    #[must_use]
    pub fn executions(&self) -> PathBuf {
        self.0.join("executions")
    }

    /// The folder of one execution.
    #[must_use]
    pub fn execution(&self, id: ExecutionId) -> ExecutionFolder {
        ExecutionFolder(self.executions().join(id.to_string()))
    }
}

/// The folder of one execution. Always absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionFolder(PathBuf);

impl ExecutionFolder {
    /// What is in it besides the folders of executors, which must not be called so.
    const OWN: [&str; 8] = ["store.db", "lock", "scheduler.log", "logs", "outputs", "views", "inputs", "each"];

    /// Whether a backend may be called so: its executor has a folder of this name here.
    #[must_use]
    pub fn may_hold(backend: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        backend.starts_with(|first: char| first.is_ascii_lowercase())
            && backend.bytes().all(is_plain)
            && !ExecutionFolder::OWN.contains(&backend)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The run store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store.db")
    }

    /// The file whose lock the scheduler holds.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What the scheduler itself says where it has no terminal.
    #[must_use]
    pub fn scheduler_log(&self) -> PathBuf {
        self.0.join("scheduler.log")
    }

    /// The folder of the values of the split that writes to the outputs folder of this number.
    #[must_use]
    pub fn each(&self, number: u32) -> PathBuf {
        self.0.join("each").join(number.to_string())
    }

    /// The folder of all logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The log of one task.
    #[must_use]
    pub fn log(&self, task: &TaskId) -> PathBuf {
        self.logs().join(format!("{}.log", task.name()))
    }

    /// An outputs folder by its number.
    #[must_use]
    pub fn outputs(&self, number: u32) -> PathBuf {
        self.all_outputs().join(number.to_string())
    }

    /// The folder of all views.
    #[must_use]
    pub fn views(&self) -> PathBuf {
        self.0.join("views")
    }

    /// The view of what one layer left, or of the parameters.
    #[must_use]
    pub fn view(&self, name: &str) -> PathBuf {
        self.views().join(name)
    }

    /// The folder of all outputs folders.
    #[must_use]
    pub fn all_outputs(&self) -> PathBuf {
        self.0.join("outputs")
    }

    /// An inputs folder by its number.
    #[must_use]
    pub fn inputs(&self, number: u32) -> PathBuf {
        self.0.join("inputs").join(number.to_string())
    }
}
