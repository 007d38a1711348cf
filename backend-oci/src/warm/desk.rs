//! A warm container's folders, and how they are lent to one task at a time.
//!
//! Files only; unaware of engines. Every step can be repeated, and whoever comes after a scheduler that died half-way finds out
//! from the files how far that was.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use laminar_core::executor::Task;
use laminar_core::id::ExecutionId;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, RenameFlags};
use serde::{Deserialize, Serialize};

use super::errand::{BELL, BORN, ERRAND, Errand, LEAVING, LOG, TASKS};
use crate::place::{Place, Terms};

/// The folder of all desks in the backend's own.
pub(crate) const WARM: &str = "warm";

const PLATE: &str = "plate";
const HELD: &str = "held";
const LOCK: &str = "lock";
const INSIDE: &str = "inside";
const OUTPUTS: &str = "outputs";
const EACH: &str = "each";

/// The folder that is mounted for errands, the task's outputs, the files with splits' values, and those with secrets.
pub(crate) struct Mounted {
    pub(crate) inside: PathBuf,
    pub(crate) outputs: PathBuf,
    pub(crate) each: PathBuf,
    pub(crate) secrets: Option<PathBuf>,
}

/// Whose container it is, and what may share it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plate {
    /// The container's name.
    container: String,
    /// Which tasks it is for: equal for all that the engine would be told the same of.
    key: String,
    /// The mounted outputs folder, by the number that the file system has for it: it changes its name.
    outputs: u64,
    /// The folder on memory that is mounted for secrets, if its tasks have any. Not as a path, which must be text.
    secrets: Option<OsString>,
    /// Whether its processes are another user.
    foreign: bool,
}

/// A desk.
#[derive(Debug)]
pub(crate) struct Desk {
    folder: PathBuf,
    plate: Plate,
    /// Locked as long as this process hands out its errands.
    held: Option<File>,
    bell: Mutex<Option<File>>,
}

/// What became of a task that was to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// Its errand is there.
    Over,
    /// Somebody was faster: it has a folder already.
    Before,
}

/// Whether tasks in this backend's folder can be lent what they need: with their outputs and logs on one file system that
/// exchanges names. The text says why not.
pub(crate) fn can_lend(private: &Path, task: &Task) -> Result<(), String> {
    let device =
        |path: &Path| path.metadata().map(|it| it.dev()).map_err(|error| format!("{}: {error}", path.display()));
    let own = device(private)?;
    for path in [&*task.outputs, task.log.parent().unwrap_or(&task.log)] {
        if device(path)? != own {
            return Err(format!("`{}` is on another file system than `{}`", path.display(), private.display()));
        }
    }
    Ok(())
}

/// Held for the moment in which desks are lent or cleared.
pub(crate) struct Locked(#[expect(dead_code, reason = "the lock goes with the file")] File);

/// Waits for that moment.
pub(crate) fn lock(private: &Path) -> io::Result<Locked> {
    let path = private.join(WARM).join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| Locked(file)).map_err(io::Error::from),
        }
    }
}

