//! A warm container's folders, and how they are lent to one task at a time.
//!
//! Files only; unaware of engines. Every step can be repeated, and whoever comes after a scheduler that died half-way finds out
//! from the files how far that was.
//!
//! What a task needed is used again by the next: whole folders and files change their names, and are written anew where nobody
//! looks. A file that is made costs the more, the more have been removed of late in its part of the disk (ext4 passes over
//! each of them), and a thousand splits would remove ten thousand.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use laminar_core::executor::Task;
use laminar_core::id::ExecutionId;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, RenameFlags, StatxFlags};
use serde::{Deserialize, Serialize};

use super::errand::{BELL, BORN, ERRAND, Errand, LEAVE, LEAVING, LOG};
use crate::place::{DRAFT as RECORD, EXIT, Place, STARTED, Terms, rewrite};

/// The folder of all desks in the backend's own.
pub(crate) const WARM: &str = "warm";

const PLATE: &str = "plate";
const HELD: &str = "held";
const TASK: &str = "task";
/// The file that says it, while it is lent to none.
const NO_TASK: &str = ".task";
/// The files of the last errand, of the last split's values and of a log that stayed empty, and the folders of tasks that are
/// over, to be used again.
const USED_ERRAND: &str = ".errand";
const USED_EACH: &str = ".each";
const USED_LOG: &str = ".log";
const USED: &str = "used";
const LOCK: &str = "lock";
const INSIDE: &str = "inside";
const OUTPUTS: &str = "outputs";
const EACH: &str = "each";
/// A task's folder before it is in its place.
const DRAFT: &str = ".place";
/// An errand that was taken back.
const WITHDRAWN: &str = ".withdrawn";

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
    /// The names of the folders in [`USED`].
    used: Mutex<Vec<OsString>>,
    /// Whether this process has seen that nothing is left of a task.
    is_clear: AtomicBool,
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
    // Names are exchanged and linked within one mount, not only one file system.
    let mount = |path: &Path| {
        let mount = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map(|it| it.stx_mnt_id);
        let device = path.metadata().map(|it| it.dev());
        device.map(|device| (device, mount.unwrap_or_default())).map_err(|error| format!("{}: {error}", path.display()))
    };
    let own = mount(private)?;
    for path in [&*task.outputs, task.log.parent().unwrap_or(&task.log)] {
        if mount(path)? != own {
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
        let (outputs, each, used) = (folder.join(OUTPUTS), folder.join(EACH), folder.join(USED));
        for (path, mode) in [(&inside, open), (&outputs, open), (&each, 0o755), (&used, 0o700)] {
            std::fs::create_dir(path)?;
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        }
        // Two names: what the layer does to the one that it sees is nothing to us.
        let bell = folder.join(BELL);
        rustix::fs::mknodat(CWD, &bell, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        std::fs::set_permissions(&bell, PermissionsExt::from_mode(0o666))?;
        std::fs::hard_link(&bell, inside.join(BELL))?;
        // Where names cannot be exchanged nothing can be lent.
        exchange(&outputs, &each)?;
        exchange(&outputs, &each)?;
        let secrets = match &task.secrets {
            None => None,
            Some(theirs) => {
                let folder = theirs.with_file_name(format!(".warm-{execution}-{own}"));
                let _ = std::fs::remove_dir_all(&folder); // mostly it is not there
                std::fs::DirBuilder::new().mode(0o755).create(&folder)?;
                Some(folder.into_os_string())
            }
        };
        let outputs = outputs.metadata()?.ino();
        let plate = Plate { container: name(&own), key, outputs, secrets, foreign };
        write(&folder, PLATE, &serde_json::to_vec(&plate)?, 0o600)?;
        Ok(Desk::new(folder, plate, Some(held)))
    }

    fn new(folder: PathBuf, plate: Plate, held: Option<File>) -> Desk {
        let is_clear = AtomicBool::new(false);
        Desk { folder, plate, held, bell: Mutex::default(), used: Mutex::default(), is_clear }
    }

    /// One that is there, not held.
    pub(crate) fn read(private: &Path, name: &str) -> Option<Desk> {
        let folder = private.join(WARM).join(name);
        let plate = serde_json::from_slice(&std::fs::read(folder.join(PLATE)).ok()?).ok()?;
        Some(Desk::new(folder, plate, None))
    }

    /// One that is there, if no other scheduler holds it.
    pub(crate) fn adopt(private: &Path, name: &str) -> Option<Desk> {
        let mut desk = Desk::read(private, name)?;
        desk.held = Some(hold(&desk.folder).ok()??);
        let used = desk.folder.join(USED).read_dir().into_iter().flatten().flatten();
        desk.used = Mutex::new(used.map(|entry| entry.file_name()).collect());
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

    /// How the folder of a task that it is lent to leads here.
    pub(crate) fn way(&self) -> PathBuf {
        Path::new("../..").join(WARM).join(self.name()).join(INSIDE)
    }

    /// The name of the task that it is lent to: it may run, or what it left was not taken back yet.
    fn task(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join(TASK)).ok()
    }

    /// Whether this task's errand is still there.
    pub(crate) fn has_errand_of(&self, task: &str) -> bool {
        self.task().as_deref() == Some(task) && self.inside().join(ERRAND).symlink_metadata().is_ok()
    }

    /// Whether it is lent to a task.
    pub(crate) fn is_taken(&self) -> bool {
        self.folder.join(TASK).exists()
    }

    /// Whether the mounted folders are where they were: else nothing can be lent any more.
    fn is_whole(&self) -> bool {
        let has = |path: &Path| path.is_dir();
        ino(&self.folder.join(OUTPUTS)) == Some(self.plate.outputs)
            && self.plate.secrets.as_ref().is_none_or(|folder| has(Path::new(folder)))
    }

    /// Whether a supervisor was ever inside.
    pub(crate) fn is_born(&self) -> bool {
        self.inside().join(BORN).symlink_metadata().is_ok()
    }

    /// Whether podman's monitor, whose working folder this is, has seen the kernel kill for want of memory.
    pub(crate) fn oom(&self) -> bool {
        self.folder.join("oom").exists()
    }

    /// Whether the supervisor inside takes nothing more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.inside().join(LEAVING).symlink_metadata().is_ok()
    }

    /// Lets go of a task that has no way to it: the scheduler that was about to make one died, or had taken it back.
    pub(crate) fn clear_strays(&self, has_way: impl Fn(&str) -> bool) -> io::Result<()> {
        match self.task() {
            Some(task) if !has_way(&task) => {
                self.empty_lent()?;
                self.let_go()
            }
            _ => Ok(()),
        }
    }

    /// It is lent to nobody any more, and nothing is left of what was said of a task.
    fn let_go(&self) -> io::Result<()> {
        self.clear()?;
        std::fs::rename(self.folder.join(TASK), self.folder.join(NO_TASK))?;
        self.is_clear.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what the supervisor and a task have put where they can write, whatever it is. Files of ours are put by: the
    /// record is emptied by the supervisor before the next task begins, the errand has been.
    fn clear(&self) -> io::Result<()> {
        for entry in self.inside().read_dir()? {
            let entry = entry?;
            let (name, there) = (entry.file_name(), entry.metadata()?);
            // What has another name may be the log of a task that is over.
            let is_sole = there.is_file() && there.nlink() == 1;
            let stays = [BORN, LEAVING].iter().any(|ours| name == *ours) && is_sole;
            if stays || name == BELL && there.file_type().is_fifo() {
                continue;
            }
            if is_sole && self.can_use_again(&there) {
                let used = match name.to_str() {
                    Some(RECORD) => continue,
                    Some(EXIT) => Some(self.inside().join(RECORD)),
                    Some(STARTED) => Some(self.folder.join(USED_ERRAND)),
                    _ => None,
                };
                if used.is_some_and(|used| std::fs::rename(entry.path(), used).is_ok()) {
                    continue;
                }
            }
            match there.is_dir() {
                true => laminar_core::executor::remove_tree(&entry.path()).map_err(io::Error::other)?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// Whether a file that a task could write to serves the next one as well: whoever is inside has it as we do.
    fn can_use_again(&self, there: &Metadata) -> bool {
        let is_ours = there.uid() == rustix::process::geteuid().as_raw();
        !self.plate.foreign && is_ours && there.mode() & 0o7600 == 0o600
    }

    /// Whether its container takes more tasks, as far as its files tell.
    pub(crate) fn is_ready(&self) -> bool {
        self.held.is_some() && !self.is_taken() && !self.is_leaving() && !self.oom() && self.is_whole()
    }

    /// Wakes the supervisor inside. `false`: nobody is there, or not yet.
    pub(crate) fn ring(&self) -> bool {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if bell.is_none() {
            // Without a reader it cannot be opened like this.
            let options = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(self.folder.join(BELL));
            *bell = options.ok();
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

    /// Has the supervisor inside leave, if one is there. Nothing is handed over any more.
    pub(crate) fn dismiss(&self) {
        // Whatever a layer may have put there is not followed.
        let told = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.inside().join(LEAVE));
        if told.is_ok() {
            self.ring();
        }
    }

    /// Gives a task its place, and puts down its errand. With [`lock`] held. The supervisor is still to be woken.
    pub(crate) fn hand_over(
        &self,
        place: &Place,
        name: &str,
        (task, terms): (&Task, &Terms),
        errand: &Errand,
    ) -> io::Result<Handed> {
        if place.is_adrift() {
            place.remove()?;
        } else if place.path().symlink_metadata().is_ok() {
            return Ok(Handed::Before);
        }
        let no_task = self.folder.join(NO_TASK);
        rewrite(&no_task, name.as_bytes(), true)?;
        std::fs::rename(no_task, self.folder.join(TASK))?;
        if !self.is_clear.swap(false, Ordering::Relaxed) {
            empty(&self.folder.join(EACH))?;
            self.clear()?;
        }
        self.lend(task)?;
        self.open_log(&task.log)?;
        self.find_place(place, terms)?;
        self.put_down(&serde_json::to_vec(errand)?)?;
        Ok(Handed::Over)
    }

    /// Makes a task's folder, which leads here, from one that was used, if there is any.
    fn find_place(&self, place: &Place, terms: &Terms) -> io::Result<()> {
        while let Some(used) = self.used().pop() {
            let used = self.folder.join(USED).join(used);
            if Place::lead_again(&used, &self.way(), terms).is_ok() {
                return std::fs::rename(used, place.path());
            }
            // Somebody died over it.
            std::fs::remove_dir_all(used)?;
        }
        let draft = self.folder.join(DRAFT);
        let _ = std::fs::remove_dir_all(&draft); // mostly it is not there
        std::fs::create_dir(&draft)?;
        Place::lead(&draft, &self.way(), terms)?;
        std::fs::rename(&draft, place.path())
    }

    /// Keeps the folder of a task that is over, for another. Whether that could be.
    pub(crate) fn keep(&self, place: &Place) -> bool {
        let Some(name) = place.path().file_name() else { return false };
        let is_kept = self.held.is_some() && std::fs::rename(place.path(), self.folder.join(USED).join(name)).is_ok();
        if is_kept {
            self.used().push(name.to_owned());
        }
        is_kept
    }

    fn used(&self) -> MutexGuard<'_, Vec<OsString>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an errand where the supervisor finds it, whole.
    fn put_down(&self, text: &[u8]) -> io::Result<()> {
        let used = self.folder.join(USED_ERRAND);
        match rewrite(&used, text, false) {
            Ok(()) => std::fs::rename(used, self.inside().join(ERRAND)),
            // Made inside, so that it is labelled as what is seen there.
            Err(_) => write(&self.inside(), ERRAND, text, if self.plate.foreign { 0o666 } else { 0o600 }),
        }
    }

    /// Makes the task's log, where it is seen inside too.
    fn open_log(&self, log: &Path) -> io::Result<()> {
        let (seen, used) = (self.inside().join(LOG), self.folder.join(USED_LOG));
        let made = match used.symlink_metadata() {
            Ok(there) => {
                std::fs::rename(used, &seen)?;
                there
            }
            Err(_) => {
                // Made inside, so that it is labelled as what is seen there.
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&seen)?;
                if self.plate.foreign {
                    made.set_permissions(PermissionsExt::from_mode(0o622))?;
                }
                made.metadata()?
            }
        };
        // What is there is of a start that was taken back: nobody has it open.
        let _ = std::fs::remove_file(log);
        std::fs::hard_link(&seen, log)?;
        let linked = log.symlink_metadata()?;
        if (linked.dev(), linked.ino()) != (made.dev(), made.ino()) {
            std::fs::remove_file(log)?;
            return Err(io::Error::other("somebody inside has put something else in the log's place"));
        }
        Ok(())
    }

    /// Puts a log by that stayed empty, unless somebody has it open: they would be shown the next task's.
    fn put_log_by(&self, log: &Path) -> io::Result<()> {
        let seen = self.inside().join(LOG);
        let there = seen.symlink_metadata()?;
        let is_empty = there.is_file() && there.len() == 0 && there.nlink() == 2;
        if !is_empty || !self.can_use_again(&there) || ino(log) != Some(there.ino()) {
            return Ok(());
        }
        // From now on nobody can open it; a task that wrote nothing needs none.
        std::fs::remove_file(log)?;
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&seen)?;
        match file.metadata()?.ino() == there.ino() && is_open_here_only(&file) {
            true => std::fs::rename(seen, self.folder.join(USED_LOG)),
            false => Ok(()),
        }
    }

    /// Lends a task the folders.
    fn lend(&self, task: &Task) -> io::Result<()> {
        let ours = self.folder.join(OUTPUTS);
        let theirs = task.outputs.symlink_metadata()?;
        if theirs.ino() != self.plate.outputs {
            set_mode(&ours, &ours.metadata()?, if self.plate.foreign { 0o777 } else { theirs.mode() & 0o7777 })?;
            exchange(&ours, &task.outputs)?;
        }
        let lent = self.folder.join(EACH);
        if let Some(each) = &task.each {
            let used = self.folder.join(USED_EACH);
            match rewrite(&used, &std::fs::read(each.folder.join(&each.name))?, false) {
                Ok(()) => std::fs::rename(used, lent.join(&each.name))?,
                // What is inside is mounted read-only, whatever its mode.
                Err(_) => copy(&each.folder.join(&each.name), &lent.join(&each.name), 0o644)?,
            }
        }
        if let (Some(ours), Some(theirs)) = (&self.plate.secrets, &task.secrets) {
            empty(Path::new(ours))?;
            for entry in std::fs::read_dir(theirs)? {
                let entry = entry?;
                copy(&entry.path(), &Path::new(ours).join(entry.file_name()), 0o444)?;
            }
        }
        Ok(())
    }

    /// Takes an errand back that nobody has begun: true, and then nobody ever will. With [`lock`] held.
    pub(crate) fn withdraw(&self, place: &Place, task: &str, log: &Path, outputs: &Path) -> io::Result<bool> {
        if self.task().as_deref() == Some(task) {
            let away = self.folder.join(WITHDRAWN);
            if std::fs::rename(self.inside().join(ERRAND), &away).is_ok() {
                let _ = std::fs::remove_file(away);
            } else if place.started().is_some() {
                return Ok(false);
            }
            self.take_back_folders(outputs)?;
        } else if place.started().is_some() {
            return Ok(false);
        }
        let _ = std::fs::remove_file(log); // there may be none yet
        place.remove()?;
        if self.task().as_deref() == Some(task) { self.let_go().map(|()| true) } else { Ok(true) }
    }

    /// Takes back what was lent to a task that is over. With [`lock`] held. `false`: that was done before, and there may be
    /// another task by now.
    pub(crate) fn take_back(&self, place: &Place, task: &str, log: &Path, outputs: &Path) -> io::Result<bool> {
        if self.task().as_deref() != Some(task) {
            return Ok(false);
        }
        if place.leads(&self.way()) {
            self.take_back_folders(outputs)?;
        }
        place.part()?;
        let _ = self.put_log_by(log); // what could not be used again is removed
        self.let_go()?;
        Ok(true)
    }

    fn take_back_folders(&self, outputs: &Path) -> io::Result<()> {
        if let Ok(there) = outputs.symlink_metadata()
            && there.ino() == self.plate.outputs
        {
            let theirs = self.folder.join(OUTPUTS);
            let _ = set_mode(outputs, &there, 0o700); // the task may have closed it
            for entry in std::fs::read_dir(outputs)? {
                let entry = entry?;
                std::fs::rename(entry.path(), theirs.join(entry.file_name()))?;
            }
            exchange(outputs, &theirs)?;
        }
        self.empty_lent()
    }

    /// Takes away the copies that a task could read.
    fn empty_lent(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.folder.join(EACH))? {
            std::fs::rename(entry?.path(), self.folder.join(USED_EACH))?;
        }
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

/// Whether nobody else has this file open, at this moment: only then there can be a lease for writing.
fn is_open_here_only(file: &File) -> bool {
    // Linux's own, which the crate does not name.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: plain calls with a descriptor that is open. Who opens the file meanwhile waits until it is closed here, and makes the
    // kernel send the signal that was asked for, which is ignored by default, in place of one that ends the process.
    unsafe {
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0
    }
}

/// Gives a folder this mode, if it has another: to be told what it has already is written to the disk, too.
fn set_mode(folder: &Path, there: &Metadata, mode: u32) -> io::Result<()> {
    match there.mode() & 0o7777 == mode {
        true => Ok(()),
        false => std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)),
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
fn copy(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o400).open(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(PermissionsExt::from_mode(mode))
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
