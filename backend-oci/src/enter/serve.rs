//! The supervisor inside a warm container: runs one task after the other, each in the same way as a container of its own would.
//!
//! ```text
//! <program> __laminar_serve --patience MS
//! ```
//!
//! It takes an errand by renaming its file, which nobody can do twice. Between two tasks nothing is left of the first but what
//! it wrote. It ends when it is told to, when no scheduler has been there for a while, and after a task of which the kernel has
//! killed something for want of memory: so what a container has seen of that is its last task's.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::WaitOptions;

use super::bell::{Bell, LOOK};
use super::memory::Kills;
use super::time::Limits;
use super::{Layer, record, sys, timespec};
use crate::place::{ASKED, FORCED, INSIDE, STARTED};
use crate::warm::errand::{BELL, BORN, ERRAND, Errand, LEAVE, LEAVING, LOG};

/// The first argument of a supervisor of a warm container; nobody types it.
pub(crate) const SERVE: &str = "__laminar_serve";
/// How long it waits without a scheduler, in milliseconds.
pub(crate) const PATIENCE: &str = "--patience";

/// Serves until there is nothing more to be done.
pub(super) fn serve(mut args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let patience = match (args.next(), args.next().and_then(|value| value.to_str()?.parse().ok())) {
        (Some(word), Some(millis)) if word == PATIENCE => Duration::from_millis(millis),
        told => return Err(io::Error::other(format!("it was told {told:?} and does not understand"))),
    };
    let folder = Path::new(INSIDE);
    // The layer may be the same user: it shall not become the supervisor, and outlive its task.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let signals = sys::hear_of_signals()?;
    // Someone has started the container again: what it was at is lost, and told so.
    File::create_new(folder.join(BORN))?;
    sys::adopt_orphans()?;
    let mut bell = Bell::new(&folder.join(BELL))?;
    let kills = Kills::find();
    loop {
        let rang = bell.rang();
        if let Some(errand) = take(folder)? {
            let is_last = run(folder, &errand, (&signals, &kills), &mut bell)?;
            if is_last {
                return Ok(ExitCode::SUCCESS);
            }
            bell.count_anew();
            continue;
        }
        let is_dismissed = rang && folder.join(LEAVE).symlink_metadata().is_ok();
        if is_dismissed || bell.alone().is_some_and(|alone| alone >= patience) || is_told_to_leave(&signals) {
            File::create(folder.join(LEAVING))?;
            return Ok(ExitCode::SUCCESS);
        }
        let pause = bell.alone().map(|_| timespec(LOOK));
        let mut ready = vec![PollFd::new(&signals, PollFlags::IN)];
        ready.extend(bell.ear().map(|ear| PollFd::from_borrowed_fd(ear, PollFlags::IN)));
        match poll(&mut ready, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Those that somebody has put into the container from outside.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

fn is_told_to_leave(signals: &OwnedFd) -> bool {
    let leaving = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];
    sys::signals(signals.as_fd()).iter().any(|number| leaving.contains(number))
}

/// Takes what is to be done next: from then on it has begun.
fn take(folder: &Path) -> io::Result<Option<Errand>> {
    let path = folder.join(ERRAND);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let errand: Errand = serde_json::from_slice(&text)?;
    let started = folder.join(STARTED);
    match std::fs::rename(&path, &started) {
        // It was taken back in this moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed?,
    }
    // Its time is when it began; what was to be done is nobody else's business.
    File::create(started)?;
    Ok(Some(errand))
}

/// Runs one task to its end. Whether it was the last.
fn run(folder: &Path, errand: &Errand, (signals, kills): (&OwnedFd, &Kills), bell: &mut Bell) -> io::Result<bool> {
    let record = record::Record::new(folder)?;
    let door = Door { bell, asked: folder.join(ASKED), forced: folder.join(FORCED) };
    let mut layer =
        Layer::new(&folder.join(LOG), signals.try_clone()?, errand.own_group.then_some(kills), errand.log_limit)?;
    layer.door = Some(door);
    let argv: Vec<OsString> = errand.argv.iter().map(OsString::from).collect();
    let limits = Limits { timeout: errand.timeout, grace: errand.grace };
    let exit = layer.run(&argv, limits, &folder.join(ASKED), &|command| {
        command.envs(errand.env.iter().map(|(name, value)| (name, value)));
    })?;
    // The next errand comes after this task's record: what is there now is the layer's own.
    clear(&folder.join(ERRAND))?;
    let is_last = layer.is_starved || layer.is_told_to_leave;
    if is_last {
        // Before anybody hears that the task is over, and has another.
        File::create(folder.join(LEAVING))?;
    }
    // Nobody has the log open any more once the task is known to be over.
    drop(layer);
    record.keep(exit)?;
    Ok(is_last)
}

/// Removes whatever has this name.
fn clear(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(path),
        _ => std::fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where the scheduler's wishes for a running task come in.
pub(super) struct Door<'a> {
    pub(super) bell: &'a mut Bell,
    /// The file that says that it was asked to end.
    asked: PathBuf,
    /// The file that says that it is to be killed.
    forced: PathBuf,
}

/// A wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    Ask,
    Force,
}

impl Door<'_> {
    /// What is wished for, after the bell has rung; also while there is no scheduler, who may be another each time.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        if !self.bell.rang() && self.bell.ear().is_some() {
            return None;
        }
        if self.forced.exists() {
            return Some(Wish::Force);
        }
        self.asked.exists().then_some(Wish::Ask)
    }
}
