//! A task's folder, the folder in it that the scheduler and a container share, and what their files mean.
//!
//! ```text
//! <execution>/<backend>/tasks/<Layer>.<index>.<attempt>/
//!   terms     what whoever attends to the task must know of it, as JSON
//!   variables of a bare container, those that would change what the engine's client does; there until it is created
//!   asked     why the scheduler has asked it to end, for the first time; written before the first signal
//!   oom       left by podman's monitor, whose working folder this is
//!   inside/   what is seen inside, where the layer can write as the supervisor does
//!     started   made by the supervisor inside before anything else: a container with it has run
//!     exit      how it ended, as JSON; renamed into place by the supervisor inside
//!     asked     that it was asked to end
//!     forced    in a warm container: that it is to be killed now, and its container to go on
//!     shared    the engine limits no memory: the control group that is seen inside is not the container's own
//! ```
//!
//! While a task is in a warm container, `inside` is a link to the folder that is seen in there, which is of one task at a time;
//! when it is over, a folder with what that one had to say. The other of the two is `.inside`, where nobody looks: the task's
//! folder is used again.
//!
//! Where there is no supervisor inside, the scheduler makes `started` before it has the engine start the container, and `exit`
//! when the engine has told how it ended. Unaware of engines.
//!
//! A layer that means harm can put anything into `inside`, at any time: links to files of the host, pipes, devices. So what
//! decides about files of the host is kept beside it; what is read there is read without following a link or waiting for
//! anybody, and never more than a record can have; and what is written there is made elsewhere and renamed, or is new. All that
//! such a layer can change is what is said of its own end.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use laminar_core::executor::{Cause, ExecutorError, Exit, LOG_LIMIT, Task};
use rustix::fs::{CWD, RenameFlags};
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
/// The name of that file until it is whole.
pub(crate) const DRAFT: &str = ".exit";
/// The name of the file that says why it was asked to end.
pub(crate) const ASKED: &str = "asked";
/// The name of the file that says that it is to be killed, and its container not.
pub(crate) const FORCED: &str = "forced";
/// The name of the file that says that the control group seen inside is shared with others.
pub(crate) const SHARED: &str = "shared";
/// The name of the folder that is seen inside.
const SEEN: &str = "inside";
/// The name of that folder while it is made for a task that is taken back from a warm container.
const KEPT: &str = ".inside";

/// The most bytes of a record that are read.
const LARGEST: u64 = 1 << 20;

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
    /// In which warm container it runs, if in one.
    #[serde(default)]
    pub(crate) warm: Option<Warm>,
    /// How many bytes of its log are kept, if not as many as usual.
    log_limit: Option<u64>,
}

