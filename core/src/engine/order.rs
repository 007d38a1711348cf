//! A task that may have to be started: what only that takes is got ready only then.

use std::path::PathBuf;
use std::sync::Arc;

use super::Blocking;
use super::inputs::InputFolders;
use super::left::Producer;
use super::words::{Late, Words};
use crate::executor::{Executor, Task};
use crate::flow::Secret;
use crate::id::TaskId;
use crate::secret::{Secrets, Shelves};

/// A task that may have to be started. What only that needs is not there yet, or cannot be: a task that runs already is
/// found again without it.
pub(super) struct Order {
    /// It reads nothing yet.
    pub(super) task: Task,
    pub(super) words: Said,
    pub(super) producers: Vec<Producer>,
    pub(super) folders: Arc<InputFolders>,
    pub(super) blocking: Blocking,
    /// The secrets that it is handed, if it wants any.
    pub(super) handed: Option<Handed>,
}

/// The secrets of a task.
pub(super) struct Handed {
    pub(super) secrets: Secrets,
    pub(super) wanted: Arc<[Secret]>,
    /// The execution's folder.
    pub(super) folder: PathBuf,
}

impl Handed {
    /// Puts them where the task finds them. Blocks for a moment: they are small, and on memory.
    fn put(&self, task: &TaskId) -> Result<PathBuf, String> {
        let files = self.secrets.files(&self.wanted)?;
        Shelves::here().put(&self.folder, task, &files).map_err(|error| error.to_string())
    }
}

/// What a task runs, or how that is found out.
pub(super) enum Said {
    /// It is in the task.
    Here,
    /// It cannot be known: why.
    Never(String),
    /// It depends on what layers left, or on the split.
    Later(Box<Late>),
}

impl Order {
    /// The task as it can be started; or why it cannot.
    pub(super) async fn ready(mut self, executor: &dyn Executor) -> Result<Arc<Task>, String> {
        if !self.producers.is_empty() {
            self.task.inputs = self.folders.of(self.producers).await.map_err(|error| error.to_string())?;
        }
        match self.words {
            Said::Here => {}
            Said::Never(why) => return Err(why),
            Said::Later(mut late) => {
                late.question.reading.inputs = executor.inputs_seen(&self.task.id.layer, &self.task.inputs);
                let each = late.values();
                self.task.each = late.write(&each)?;
                let words = match late.question.layer().reads() {
                    true => self.blocking.run(move || late.words(&each)).await?,
                    false => late.words(&each)?,
                };
                let Words { argv, env, container, timeout } = words;
                self.task = Task { argv, env, container, timeout, ..self.task };
            }
        }
        if let Some(handed) = self.handed {
            self.task.secrets = Some(handed.put(&self.task.id)?);
        }
        Ok(Arc::new(self.task))
    }
}
