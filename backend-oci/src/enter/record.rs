//! The record of how the layer ended. Its room on the disk is taken before the layer begins: a layer that fills the disk
//! does not take its own verdict with it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use laminar_core::executor::Exit;

use crate::place::{DRAFT, EXIT};

/// How much room a record gets, in bytes.
const ROOM: usize = 4096;

/// A record that is still to be written.
pub(super) struct Record {
    file: File,
    draft: PathBuf,
    path: PathBuf,
}

impl Record {
    pub(super) fn new(folder: &Path) -> io::Result<Record> {
        let (draft, path) = (folder.join(DRAFT), folder.join(EXIT));
        // Of the task before, in a warm container, what is written now leaves nothing. Not emptied first: see `rewrite`.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&draft)?;
        if file.metadata()?.len() > ROOM as u64 {
            file.set_len(ROOM as u64)?;
        }
        // On a disk that is full already the room may yet be there in the end.
        let _ = file.write_all_at(&[b' '; ROOM], 0);
        Ok(Record { file, draft, path })
    }

    /// Renames it into place. Evidence that does not fit in any more is left out. That something else is in its place is an
    /// error: nobody would ever hear of the end.
    pub(super) fn keep(self, mut exit: Exit) -> io::Result<()> {
        if self.write(&exit).is_err() {
            exit.evidence = "no room on the disk for the evidence".to_owned();
            self.write(&exit)?;
        }
        // Nothing of the layer is alive any more; and once the record is in its place it may be taken away at once.
        let (there, ours) = (self.draft.symlink_metadata()?, self.file.metadata()?);
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Err(io::Error::other("the layer has put something else in the place of its record"));
        }
        std::fs::rename(&self.draft, &self.path)
    }

    fn write(&self, exit: &Exit) -> io::Result<()> {
        let text = serde_json::to_vec(exit)?;
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_can_be_read_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        for evidence in ["", "short", &"long ".repeat(2000)] {
            let exit = Exit { evidence: evidence.to_owned(), ..Exit::code(3) };
            Record::new(folder.path()).unwrap().keep(exit.clone()).unwrap();
            let text = std::fs::read(folder.path().join(EXIT)).unwrap();
            assert_eq!(serde_json::from_slice::<Exit>(&text).unwrap(), exit);
        }
    }
}
