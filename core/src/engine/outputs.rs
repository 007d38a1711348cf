//! The folders that attempts write to. One that was left empty is used again: making and removing folders is what costs.
//!
//! Calls block for a few microseconds.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::EngineError;
use crate::datastore::{OUTPUTS_MODE, is_as_made};
use crate::folder::ExecutionFolder;

/// The folders of one execution.
#[derive(Debug)]
pub(super) struct OutputFolders {
    folder: ExecutionFolder,
    free: Vec<u32>,
    next: u32,
}

/// What is in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing; the folder is as it was made.
    Nothing,
    /// Something, or the folder itself was changed.
    Something,
}

impl OutputFolders {
    pub(super) fn new(folder: &ExecutionFolder) -> OutputFolders {
        OutputFolders { folder: folder.clone(), free: Vec::new(), next: 0 }
    }

    /// Finds the folders that an earlier scheduler has made, but for those `in_use`: empty ones are used again; those of
    /// which the last use is `published` are returned, to be removed; what a failed attempt left is kept.
    pub(super) fn look_around(
        &mut self,
        in_use: &HashSet<u32>,
        published: &HashMap<u32, bool>,
    ) -> Result<Vec<u32>, EngineError> {
        let folder = self.folder.all_outputs();
        let failed = |source| EngineError::File { verb: "read", path: folder.clone(), source };
        let mut done = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            self.next = self.next.max(number.saturating_add(1));
            if in_use.contains(&number) {
                continue;
            }
            match look(&self.folder.outputs(number)) {
                Some(Left::Nothing) => self.free.push(number),
                _ if published.get(&number) == Some(&true) => done.push(number),
                _ => {}
            }
        }
        // Whatever order the file system has them in.
        self.free.sort_unstable_by(|one, other| other.cmp(one));
        done.sort_unstable();
        Ok(done)
    }

    /// An empty folder, by its number.
    pub(super) fn take(&mut self) -> Result<u32, EngineError> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        loop {
            let number = self.next;
            self.next += 1;
            let path = self.folder.outputs(number);
            match rustix::fs::mkdir(&path, OUTPUTS_MODE) {
                Ok(()) => return Ok(number),
                // What a failed attempt of an earlier scheduler left: kept for looking at.
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(EngineError::File { verb: "make", path, source: errno.into() }),
            }
        }
    }

    /// The task is over: its folder is used again when it is empty, else kept for looking at.
    pub(super) fn give_back(&mut self, number: u32) -> Left {
        let left = look(&self.folder.outputs(number)).unwrap_or(Left::Something);
        if left == Left::Nothing {
            self.free.push(number);
        }
        left
    }
}

fn look(path: &Path) -> Option<Left> {
    Some(if is_as_made(path).ok()? { Left::Nothing } else { Left::Something })
}