/// All desks of a backend's folder, by their names.
pub(crate) fn all(private: &Path) -> Vec<String> {
    let entries = private.join(WARM).read_dir().into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

impl Desk {
    /// Makes one for a container that is still to be made, and holds it. `name` makes the container's name from the desk's;
    /// `key` is what may share it.
    pub(crate) fn create(
        private: &Path,
        execution: ExecutionId,
        task: &Task,
        foreign: bool,
        key: String,
        name: impl FnOnce(&str) -> String,
    ) -> io::Result<Desk> {
        let warm = private.join(WARM);
        std::fs::create_dir_all(&warm)?;
        let mut at = all(private).iter().filter_map(|name| name.parse::<u64>().ok()).max().map_or(0, |last| last + 1);
        let (own, folder, held) = loop {
            let (own, folder) = (at.to_string(), warm.join(at.to_string()));
            at += 1;
            match std::fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            if let Some(held) = hold(&folder)? {
                break (own, folder, held);
            }
        };
        let inside = folder.join(INSIDE);
        // Whoever they are inside; everything lies in a folder that is closed to everybody else outside.
        let open = if foreign { 0o777 } else { 0o700 };
        for (path, mode) in
            [(&inside, open), (&inside.join(TASKS), 0o755), (&folder.join(OUTPUTS), open), (&folder.join(EACH), 0o755)]
        {
            std::fs::create_dir(path)?;
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        }
        let bell = inside.join(BELL);
        rustix::fs::mknodat(CWD, &bell, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        std::fs::set_permissions(&bell, PermissionsExt::from_mode(0o666))?;
        // Where names cannot be exchanged nothing can be lent.
        exchange(&folder.join(OUTPUTS), &folder.join(EACH))?;
        exchange(&folder.join(OUTPUTS), &folder.join(EACH))?;
        let secrets = match &task.secrets {
            None => None,
            Some(theirs) => {
                let folder = theirs.with_file_name(format!(".warm-{execution}-{own}"));
                let _ = std::fs::remove_dir_all(&folder); // mostly it is not there
                std::fs::DirBuilder::new().mode(0o755).create(&folder)?;
                Some(folder.into_os_string())
            }
        };
        let outputs = folder.join(OUTPUTS).metadata()?.ino();
        let plate = Plate { container: name(&own), key, outputs, secrets, foreign };
        write(&folder, PLATE, &serde_json::to_vec(&plate)?, 0o600)?;
        Ok(Desk { folder, plate, held: Some(held), bell: Mutex::default() })
    }

    /// One that is there, not held.
    pub(crate) fn read(private: &Path, name: &str) -> Option<Desk> {
        let folder = private.join(WARM).join(name);
        let plate = serde_json::from_slice(&std::fs::read(folder.join(PLATE)).ok()?).ok()?;
        Some(Desk { folder, plate, held: None, bell: Mutex::default() })
    }

    /// One that is there, if no other scheduler holds it.
    pub(crate) fn adopt(private: &Path, name: &str) -> Option<Desk> {
        let mut desk = Desk::read(private, name)?;
        desk.held = Some(hold(&desk.folder).ok()??);
        Some(desk)
    }

    /// Whether a scheduler, this one included, hands out its errands.
    pub(crate) fn is_held(&self) -> bool {
        hold(&self.folder).is_ok_and(|held| held.is_none())
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its container's name.
    pub(crate) fn container(&self) -> &str {
        &self.plate.container
    }

    /// Which tasks it is for.
    pub(crate) fn key(&self) -> &str {
        &self.plate.key
    }

    /// What is mounted.
    pub(crate) fn mounted(&self) -> Mounted {
        Mounted {
            inside: self.folder.join(INSIDE),
            outputs: self.folder.join(OUTPUTS),
            each: self.folder.join(EACH),
            secrets: self.plate.secrets.as_ref().map(PathBuf::from),
        }
    }

    fn inside(&self) -> PathBuf {
        self.folder.join(INSIDE)
    }

    fn seat(&self, task: &str) -> PathBuf {
        self.inside().join(TASKS).join(task)
    }

    /// Whether a task is here: it may run, or what it left was not taken back yet.
    pub(crate) fn is_taken(&self) -> bool {
        let entries = self.inside().join(TASKS).read_dir();
        // A link is one that was taken back, all but.
        let is_one =
            |entry: io::Result<std::fs::DirEntry>| entry.is_ok_and(|it| it.file_type().is_ok_and(|it| it.is_dir()));
        entries.is_ok_and(|mut entries| entries.any(is_one)) || self.inside().join(ERRAND).exists()
    }

    /// Whether the mounted folders are where they were: else nothing can be lent any more.
    fn is_whole(&self) -> bool {
        let has = |path: &Path| path.is_dir();
        ino(&self.folder.join(OUTPUTS)) == Some(self.plate.outputs)
            && self.plate.secrets.as_ref().is_none_or(|folder| has(Path::new(folder)))
    }

    /// Whether a supervisor was ever inside.
    pub(crate) fn is_born(&self) -> bool {
        self.inside().join(BORN).exists()
    }

    /// Whether podman's monitor, whose working folder this is, has seen the kernel kill for want of memory.
    pub(crate) fn oom(&self) -> bool {
        self.folder.join("oom").exists()
    }

    /// Whether the supervisor inside takes nothing more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.inside().join(LEAVING).exists()
    }

    /// Removes what was got ready for tasks that have no way to it, since the scheduler that was about to make one died.
    pub(crate) fn clear_strays(&self, has_way: impl Fn(&str) -> bool) {
        for entry in self.inside().join(TASKS).read_dir().into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(&has_way) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Whether its container takes more tasks, as far as its files tell.
    pub(crate) fn is_ready(&self) -> bool {
        self.held.is_some() && !self.is_taken() && !self.is_leaving() && !self.oom() && self.is_whole()
    }

    /// Wakes the supervisor inside. `false`: nobody is there, or not yet.
    pub(crate) fn ring(&self) -> bool {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if bell.is_none() {
            // Without a reader it cannot be opened like this. A task may have put something else there.
            let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
            let opened = OpenOptions::new().write(true).custom_flags(flags).open(self.inside().join(BELL)).ok();
            *bell = opened.filter(|bell| bell.metadata().is_ok_and(|it| it.file_type().is_fifo()));
        }
        match bell.as_mut().map(|bell| bell.write(b"!")) {
            Some(Ok(_)) => true,
            // It has not heard the last thousands either.
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => true,
            Some(Err(_)) => {
                *bell = None;
                false
            }
            None => false,
        }
    }

    /// Gives a task its place, and puts down its errand. With [`lock`] held. The supervisor is still to be woken.
    pub(crate) fn hand_over(&self, place: &Place, task: &Task, terms: &Terms, errand: &Errand) -> io::Result<Handed> {
        match place.path().symlink_metadata() {
            Ok(_) if !place.path().exists() => std::fs::remove_file(place.path())?, // it leads to a desk that is gone
            Ok(_) => return Ok(Handed::Before),
            Err(_) => {}
        }
        self.lend(task)?;
        let seat = self.seat(&errand.task);
        let _ = std::fs::remove_dir_all(&seat); // mostly it is not there
        std::fs::create_dir(&seat)?;
        let log = seat.join(LOG);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&log)?;
        if self.plate.foreign {
            std::fs::set_permissions(&seat, PermissionsExt::from_mode(0o777))?;
            std::fs::set_permissions(&log, PermissionsExt::from_mode(0o622))?;
        }
        // What is there is of a start that was taken back: nobody has it open.
        let _ = std::fs::remove_file(&task.log);
        std::fs::hard_link(&log, &task.log)?;
        Place::at(seat).keep(terms)?;
        let way = Path::new("..").join(WARM).join(self.name()).join(INSIDE).join(TASKS).join(&errand.task);
        std::os::unix::fs::symlink(way, place.path())?;
        let text = serde_json::to_vec(errand)?;
        write(&self.inside(), ERRAND, &text, if self.plate.foreign { 0o666 } else { 0o600 })?;
        Ok(Handed::Over)
    }

    /// Lends a task the folders.
    fn lend(&self, task: &Task) -> io::Result<()> {
        let ours = self.folder.join(OUTPUTS);
        if ino(&task.outputs) != Some(self.plate.outputs) {
            let mode = if self.plate.foreign { 0o777 } else { task.outputs.metadata()?.mode() & 0o7777 };
            std::fs::set_permissions(&ours, PermissionsExt::from_mode(mode))?;
            exchange(&ours, &task.outputs)?;
        }
        empty(&self.folder.join(EACH))?;
        if let Some(each) = &task.each {
            copy(&each.folder.join(&each.name), &self.folder.join(EACH).join(&each.name))?;
        }
        if let (Some(ours), Some(theirs)) = (&self.plate.secrets, &task.secrets) {
            empty(Path::new(ours))?;
            for entry in std::fs::read_dir(theirs)? {
                let entry = entry?;
                copy(&entry.path(), &Path::new(ours).join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Takes an errand back that nobody has begun: true, and then nobody ever will. With [`lock`] held.
    pub(crate) fn withdraw(&self, place: &Place, task: &str, log: &Path, outputs: &Path) -> io::Result<bool> {
        let (errand, away) = (self.inside().join(ERRAND), self.inside().join(".withdrawn"));
        let is_its = |path: &Path| {
            let read: Option<Errand> = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            read.is_some_and(|errand| errand.task == task)
        };
        if is_its(&errand) && std::fs::rename(&errand, &away).is_ok() {
            std::fs::remove_file(&away)?;
        } else if place.started().is_some() {
            return Ok(false);
        }
        self.take_back_folders(outputs)?;
        let _ = std::fs::remove_file(log); // there may be none yet
        let _ = std::fs::remove_file(place.path());
        let _ = std::fs::remove_dir_all(self.seat(task));
        Ok(true)
    }

    /// Takes back what was lent to a task that is over. With [`lock`] held. `false`: that was done before, and there may be
    /// another task by now.
    pub(crate) fn take_back(&self, place: &Place, task: &str, outputs: &Path) -> io::Result<bool> {
        let seat = self.seat(task);
        let is_here = place.is_lent();
        if is_here {
            self.take_back_folders(outputs)?;
            let _ = std::fs::remove_file(seat.join(LOG)); // one of its two names
            exchange(&seat, place.path())?;
        }
        if seat.is_symlink() {
            std::fs::remove_file(seat)?;
            return Ok(true);
        }
        Ok(is_here)
    }

    fn take_back_folders(&self, outputs: &Path) -> io::Result<()> {
        if ino(outputs) == Some(self.plate.outputs) {
            let theirs = self.folder.join(OUTPUTS);
            let _ = std::fs::set_permissions(outputs, PermissionsExt::from_mode(0o700)); // the task may have closed it
            for entry in std::fs::read_dir(outputs)? {
                let entry = entry?;
                std::fs::rename(entry.path(), theirs.join(entry.file_name()))?;
            }
            exchange(outputs, &theirs)?;
        }
        empty(&self.folder.join(EACH))?;
        self.plate.secrets.as_ref().map_or(Ok(()), |folder| empty(Path::new(folder)))
    }

    /// Removes it, once its container is gone.
    pub(crate) fn remove(&self) {
        if let Some(secrets) = &self.plate.secrets {
            let _ = std::fs::remove_dir_all(secrets); // whoever ends the execution looks again
        }
        // What stays goes with the execution's folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Locks a desk, unless another has: then `None`.
fn hold(folder: &Path) -> io::Result<Option<File>> {
    let held = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(HELD))?;
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(held)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn ino(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|it| it.ino())
}

/// Two names change places, at once.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(io::Error::from)
}

/// A copy that whoever is inside can read.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o400).open(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(PermissionsExt::from_mode(0o444))
}

/// Removes what is in a folder of files. One that is gone is empty.
fn empty(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    entries.into_iter().try_for_each(|entry| std::fs::remove_file(entry?.path()))
}

/// Writes a file that is there whole, or not.
fn write(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = folder.join(format!(".{name}-draft"));
    let _ = std::fs::remove_file(&draft); // of one who died
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    file.write_all(bytes)?;
    std::fs::rename(&draft, folder.join(name))
}
