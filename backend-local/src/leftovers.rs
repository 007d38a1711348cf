//! Supervisors that nobody asks for any more: how they are found, and ended with all that they watch over.
//!
//! Found by their arguments, in `/proc`; ended by descriptors, so that no number can come to mean another process
//! meanwhile. Processes that have outlived a supervisor are known by the variables that they carry.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use laminar_core::executor::{ExecutorError, Leftover};
use laminar_core::id::ExecutionId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Timespec, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::supervisor::MARKER;
use crate::supervisor::family::{self, Process};
use crate::supervisor::journal;

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A supervisor as its arguments tell it.
struct Found {
    execution: ExecutionId,
    /// Its own folder, in the execution's.
    private: PathBuf,
    /// The execution's folder.
    folder: PathBuf,
    /// When it began, in clock ticks since the machine did.
    began: u64,
}

/// What a process was told that is a supervisor: its own folder, and the execution.
pub(crate) fn told(pid: i32) -> Option<(PathBuf, String)> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).skip(1);
    if words.next()? != MARKER.as_bytes() {
        return None;
    }
    let private = PathBuf::from(OsStr::from_bytes(words.next()?));
    Some((private, std::str::from_utf8(words.nth(1)?).ok()?.to_owned()))
}

impl Found {
    /// The supervisor for this backend that this process is, if it is one, and ours.
    fn read(pid: i32, backend: &str) -> Option<Found> {
        let (private, execution) = told(pid)?;
        let execution = execution.parse().ok()?;
        let (own, user) = (rustix::process::geteuid().as_raw(), std::fs::metadata(format!("/proc/{pid}")).ok()?.uid());
        if own != 0 && own != user || Process::read(pid)?.dead || !private.ends_with(backend) {
            return None;
        }
        Some(Found { execution, folder: private.parent()?.to_owned(), private, began: began(pid)? })
    }

    fn id(&self, pid: i32) -> String {
        format!("{pid}.{}", self.began)
    }
}

/// Every supervisor for this backend of this user's on this machine; for root, of anybody's.
pub(crate) fn find(backend: &str) -> Vec<Leftover> {
    let booted = booted();
    let found = family::processes().filter_map(|pid| {
        let found = Found::read(pid, backend)?;
        Some(Leftover {
            id: found.id(pid),
            name: format!("supervisor {pid}"),
            execution: found.execution,
            created: booted.and_then(|booted| booted.checked_add(ticks(found.began))),
            folder: found.folder,
            running: true,
        })
    });
    found.collect()
}

/// Ends supervisors and everything below them.
pub(crate) fn end(ids: &[String], backend: &str) -> Result<(), ExecutorError> {
    let mut failed = None;
    for id in ids {
        let Some(pid) = id.split('.').next().and_then(|pid| pid.parse().ok()) else { continue };
        if let Err(error) = end_one(pid, id, backend) {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn end_one(pid: i32, id: &str, backend: &str) -> Result<(), ExecutorError> {
    let Some(handle) = open(pid) else { return Ok(()) };
    // The descriptor is of the process that has the number; whether that is the one that was found shows now.
    let Some(found) = Found::read(pid, backend).filter(|found| found.id(pid) == *id) else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    // Other backends may have tasks of the same execution.
    let tasks = journal::tasks(&found.private);
    let mut doomed: Vec<(i32, OwnedFd)> = below(pid).into_iter().filter_map(|pid| Some((pid, open(pid)?))).collect();
    doomed.push((pid, handle));
    loop {
        for (_, handle) in &doomed {
            // Already gone is gone; what may not be killed is told below.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        for (pid, handle) in doomed {
            wait(pid, &handle, deadline)?;
        }
        let execution = found.execution.to_string();
        let is_of = |pid: i32| family::is_of(pid, &execution, tasks.as_ref(), &found.folder);
        let strays = family::processes().filter(|pid| is_of(*pid)).filter_map(|pid| Some((pid, open(pid)?)));
        doomed = strays.filter(|(pid, _)| is_of(*pid)).collect();
        if doomed.is_empty() {
            return Ok(());
        }
    }
}

/// All processes that descend from this one. It is their subreaper, so nothing that lost its parents is missing.
fn below(ancestor: i32) -> HashSet<i32> {
    let parents: Vec<(i32, i32)> =
        family::processes().filter_map(|pid| Some((pid, Process::read(pid)?.parent))).collect();
    let mut found = HashSet::from([ancestor]);
    loop {
        let before = found.len();
        found.extend(
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    found.remove(&ancestor);
    found
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn wait(pid: i32, handle: &OwnedFd, deadline: Instant) -> Result<(), ExecutorError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&pause)) {
            Ok(1..) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            _ => {
                return Err(ExecutorError::Refused {
                    engine: "the kernel".to_owned(),
                    verb: format!("end process {pid}"),
                    reason: format!("it is still there after {} s", PATIENCE.as_secs()),
                });
            }
        }
    }
}

/// When a process began, in clock ticks since the machine did.
fn began(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name comes in parentheses, and may hold anything; the moment is the twentieth field after it.
    stat[stat.rfind(')')? + 2..].split(' ').nth(19)?.parse().ok()
}

/// When the machine began.
fn booted() -> Option<SystemTime> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn ticks(ticks: u64) -> Duration {
    // SAFETY: it reads a number.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / per_second)
}

/// What a supervisor has left in its own folder. While one is at work, all of it is of use.
pub(crate) fn litter(private: &Path) -> Vec<PathBuf> {
    let Ok(lock) = std::fs::File::open(private.join("lock")) else { return Vec::new() };
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
        return Vec::new();
    }
    let socket = private.join("socket");
    if socket.symlink_metadata().is_ok() { vec![socket] } else { Vec::new() }
}
