//! What the executions of one user take of this machine together: each says what its layers have reserved, and starts none for
//! which there is no room beside the others'.
//!
//! ```text
//! /dev/shm/laminar-shares-<uid>/   its owner's alone (mode 0700); below /tmp where there is no /dev/shm
//!   turn                           locked by whoever looks, or says anything
//!   <execution>                    locked as long as its scheduler lives: cores in thousandths, memory in bytes
//! ```
//!
//! The locks belong to the processes (`flock`), so the kernel frees what a dead scheduler has had; no process number is
//! believed. Layers of one that was killed run on uncounted until it is resumed. It is unaware of other users, and of what
//! layers take that reserve nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::id::ExecutionId;
use crate::private;

/// What is locked for a turn.
const TURN: &str = "turn";
/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest entry: two numbers.
const LONGEST: u64 = 64;

/// What is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Cores, in thousandths.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory: u64,
}

/// One execution among those that share this machine.
#[derive(Debug)]
pub struct Shares {
    folder: PathBuf,
    turn: File,
    /// What this execution has said.
    own: File,
    name: String,
    said: Share,
}

/// While this is there, nobody else starts anything.
#[derive(Debug)]
pub struct Turn<'a> {
    shares: &'a mut Shares,
    /// What the others have reserved together.
    pub others: Share,
}

impl Shares {
    /// The folder of this user on this machine: what the variable `LAMINAR_SHARES` names, or the one above.
    #[must_use]
    pub fn folder() -> PathBuf {
        if let Some(folder) = std::env::var_os("LAMINAR_SHARES").filter(|folder| !folder.is_empty()) {
            return folder.into();
        }
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let uid = rustix::process::geteuid().as_raw();
        base.join(format!("laminar-shares-{uid}"))
    }

    /// Joins those that share by this folder. Nothing is reserved yet.
    ///
    /// # Errors
    /// When the folder cannot be used, or is not this user's alone.
    pub fn join(folder: &Path, execution: ExecutionId) -> io::Result<Shares> {
        private::make(folder)?;
        private::check(folder)?;
        let turn = open(&folder.join(TURN), true)?;
        flock(&turn, FlockOperation::LockExclusive)?;
        let name = execution.to_string();
        let own = open(&folder.join(&name), true)?;
        let locked = flock(&own, FlockOperation::NonBlockingLockExclusive);
        flock(&turn, FlockOperation::Unlock)?;
        locked?;
        Ok(Shares { folder: folder.to_owned(), turn, own, name, said: Share::default() })
    }

    /// Waits for a turn, and looks at what the others have.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn turn(&mut self) -> io::Result<Turn<'_>> {
        // A turn takes microseconds, unless whoever has it was stopped in it.
        let end = Instant::now() + PATIENCE;
        while let Err(error) = flock(&self.turn, FlockOperation::NonBlockingLockExclusive) {
            if Instant::now() >= end {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        match self.others() {
            Ok(others) => Ok(Turn { shares: self, others }),
            Err(error) => {
                let _ = flock(&self.turn, FlockOperation::Unlock);
                Err(error)
            }
        }
    }

    fn others(&self) -> io::Result<Share> {
        let mut sum = Share::default();
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            if name == TURN || *name == *self.name {
                continue;
            }
            let Ok(mut file) = open(&entry.path(), false) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
                // Its scheduler is gone.
                let _ = std::fs::remove_file(entry.path());
                continue;
            }
            let share = read(&mut file)?;
            sum.cpu_millis = sum.cpu_millis.saturating_add(share.cpu_millis);
            sum.memory = sum.memory.saturating_add(share.memory);
        }
        Ok(sum)
    }

    fn say(&mut self, share: Share) -> io::Result<()> {
        if share == self.said {
            return Ok(());
        }
        let text = format!("{} {}\n", share.cpu_millis, share.memory);
        self.own.rewind()?;
        self.own.write_all(text.as_bytes())?;
        self.own.set_len(text.len() as u64)?;
        self.said = share;
        Ok(())
    }
}

impl Turn<'_> {
    /// Says what this execution has reserved now, and lets the next have its turn.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self, own: Share) -> io::Result<()> {
        self.shares.say(own)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = flock(&self.shares.turn, FlockOperation::Unlock);
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.folder.join(&self.name));
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// What somebody said; what cannot be understood is nothing.
fn read(file: &mut File) -> io::Result<Share> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    Ok(Share { cpu_millis: numbers.next().unwrap_or(0), memory: numbers.next().unwrap_or(0) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SOME: Share = Share { cpu_millis: 1500, memory: 1 << 30 };

    #[test]
    fn each_sees_what_the_others_have_and_nothing_of_the_dead() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("shares");
        let join = || Shares::join(&folder, ExecutionId::now()).unwrap();
        let (mut one, mut two) = (join(), join());
        let turn = one.turn().unwrap();
        assert_eq!(turn.others, Share::default());
        turn.end(SOME).unwrap();
        assert_eq!(two.turn().unwrap().others, SOME);
        let turn = two.turn().unwrap();
        turn.end(Share { cpu_millis: 1, ..SOME }).unwrap();
        assert_eq!(one.turn().unwrap().others, Share { cpu_millis: 1, ..SOME });
        // One that was killed leaves its file, without a lock.
        std::fs::write(folder.join(ExecutionId::now().to_string()), "9000 9\n").unwrap();
        drop(two);
        assert_eq!(one.turn().unwrap().others, Share::default());
        assert_eq!(folder.read_dir().unwrap().count(), 2, "what the dead have left is removed");
    }

    #[test]
    fn a_folder_that_others_can_use_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("open");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Shares::join(&folder, ExecutionId::now()).is_err());
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(Shares::join(&link, ExecutionId::now()).is_err());
    }
}
