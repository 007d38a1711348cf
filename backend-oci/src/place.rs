//! The folder that the scheduler and a container share for one task, and what its files mean.
//!
//! ```text
//! <execution>/<backend>/tasks/<Layer>.<index>.<attempt>/
//!   terms     what whoever attends to the task must know of it, as JSON
//!   variables of a bare container, those that would change what the engine's client does; there until it is created
//!   started   made by the supervisor inside before anything else: a container with it has run
//!   exit      how it ended, as JSON; renamed into place by the supervisor inside
//!   asked     why the scheduler has asked it to end, for the first time; written before the first signal
//!   shared    the engine limits no memory: the control group that is seen inside is not the container's own
//!   oom       left by podman's monitor, whose working folder this is
//! ```
//!
//! Where there is no supervisor inside, the scheduler makes `started` before it has the engine start the container, and `exit`
//! when the engine has told how it ended. Unaware of engines.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use laminar_core::executor::{Cause, ExecutorError, Exit, Task};
use serde::{Deserialize, Serialize};

/// Where the folder is seen inside.
pub(crate) const INSIDE: &str = "/laminar/.task";
/// Where the program is seen inside.
pub(crate) const ENTRY: &str = "/laminar/.entry";
/// `LAMINAR_INPUTS` inside.
pub(crate) const INPUTS: &str = "/laminar/inputs";
/// `LAMINAR_OUTPUTS` inside.
pub(crate) const OUTPUTS: &str = "/laminar/outputs";
/// The folder of `LAMINAR_EACH` inside.
pub(crate) const EACH: &str = "/laminar/each";
/// `LAMINAR_SECRETS` inside.
pub(crate) const SECRETS: &str = "/laminar/secrets";

/// Where the task's log is seen inside: mounted itself, since it may be on another file system than the folder.
pub(crate) const LOG: &str = "/laminar/.log";

/// The name of the file with those variables of a bare container that would mean something to the engine's client.
pub(crate) const VARIABLES: &str = "variables";
/// The name of the file that says what must be known of the task.
const TERMS: &str = "terms";
/// The name of the file that says that the task has begun.
pub(crate) const STARTED: &str = "started";
/// The name of the file that says how it ended.
pub(crate) const EXIT: &str = "exit";
/// The name of the file that says why it was asked to end.
pub(crate) const ASKED: &str = "asked";
/// The name of the file that says that the control group seen inside is shared with others.
pub(crate) const SHARED: &str = "shared";

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

/// What must be known of a task by whoever attends to it, also by another process that was not told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    // Not as paths, which must be text to be written.
    log: OsString,
    outputs: OsString,
    /// The id of its image.
    pub(crate) image: String,
    /// Whether its outputs may be somebody else's in the end.
    pub(crate) foreign: bool,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it has to end when its time is up.
    pub(crate) grace: Duration,
    /// Whether there is no supervisor inside.
    pub(crate) bare: bool,
}

impl Terms {
    pub(crate) fn new(task: &Task, image: &str, foreign: bool) -> Terms {
        Terms {
            log: task.log.clone().into(),
            outputs: task.outputs.clone().into(),
            image: image.to_owned(),
            foreign,
            timeout: task.timeout,
            grace: task.grace,
            bare: false,
        }
    }

    /// The same of a task whose folders are found elsewhere now: its scheduler may have been in a container.
    pub(crate) fn of(self, task: &Task) -> Terms {
        Terms { log: task.log.clone().into(), outputs: task.outputs.clone().into(), ..self }
    }

    /// The task's log.
    pub(crate) fn log(&self) -> &Path {
        Path::new(&self.log)
    }

    /// The task's outputs.
    pub(crate) fn outputs(&self) -> &Path {
        Path::new(&self.outputs)
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

    /// Makes the folder and a log. Both may be in use already, by a container that a client started after all which nobody
    /// waits for any more; so nothing of them is replaced. Whether the log is new: then nobody has made a container before
    /// that could have it open.
    pub(crate) fn make(&self, terms: &Terms) -> Result<bool, ExecutorError> {
        std::fs::create_dir_all(&self.0).map_err(|source| file("make", &self.0, source))?;
        let log = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(terms.log());
        let is_new = match log {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(source) => return Err(file("make", terms.log(), source)),
        };
        self.write(TERMS, &serde_json::to_vec(terms).unwrap_or_default())?;
        Ok(is_new)
    }

    /// What whoever attends to the task must know of it.
    pub(crate) fn terms(&self) -> Option<Terms> {
        serde_json::from_slice(&std::fs::read(self.0.join(TERMS)).ok()?).ok()
    }

    /// It may have begun from now on, without a supervisor that would say so.
    pub(crate) fn begin(&self) -> Result<(), ExecutorError> {
        self.write(STARTED, b"")
    }

    /// It has not begun after all.
    pub(crate) fn unbegin(&self) {
        let _ = std::fs::remove_file(self.0.join(STARTED)); // mostly it is not there
    }

    /// Puts on record how it ended, without a supervisor that would.
    pub(crate) fn record(&self, exit: &Exit) -> Result<(), ExecutorError> {
        self.write(EXIT, &serde_json::to_vec(exit).unwrap_or_default())
    }

    /// Puts down variables for the client, as long as the result lives. They may be secrets.
    pub(crate) fn variables(&self, text: &str) -> Result<Passing, ExecutorError> {
        let path = self.0.join(VARIABLES);
        let passing = Passing(path.clone());
        if !text.is_empty() {
            let mut options = std::fs::OpenOptions::new();
            let opened = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
            let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|source| file("write", &path, source))?;
        }
        Ok(passing)
    }

    /// Writes a file that is read as soon as it is there.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExecutorError> {
        let (draft, path) = (self.0.join(format!(".{name}-draft")), self.0.join(name));
        let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|source| file("write", &path, source))
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

    /// Puts on record that the control group seen inside is not the container's own: its kills and its peak are not, either.
    pub(crate) fn share(&self) -> Result<(), ExecutorError> {
        self.write(SHARED, b"")
    }

    /// Puts on record why it is asked to end; what was said first stays.
    pub(crate) fn ask(&self, why: Why) -> Result<(), ExecutorError> {
        if self.0.join(ASKED).exists() {
            return Ok(());
        }
        self.write(ASKED, why.word().as_bytes())
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

/// A file that is there for a moment.
#[derive(Debug)]
pub(crate) struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // mostly it is not there
    }
}

/// Whether a container of the execution whose private folder this is has begun, and its supervisor has not said that it is
/// over. What was killed as a whole leaves nobody who could say so.
#[must_use]
pub fn is_under_way(private: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(private.join("tasks")) else { return false };
    entries.filter_map(Result::ok).map(|entry| Place(entry.path())).any(|place| {
        place.started().is_some() && place.exit().is_none() && place.terms().is_some_and(|terms| !terms.bare)
    })
}

/// Whether a container of that execution has begun of which only the engine knows whether it is over: it has no supervisor.
#[must_use]
pub fn may_be_under_way(private: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(private.join("tasks")) else { return false };
    let places = entries.filter_map(Result::ok).map(|entry| Place(entry.path()));
    places.into_iter().any(|place| place.exit().is_none() && place.terms().is_some_and(|terms| terms.bare))
}

/// A file or folder that could not be used.
pub(crate) fn file(verb: &'static str, path: &Path, source: io::Error) -> ExecutorError {
    ExecutorError::File { verb, path: path.to_owned(), source }
}
