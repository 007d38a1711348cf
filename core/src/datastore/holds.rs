//! Who is adopting outputs just now, so that nobody takes for garbage what is about to be named.
//!
//! Between an adoption and the record that names what came of it, objects are referred to by nobody. Every datastore that
//! adopts has a file `objects/adopting/<id>`, locked for as long as its process lives, whose time of modification says
//! since when it adopts without a break in the records; [`IDLE`] when it does not. Times are the file system's own, so
//! they compare with those of objects. It is unaware of objects.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    self, AtFlags, Dir, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock,
};
use rustix::io::Errno;
use uuid::Uuid;

use super::DatastoreError;
use super::objects::FOLDER;
use crate::private;

/// The folder of these files among the objects.
pub(super) const ADOPTING: &str = "adopting";

/// The time of modification, in seconds since 1970, of one who adopts nothing.
const IDLE: i64 = 0;

/// A moment by the file system's clock: seconds since 1970, and nanoseconds.
pub(super) type Moment = (i64, i64);

/// What is adopted while this value lives is no garbage. To be kept from before the adoption until what came of it is on
/// record.
#[derive(Debug, Default)]
pub struct Hold(#[expect(dead_code, reason = "held, not used")] Option<Held>);

/// A place in the list of those who adopt.
#[derive(Debug)]
struct Held {
    holds: Arc<Holds>,
    number: u64,
}

/// The adoptions of one datastore.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    file: Option<OwnedFd>,
    /// When each adoption began, by number.
    begun: BTreeMap<u64, Moment>,
    next: u64,
}

impl Holds {
    /// Begins to hold.
    pub(super) fn hold(self: &Arc<Holds>, objects: &Path) -> Result<Hold, DatastoreError> {
        let folder = objects.join(ADOPTING);
        let mut state = self.state();
        if state.file.is_none() {
            state.file = Some(enter(&folder)?);
        }
        let alone = state.begun.is_empty();
        let Some(file) = &state.file else { return Ok(Hold::default()) };
        // The time of access says what time it is; that of modification stays the oldest's.
        let modification = if alone { UTIME_NOW } else { UTIME_OMIT };
        let stamp = |error| DatastoreError::file("write to", &folder, error);
        set_times(file, (0, UTIME_NOW), (0, modification)).map_err(stamp)?;
        let now = accessed(&fs::fstat(file).map_err(stamp)?);
        let number = state.next;
        state.next += 1;
        state.begun.insert(number, now);
        drop(state);
        Ok(Hold(Some(Held { holds: Arc::clone(self), number })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.holds.state();
        let was_oldest = state.begun.first_key_value().is_some_and(|(oldest, _)| *oldest == self.number);
        state.begun.remove(&self.number);
        let oldest = state.begun.first_key_value().map_or((IDLE, 0), |(_, moment)| *moment);
        if let (Some(file), true) = (&state.file, was_oldest) {
            // A time that is too old only keeps garbage for longer.
            let _ = set_times(file, (0, UTIME_OMIT), oldest);
        }
    }
}

/// Makes the file and locks it. A collector takes one that is not locked yet for a dead one's, and removes it.
fn enter(folder: &Path) -> Result<OwnedFd, DatastoreError> {
    let failed = |error: Errno| DatastoreError::file("make a file in", folder, error);
    private::make_readable(folder).map_err(|error| DatastoreError::file("create", folder, error))?;
    loop {
        let path = folder.join(Uuid::now_v7().simple().to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(failed)?;
        if fs::fstat(&file).map_err(failed)?.st_nlink > 0 {
            return Ok(file);
        }
    }
}

/// Since when somebody adopts; `None` when nobody does. Files of the dead are removed.
pub(super) fn oldest(objects: &OwnedFd, path: &Path) -> Result<Option<Moment>, DatastoreError> {
    let path: PathBuf = path.join(ADOPTING);
    let failed = |error: Errno| DatastoreError::file("read", &path, error);
    let folder = match fs::openat(objects, ADOPTING, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut oldest: Option<Moment> = None;
    for entry in Dir::read_from(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => File::from(other.map_err(failed)?),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => drop(fs::unlinkat(&folder, name, AtFlags::empty())),
            Err(Errno::WOULDBLOCK) => {
                let stat = fs::fstat(&file).map_err(failed)?;
                if stat.st_mtime != IDLE {
                    let since = (stat.st_mtime, stat.st_mtime_nsec as i64);
                    oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(oldest)
}

/// When a file was read last, or marked as used.
pub(super) fn accessed(stat: &Stat) -> Moment {
    (stat.st_atime, stat.st_atime_nsec as i64)
}

fn set_times(file: &OwnedFd, access: Moment, modification: Moment) -> Result<(), Errno> {
    let time = |(tv_sec, tv_nsec): Moment| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    fs::futimens(file, &Timestamps { last_access: time(access), last_modification: time(modification) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, Arc<Holds>) {
        (tempfile::tempdir().unwrap(), Arc::default())
    }

    fn since(folder: &tempfile::TempDir) -> Option<Moment> {
        let objects = fs::open(folder.path(), FOLDER, Mode::empty()).unwrap();
        oldest(&objects, folder.path()).unwrap()
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path().join(ADOPTING)).unwrap().count()
    }

    #[test]
    fn the_oldest_adoption_counts_until_it_is_over() {
        let (folder, holds) = world();
        assert_eq!(since(&folder), None);
        let first = holds.hold(folder.path()).unwrap();
        let began = since(&folder).unwrap();
        let other: Arc<Holds> = Arc::default();
        // The clock of a file system is coarse.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let second = loop {
            let second = other.hold(folder.path()).unwrap();
            if other.state().begun.values().next().unwrap() > &began || std::time::Instant::now() > deadline {
                break second;
            }
        };
        let third = holds.hold(folder.path()).unwrap();
        assert_eq!(since(&folder), Some(began));
        drop(first);
        let left = since(&folder).unwrap();
        assert!(left > began, "the second's, in another process as it were");
        drop(second);
        assert_eq!(since(&folder), Some(*holds.state().begun.values().next().unwrap()));
        drop(third);
        assert_eq!(since(&folder), None);
        assert_eq!(files(&folder), 2, "idle, and alive");
    }

    #[test]
    fn what_the_dead_held_is_held_no_more() {
        let (folder, holds) = world();
        let hold = holds.hold(folder.path()).unwrap();
        std::mem::forget(hold);
        assert!(since(&folder).is_some());
        holds.state().file = None; // as when its process ends
        assert_eq!((since(&folder), files(&folder)), (None, 0));
    }

    #[test]
    fn one_whose_file_was_taken_for_a_dead_ones_enters_again() {
        let (folder, _) = world();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    since(&folder);
                }
            });
            for _ in 0..200 {
                let holds: Arc<Holds> = Arc::default();
                let _hold = holds.hold(folder.path()).unwrap();
                assert!(since(&folder).is_some());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
