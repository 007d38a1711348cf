//! The supervisor's own record of what it started and how that ended, for the supervisor after it.
//!
//! An append-only file of JSON lines, written with plain writes: it has to survive this process, not the machine, and
//! what ran on a machine that died is over anyway. A write that fails leaves no part of itself behind. Reading skips what
//! is no complete line.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use laminar_core::executor::Exit;
use serde::{Deserialize, Serialize};

/// The file's name.
const FILE: &str = "journal";

/// One line. Exactly one of `boot`, `started`, `exited` and `removed` is there.
#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    /// A supervisor has begun, on this boot of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// A task is about to be started.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    started: Option<&'a str>,
    /// A task is over.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    exited: Option<&'a str>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    /// Tasks are forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    removed: Option<Vec<&'a str>>,
}

/// What a journal says of earlier supervisors.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Past {
    /// Tasks that were started, with their exits where those are known.
    pub(super) tasks: HashMap<Box<str>, Option<Exit>>,
    /// On which boot of the machine the last supervisor ran.
    pub(super) boot: Option<String>,
}

impl Past {
    /// The tasks that were started and of whose end nothing is known.
    pub(super) fn open(&self) -> HashSet<&str> {
        self.tasks.iter().filter(|(_, exit)| exit.is_none()).map(|(name, _)| &**name).collect()
    }

    fn read(text: &str) -> Past {
        let mut past = Past::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Ok(line) = serde_json::from_str::<Line<'_>>(line) else { continue };
            past.boot = line.boot.or(past.boot);
            if let Some(name) = line.started {
                past.tasks.insert(name.into(), None);
            }
            if let (Some(name), Some(exit)) = (line.exited, line.exit) {
                past.tasks.insert(name.into(), Some(exit));
            }
            for name in line.removed.unwrap_or_default() {
                past.tasks.remove(name);
            }
        }
        past
    }
}

/// The names of all tasks that the journal in this folder tells of; `None` when there is no journal.
pub(crate) fn tasks(private: &Path) -> Option<HashSet<Box<str>>> {
    let bytes = std::fs::read(private.join(FILE)).ok()?;
    Some(Past::read(&String::from_utf8_lossy(&bytes)).tasks.into_keys().collect())
}

/// The journal, open for writing.
pub(super) struct Journal {
    file: File,
    /// How long the file is.
    length: u64,
    /// Whole lines that are to be written.
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in this folder, and reads what it says.
    pub(super) fn open(folder: &OwnedFd, boot: &str) -> io::Result<(Journal, Past)> {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}/{FILE}", folder.as_fd().as_raw_fd());
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let past = Past::read(&String::from_utf8_lossy(&bytes));
        let mut journal = Journal { file, length: bytes.len() as u64, buffer: Vec::new() };
        if bytes.last().is_some_and(|last| *last != b'\n') {
            journal.buffer.push(b'\n');
        }
        journal.line(&Line { boot: Some(boot.to_owned()), ..Line::default() });
        journal.flush()?;
        Ok((journal, past))
    }

    /// A task is about to be started: on record when this returns, or else not at all.
    pub(super) fn started(&mut self, name: &str) -> io::Result<()> {
        let before = self.buffer.len();
        self.line(&Line { started: Some(name), ..Line::default() });
        self.flush().inspect_err(|_| self.buffer.truncate(before))
    }

    /// A task is over. `exit` is the JSON of its exit. On record after the next [`Journal::flush`].
    pub(super) fn exited(&mut self, name: &str, exit: &str) {
        // Written by hand, since the exit is JSON already; names hold nothing that JSON would escape.
        for part in [r#"{"exited":""#, name, r#"","exit":"#, exit, "}\n"] {
            self.buffer.extend_from_slice(part.as_bytes());
        }
    }

    /// Tasks are forgotten.
    pub(super) fn removed(&mut self, names: Vec<&str>) {
        self.line(&Line { removed: Some(names), ..Line::default() });
    }

    /// Whether everything is on record.
    pub(super) fn is_flushed(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes what is to be written, all of it or nothing.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.length += self.buffer.len() as u64;
                self.buffer.clear();
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    fn line(&mut self, line: &Line<'_>) {
        // A line holds strings and numbers only, which always serialise.
        if serde_json::to_writer(&mut self.buffer, line).is_ok() {
            self.buffer.push(b'\n');
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_reads_what_was_written_and_skips_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(&File::open(folder.path()).unwrap().into(), "b1");
        let (mut journal, past) = open().unwrap();
        assert_eq!(past, Past::default());
        for name in ["A.0.1", "B.0.1", "C.0.1"] {
            journal.started(name).unwrap();
        }
        journal.exited("A.0.1", &serde_json::to_string(&Exit::code(3)).unwrap());
        journal.exited("C.0.1", &serde_json::to_string(&Exit::code(0)).unwrap());
        journal.removed(vec!["C.0.1"]);
        journal.flush().unwrap();
        journal.file.write_all(br#"{"exited":"B.0.1","exit":{"cau"#).unwrap();

        let (mut second, past) = open().unwrap();
        let expected = [("A.0.1".into(), Some(Exit::code(3))), ("B.0.1".into(), None)];
        assert_eq!(past, Past { tasks: expected.into(), boot: Some("b1".to_owned()) });
        second.exited("B.0.1", &serde_json::to_string(&Exit::code(4)).unwrap());
        second.flush().unwrap();
        assert_eq!(open().unwrap().1.tasks["B.0.1"], Some(Exit::code(4)));
    }
}
