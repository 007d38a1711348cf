//! The folder that the scheduler and a container share for one task, and what its files mean.
//!
//! ```text
//! <execution>/<backend>/tasks/<Layer>.<index>.<attempt>/
//!   started   made by the supervisor inside before anything else: a container with it has run
//!   exit      how it ended, as JSON; renamed into place
//!   asked     why the scheduler has asked it to end, for the first time; written before the first signal
//!   oom       left by podman's monitor, whose working folder this is
//! ```
//!
//! Unaware of engines.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use laminar_core::executor::{Cause, ExecutorError, Exit};

/// Where the folder is seen inside.
pub(crate) const INSIDE: &str = "/laminar/.task";
/// Where the program is seen inside.
pub(crate) const ENTRY: &str = "/laminar/.entry";
/// `LAMINAR_INPUTS` inside.
pub(crate) const INPUTS: &str = "/laminar/inputs";
/// `LAMINAR_OUTPUTS` inside.
pub(crate) const OUTPUTS: &str = "/laminar/outputs";

/// Where the task's log is seen inside: mounted itself, since it may be on another file system than the folder.
pub(crate) const LOG: &str = "/laminar/.log";

/// The name of the file that says that the task has begun.
pub(crate) const STARTED: &str = "started";
/// The name of the file that says how it ended.
pub(crate) const EXIT: &str = "exit";
/// The name of the file that says why it was asked to end.
pub(crate) const ASKED: &str = "asked";

/// Why a task was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The scheduler said so.
    Stopped,
    /// Its time is up.
    TimedOut,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Why::Stopped => "stopped",
            Why::TimedOut => "timed out",
        }
    }

    /// What it makes of an exit.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Why::Stopped => Cause::Cancelled,
            Why::TimedOut => Cause::TimedOut,
        }
    }
}

/// A task's folder.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The folder of the task of this name.
    pub(crate) fn new(private: &Path, task: &str) -> Place {
        Place(private.join("tasks").join(task))
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, and an empty log. Done again, it begins anew.
    pub(crate) fn make(&self, log: &Path) -> Result<(), ExecutorError> {
        std::fs::create_dir_all(&self.0).map_err(|source| file("make", &self.0, source))?;
        // A new file: an earlier container of this name may still have the old one.
        match std::fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("replace", log, error)),
            _ => {}
        }
        std::fs::File::create_new(log).map(drop).map_err(|source| file("make", log, source))
    }

    /// When the supervisor inside began, if it ever did.
    pub(crate) fn started(&self) -> Option<SystemTime> {
        std::fs::metadata(self.0.join(STARTED)).and_then(|it| it.modified()).ok()
    }

    /// How it ended, if the supervisor inside has said so.
    pub(crate) fn exit(&self) -> Option<Exit> {
        serde_json::from_slice(&std::fs::read(self.0.join(EXIT)).ok()?).ok()
    }

    /// Whether podman's monitor has seen the kernel kill for want of memory.
    pub(crate) fn oom(&self) -> bool {
        self.0.join("oom").exists()
    }

    /// Puts on record why it is asked to end; what was said first stays.
    pub(crate) fn ask(&self, why: Why) -> Result<(), ExecutorError> {
        let path = self.0.join(ASKED);
        if path.exists() {
            return Ok(());
        }
        // Renamed into place, since it is read as soon as it is there.
        let draft = self.0.join(".asked");
        let written = std::fs::write(&draft, why.word()).and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|source| file("write", &path, source))
    }

    /// Why it was asked to end, by whichever scheduler.
    pub(crate) fn asked(&self) -> Option<Why> {
        let text = std::fs::read_to_string(self.0.join(ASKED)).ok()?;
        [Why::Stopped, Why::TimedOut].into_iter().find(|why| why.word() == text)
    }

    /// Removes the folder. The log stays where the task has it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// A file or folder that could not be used.
pub(crate) fn file(verb: &'static str, path: &Path, source: io::Error) -> ExecutorError {
    ExecutorError::File { verb, path: path.to_owned(), source }
}