/// A warm container that a task was handed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warm {
    /// The name of its desk.
    pub(crate) desk: String,
    /// Its own name.
    pub(crate) container: String,
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
            warm: None,
            log_limit: Some(task.log_limit),
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

    /// How many bytes of it are kept.
    pub(crate) fn log_limit(&self) -> u64 {
        self.log_limit.unwrap_or(LOG_LIMIT)
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

    /// This folder.
    pub(crate) fn at(folder: PathBuf) -> Place {
        Place(folder)
    }

    /// The folder itself, which nobody inside sees.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The folder in it that is seen inside, or that of the warm container in which the task is.
    pub(crate) fn inside(&self) -> PathBuf {
        inside(&self.0)
    }

    /// A file in it.
    fn seen(&self, name: &str) -> PathBuf {
        self.0.join(SEEN).join(name)
    }

    /// Whether the task is in a warm container, or is over and was not taken back.
    pub(crate) fn is_lent(&self) -> bool {
        self.0.join(SEEN).is_symlink()
    }

    /// Where news of it come in: for whoever follows links.
    pub(crate) fn news(&self) -> PathBuf {
        self.0.join(SEEN)
    }

    /// Whether it leads this way.
    pub(crate) fn leads(&self, way: &Path) -> bool {
        std::fs::read_link(self.0.join(SEEN)).is_ok_and(|ours| ours == way)
    }

    /// Whether it leads into a warm container that is gone.
    pub(crate) fn is_adrift(&self) -> bool {
        self.is_lent() && !self.0.join(SEEN).exists()
    }

    /// The link by which a task's folder, made as `draft`, leads into a warm container: `way`, as seen from the folder.
    pub(crate) fn lead(draft: &Path, way: &Path, terms: &Terms) -> io::Result<()> {
        std::fs::write(draft.join(TERMS), serde_json::to_vec(terms)?)?;
        std::os::unix::fs::symlink(way, draft.join(SEEN))
    }

    /// The same of a folder that was used by another task, and [parted](Place::part) from it.
    pub(crate) fn lead_again(used: &Path, way: &Path, terms: &Terms) -> io::Result<()> {
        let (seen, kept) = (used.join(SEEN), used.join(KEPT));
        rewrite(&used.join(TERMS), &serde_json::to_vec(terms)?, false)?;
        gone(std::fs::remove_file(used.join(ASKED)))?;
        if !seen.is_symlink() {
            rustix::fs::renameat_with(CWD, &kept, CWD, &seen, RenameFlags::EXCHANGE)?;
        }
        match std::fs::read_link(seen)? == way {
            true => Ok(()),
            false => Err(io::Error::other("it leads somewhere else")),
        }
    }

    /// What was said in a warm container is kept from now on, and nothing said there counts any more.
    pub(crate) fn part(&self) -> io::Result<()> {
        if !self.is_lent() {
            return Ok(());
        }
        // What is there is of one who died, or of another task: files are used again.
        let kept = self.0.join(KEPT);
        if kept.symlink_metadata().is_err() {
            std::fs::create_dir(&kept)?;
        }
        match self.started() {
            Some(began) => std::fs::File::create(kept.join(STARTED))?.set_modified(began)?,
            None => gone(std::fs::remove_file(kept.join(STARTED)))?,
        }
        match self.exit() {
            Some(exit) => rewrite(&kept.join(EXIT), &serde_json::to_vec(&exit)?, true)?,
            None => gone(std::fs::remove_file(kept.join(EXIT)))?,
        }
        rustix::fs::renameat_with(CWD, &kept, CWD, self.0.join(SEEN), RenameFlags::EXCHANGE)?;
        Ok(())
    }

    /// Makes the folder and a log. Both may be in use already, by a container that a client started after all which nobody
    /// waits for any more; so nothing of them is replaced. Whether the log is new: then nobody has made a container before
    /// that could have it open.
    pub(crate) fn make(&self, terms: &Terms) -> Result<bool, ExecutorError> {
        let inside = self.inside();
        std::fs::create_dir_all(&inside).map_err(|source| file("make", &inside, source))?;
        let log = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(terms.log());
        let is_new = match log {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(source) => return Err(file("make", terms.log(), source)),
        };
        self.write(Path::new(TERMS), &serde_json::to_vec(terms).unwrap_or_default())?;
        Ok(is_new)
    }

    /// What whoever attends to the task must know of it.
    pub(crate) fn terms(&self) -> Option<Terms> {
        serde_json::from_slice(&std::fs::read(self.0.join(TERMS)).ok()?).ok()
    }

    /// It may have begun from now on, without a supervisor that would say so.
    pub(crate) fn begin(&self) -> Result<(), ExecutorError> {
        self.write(&Path::new(SEEN).join(STARTED), b"")
    }

    /// It has not begun after all.
    pub(crate) fn unbegin(&self) {
        let _ = std::fs::remove_file(self.inside().join(STARTED)); // mostly it is not there
    }

    /// Puts on record how it ended, without a supervisor that would.
    pub(crate) fn record(&self, exit: &Exit) -> Result<(), ExecutorError> {
        self.write(&Path::new(SEEN).join(EXIT), &serde_json::to_vec(exit).unwrap_or_default())
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

    /// Writes a file that is read as soon as it is there. It is made where nobody inside can put a link in its place.
    fn write(&self, name: &Path, bytes: &[u8]) -> Result<(), ExecutorError> {
        let plain = name.file_name().unwrap_or_default().to_string_lossy();
        let (draft, path) = (self.0.join(format!(".{plain}-draft")), self.0.join(name));
        let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|source| file("write", &path, source))
    }

    /// When the supervisor inside began, if it ever did.
    pub(crate) fn started(&self) -> Option<SystemTime> {
        std::fs::symlink_metadata(self.seen(STARTED)).and_then(|it| it.modified()).ok()
    }

    /// How it ended, if the supervisor inside has said so.
    pub(crate) fn exit(&self) -> Option<Exit> {
        serde_json::from_slice(&read_warily(&self.seen(EXIT)).ok()?).ok()
    }

    /// Whether podman's monitor has seen the kernel kill for want of memory.
    pub(crate) fn oom(&self) -> bool {
        self.0.join("oom").exists()
    }

    /// Puts on record that the control group seen inside is not the container's own: its kills and its peak are not, either.
    pub(crate) fn share(&self) -> Result<(), ExecutorError> {
        self.write(&Path::new(SEEN).join(SHARED), b"")
    }

    /// Puts on record why it is asked to end; what was said first stays.
    pub(crate) fn ask(&self, why: Why) -> Result<(), ExecutorError> {
        if self.0.join(ASKED).exists() {
            return Ok(());
        }
        self.write(Path::new(ASKED), why.word().as_bytes())?;
        // Whoever keeps the supervisor inside from hearing of it is forced all the same.
        let _ = tell(&self.seen(ASKED));
        Ok(())
    }

    /// Puts on record that it is to be killed now, and its container not.
    pub(crate) fn force(&self) {
        // Whoever keeps the supervisor inside from hearing of it is killed with the container.
        let _ = tell(&self.seen(FORCED));
    }

    /// Why it was asked to end, by whichever scheduler.
    pub(crate) fn asked(&self) -> Option<Why> {
        let text = std::fs::read_to_string(self.0.join(ASKED)).ok()?;
        [Why::Stopped, Why::TimedOut].into_iter().find(|why| why.word() == text)
    }

    /// Removes the folder. The log stays where the task has it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        gone(std::fs::remove_dir_all(&self.0))
    }
}

