//! Who a container's processes are, and whether what they write is ours.
//!
//! Pure but for [`Host::here`] and [`foreign`]. Giving files back is the executor's business.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::dialect::Facts;

/// Who runs laminar, and what that is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Whether root inside is this user.
    pub rootless: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
}

impl Host {
    /// This process under an engine.
    pub(crate) fn here(facts: &Facts) -> Host {
        Host {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rootless: facts.rootless,
            selinux: facts.selinux,
        }
    }

    /// The number inside of the user who runs laminar.
    fn inside(self) -> u32 {
        if self.rootless { 0 } else { self.uid }
    }
}

/// Who a container's processes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// What the engine is told, if anything.
    pub(crate) flag: Option<String>,
    /// Whether what they write may be somebody else's, and our folders closed to them.
    pub(crate) foreign: bool,
}

/// Who they are: whom the layer names, else whom the image names, else whoever runs laminar.
pub(crate) fn user(said: Option<&str>, image: &str, host: Host) -> User {
    let foreign = |user: &str| {
        let name = user.split(':').next().unwrap_or_default();
        let number = if name == "root" { Some(0) } else { name.parse().ok() };
        number != Some(host.inside())
    };
    match said {
        Some(user) => User { flag: Some(user.to_owned()), foreign: foreign(user) },
        None if !matches!(image.split(':').next(), None | Some("" | "0" | "root")) => {
            User { flag: None, foreign: foreign(image) }
        }
        None if host.inside() == 0 => User { flag: None, foreign: false },
        None => User { flag: Some(format!("{}:{}", host.uid, host.gid)), foreign: false },
    }
}

/// Whether something in this folder belongs to somebody else, or cannot even be looked at.
pub(crate) fn foreign(folder: &Path, uid: u32) -> bool {
    let is_ours = |parent: &OwnedFd, name: &CStr| {
        let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_uid == uid { Ok(()) } else { Err(Errno::PERM) }
    };
    below(folder, is_ours).is_err()
}

/// Whether somebody else has folders in this one: files of theirs its owner can remove, but not what is in those.
pub(crate) fn closed(folder: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let others = |entry: std::fs::DirEntry| entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() != uid);
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(others)
}

/// Gives everything in this folder to this user and group, the folder too. Links are given, not what they point to.
pub(crate) fn give(folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    below(folder, |parent, name| fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(fs::chownat(fs::CWD, folder, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Does something to each name below a folder, at any depth: with two folders open at most, and no path longer than a name,
/// since whoever made it may have gone down step by step without end. No link is followed.
fn below(folder: &Path, mut act: impl FnMut(&OwnedFd, &CStr) -> Result<(), Errno>) -> Result<(), Errno> {
    let enter = |parent: BorrowedFd<'_>, name: &CStr| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(parent, name, flags, Mode::empty())
    };
    let identity = |folder: &OwnedFd| fs::fstat(folder).map(|stat| (stat.st_dev, stat.st_ino));
    let mut names = |folder: &OwnedFd| {
        let mut folders = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            act(folder, name)?;
            let is_folder = match entry.file_type() {
                FileType::Unknown => {
                    let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                kind => kind == FileType::Directory,
            };
            if is_folder {
                folders.push(name.to_owned());
            }
        }
        Ok(folders)
    };
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut here = enter(fs::CWD, &path)?;
    // Of each folder above: which it is, and which folders in it are still to be entered.
    let mut above = Vec::new();
    let mut ahead = names(&here)?;
    loop {
        if let Some(name) = ahead.pop() {
            above.push((identity(&here)?, std::mem::take(&mut ahead)));
            here = enter(here.as_fd(), &name)?;
            ahead = names(&here)?;
            continue;
        }
        let Some((parent, rest)) = above.pop() else { return Ok(()) };
        here = enter(here.as_fd(), c"..")?;
        if identity(&here)? != parent {
            // It was moved meanwhile: who knows where to.
            return Err(Errno::AGAIN);
        }
        ahead = rest;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_tree_without_end_and_its_links_are_given_and_nothing_else() {
        let world = tempfile::tempdir().unwrap();
        let (top, theirs) = (world.path().join("outputs"), world.path().join("theirs"));
        std::fs::create_dir(&top).unwrap();
        std::fs::write(&theirs, "").unwrap();
        std::os::unix::fs::symlink(&theirs, top.join("link")).unwrap();
        std::os::unix::fs::symlink(world.path(), top.join("up")).unwrap();
        let mut folder = OwnedFd::from(std::fs::File::open(&top).unwrap());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        for _ in 0..3000 {
            fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
            fs::openat(&folder, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            folder = fs::openat(&folder, "d", flags, Mode::empty()).unwrap();
        }
        let us = rustix::process::geteuid().as_raw();
        assert!(!super::foreign(&top, us));
        // Only root can give away; everybody can give to themselves.
        let them = if us == 0 { 65534 } else { us };
        give(&top, them, rustix::process::getegid().as_raw()).unwrap();
        assert!(super::foreign(&top, 65533) && !super::foreign(&top, them));
        assert_eq!(fs::fstat(&folder).unwrap().st_uid, them, "the last of it too");
        assert_eq!((top.metadata().unwrap().uid(), top.join("link").symlink_metadata().unwrap().uid()), (them, them));
        assert_eq!((theirs.metadata().unwrap().uid(), world.path().metadata().unwrap().uid()), (us, us));
        laminar_core::executor::remove_tree(&top).unwrap();
    }

    const ROOT: Host = Host { uid: 0, gid: 0, rootless: false, selinux: false };
    const ALICE: Host = Host { uid: 1000, gid: 100, ..ROOT };
    const ROOTLESS: Host = Host { rootless: true, ..ALICE };

    fn told(said: Option<&str>, image: &str, host: Host) -> (Option<String>, bool) {
        let user = user(said, image, host);
        (user.flag, user.foreign)
    }

    #[test]
    fn an_image_of_root_writes_as_whoever_runs_laminar() {
        assert_eq!(told(None, "", ROOT), (None, false));
        assert_eq!(told(None, "root:root", ALICE), (Some("1000:100".into()), false));
        assert_eq!(told(None, "", ROOTLESS), (None, false));
    }

    #[test]
    fn whom_the_layer_or_the_image_names_stays_and_is_foreign_unless_it_is_us() {
        assert_eq!(told(None, "app", ALICE), (None, true));
        assert_eq!(told(None, "1000:1000", ALICE), (None, false));
        assert_eq!(told(Some("0"), "app", ALICE), (Some("0".into()), true));
        assert_eq!(told(Some("root"), "app", ROOT), (Some("root".into()), false));
        assert_eq!(told(Some("root"), "app", ROOTLESS), (Some("root".into()), false));
        assert_eq!(told(Some("1000"), "", ROOTLESS), (Some("1000".into()), true));
    }
}
