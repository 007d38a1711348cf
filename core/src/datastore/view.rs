//! A view: a folder of artifacts for reading, made of links to objects.
//!
//! It is unaware of who reads it. It is built beside its place and renamed, so it is there whole or not at all; what a
//! crash leaves beside it is never looked at. It is not synced: it can be built again. All files are read-only, and all
//! folders too, since a view is shared by everyone who needs the layer, and a program that replaces a file "in place"
//! must not replace it for the others; [`super::remove`] removes a view all the same. Symbolic links are made when all
//! files are in place, so nothing is ever written through one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, Mode, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::links;
use super::objects::{FOLDER, Objects, parent_of};
use super::{Artifact, Content, DatastoreError, Digest, Entry, EntryKind, lines, manifest, remove};
use crate::private;

/// Builds the view, unless it is there.
pub(super) fn build(objects: &Objects, artifacts: &[Artifact], folder: &Path) -> Result<(), DatastoreError> {
    if folder.symlink_metadata().is_ok() {
        return Ok(());
    }
    for artifact in artifacts {
        check_name(&artifact.name, folder)?;
    }
    let draft = Draft::new(folder)?;
    // Those of one folder side by side, so that each folder is made and opened once.
    let mut artifacts: Vec<&Artifact> = artifacts.iter().collect();
    artifacts.sort_by_key(|artifact| artifact.name.as_bytes());
    let mut open = Open { draft: &draft, path: Vec::new(), folder: draft.open(b"")? };
    for artifact in artifacts {
        let name = artifact.name.as_bytes();
        let parent = links::parent(name);
        if parent != open.path {
            open.protect()?;
            if !parent.is_empty() {
                draft.create_folder(&draft.folder, parent, parent)?;
            }
        }
        let to = open.parent_of(name)?;
        match &artifact.content {
            Content::File { digest, size } => {
                objects.place(*digest, *size, to.as_fd(), links::last(name), &draft.at(name))?;
            }
            Content::Folder { manifest, .. } => fill(objects, &draft, to, name, *manifest)?,
        }
    }
    open.protect()?;
    draft.protect(&draft.folder, b"")?;
    draft.publish(folder)
}

/// An artifact's name becomes a file name, and comes from a record that may be damaged.
fn check_name(name: &str, folder: &Path) -> Result<(), DatastoreError> {
    if manifest::is_path(name.as_bytes()) && name.matches('/').count() <= 1 {
        return Ok(());
    }
    let reason = format!("`{}` is no name of an artifact", manifest::escaped(name.as_bytes()));
    Err(DatastoreError::file("create", folder, io::Error::new(io::ErrorKind::InvalidInput, reason)))
}

/// Unpacks one folder artifact into a folder of its own in `to`.
fn fill(objects: &Objects, draft: &Draft, to: &OwnedFd, name: &[u8], manifest: Digest) -> Result<(), DatastoreError> {
    let entries = entries(objects, manifest)?;
    draft.create_folder(to, links::last(name), name)?;
    let mut open = Open { draft, path: name.to_vec(), folder: draft.open_in(to, links::last(name), name)? };
    for Entry { path, kind } in &entries {
        let path = links::join(name, path);
        let folder = open.parent_of(&path)?;
        match kind {
            EntryKind::File { digest, size } => {
                objects.place(*digest, *size, folder.as_fd(), links::last(&path), &draft.at(&path))?;
            }
            EntryKind::Folder => draft.create_folder(folder, links::last(&path), &path)?,
            EntryKind::Link(_) => {}
        }
    }
    for Entry { path, kind } in &entries {
        if let EntryKind::Link(target) = kind {
            let path = links::join(name, path);
            fs::symlinkat(target.as_slice(), open.parent_of(&path)?, links::last(&path))
                .map_err(|error| DatastoreError::file("create", draft.at(&path), error))?;
        }
    }
    let folders = entries.iter().filter(|entry| entry.kind == EntryKind::Folder);
    for path in folders.map(|entry| links::join(name, &entry.path)) {
        draft.protect(&draft.open(&path)?, &path)?;
    }
    draft.protect(&draft.open_in(to, links::last(name), name)?, name)
}

