//! The first process of a task that was launched by something else, wherever that is: the parent of the task there.
//!
//! A [launcher](crate::Launcher)'s command is the supervisor's child; somewhere below it this program runs once more, from a
//! descriptor that is handed on, so that it needs no place among the files that are seen there. It starts the task, passes
//! signals on to it, ends what it leaves behind, and tells how it ended and what it used, over a socket that is handed on as
//! well. So none of that depends on what is between. It ends with the supervisor, whose end of the socket closes then.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use laminar_core::executor::{Cause, Exit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::family::{self, Family, Process};
use super::launch;
use super::lookup::Lookup;
use super::sys::{self, Given, Reaped, Stack};

/// The first argument of such a process; nobody types it.
pub(crate) const MARKER: &str = "__laminar_first";
/// What it is executed as: the descriptor after that of the socket.
pub(crate) const PROGRAM: &str = "/proc/self/fd/4";

/// The descriptors that are handed on. All that are made for it have numbers above them.
const CONTROL: u32 = 3;
const OURS: i32 = 10;
/// What it says once the task runs. The exit follows as JSON, in the end.
const STARTED: u8 = b'+';
/// A search path may be long, and nobody reads the report before its end.
const MOST_EVIDENCE: usize = 4096;

/// The supervisor's end of the socket.
pub(super) struct Control(OwnedFd);

impl Control {
    /// Both ends.
    pub(super) fn new() -> io::Result<(Control, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Control(ours), rustix::io::fcntl_dupfd_cloexec(theirs, OURS)?))
    }

    /// Has the task get a signal: at once, or when it is there.
    pub(super) fn pass(&self, signal: Signal) {
        // Who is gone needs no signal.
        let _ = send(&self.0, &[signal.as_raw() as u8], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// How the task ended. Only when the child is over that has launched it.
    pub(super) fn exit(&self, child: &Reaped) -> Exit {
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        while let Ok((length @ 1.., _)) = recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
            said.extend_from_slice(&buffer[..length]);
        }
        let json = said.strip_prefix(&[STARTED]).unwrap_or(&said);
        if let Ok(exit) = serde_json::from_slice(json) {
            return exit;
        }
        let own = child.exit();
        let (cause, what) = match said.first() {
            Some(_) => (Cause::Lost, "what launched the task ended before it could be told how that did"),
            None => (Cause::EngineFailed, "what was to launch the task ended and has not started it"),
        };
        Exit { cause, evidence: format!("{what}: {}", own.cause), usage: own.usage }
    }
}

/// This program, open to be handed on.
pub(super) fn program() -> io::Result<OwnedFd> {
    let program = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::io::fcntl_dupfd_cloexec(program, OURS)?)
}

/// Is the first process of a task with these arguments, to its end.
pub(super) fn be(argv: impl Iterator<Item = OsString>) -> ExitCode {
    let Ok(control) = sys::inherited(CONTROL) else { return ExitCode::from(2) };
    sys::close_inherited(CONTROL + 1);
    let argv: Vec<CString> = argv.filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    let mut exit = run(&control, &argv)
        .unwrap_or_else(|error| launch::exit(Cause::EngineFailed, format!("cannot attend to the task: {error}")));
    exit.evidence = exit.evidence.chars().take(MOST_EVIDENCE).collect();
    // Nobody listens when the supervisor is gone.
    let _ = send(&control, &serde_json::to_vec(&exit).unwrap_or_default(), SendFlags::NOSIGNAL);
    // For those between who look at it.
    ExitCode::from(match exit.cause {
        Cause::Code(code) => code as u8,
        Cause::Signal(number) => 128 + number as u8,
        Cause::NotFound => 127,
        Cause::NotExecutable => 126,
        _ => 1,
    })
}

fn run(control: &OwnedFd, argv: &[CString]) -> io::Result<Exit> {
    let signals = sys::hear_of_children()?;
    let _ = rustix::thread::set_name(c"laminar-first"); // for `ps` and `top` only
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // It ends by itself when the supervisor does, so that it can take all with it that descends from the task.
    let _ = rustix::process::set_parent_process_death_signal(None);
    let task = match start(argv)? {
        Ok(task) => task,
        Err(refused) => return Ok(refused),
    };
    let _ = send(control, &[STARTED], SendFlags::NOSIGNAL);
    let ended = attend(control, &signals, task);
    end_everything();
    ended.map(|reaped| reaped.exit())
}

fn start(argv: &[CString]) -> io::Result<Result<i32, Exit>> {
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let (argv, env): (Vec<_>, Vec<_>) = (argv.iter().map(|it| &**it).collect(), env.iter().map(|it| &**it).collect());
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let given = Given { stdin: stdin.as_fd(), output: stdout.as_fd(), handed: &[], files: None, nice: 0 };
    Ok(launch::spawn(&Stack::new()?, &mut Lookup::default(), &argv, &env, &given))
}

/// Passes signals on until the task is over.
fn attend(control: &OwnedFd, signals: &OwnedFd, task: i32) -> io::Result<Reaped> {
    let mut buffer = [0; 128];
    loop {
        match poll(&mut [PollFd::new(control, PollFlags::IN), PollFd::new(signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = rustix::io::read(signals, &mut buffer); // pending signals of one kind are one
        while let Some(reaped) = sys::reap() {
            if reaped.pid == task {
                return Ok(reaped);
            }
        }
        match recv(control, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::Error::other("the supervisor is gone")),
            Ok((length, _)) => buffer[..length].iter().for_each(|number| signal(task, *number)),
            Err(_) => {}
        }
    }
}

/// The task has not been collected, so its number is its.
fn signal(task: i32, number: u8) {
    if let (Some(task), Some(signal)) = (Pid::from_raw(task), Signal::from_named_raw(i32::from(number)))
        && kill_process_group(task, signal).is_err()
    {
        let _ = kill_process(task, signal);
    }
}

/// Ends all that is below this process, and collects it.
fn end_everything() {
    let mut family = Family::new();
    loop {
        if std::process::id() == 1 {
            sys::kill_all();
        } else {
            for child in family.children() {
                if let Some(process) = Process::read(child) {
                    family::end_stray(child, process);
                }
            }
        }
        if sys::reap_next().is_none() {
            return;
        }
    }
}
