//! Makes the folders of the state on disk, and has them on disk for good.
//!
//! No mode depends on the umask but for what it takes away. `.laminar` is its owner's alone (0700), until its owner opens it;
//! what is shared in it is for others to read then (0755), never to write. An execution's folder, with its raw logs and its
//! store, is its owner's alone for good (0700), and so is the index (0600).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::folder::Root;
use crate::id::ExecutionId;

use super::error::StoreError;
use super::trust;

/// Makes the root and the folder of executions. A root that is new gets a `.gitignore` that covers all of it.
pub(super) fn make_root(root: &Root) -> Result<(), StoreError> {
    if let Some(parent) = root.path().parent() {
        fs::create_dir_all(parent).map_err(|source| StoreError::file("make", parent, source))?;
    }
    if make(root.path(), 0o700)? {
        let ignore = root.path().join(".gitignore");
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&ignore);
        let written = opened.and_then(|mut file| {
            file.write_all(b"*\n")?;
            file.sync_all()
        });
        unless_exists(written).map_err(|source| StoreError::file("write", &ignore, source))?;
        sync(root.path().parent().unwrap_or(root.path()))?;
    }
    if make(&root.executions(), 0o755)? {
        sync(root.path())?;
    }
    trust::check(root)
}

/// An execution's folder that is being filled. It gets its name when it is complete, so that nobody ever sees a part of
/// one; it is removed when that does not happen.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    adopted: bool,
}

impl Staging {
    /// Makes the folder, under a name that is no execution's, and the folders in it.
    pub(super) fn make(root: &Root, id: ExecutionId) -> Result<Staging, StoreError> {
        let path = root.executions().join(format!(".{id}.new"));
        if !make(&path, 0o700)? {
            return Err(StoreError::Exists { id });
        }
        let staging = Staging { path, adopted: false };
        for name in ["logs", "outputs", "views", "inputs"] {
            make(&staging.path.join(name), 0o700)?;
        }
        Ok(staging)
    }

    /// Makes an empty file that only its owner can read.
    pub(super) fn make_file(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|source| StoreError::file("make", &path, source))?;
        Ok(path)
    }

    /// Gives the folder its name.
    pub(super) fn adopt(mut self, root: &Root, id: ExecutionId) -> Result<(), StoreError> {
        sync(&self.path)?;
        let folder = root.execution(id);
        match fs::rename(&self.path, folder.path()) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY | libc::ENOTDIR)) => {
                return Err(StoreError::Exists { id });
            }
            Err(source) => return Err(StoreError::file("make", folder.path(), source)),
        }
        self.adopted = true;
        sync(&root.executions())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.adopted {
            // The error that brought us here is the one to report.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a folder; tells whether it is new.
fn make(path: &Path, mode: u32) -> Result<bool, StoreError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(source) => Err(StoreError::file("make", path, source)),
    }
}

fn unless_exists(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Has a folder's entries on disk for good.
pub(super) fn sync(folder: &Path) -> Result<(), StoreError> {
    let result = File::open(folder).and_then(|folder| folder.sync_all());
    match result {
        // Some file systems cannot sync folders, and need not.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result.map_err(|source| StoreError::file("sync", folder, source)),
    }
}