/// The entries of a folder artifact.
pub(super) fn entries(objects: &Objects, digest: Digest) -> Result<Vec<Entry>, DatastoreError> {
    let bytes = objects.read_whole(digest)?;
    let unusable = |reason| DatastoreError::Damaged { digest, found: format!("it is no manifest: {reason}") };
    manifest::parse(&bytes).map_err(unusable)
}

/// Its entries at the top.
pub(super) fn top_level(objects: &Objects, digest: Digest) -> Result<Vec<Entry>, DatastoreError> {
    let mut entries: Vec<Entry> = Vec::new();
    lines::of(objects, digest, |line| {
        let entry = manifest::parse_one(line)?;
        if entry.path.contains(&b'/') {
            return Ok(());
        }
        if entries.last().is_some_and(|last| last.path >= entry.path) {
            return Err("is out of order".to_owned());
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// The folder that was used last: neighbours in a manifest are mostly in the same.
struct Open<'a> {
    draft: &'a Draft,
    path: Vec<u8>,
    folder: OwnedFd,
}

impl Open<'_> {
    fn parent_of(&mut self, path: &[u8]) -> Result<&OwnedFd, DatastoreError> {
        let parent = links::parent(path);
        if parent != self.path {
            self.folder = self.draft.open(parent)?;
            self.path = parent.to_vec();
        }
        Ok(&self.folder)
    }

    /// Nothing more is put into the folder that was used last, unless it is the view itself.
    fn protect(&self) -> Result<(), DatastoreError> {
        if self.path.is_empty() { Ok(()) } else { self.draft.protect(&self.folder, &self.path) }
    }
}

/// A view that is being built, beside its place. Dropped, it is gone.
struct Draft {
    path: PathBuf,
    folder: OwnedFd,
    published: bool,
}

impl Draft {
    fn new(folder: &Path) -> Result<Draft, DatastoreError> {
        let parent = parent_of(folder);
        private::make_readable(parent).map_err(|error| DatastoreError::file("create", parent, error))?;
        let path = parent.join(format!(".view-{}", Uuid::now_v7().simple()));
        fs::mkdirat(CWD, &path, Mode::RWXU).map_err(|error| DatastoreError::file("create", &path, error))?;
        let folder =
            fs::open(&path, FOLDER, Mode::empty()).map_err(|error| DatastoreError::file("open", &path, error))?;
        Ok(Draft { path, folder, published: false })
    }

    /// Opens a folder in it, one component after the other, so that the path may be longer than the kernel takes.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, DatastoreError> {
        let mut folder = self.open_in(&self.folder, b".", path)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            folder = self.open_in(&folder, name, path)?;
        }
        Ok(folder)
    }

    /// Opens a folder of a folder; `path` is only told.
    fn open_in(&self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, DatastoreError> {
        fs::openat(parent, name, FOLDER, Mode::empty())
            .map_err(|error| DatastoreError::file("open", self.at(path), error))
    }

    /// Makes a folder read-only; `path` is only told.
    fn protect(&self, folder: &OwnedFd, path: &[u8]) -> Result<(), DatastoreError> {
        fs::fchmod(folder, Mode::from_raw_mode(0o555))
            .map_err(|error| DatastoreError::file("make read-only", self.at(path), error))
    }

    fn create_folder(&self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), DatastoreError> {
        fs::mkdirat(parent, name, Mode::RWXU).map_err(|error| DatastoreError::file("create", self.at(path), error))
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Puts it in its place, unless someone else was faster.
    fn publish(mut self, folder: &Path) -> Result<(), DatastoreError> {
        let renamed = match fs::renameat_with(CWD, &self.path, CWD, folder, RenameFlags::NOREPLACE) {
            // A file system without such a rename: the plain one replaces nothing but an empty folder.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.path, folder),
            other => other,
        };
        match renamed {
            Ok(()) => self.published = true,
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(error) => return Err(DatastoreError::file("create", folder, error)),
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // What stays is never looked at, and goes with the folder around it.
            let _ = remove(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
