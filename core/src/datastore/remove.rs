//! Removing a folder with everything in it, whatever its permissions and however deep it is.
//!
//! It is unaware of what the folder was for. Views are read-only, and layers leave what they like; neither may keep us
//! from removing it. It is gone at once, by a rename to a name that nobody looks at, so that a crash leaves no half of a
//! view that would be taken for a whole one; what it does leave goes with the folder around it. A folder within the
//! folder is moved up to the top before it is emptied, so that nothing is ever deeper than two levels: no recursion, no
//! long paths, no more than a few descriptors. No link is followed.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::DatastoreError;
use super::objects::{FOLDER, parent_of};
use super::outputs::permit;

/// How many names are read at once.
const AT_ONCE: usize = 4096;

/// Removes a folder with everything in it. That there is none is a success.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove(folder: &Path) -> Result<(), DatastoreError> {
    let failed = |error: Errno| DatastoreError::file("remove", folder, error);
    let parent = fs::open(parent_of(folder), FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
    let parent = match parent {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let Some(name) = folder.file_name() else { return Err(failed(Errno::INVAL)) };
    match fs::statat(&parent, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => return Err(failed(Errno::NOTDIR)),
        other => other.map_err(failed)?,
    };
    let aside = hidden();
    match fs::renameat(&parent, name.as_bytes(), &parent, &aside) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    }
    empty(&parent, aside.as_bytes())
        .and_then(|()| fs::unlinkat(&parent, &aside, AtFlags::REMOVEDIR))
        .map_err(|error| DatastoreError::file("remove", folder.with_file_name(&aside), error))
}

/// A name that nobody looks at.
fn hidden() -> String {
    format!(".removing-{}", Uuid::now_v7().simple())
}

/// Empties a folder by emptying the folders in it, one after the other.
fn empty(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let top = open(parent, name)?;
    each(&top, |name, is_folder| if is_folder { remove_level(&top, name) } else { remove_file(&top, name) })
}

/// Removes one folder of the top, after moving up those that are in it.
fn remove_level(top: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let folder = open(top, name)?;
    each(&folder, |inner, is_folder| {
        if !is_folder {
            return remove_file(&folder, inner);
        }
        let up = hidden();
        match fs::renameat(&folder, inner, top, &up) {
            // A folder that moves is written to: its entry `..` changes.
            Err(Errno::ACCESS) => {
                permit(folder.as_fd(), inner, Mode::RWXU);
                fs::renameat(&folder, inner, top, &up)
            }
            other => other,
        }
    })?;
    fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

/// Hands on each entry of a folder, and whether it is a folder, until none is left. There may be more of them than fit in memory.
fn each(folder: &OwnedFd, mut take: impl FnMut(&[u8], bool) -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        // Names first: a folder that is changed while it is listed may not be listed whole.
        let entries = Dir::read_from(folder)?
            .filter(|entry| !entry.as_ref().is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
        let entries: Vec<_> = entries.take(AT_ONCE).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            let name = entry.file_name().to_bytes();
            let is_folder = match entry.file_type() {
                FileType::Unknown => is_folder(folder, name)?,
                kind => kind == FileType::Directory,
            };
            take(name, is_folder)?;
        }
    }
}

fn is_folder(folder: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        stat => Ok(FileType::from_raw_mode(stat?.st_mode) == FileType::Directory),
    }
}

fn remove_file(folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(folder, name, AtFlags::empty()) {
        // Gone, or a folder by now: then the next round meets it.
        Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
        other => other,
    }
}

/// Opens a folder so that names in it can be removed, if need be after giving ourselves the right to.
fn open(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let open = || fs::openat(parent, name, FOLDER, Mode::empty());
    let folder = match open() {
        Err(Errno::ACCESS) => {
            permit(parent.as_fd(), name, Mode::RWXU);
            open()?
        }
        other => other?,
    };
    let stat = fs::fstat(&folder)?;
    if stat.st_mode & 0o700 != 0o700 {
        // If this fails, so will the removing of what is inside, and that is told.
        let _ = fs::fchmod(&folder, Mode::from_raw_mode(stat.st_mode & 0o7777) | Mode::RWXU);
    }
    Ok(folder)
}
