//! The kernel's side of being a parent: starting children, collecting them, hearing of their ends.
//!
//! All unsafe code of this crate is here. Unaware of tasks, journals and schedulers. Everything assumes that the process
//! has one thread, which [`detach`] and the program's entry see to.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use laminar_core::executor::{Cause, Exit, Usage};

/// Closes every descriptor from this one on: what those before had open is no business of the tasks.
pub(super) fn close_inherited(from: u32) {
    // SAFETY: called before this program has opened anything itself, so no owner of a descriptor is cheated.
    unsafe { libc::syscall(libc::SYS_close_range, from as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) };
}

/// A descriptor that was handed to this process, from now on for nobody after it.
pub(super) fn inherited(number: u32) -> io::Result<OwnedFd> {
    // SAFETY: the first call only asks; only what is open is taken, and by nobody else, since it is called before this
    // program has opened anything itself.
    unsafe {
        match libc::fcntl(number as c_int, libc::F_SETFD, libc::FD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(OwnedFd::from_raw_fd(number as c_int)),
        }
    }
}

/// Kills every other process of the process namespace whose first process this is.
pub(super) fn kill_all() {
    // SAFETY: it has no arguments in memory.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Which side of [`detach`] one is on.
pub(super) enum Side {
    /// The process that was started; it should leave.
    Starter,
    /// The one that stays.
    Child,
}

/// Forks, so that the supervisor is nobody's child who would have to wait for it.
pub(super) fn detach() -> io::Result<Side> {
    // SAFETY: the process has one thread, so the child may go on as if nothing had happened.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Starter),
    }
}

/// Gives every signal its default disposition, blocks SIGCHLD and returns a descriptor that tells of it. SIGXFSZ is
/// blocked too: a log that outgrows the limit on file sizes is an error to be told, not the end of every task. Children
/// inherit the dispositions; the mask is emptied in [`spawn`]. The C library hides two signals from its own functions,
/// which some parents ignore; so the kernel is asked directly.
pub(super) fn hear_of_children() -> io::Result<OwnedFd> {
    // SAFETY: `default` is at least as long as the kernel's struct, in which zero everywhere is the default disposition; the
    // set is as long as the kernel's, 8 bytes. `set` is initialised by sigemptyset before use; all pointers are to locals
    // or null where allowed. KILL and STOP are refused with an error that does not matter.
    unsafe {
        let default = [0u64; 8];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), 8usize);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGXFSZ);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::sigdelset(&raw mut set, libc::SIGXFSZ);
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// A child that was collected.
pub(super) struct Reaped {
    pub(super) pid: i32,
    pub(super) status: i32,
    pub(super) cpu_us: u64,
    pub(super) peak_memory: u64,
}

impl Reaped {
    /// How it ended by itself, and what it used but for the time, which nobody has measured.
    pub(super) fn exit(&self) -> Exit {
        let status = self.status;
        let cause = if libc::WIFSIGNALED(status) {
            Cause::Signal(libc::WTERMSIG(status))
        } else {
            Cause::Code(libc::WEXITSTATUS(status))
        };
        let usage = Usage { wall_us: 0, cpu_us: self.cpu_us, peak_memory: self.peak_memory };
        Exit { cause, evidence: String::new(), usage }
    }
}

/// Collects one child that has ended, if there is one.
pub(super) fn reap() -> Option<Reaped> {
    collect(libc::WNOHANG)
}

/// Waits until a child ends, and collects it; `None` once there is none left.
pub(super) fn reap_next() -> Option<Reaped> {
    collect(0)
}

fn collect(how: c_int) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value, and both pointers are to locals that outlive the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut status, how, &raw mut usage), usage)
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (pid > 0).then(|| Reaped {
        pid,
        status,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        peak_memory: usage.ru_maxrss as u64 * 1024,
    })
}

/// Memory for a child between its birth and its exec.
pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    const SIZE: usize = 64 * 1024;

    pub(super) fn new() -> io::Result<Stack> {
        // SAFETY: an anonymous mapping at a place of the kernel's choosing touches no memory in use; its lowest page
        // is then made a guard.
        unsafe {
            let base = libc::mmap(
                ptr::null_mut(),
                Stack::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            );
            if base == libc::MAP_FAILED || libc::mprotect(base, 4096, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Stack { base })
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and no child runs on it: `spawn` returns after the child has left it.
        unsafe { libc::munmap(self.base, Stack::SIZE) };
    }
}

