//! The first process of a container, where that is this program.
//!
//! The kernel spares the first process every signal that it does not handle, and gives it all orphans. So it does nothing
//! else: the command itself runs in a second process of this program, which gets every signal and the terminal, and whose exit
//! code counts. What goes on without it (an execution that was started with `--detach`, layers of a scheduler that was
//! killed) keeps the container alive. Unaware of what the command is.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::error::Error;
use crate::exit::Code;
use crate::output::{Output, Shape, Verbosity};

/// What is passed on.
const PASSED_ON: [Signal; 6] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Looks after the command if this is the first process of its container; returns `None` if it is not.
pub(crate) fn serve() -> Option<ExitCode> {
    if std::process::id() != 1 {
        return None;
    }
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Some(served.and_then(|runtime| runtime.block_on(look_after())).unwrap_or_else(|error| {
        let error = Error::because("cannot start a process", &error);
        Output::standard(Shape::Text, Verbosity::Normal).error(&error);
        error.code().into()
    }))
}

async fn look_after() -> io::Result<ExitCode> {
    // Before there is anybody to whom they could be passed on.
    let mut heard = PASSED_ON
        .iter()
        .map(|passed| Ok((*passed, signal(SignalKind::from_raw(passed.as_raw()))?)))
        .collect::<io::Result<Vec<(Signal, Signals)>>>()?;
    let mut children = signal(SignalKind::child())?;
    let main = start()?;
    let mut code = None;
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == main {
                code = Some(exit_code(status));
            }
        }
        let left = if code.is_some() { of_ours() } else { vec![main] };
        match code {
            Some(code) if left.is_empty() => return Ok(code),
            _ => {}
        }
        let passed = tokio::select! {
            _ = children.recv() => continue,
            passed = next(&mut heard) => passed,
        };
        for pid in left {
            let _ = kill_process(pid, passed); // it may be over
        }
    }
}

/// The command itself, in a process of its own. A terminal interrupts that one alone, so that nothing is told twice.
fn start() -> io::Result<Pid> {
    let name = std::env::args_os().next().unwrap_or_else(|| "laminar".into());
    let mut command = Command::new("/proc/self/exe");
    let child = command.arg0(name).args(std::env::args_os().skip(1)).process_group(0).spawn()?;
    let pid = Pid::from_child(&child);
    let terminal = io::stdin();
    if rustix::termios::isatty(&terminal) {
        let _ = rustix::termios::tcsetpgrp(&terminal, pid); // it may be over, or the terminal another's
    }
    Ok(pid)
}

/// The next signal that is to be passed on.
async fn next(heard: &mut [(Signal, Signals)]) -> Signal {
    std::future::poll_fn(|context| {
        for (passed, signals) in heard.iter_mut() {
            if signals.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*passed);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The children that are processes of this program: schedulers and supervisors. Others end with this container.
fn of_ours() -> Vec<Pid> {
    let Ok(own) = std::fs::read_link("/proc/self/exe") else { return Vec::new() };
    let children = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    let is_ours = |pid: &i32| {
        std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).is_ok_and(|exe| exe == own)
    };
    children.filter(is_ours).filter_map(Pid::from_raw).collect()
}

fn exit_code(status: WaitStatus) -> ExitCode {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(Code::Broken.number())),
        (None, Some(number)) => ExitCode::from(u8::try_from(128 + number).unwrap_or(Code::Broken.number())),
        (None, None) => Code::Broken.into(),
    }
}
