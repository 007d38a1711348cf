//! The lock that makes a scheduler the only one of its execution.
//!
//! An open-file-description lock: the kernel lets go of it when the last descriptor is closed, however the process ends,
//! and no child inherits it, since the descriptor is closed on exec. What the file holds is for messages only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::now_ms;

/// Who holds a lock, as the lock file tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: Option<u32>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<i64>,
}

/// A lock that is held until this value is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the lock, or tells who holds it.
    pub(super) fn take(path: &Path) -> io::Result<Result<Lock, Holder>> {
        let file = open(path)?;
        match control(&file, libc::F_OFD_SETLK, libc::F_WRLCK) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                return Ok(Err(read_holder(path)));
            }
            Err(error) => return Err(error),
        }
        file.set_len(0)?;
        (&file).write_all(format!("{} {}\n", std::process::id(), now_ms()).as_bytes())?;
        Ok(Ok(Lock(file)))
    }

    /// Takes the lock as soon as it is free, if that is soon enough.
    pub(super) fn wait(path: &Path, patience: Duration) -> io::Result<Lock> {
        let deadline = Instant::now() + patience;
        loop {
            match Lock::take(path)? {
                Ok(lock) => return Ok(lock),
                Err(_) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// Who holds the lock, without touching it; `None` when nobody does.
pub(super) fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = control(&file, libc::F_OFD_GETLK, libc::F_RDLCK)?;
    Ok(if i32::from(found) == libc::F_UNLCK { None } else { Some(read_holder(path)) })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The holder writes after it has locked, so there may be nothing to read yet.
fn read_holder(path: &Path) -> Holder {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut words = text.split_whitespace();
    Holder {
        pid: words.next().and_then(|word| word.parse().ok()),
        since_ms: words.next().and_then(|word| word.parse().ok()),
    }
}

/// One `fcntl` on the whole file; returns the type of lock that `F_OFD_GETLK` found.
fn control(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::c_short> {
    // SAFETY: all-zero is a valid `flock`: the whole file, and `l_pid` 0 as these commands demand.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and `lock` lives across the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None, "no file, no holder");
        let lock = Lock::take(&path).unwrap().unwrap();
        let found = Lock::take(&path).unwrap().unwrap_err();
        assert_eq!(found.pid, Some(std::process::id()));
        assert!(found.since_ms.is_some_and(|since| since <= now_ms()));
        assert_eq!(holder(&path).unwrap(), Some(found));
        assert_eq!(Lock::wait(&path, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(Lock::take(&path).unwrap().is_ok());
    }

    #[test]
    fn no_child_inherits_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).unwrap().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock);
        // A child that another thread of this process forks just now has everything open until it executes something.
        let deadline = Instant::now() + Duration::from_secs(30);
        while holder(&path).unwrap().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let after = holder(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(after, None);
    }
}
