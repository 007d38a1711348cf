//! The bell of a warm container, from inside: a named pipe whose other end schedulers hold. It wakes, and by being closed it
//! tells that there is no scheduler.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is looked for a scheduler where there is none: the pipe tells of those only who come and go.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The bell.
pub(super) struct Bell {
    pipe: File,
    /// Since when there has been no scheduler.
    alone: Option<Instant>,
    /// Whether none can have come and gone yet: until then the pipe tells of the first who comes, too.
    is_new: bool,
    looked: bool,
}

impl Bell {
    pub(super) fn new(path: &Path) -> io::Result<Bell> {
        let pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Bell { pipe, alone: Some(Instant::now()), is_new: true, looked: false })
    }

    /// Whether it has rung since the last look. Also looks whether there is a scheduler.
    pub(super) fn rang(&mut self) -> bool {
        // One look long: whoever comes and goes after that without a word would be told of without end.
        self.is_new = !std::mem::replace(&mut self.looked, true);
        let mut bytes = [0u8; 256];
        let mut rang = false;
        loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => {
                    self.alone.get_or_insert_with(Instant::now);
                    return rang;
                }
                Ok(_) => rang = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.alone = None;
                    return rang;
                }
            }
            // Who has rung may be gone by now.
            self.alone = None;
        }
    }

    /// What to listen to, as long as there is somebody who could ring, or the first of them is waited for.
    pub(super) fn ear(&self) -> Option<BorrowedFd<'_>> {
        (self.alone.is_none() || self.is_new).then(|| self.pipe.as_fd())
    }

    /// How long there has been no scheduler.
    pub(super) fn alone(&self) -> Option<Duration> {
        self.alone.map(|since| since.elapsed())
    }

    /// A task is over: the time without a scheduler counts from now.
    pub(super) fn count_anew(&mut self) {
        if let Some(alone) = &mut self.alone {
            *alone = Instant::now();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn it_tells_whether_anybody_could_ring() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bell");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mut bell = Bell::new(&path).unwrap();
        assert!(!bell.rang() && bell.alone().is_some());
        let first = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        first.unwrap().write_all(b"!").unwrap();
        let mut ready = [PollFd::from_borrowed_fd(bell.ear().unwrap(), PollFlags::IN)];
        assert_eq!(poll(&mut ready, Some(&super::super::timespec(Duration::from_secs(60)))).unwrap(), 1);
        assert!(bell.rang() && bell.alone().is_some() && bell.ear().is_none());
        for _ in 0..2 {
            let mut scheduler = OpenOptions::new().write(true).open(&path).unwrap();
            assert!(!bell.rang() && bell.alone().is_none() && bell.ear().is_some());
            scheduler.write_all(b"!").unwrap();
            assert!(bell.rang() && !bell.rang());
            scheduler.write_all(b"!").unwrap();
            drop(scheduler);
            assert!(bell.rang() && bell.alone().is_some());
        }
    }
}