/// Writes a file that may have been written before, where nobody reads it yet. It is not emptied first: ext4 would have it on the
/// disk at once then, and whoever empties it again waits for that.
pub(crate) fn rewrite(path: &Path, bytes: &[u8], create: bool) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create(create).truncate(false).mode(0o600).open(path)?;
    file.write_all_at(bytes, 0)?;
    let length = bytes.len() as u64;
    if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
}

/// That something was not there to be removed is as good.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The folder that is seen inside, of the task with this folder.
pub(crate) fn inside(task: &Path) -> PathBuf {
    let seen = task.join(SEEN);
    // The link is ours: nobody inside sees it, or any folder on its way.
    if seen.is_symlink() { seen.canonicalize().unwrap_or(seen) } else { seen }
}

/// Makes a file that says something by being there, where the layer can write. What is there already is left as it is; a link
/// is not followed.
fn tell(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

/// Reads a record from where the layer can write.
fn read_warily(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !opened.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::with_capacity(512);
    opened.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), "Layer.0.1");
        std::fs::create_dir_all(place.inside()).unwrap();
        (folder, place)
    }

    #[test]
    fn what_a_layer_puts_in_place_of_a_record_is_not_followed_nor_waited_for() {
        let (folder, place) = place();
        let exit = place.inside().join(EXIT);
        let said = serde_json::to_vec(&Exit::code(3)).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, &said).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &exit).unwrap();
        assert_eq!(place.exit(), None, "a link");
        std::fs::remove_file(&exit).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &exit, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        assert_eq!(place.exit(), None, "a pipe that nobody writes to");
        std::fs::remove_file(&exit).unwrap();
        std::fs::create_dir(&exit).unwrap();
        assert_eq!(place.exit(), None, "a folder");
        std::fs::remove_dir(&exit).unwrap();
        std::fs::File::create(&exit).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(place.exit(), None, "a terabyte");
        std::fs::write(&exit, &said).unwrap();
        assert_eq!(place.exit(), Some(Exit::code(3)));
    }

    #[test]
    fn what_is_written_inside_goes_through_no_link_of_the_layer() {
        let (folder, place) = place();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "untouched").unwrap();
        for name in [ASKED, ".asked-draft", EXIT, ".exit-draft", STARTED, ".started-draft", "terms", ".terms-draft"] {
            std::os::unix::fs::symlink(&precious, place.inside().join(name)).unwrap();
        }
        place.ask(Why::TimedOut).unwrap();
        place.record(&Exit::code(4)).unwrap();
        place.begin().unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "untouched");
        assert_eq!((place.asked(), place.exit()), (Some(Why::TimedOut), Some(Exit::code(4))));
        assert!(place.terms().is_none(), "what the layer says of itself does not count");
    }

    #[test]
    fn a_layer_cannot_keep_itself_from_being_asked_to_end() {
        let (_folder, place) = place();
        std::fs::create_dir_all(place.inside().join(ASKED).join("full")).unwrap();
        place.ask(Why::Stopped).unwrap();
        assert_eq!(place.asked(), Some(Why::Stopped));
    }
}
