//! The folder of objects: one read-only file per [`Digest`], and how it is kept trustworthy.
//!
//! It is unaware of artifacts and folders of artifacts.
//!
//! ```text
//! objects/ab/<the other 62 digits>    the bytes whose hash begins with ab; mode 0444
//! objects/ab/<62 digits>x             the same, executable; mode 0555
//! objects/temporary/<id>              being written; what a crash leaves here is never looked at
//! objects/damaged/<digest>.<id>       no longer what its name said; kept for looking at
//! objects/adopting/<id>, lock         see `holds`, and below
//! ```
//!
//! An object appears under its name at once and complete, and is never written again. But the same file may have other
//! names (the outputs it came from, views), and root can write through any of them. So each object's time of
//! modification is set to [`STORED`], an instant of long ago: every write changes it, and on each use a look at time and
//! size tells whether the bytes can still be trusted, without reading gigabytes. Only when they differ are the bytes
//! hashed again: right ones get their time back (a copy of the store by ordinary tools may have lost it), wrong ones are
//! moved aside, so that the next adoption of the right bytes stores them anew. It is a guard against accidents: whoever
//! sets the time back by hand goes unnoticed.
//!
//! The time of access says when an object was adopted last: whoever adopts one that is there marks it as used, since a
//! collector spares what was used after it began to look (see `garbage`). Finding it and marking it are one step to the
//! collector, as looking at the mark and removing the object are to those who adopt: `lock` is shared by these, the
//! other's alone, and held for no longer than that.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    self, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, flock,
};
use rustix::io::Errno;
use uuid::Uuid;

use super::{DatastoreError, Digest, bytes};
use crate::private;

/// When every object was modified last, in seconds since 1970: 2000-01-01T00:00:00Z.
pub(super) const STORED: i64 = 946_684_800;

pub(super) const TEMPORARY: &str = "temporary";
pub(super) const DAMAGED: &str = "damaged";
const LOCK: &str = "lock";

/// From how many objects on the whole file system is synced once, instead of every object by itself.
const MANY: usize = 64;

/// How often an object that is damaged or vanishes just now is stored again.
const ROUNDS: usize = 3;

/// How long whoever removes objects waits for those who adopt, each of whom has the lock for microseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a file is opened that someone else may have put there: no link is followed, and no fifo waited for.
pub(super) const WARY: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// How a folder is opened.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder of objects, open for the length of one verb.
pub(super) struct Objects {
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
    device: fs::Dev,
    lock: OnceCell<OwnedFd>,
}

/// The lock between those who adopt and those who collect. Dropped, it is free.
pub(super) struct Locked<'a>(&'a OwnedFd);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The kernel frees it at the latest when the folder is closed.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// What came of an attempt to store a file.
pub(super) enum Stored {
    /// The object is there.
    There,
    /// The file's bytes are others than those that were hashed before.
    Changed,
}

impl Objects {
    /// Opens the folder, and makes it when it is not there.
    pub(super) fn open(path: &Path) -> Result<Objects, DatastoreError> {
        let open = || fs::open(path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
        let folder = match open() {
            Err(Errno::NOENT) => {
                private::make_readable(path).map_err(|error| DatastoreError::file("create", path, error))?;
                sync_folder(parent_of(path))?;
                open()
            }
            other => other,
        };
        let folder = folder.map_err(|error| DatastoreError::file("open", path, error))?;
        let device = fs::fstat(&folder).map_err(|error| DatastoreError::file("look at", path, error))?.st_dev;
        Ok(Objects { path: path.to_owned(), folder, device, lock: OnceCell::new() })
    }

    /// Waits for the lock. Shared by those who adopt, and alone for who removes, who does not wait for long: a process that
    /// is stopped may have it. Not to be taken twice.
    pub(super) fn lock(&self, how: FlockOperation) -> Result<Locked<'_>, DatastoreError> {
        let lock = match self.lock.get() {
            Some(lock) => lock,
            None => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = fs::openat(&self.folder, LOCK, flags, Mode::from_raw_mode(0o644));
                let opened = opened.map_err(|error| self.failed("open", LOCK, error))?;
                self.lock.get_or_init(|| opened)
            }
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(lock, how) {
                Ok(()) => return Ok(Locked(lock)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                Err(Errno::WOULDBLOCK) => {
                    let why = io::Error::other("a process that adopts outputs has it, and stands still");
                    return Err(self.failed("lock", LOCK, why));
                }
                Err(error) => return Err(self.failed("lock", LOCK, error)),
            }
        }
    }

