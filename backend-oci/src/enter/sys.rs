//! The kernel's side of being a container's first process. All unsafe code of this crate is here; everything assumes that
//! the process has one thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::ptr;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// What is passed on to the layer, and the news of children.
const HEARD: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Blocks those signals and returns a descriptor that tells of them; none is ignored any more but PIPE, which the standard
/// library resets. Whatever is started must be made [`undisturbed`].
pub(super) fn hear_of_signals() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before use; all pointers are to locals or null where that is allowed; the
    // descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in HEARD {
            libc::sigaddset(&raw mut set, signal);
        }
        // A log that outgrows the limit on file sizes is an error to be told, not the end of the supervisor.
        libc::sigaddset(&raw mut set, libc::SIGXFSZ);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::sigdelset(&raw mut set, libc::SIGXFSZ);
        ignore_nothing();
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Signals that some engines' monitors ignore are ignored no more: children inherit that. Once for all of them. The C library hides
/// two signals from its own functions, so the kernel is asked directly.
fn ignore_nothing() {
    /// As the kernel has it: what is done comes first.
    const ACTION: usize = 8;
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        let mut now = [0usize; ACTION];
        // SAFETY: both arrays are at least as long as the kernel's struct, in which zero everywhere is the default disposition;
        // the set is as long as the kernel's, 8 bytes. KILL and STOP are refused with an error that does not matter.
        unsafe {
            let asked = libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<usize>(), now.as_mut_ptr(), 8usize);
            if asked == 0 && now[0] == libc::SIG_IGN {
                let default = [0usize; ACTION];
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<usize>(), 8usize);
            }
        }
    }
}

/// The command, to run with no signal blocked: children inherit that, too. (The library's way to start a process without copying
/// this one first would have two signals ignored.)
pub(super) fn undisturbed(command: &mut Command) -> &mut Command {
    let undisturb = || {
        // SAFETY: all of this is safe to call between fork and exec. `none` is initialised by sigemptyset.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(undisturb) }
}

/// The signals that have arrived.
pub(super) fn signals(from: BorrowedFd<'_>) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut numbers = Vec::new();
    let mut one = [0u8; SIZE];
    // SAFETY: the buffer is as long as is said.
    while unsafe { libc::read(from.as_raw_fd(), one.as_mut_ptr().cast(), SIZE) } == SIZE as isize {
        // The number is the first field.
        numbers.push(i32::from_ne_bytes([one[0], one[1], one[2], one[3]]));
    }
    numbers
}

/// Kills whatever is left of the layer: as the first process of a namespace, everything in it; else the layer's group and
/// every child that has come to this process.
pub(super) fn kill_the_rest(layer: Pid) {
    if std::process::id() == 1 {
        // SAFETY: a plain call. From the first process of a namespace, -1 means all others in it.
        unsafe { libc::kill(-1, libc::SIGKILL) };
        return;
    }
    let _ = rustix::process::kill_process_group(layer, Signal::KILL);
    let own = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    for pid in children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// A process whose parent is gone comes to this one, also where the engine has put a process of its own before it.
pub(super) fn adopt_orphans() -> io::Result<()> {
    if std::process::id() != 1 {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    Ok(())
}

/// What processes that were collected have used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// The cpu time of all together.
    pub(super) cpu: Duration,
    /// The peak memory of the largest, in bytes.
    pub(super) largest: u64,
}

impl Used {
    /// Collects a process that is over, if there is one. An error says that there are no children.
    pub(super) fn collect(&mut self) -> io::Result<Option<(Pid, ExitStatus)>> {
        let mut status = 0;
        // SAFETY: an all-zero rusage is a valid value, and the pointers are to locals.
        let (pid, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
        let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        self.cpu += Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime));
        self.largest = self.largest.max(usage.ru_maxrss as u64 * 1024);
        Ok(Some((pid, ExitStatus::from_raw(status))))
    }
}
