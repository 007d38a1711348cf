//! The process that holds an execution, told by the kernel and not by its number.
//!
//! A process number means something in its own namespace only: a scheduler in a container has another number outside, and the
//! number that it has written down may be anybody's here. Who has the lock file open, and locked, is it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The process that holds this lock, as far as it is seen from here; `said` is the number that it has written down.
///
/// # Errors
/// When the lock file cannot be looked at.
pub(crate) fn find(lock: &Path, said: u32) -> io::Result<Option<OwnedFd>> {
    let lock = lock.metadata()?;
    let is_it = |pid: Pid| {
        // First the handle: what is looked at then is the same process, or one that is gone.
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        holds(pid, (lock.dev(), lock.ino())).then_some(handle)
    };
    let said = i32::try_from(said).ok().and_then(Pid::from_raw);
    if let Some(handle) = said.and_then(is_it) {
        return Ok(Some(handle));
    }
    let all = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(all.filter_map(Pid::from_raw).find_map(is_it))
}

/// Whether a process has locked the file with this inode. What may not be looked at is nobody's.
fn holds(pid: Pid, inode: (u64, u64)) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let Ok(open) = process.join("fd").read_dir() else { return false };
    open.flatten().any(|open| {
        let is_same = open.path().metadata().is_ok_and(|file| (file.dev(), file.ino()) == inode);
        let info = || std::fs::read_to_string(process.join("fdinfo").join(open.file_name())).unwrap_or_default();
        is_same && info().lines().any(|line| line.starts_with("lock:") && line.contains("WRITE"))
    })
}
