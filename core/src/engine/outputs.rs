//! The folders that attempts write to. One that was left empty is used again: making and removing folders is what costs.
//!
//! Calls block for a few microseconds.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

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

    pub(super) fn look(&self, number: u32) -> Left {
        look(&self.folder.outputs(number)).unwrap_or(Left::Something)
    }

    /// The folder is needed no more: used again when it is empty, else kept for looking at.
    pub(super) fn give_back(&mut self, number: u32) {
        if self.look(number) == Left::Nothing {
            self.free.push(number);
        }
    }
}

fn look(path: &Path) -> rustix::io::Result<Left> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let as_made = Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode) == MODE;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut entries = rustix::fs::RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(Left::Something);
        }
    }
    Ok(if as_made { Left::Nothing } else { Left::Something })
}
