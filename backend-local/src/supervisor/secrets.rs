//! The folder of a task's secrets: made by the scheduler, and removed when the task is over, though no scheduler may be there.

use std::ffi::OsStr;
use std::path::PathBuf;

/// The folder, if the task has one.
pub(super) struct Secrets(Option<PathBuf>);

impl Secrets {
    /// That of this path; an empty one is none.
    pub(super) fn new(path: &OsStr) -> Secrets {
        Secrets((!path.is_empty()).then(|| path.into()))
    }

    /// Removes it. A scheduler that is there does so too.
    pub(super) fn remove(&self) {
        if let Some(folder) = &self.0 {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
