//! Whose something is that an engine has, by where its execution's folder is.
//!
//! Unaware of how executions stand.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::judge::{Whose, root_of};
use crate::executor::Leftover;
use crate::folder::Root;

/// Where executions are, to tell ours from others'.
pub(super) struct Places {
    executions: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Places {
    pub(super) fn new(root: &Root) -> Places {
        let executions = root.executions();
        Places { inode: inode(&executions), executions }
    }

    /// Whose a leftover is; how its execution stands is not looked at.
    pub(super) fn whose(&self, leftover: &Leftover) -> Whose {
        let (folder, execution) = (&leftover.folder, leftover.execution);
        let parent = folder.parent().unwrap_or(folder);
        // The same folder may have several paths.
        if *parent == *self.executions || self.inode.is_some() && inode(parent) == self.inode {
            let named = folder.file_name().is_some_and(|name| *name == *execution.to_string());
            return if named { Whose::Ours(None) } else { Whose::Unclear };
        }
        // A path that is no text cannot be had from a label, so it is not known whether it is there.
        if !folder.is_absolute() || folder.to_string_lossy().contains(char::REPLACEMENT_CHARACTER) {
            return Whose::Unclear;
        }
        let root = root_of(folder, execution);
        match root.symlink_metadata() {
            Ok(_) => Whose::Elsewhere(root.to_owned()),
            Err(error) if is_gone(&error) => Whose::Nobodys,
            Err(_) => Whose::Unclear,
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let found = path.metadata().ok()?;
    Some((found.dev(), found.ino()))
}
