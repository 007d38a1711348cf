//! The folders that attempts write to. One that was left empty is used again: making and removing folders is what costs.
//!
//! Calls block for a few microseconds.

use std::path::Path;

use rustix::fs::Mode;

use super::EngineError;
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

/// Only the owner may look in: outputs may be secret until they are published.
const MODE: Mode = Mode::RWXU;

impl OutputFolders {
    pub(super) fn new(folder: &ExecutionFolder) -> OutputFolders {
        OutputFolders { folder: folder.clone(), free: Vec::new(), next: 0 }
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
            match rustix::fs::mkdir(&path, MODE) {
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

/// A folder whose mode was changed is not used again: the next task might not be able to write to it.
fn look(path: &Path) -> Option<Left> {
    let empty = crate::datastore::is_empty(path).ok()?;
    let as_made = Mode::from_raw_mode(rustix::fs::lstat(path).ok()?.st_mode) == MODE;
    Some(if empty && as_made { Left::Nothing } else { Left::Something })
}