    /// The file system that objects are on.
    pub(super) fn device(&self) -> fs::Dev {
        self.device
    }

    /// Whether the object is there and what its name says.
    pub(super) fn check(&self, digest: Digest, size: u64) -> Result<(), DatastoreError> {
        let name = name(digest);
        let stat = match fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(DatastoreError::Missing { digest }),
            other => other.map_err(|error| self.failed("look at", &name, error))?,
        };
        if !is_file(&stat) || !is_stored(&stat) || size_of(&stat) != size {
            return self.examine(digest, Some(size)).map(drop);
        }
        if stat.st_mode & 0o7777 != mode(digest).as_raw_mode() {
            // As good as it gets, where the object is someone else's.
            let _ = fs::chmodat(&self.folder, &name, mode(digest), AtFlags::empty());
        }
        Ok(())
    }

    /// Takes an object that is there into use: no collector that has begun by now removes it.
    pub(super) fn reuse(&self, digest: Digest, size: u64) -> Result<(), DatastoreError> {
        self.mark(digest)?;
        self.check(digest, size)
    }

    /// Marks an object as used. Only under the lock it is sure to stay.
    pub(super) fn mark(&self, digest: Digest) -> Result<(), DatastoreError> {
        let name = name(digest);
        let used = Timestamps { last_access: time(0, UTIME_NOW), last_modification: time(0, UTIME_OMIT) };
        match fs::utimensat(&self.folder, &name, &used, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => Err(DatastoreError::Missing { digest }),
            other => other.map_err(|error| self.failed("mark as used", &name, error)),
        }
    }

    /// Opens an object for reading.
    pub(super) fn read(&self, digest: Digest, size: u64) -> Result<File, DatastoreError> {
        self.check(digest, size)?;
        self.open_object(digest)
    }

    /// Reads a small object whole. Its bytes are hashed in any case.
    pub(super) fn read_whole(&self, digest: Digest) -> Result<Vec<u8>, DatastoreError> {
        let mut bytes = Vec::new();
        let read = self.open_object(digest)?.read_to_end(&mut bytes);
        match read {
            Ok(_) if blake3::hash(&bytes) == digest.hash => Ok(bytes),
            // What it is instead is a folder, or other bytes; or it was read while it changed.
            _ => {
                self.examine(digest, None)?;
                read.map_err(|error| self.failed("read", &name(digest), error))?;
                Err(DatastoreError::Damaged { digest, found: "it changes while it is read".to_owned() })
            }
        }
    }

    pub(super) fn open_object(&self, digest: Digest) -> Result<File, DatastoreError> {
        let name = name(digest);
        match fs::openat(&self.folder, &name, WARY, Mode::empty()) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(DatastoreError::Missing { digest }),
            Err(Errno::LOOP | Errno::NXIO) => {
                self.examine(digest, None)?;
                Err(DatastoreError::Missing { digest })
            }
            Err(error) => Err(self.failed("open", &name, error)),
        }
    }

    /// Finds out by reading whether an object is what its name says. If so its time is mended, if not it is moved aside.
    fn examine(&self, digest: Digest, size: Option<u64>) -> Result<(), DatastoreError> {
        let name = name(digest);
        let seen = match fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(DatastoreError::Missing { digest }),
            other => other.map_err(|error| self.failed("look at", &name, error))?,
        };
        let found = if !is_file(&seen) {
            "it is no file".to_owned()
        } else if size.is_some_and(|size| size_of(&seen) != size) {
            format!("it has {} bytes instead of {}", size_of(&seen), size.unwrap_or_default())
        } else {
            let file = fs::openat(&self.folder, &name, WARY, Mode::empty())
                .map_err(|error| self.failed("open", &name, error))?;
            let file = File::from(file);
            let look = || fs::fstat(&file).map_err(|error| self.failed("look at", &name, error));
            let before = look()?;
            let (hash, _) = bytes::hash(&file, size_of(&before)).map_err(|error| self.failed("read", &name, error))?;
            if hash == digest.hash {
                if is_same(&before, &look()?) {
                    // Who may not change the object reads it again the next time.
                    let _ = seal(&file, digest.executable);
                }
                return Ok(());
            }
            format!("its bytes are those of {}", Digest { hash, executable: digest.executable })
        };
        self.set_aside(digest, &seen)?;
        Err(DatastoreError::Damaged { digest, found })
    }

    /// Moves a damaged object away, unless another process has just put a good one in its place.
    fn set_aside(&self, digest: Digest, seen: &Stat) -> Result<(), DatastoreError> {
        let (name, aside) = (name(digest), format!("{DAMAGED}/{digest}.{}", Uuid::now_v7().simple()));
        self.make(DAMAGED)?;
        match fs::renameat(&self.folder, &name, &self.folder, &aside) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|error| self.failed("move aside", &name, error))?,
        }
        let moved = fs::statat(&self.folder, &aside, AtFlags::SYMLINK_NOFOLLOW);
        if moved.is_ok_and(|moved| (moved.st_dev, moved.st_ino) != (seen.st_dev, seen.st_ino)) {
            // It does not matter who wins: whatever is under the name by then is checked when it is used.
            let _ = fs::renameat_with(&self.folder, &aside, &self.folder, &name, RenameFlags::NOREPLACE);
        }
        Ok(())
    }

    /// Stores a file that was hashed. When `linked`, the file itself becomes the object: it must be sealed and on our
    /// file system, and nobody else may have a name for it. Otherwise it is copied.
    pub(super) fn store(
        &self,
        file: &File,
        digest: Digest,
        size: u64,
        mut linked: bool,
    ) -> Result<Stored, DatastoreError> {
        let mut last = Ok(());
        for _ in 0..ROUNDS {
            let locked = self.lock(FlockOperation::LockShared)?;
            if linked && self.link(file, digest)? {
                return Ok(Stored::There);
            }
            last = self.reuse(digest, size);
            drop(locked);
            match last {
                Ok(()) => return Ok(Stored::There),
                // Either there is no such object yet, and no link could be made; or a damaged one is out of the way now.
                Err(DatastoreError::Missing { .. }) => linked = false,
                Err(DatastoreError::Damaged { .. }) if linked => continue,
                Err(DatastoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            let copy = self.temporary()?;
            let mut hasher = blake3::Hasher::new();
            copy_bytes(file, &copy.file, size, Some(&mut hasher))
                .map_err(|error| self.failed("write", &copy.name, error))?;
            if hasher.finalize() != digest.hash {
                return Ok(Stored::Changed);
            }
            if self.publish(&copy, digest)? {
                return Ok(Stored::There);
            }
        }
        last.map(|()| Stored::There)
    }

    /// Stores what was written to a temporary file.
    pub(super) fn store_temporary(&self, written: &Temporary<'_>, digest: Digest) -> Result<(), DatastoreError> {
        let size = written.size()?;
        let mut last = Ok(());
        for _ in 0..ROUNDS {
            if self.publish(written, digest)? {
                return Ok(());
            }
            let _locked = self.lock(FlockOperation::LockShared)?;
            last = self.reuse(digest, size);
            match last {
                Err(DatastoreError::Missing { .. } | DatastoreError::Damaged { .. }) => {}
                other => return other,
            }
        }
        last
    }

    /// Gives the file the object's name as well; false when that name is taken or the file system does not allow it.
    fn link(&self, file: &File, digest: Digest) -> Result<bool, DatastoreError> {
        let name = name(digest);
        self.make(shard(&name))?;
        // The open file is linked, not what its name stands for by now. The first way may need a privilege.
        let linked = fs::linkat(file, "", &self.folder, &name, AtFlags::EMPTY_PATH).or_else(|error| match error {
            Errno::EXIST => Err(error),
            _ => fs::linkat(CWD, descriptor_path(file.as_fd()), &self.folder, &name, AtFlags::SYMLINK_FOLLOW),
        });
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::NOENT) => Ok(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(self.failed("link", &name, error)),
        }
    }

    /// A new file to write an object to.
    pub(super) fn temporary(&self) -> Result<Temporary<'_>, DatastoreError> {
        self.make(TEMPORARY)?;
        let name = format!("{TEMPORARY}/{}", Uuid::now_v7().simple());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = fs::openat(&self.folder, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.failed("create", &name, error))?;
        Ok(Temporary { objects: self, name, file: File::from(file) })
    }

    /// Renames a complete file to the object's name; false when that name is taken.
    fn publish(&self, written: &Temporary<'_>, digest: Digest) -> Result<bool, DatastoreError> {
        let name = name(digest);
        self.make(shard(&name))?;
        seal(&written.file, digest.executable).map_err(|error| self.failed("make read-only", &written.name, error))?;
        let _locked = self.lock(FlockOperation::LockShared)?;
        let renamed = match fs::renameat_with(&self.folder, &written.name, &self.folder, &name, RenameFlags::NOREPLACE)
        {
            // A file system that has no such rename; the temporary name goes with `written`.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::linkat(&self.folder, &written.name, &self.folder, &name, AtFlags::empty())
            }
            other => other,
        };
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.failed("name", &name, error)),
        }
    }

    /// Makes a link to an object, or where that is not allowed a copy of it.
    pub(super) fn place(
        &self,
        digest: Digest,
        size: u64,
        folder: BorrowedFd<'_>,
        target: &[u8],
        path: &Path,
    ) -> Result<(), DatastoreError> {
        self.check(digest, size)?;
        match fs::linkat(&self.folder, name(digest), folder, target, AtFlags::empty()) {
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(Errno::NOENT) => return Err(DatastoreError::Missing { digest }),
            other => return other.map_err(|error| DatastoreError::file("create", path, error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = fs::openat(folder, target, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| DatastoreError::file("create", path, error))?;
        let copy = File::from(copy);
        copy_bytes(&self.open_object(digest)?, &copy, size, None)
            .map_err(|error| DatastoreError::file("write", path, error))?;
        seal(&copy, digest.executable).map_err(|error| DatastoreError::file("make read-only", path, error))
    }

    /// Brings objects to disk for good: first their bytes, then the folders that name them, each once.
    ///
    /// One by one each costs a wait for the disk, so many are brought there by syncing the file system once, which also
    /// takes along what others have written.
    pub(super) fn sync(&self, unsynced: &Unsynced) -> Result<(), DatastoreError> {
        if unsynced.0.len() > MANY {
            return fs::syncfs(&self.folder).map_err(|error| DatastoreError::file("sync", &self.path, error));
        }
        let sync = |name: &str, flags| {
            fs::openat(&self.folder, name, flags, Mode::empty())
                .and_then(fs::fsync)
                .map_err(|error| self.failed("sync", name, error))
        };
        let names: Vec<String> = unsynced.0.iter().map(|digest| name(*digest)).collect();
        for name in &names {
            sync(name, WARY)?;
        }
        let mut shards: Vec<&str> = names.iter().map(|name| shard(name)).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            sync(shard, FOLDER)?;
        }
        sync(".", FOLDER)
    }

    /// Makes a folder among the objects, if it is not there.
    fn make(&self, name: &str) -> Result<(), DatastoreError> {
        match fs::mkdirat(&self.folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.failed("create", name, error)),
        }
    }

    pub(super) fn failed(&self, verb: &'static str, name: &str, error: impl Into<io::Error>) -> DatastoreError {
        DatastoreError::file(verb, self.path.join(name), error)
    }
}

