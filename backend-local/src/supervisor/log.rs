//! The file a task's output goes to.
//!
//! It comes into being with the first byte. When it cannot be written, or has as much in it as it may, the rest of the output is
//! thrown away, so that the task is not held up, and that is remembered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use laminar_core::executor::LogRoom;
/// How much of the end of a log is looked at.
const LONGEST: u64 = 512;

/// The log of one task.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    room: LogRoom,
    trouble: Option<io::Error>,
}

impl Log {
    pub(super) fn new(path: PathBuf, limit: u64) -> Log {
        Log { path, file: None, room: LogRoom::new(limit), trouble: None }
    }

    /// Takes in what the task wrote.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.trouble.is_none()
            && let Err(error) = self.write(bytes)
        {
            self.trouble = Some(error);
        }
    }

    /// Why the log is incomplete, if it is.
    pub(super) fn trouble(&self) -> Option<String> {
        let Some(error) = &self.trouble else { return self.room.told() };
        Some(format!("the log is incomplete: cannot write `{}`: {error}", self.path.display()))
    }

    /// The last line, if it has one that is not long: what a program says before it gives up.
    pub(super) fn last_line(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LONGEST))).ok()?;
        let mut end = Vec::new();
        file.take(LONGEST).read_to_end(&mut end).ok()?;
        let end = String::from_utf8_lossy(&end);
        end.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let opened = OpenOptions::new()
                    .create(true)
                    .write(true)
                    .truncate(true)
                    .mode(0o600)
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(&self.path)?;
                none.insert(opened)
            }
        };
        self.room.write(file, bytes)
    }
}