/// A child to be.
pub(super) struct Order<'a> {
    /// The file to execute.
    pub(super) program: &'a CStr,
    /// Its arguments, the first one's name included.
    pub(super) argv: &'a [&'a CStr],
    /// Its whole environment.
    pub(super) env: &'a [&'a CStr],
    /// What else it gets.
    pub(super) given: &'a Given<'a>,
}

/// What a child gets, whatever its program.
pub(super) struct Given<'a> {
    /// What it reads from.
    pub(super) stdin: BorrowedFd<'a>,
    /// Where standard output and standard error go.
    pub(super) output: BorrowedFd<'a>,
    /// What it gets as its next descriptors, from 3 on. Their own numbers must be higher than any of those.
    pub(super) handed: &'a [BorrowedFd<'a>],
    /// The limit on open files to go back to, where the supervisor has raised its own.
    pub(super) files: Option<libc::rlimit>,
    /// How much nicer than this process it is.
    pub(super) nice: i32,
}

/// Why there is no child.
pub(super) enum SpawnError {
    /// No process could be made.
    Clone(io::Error),
    /// The file cannot be executed.
    Exec(i32),
}

struct Birth<'a> {
    order: &'a Order<'a>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    parent: i32,
    errno: AtomicI32,
}

/// Starts a child in a process group of its own, which the kernel kills when this process dies. Returns when
/// it executes the program, or cannot.
pub(super) fn spawn(stack: &Stack, order: &Order<'_>) -> Result<i32, SpawnError> {
    let pointers = |texts: &[&CStr]| {
        let mut pointers: Vec<*const c_char> = Vec::with_capacity(texts.len() + 1);
        pointers.extend(texts.iter().map(|text| text.as_ptr()));
        pointers.push(ptr::null());
        pointers
    };
    let birth = Birth {
        order,
        argv: pointers(order.argv),
        env: pointers(order.env),
        parent: std::process::id() as i32,
        errno: AtomicI32::new(0),
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: with CLONE_VFORK this thread, the only one, sleeps until the child has executed a program or is gone, so
    // `birth`, the stack and everything they point to outlive the child's use of them, and nothing runs beside it in the
    // shared memory. The top of the mapping is aligned to a page, and stacks grow downwards.
    let pid = unsafe {
        let top = stack.base.byte_add(Stack::SIZE);
        libc::clone(be_born, top, flags, (&raw const birth).cast_mut().cast())
    };
    if pid < 0 {
        return Err(SpawnError::Clone(io::Error::last_os_error()));
    }
    match birth.errno.load(Ordering::Relaxed) {
        0 => Ok(pid),
        errno => {
            // SAFETY: the child is ours and has left with `_exit`; nobody else waits for it.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(SpawnError::Exec(errno))
        }
    }
}

extern "C" fn be_born(birth: *mut c_void) -> c_int {
    // SAFETY: the pointer is the `Birth` that `spawn` keeps alive and does not touch meanwhile. Only system calls are made:
    // no allocation, no lock, no destructor, nothing that the sleeping parent could be in the middle of.
    unsafe {
        let birth = &*birth.cast::<Birth<'_>>();
        let (order, given) = (birth.order, birth.order.given);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != birth.parent {
            libc::_exit(127); // the parent died before it could be noticed
        }
        // A group, not a session: where the kernel groups sessions for scheduling (autogroup), each child would compete as
        // a group of its own, which was slower on a busy machine and no faster on a quiet one. There is no terminal to be
        // kept off; the supervisor's session has none.
        libc::setpgid(0, 0);
        if let Some(limit) = &given.files {
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        // The process itself, not its group, and only that of this thread: the sleeping parent keeps its own.
        if given.nice > 0 {
            libc::nice(given.nice);
        }
        libc::dup2(given.stdin.as_raw_fd(), 0);
        libc::dup2(given.output.as_raw_fd(), 1);
        libc::dup2(given.output.as_raw_fd(), 2);
        for (at, handed) in given.handed.iter().enumerate() {
            libc::dup2(handed.as_raw_fd(), 3 + at as c_int);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(order.program.as_ptr(), birth.argv.as_ptr(), birth.env.as_ptr());
        birth.errno.store(*libc::__errno_location(), Ordering::Relaxed);
        libc::_exit(127)
    }
}

/// Raises the limit on open files as far as it goes; returns the one before, for the children.
pub(super) fn raise_file_limit() -> Option<libc::rlimit> {
    // SAFETY: plain calls on a local.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 || limit.rlim_cur >= limit.rlim_max {
            return None;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        (libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0).then_some(limit)
    }
}