/// Objects that may not be on disk for good yet: all that were stored, and also those that were there already, since
/// whoever stored them may not have synced them yet. Keeps no more of them than it takes to know that they are many.
#[derive(Default)]
pub(super) struct Unsynced(Vec<Digest>);

impl Unsynced {
    pub(super) fn add(&mut self, digest: Digest) {
        if self.0.len() <= MANY && self.0.last() != Some(&digest) {
            self.0.push(digest);
        }
    }
}

/// A file that is being written. Dropped, it is gone.
pub(super) struct Temporary<'a> {
    objects: &'a Objects,
    name: String,
    pub(super) file: File,
}

impl Temporary<'_> {
    /// What could not be done with it.
    pub(super) fn failed(&self, verb: &'static str, error: io::Error) -> DatastoreError {
        self.objects.failed(verb, &self.name, error)
    }

    fn size(&self) -> Result<u64, DatastoreError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| self.failed("look at", error))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Not there any more when it was published by a rename.
        let _ = fs::unlinkat(&self.objects.folder, &self.name, AtFlags::empty());
    }
}

/// Takes the right away from a program to be more than who executes it: set-user-ID, set-group-ID, capabilities.
pub(super) fn demote(file: &File) -> io::Result<()> {
    // Giving a file to whose it is takes all of that away, and is everybody's right.
    Ok(fs::fchown(file, None, None)?)
}

