//! Who descends from a task, as `/proc` tells it.
//!
//! The supervisor is a subreaper: a process whose parents are gone becomes its child. So whatever is left of a task whose
//! first process is over is below one of the supervisor's *strays*: children it did not start itself. Ending strays until
//! there are none left ends everything, also what has left the task's group.
//!
//! A stray is its task's by its process group, else by the variables of the layer protocol in its environment;
//! one that has shed both may be anybody's who ran when it appeared.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

/// Whose a stray is, by the number of the live task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This one's.
    Task(usize),
    /// One of those that ran when it was first seen.
    OneOf(Vec<usize>),
}

/// A process as `/proc/<pid>/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) parent: i32,
    pub(super) group: i32,
    pub(crate) dead: bool,
}

impl Process {
    pub(crate) fn read(pid: i32) -> Option<Process> {
        Process::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Process> {
        // The name comes in parentheses, and may hold anything, parentheses and spaces too.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?.split(' ');
        let dead = matches!(fields.next()?, "Z" | "X" | "x");
        let mut number = || fields.next()?.parse().ok();
        Some(Process { parent: number()?, group: number()?, dead })
    }
}

/// The supervisor's children that it did not start.
pub(super) struct Family {
    children: Option<File>,
    buffer: Vec<u8>,
    strays: HashMap<i32, Owner>,
}

impl Family {
    pub(super) fn new() -> Family {
        let id = std::process::id();
        Family {
            children: File::open(format!("/proc/self/task/{id}/children")).ok(),
            buffer: vec![0; 4096],
            strays: HashMap::new(),
        }
    }

    /// Every child of this process, also those that wait to be collected.
    pub(super) fn children(&mut self) -> Vec<i32> {
        let Some(file) = &self.children else { return children_by_parent() };
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(length * 2, 0);
            }
            match file.read_at(&mut self.buffer[length..], length as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => length += read,
            }
        }
        let text = std::str::from_utf8(&self.buffer[..length]).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Whose this stray is. `tell` finds out when it is seen for the first time.
    pub(super) fn owner(&mut self, stray: i32, tell: impl FnOnce() -> Owner) -> &Owner {
        self.strays.entry(stray).or_insert_with(tell)
    }

    /// A child has been collected: its number means nothing any more.
    pub(super) fn forget_stray(&mut self, pid: i32) {
        if !self.strays.is_empty() {
            self.strays.remove(&pid);
        }
    }

    /// A task is over: nothing that lives can be its.
    pub(super) fn forget_task(&mut self, task: usize) {
        for owner in self.strays.values_mut() {
            if let Owner::OneOf(tasks) = owner {
                tasks.retain(|other| *other != task);
            }
        }
    }
}

/// Kills a child that has not been collected, with its process group unless that is ours.
pub(super) fn end_stray(pid: i32, process: Process) {
    if let Some(group) = Pid::from_raw(process.group)
        && group != rustix::process::getpgrp()
    {
        let _ = kill_process_group(group, Signal::KILL);
    }
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The name of the task of this execution whose variables a process carries.
pub(super) fn marker(pid: i32, execution: &str) -> Option<String> {
    name_in(&std::fs::read(format!("/proc/{pid}/environ")).ok()?, execution)
}

fn name_in(environ: &[u8], execution: &str) -> Option<String> {
    let value = |name: &str| std::str::from_utf8(variable(environ, name)?).ok();
    if value("LAMINAR_EXECUTION_ID")? != execution {
        return None;
    }
    let (layer, index) = (value("LAMINAR_LAYER_NAME")?, value("LAMINAR_LAYER_INDEX")?);
    Some(format!("{layer}.{index}.{}", value("LAMINAR_LAYER_ATTEMPT")?))
}

fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut entries = environ.split(|byte| *byte == 0);
    entries.find_map(|entry| entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
}

/// Whether a process carries the variables of one of these tasks of this execution, or of any if it is not known which,
/// whose outputs are in this folder.
pub(crate) fn is_of(pid: i32, execution: &str, tasks: Option<&HashSet<Box<str>>>, folder: &Path) -> bool {
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let outputs = variable(&environ, "LAMINAR_OUTPUTS").map(|path| Path::new(OsStr::from_bytes(path)));
    name_in(&environ, execution).is_some_and(|name| tasks.is_none_or(|tasks| tasks.contains(name.as_str())))
        && outputs.is_some_and(|path| path.starts_with(folder))
}

/// Ends every process that carries the variables of one of these tasks of this execution, wherever it is: what outlived a
/// supervisor that was killed. Tasks of the execution that another backend runs go on.
pub(super) fn sweep(execution: &str, tasks: &HashSet<&str>) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let spared = ancestors();
    loop {
        let mut found = Vec::new();
        for pid in processes().filter(|pid| !spared.contains(pid)) {
            let marked = || marker(pid, execution).is_some_and(|name| tasks.contains(name.as_str()));
            let ours = || marked() && Process::read(pid).is_some_and(|it| !it.dead);
            if !ours() {
                continue;
            }
            // Once there is a descriptor, the number cannot come to mean another process unnoticed.
            let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue;
            };
            if ours() {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
                found.push((pid, handle));
            }
        }
        let Some((pid, handle)) = found.first() else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other(format!("process {pid} of an earlier supervisor cannot be killed")));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(left.min(Duration::from_millis(500)).subsec_nanos()) };
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&pause));
    }
}

/// This process and all above it.
fn ancestors() -> Vec<i32> {
    let mut line = vec![std::process::id() as i32];
    while let Some(process) = line.last().and_then(|pid| Process::read(*pid))
        && process.parent > 0
    {
        line.push(process.parent);
    }
    line
}

pub(crate) fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The same as the kernel's list of children, where it was built without one.
fn children_by_parent() -> Vec<i32> {
    let own = std::process::id() as i32;
    processes().filter(|pid| Process::read(*pid).is_some_and(|process| process.parent == own)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_obstacle() {
        let process = Process { parent: 7, group: 8, dead: false };
        assert_eq!(Process::parse(b"42 (a) Z 1 (x) S 7 8 9 0 -1 4194560").unwrap(), process);
        assert_eq!(Process::parse(b"42 (sh) Z 7 8 9 0 -1").unwrap(), Process { dead: true, ..process });
        assert_eq!(Process::parse(b"42 (sh"), None);
    }

    #[test]
    fn both_ways_to_list_children_agree() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        assert!(children_by_parent().contains(&pid));
        // The kernel lists children by thread; this test's thread is not the first.
        let task = rustix::thread::gettid().as_raw_nonzero();
        let mut family = Family::new();
        family.children = Some(File::open(format!("/proc/self/task/{task}/children")).unwrap());
        assert!(family.children().contains(&pid));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!family.children().contains(&pid));
    }
}