/// Makes a file read-only and sets its time to [`STORED`]: from here on, any write shows. Marks it as used.
pub(super) fn seal(file: &File, executable: bool) -> io::Result<()> {
    fs::fchmod(file, mode_of(executable))?;
    fs::futimens(file, &Timestamps { last_access: time(0, UTIME_NOW), last_modification: time(STORED, 0) })?;
    Ok(())
}

/// Sets both times of a file to now.
pub(super) fn touch(file: &File) -> io::Result<()> {
    let now = time(0, UTIME_NOW);
    Ok(fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

fn time(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whether nothing was written to a file between two looks.
pub(super) fn is_same(before: &Stat, after: &Stat) -> bool {
    size_of(before) == size_of(after)
        && (before.st_mtime, before.st_mtime_nsec) == (after.st_mtime, after.st_mtime_nsec)
}

pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// A path by which the kernel finds an open file again, without looking at names.
pub(super) fn descriptor_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn is_stored(stat: &Stat) -> bool {
    stat.st_mtime == STORED && stat.st_mtime_nsec == 0
}

fn name(digest: Digest) -> String {
    let mut name = blake3::Hash::from_bytes(digest.hash).to_hex().to_string();
    name.insert(2, '/');
    if digest.executable {
        name.push('x');
    }
    name
}

fn shard(name: &str) -> &str {
    &name[..2]
}

fn mode(digest: Digest) -> Mode {
    mode_of(digest.executable)
}

fn mode_of(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o555 } else { 0o444 })
}

/// Copies `size` bytes, and leaves holes where the original has them. A shorter file is found out by its hash.
fn copy_bytes(from: &File, to: &File, size: u64, mut hasher: Option<&mut blake3::Hasher>) -> io::Result<()> {
    bytes::pieces(from, 0..size, |piece, at| {
        if let Some(hasher) = &mut hasher {
            hasher.update(piece);
        }
        at.map_or(Ok(()), |at| to.write_all_at(piece, at))
    })?;
    to.set_len(size)
}

/// The folder that holds a path given by our own side.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn sync_folder(path: &Path) -> Result<(), DatastoreError> {
    fs::open(path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())
        .and_then(fs::fsync)
        .map_err(|error| DatastoreError::file("sync", path, error))
}
