//! The supervisor inside: the first process of every container, this program in another mode.
//!
//! It starts the layer's program, writes what comes through one pipe to the log, passes signals on to the layer's process
//! group, ends it when its time is up, collects orphans, and puts on record how the program ended. It asks nobody. Unaware
//! of engines and schedulers; what it knows comes in its arguments, its environment, one folder and the log.
//!
//! ```text
//! <program> __laminar_enter [--timeout MS --grace MS] [--log-limit BYTES] -- ARGV...
//! ```
//!
//! In a warm container it does so for one task after the other: [`serve`].

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use laminar_core::executor::{Cause, Exit, LOG_LIMIT, LogRoom, Usage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::owner;
use crate::place::{ASKED, EXIT, INSIDE, LOG, OUTPUTS, SHARED, STARTED};

mod bell;
mod memory;
mod record;
mod serve;
mod sys;
mod time;

use bell::LOOK;
use memory::Kills;
use serve::{Door, Wish};
pub(crate) use serve::{PATIENCE, SERVE};
use time::{Due, Limits, Time};

/// The first argument of a supervisor; nobody types it.
pub(crate) const MARKER: &str = "__laminar_enter";

/// The first argument of what gives outputs to their owner.
pub(crate) const GIVE_BACK: &str = "__laminar_give_back";

/// The options between the marker and the layer's own words: how long it may run, and how long it has when it is asked to
/// end, in milliseconds; how many bytes of its log are kept, if not as many as usual. [`END`] ends them.
pub(crate) const TIMEOUT: &str = "--timeout";
pub(crate) const GRACE: &str = "--grace";
pub(crate) const ROOM: &str = "--log-limit";
pub(crate) const END: &str = "--";

/// The beginning of the names under which the layer's own variables travel.
pub(crate) const VARIABLE: &str = "LAMINAR_VARIABLE_";

/// How it leaves when it could not do its own part.
const BROKEN: u8 = 125;

/// How long it waits for processes that were killed.
const LINGER: Duration = Duration::from_secs(10);

/// Becomes the supervisor inside a container if the arguments, without the program's own name, say so; returns `None` if
/// they do not. A `main` calls this first of all, before it starts a thread.
pub fn enter(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let marker = args.next()?;
    if marker == GIVE_BACK {
        return Some(give_back(args));
    }
    let done = match marker.to_str() {
        Some(MARKER) => told(args).and_then(|(limits, log, argv)| supervise(limits, log, &argv)),
        Some(SERVE) => serve::serve(args),
        _ => return None,
    };
    Some(done.unwrap_or_else(|error| {
        // The engine keeps what its first process says.
        let _ = writeln!(io::stderr(), "cannot supervise the layer: {error}");
        ExitCode::from(BROKEN)
    }))
}

/// What the arguments after the marker say: how long it may run, how much of its log is kept, and what it is.
fn told(mut args: impl Iterator<Item = OsString>) -> io::Result<(Limits, u64, Vec<OsString>)> {
    let (mut limits, mut log) = (Limits::default(), LOG_LIMIT);
    loop {
        let word = args.next().unwrap_or_default();
        if word == END {
            return Ok((limits, log, args.collect()));
        }
        let value = args.next().and_then(|value| value.to_str()?.parse().ok());
        match (word.to_str(), value) {
            (Some(TIMEOUT), Some(value)) => limits.timeout = Some(Duration::from_millis(value)),
            (Some(GRACE), Some(value)) => limits.grace = Duration::from_millis(value),
            (Some(ROOM), Some(value)) => log = value,
            _ => return Err(io::Error::other(format!("it was told {} and does not understand", word.display()))),
        }
    }
}

/// Gives the outputs, and what the layer has made beside its record, to the user and group of the arguments.
fn give_back(args: impl Iterator<Item = OsString>) -> ExitCode {
    let ids: Vec<u32> = args.filter_map(|id| id.to_str()?.parse().ok()).collect();
    let [uid, gid] = ids[..] else { return ExitCode::from(BROKEN) };
    match [OUTPUTS, INSIDE].iter().try_for_each(|folder| owner::give(Path::new(folder), uid, gid)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot give the outputs to {uid}:{gid}: {error}");
            ExitCode::from(BROKEN)
        }
    }
}

fn supervise(limits: Limits, log: u64, argv: &[OsString]) -> io::Result<ExitCode> {
    let folder = Path::new(INSIDE);
    if let Ok(text) = std::fs::read(folder.join(EXIT)) {
        // Someone has started the container again. What has ended never runs twice.
        let exit: Exit = serde_json::from_slice(&text).map_err(io::Error::other)?;
        return Ok(ExitCode::from(code(&exit.cause)));
    }
    let signals = sys::hear_of_signals()?;
    let record = record::Record::new(folder)?;
    File::create_new(folder.join(STARTED))?;
    sys::adopt_orphans()?;
    let kills = (!folder.join(SHARED).exists()).then(Kills::find);
    let mut layer = Layer::new(Path::new(LOG), signals, kills.as_ref(), log)?;
    let exit = layer.run(argv, limits, &folder.join(ASKED), &unwrap_variables)?;
    let code = code(&exit.cause);
    record.keep(exit)?;
    Ok(ExitCode::from(code))
}

/// The exit code by which the engine's own tools show the same.
fn code(cause: &Cause) -> u8 {
    match cause {
        Cause::Code(code) => u8::try_from(*code).unwrap_or(BROKEN),
        Cause::Signal(number) => u8::try_from(128 + number).unwrap_or(BROKEN),
        Cause::OutOfMemory => 137,
        Cause::TimedOut => 124,
        Cause::NotFound => 127,
        Cause::NotExecutable => 126,
        _ => BROKEN,
    }
}

/// The layer while it runs.
struct Layer<'a> {
    signals: OwnedFd,
    output: OwnedFd,
    input: Option<OwnedFd>,
    log: File,
    room: LogRoom,
    trouble: Option<io::Error>,
    /// What the control group says, if the one seen here is this container's.
    kills: Option<&'a Kills>,
    buffer: Vec<u8>,
    /// What its collected processes have used.
    used: sys::Used,
    /// In a warm container: where wishes come in.
    door: Option<Door<'a>>,
    /// Whether the kernel has killed something for want of memory.
    is_starved: bool,
    /// Whether somebody has told the container to end.
    is_told_to_leave: bool,
}

impl<'a> Layer<'a> {
    fn new(log: &Path, signals: OwnedFd, kills: Option<&'a Kills>, log_limit: u64) -> io::Result<Self> {
        let log = OpenOptions::new().append(true).open(log)?;
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&output, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Layer {
            signals,
            output,
            input: Some(input),
            log,
            room: LogRoom::new(log_limit),
            trouble: None,
            kills,
            buffer: vec![0; 64 * 1024],
            used: sys::Used::default(),
            door: None,
            is_starved: false,
            is_told_to_leave: false,
        })
    }

    /// Runs it to its end. `asked` is the file that says that somebody has asked it to end; `dress` gives it its variables.
    fn run(
        &mut self,
        argv: &[OsString],
        limits: Limits,
        asked: &Path,
        dress: &dyn Fn(&mut Command),
    ) -> io::Result<Exit> {
        let born = Instant::now();
        let mut time = Time::new(born, limits);
        let kills = self.kills;
        let killed = || kills.and_then(Kills::count);
        let killed_before = killed();
        let child = match self.spawn(argv, dress) {
            Ok(child) => child,
            Err(exit) => return Ok(exit),
        };
        let is_asked = asked.exists();
        if is_asked {
            // Whoever asked may have done so before we could hear it.
            pass_on(child, Signal::TERM);
        }
        let status = self.attend(child, &mut time, asked, is_asked.then_some(Wish::Ask))?;
        let wall = born.elapsed();
        self.end_the_rest(child)?;
        self.drain();
        self.is_starved = killed().zip(killed_before).is_some_and(|(now, before)| now > before);
        let mut exit = verdict(status, self.is_starved);
        time.judge(&mut exit);
        let trouble = self.trouble.as_ref().map(|error| format!("the log is incomplete: {error}"));
        if let Some(told) = trouble.or_else(|| self.room.told()) {
            exit.evidence = if exit.evidence.is_empty() { told } else { format!("{}; {told}", exit.evidence) };
        }
        // The container's own peak is that of all who were in it.
        let peak = (kills.is_some() && self.door.is_none()).then(memory::peak).flatten();
        exit.usage = Usage {
            wall_us: wall.as_micros() as u64,
            cpu_us: self.used.cpu.as_micros() as u64,
            peak_memory: peak.unwrap_or(self.used.largest),
        };
        Ok(exit)
    }

    fn spawn(&mut self, argv: &[OsString], dress: &dyn Fn(&mut Command)) -> Result<Pid, Exit> {
        let [program, arguments @ ..] = argv else {
            return Err(not_started(Cause::NotFound, "there is no program to run".to_owned()));
        };
        let input = self.input.as_ref().map(OwnedFd::try_clone);
        let (Some(Ok(out)), Some(Ok(err))) = (input, self.input.as_ref().map(OwnedFd::try_clone)) else {
            return Err(not_started(Cause::EngineFailed, "cannot copy the pipe".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        dress(&mut command);
        let shown = program.to_string_lossy();
        match sys::undisturbed(&mut command).spawn() {
            Ok(child) => Pid::from_raw(child.id() as i32)
                .ok_or_else(|| not_started(Cause::EngineFailed, "the kernel gave no process".to_owned())),
            Err(error) => Err(refused(&shown, &error)),
        }
    }

    /// Until the layer's first process is over.
    fn attend(
        &mut self,
        child: Pid,
        time: &mut Time,
        asked: &Path,
        mut granted: Option<Wish>,
    ) -> io::Result<ExitStatus> {
        loop {
            let now = Instant::now();
            match time.due(now, || asked.exists()) {
                Some(Due::Ask) => pass_on(child, Signal::TERM),
                Some(Due::Force) => sys::kill_the_rest(child),
                None => {}
            }
            let patience = time.next().map(|next| next.saturating_duration_since(now));
            let ear = self.door.as_ref().map(|door| door.bell.ear());
            let patience = match ear {
                // Nobody could ring: whoever comes is looked for.
                Some(None) => Some(patience.map_or(LOOK, |patience| patience.min(LOOK))),
                _ => patience,
            };
            let patience = patience.map(timespec);
            let mut ready = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.output, PollFlags::IN)];
            ready.extend(ear.flatten().map(|ear| PollFd::from_borrowed_fd(ear, PollFlags::IN)));
            match poll(&mut ready, patience.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            drop(ready);
            self.drain();
            let wish = self.door.as_mut().and_then(Door::wish);
            match wish {
                _ if wish == granted => {}
                Some(Wish::Ask) if granted.is_none() => pass_on(child, Signal::TERM),
                Some(Wish::Force) => sys::kill_the_rest(child),
                _ => {}
            }
            granted = granted.max(wish);
            for number in sys::signals(self.signals.as_fd()) {
                self.is_told_to_leave |= number == libc::SIGTERM;
                if let Some(signal) = Signal::from_named_raw(number).filter(|signal| *signal != Signal::CHILD) {
                    pass_on(child, signal);
                }
            }
            let mut status = None;
            while let Ok(Some((pid, ended))) = self.used.collect() {
                if pid == child {
                    status = Some(ended);
                }
            }
            if let Some(status) = status {
                return Ok(status);
            }
        }
    }

    /// What is left of the layer's processes ends before anyone looks at its outputs.
    fn end_the_rest(&mut self, child: Pid) -> io::Result<()> {
        let deadline = Instant::now() + LINGER;
        let pause = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        loop {
            sys::kill_the_rest(child);
            loop {
                match self.used.collect() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()), // no children: nothing is left
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("there are processes of the layer that do not die"));
            }
            self.drain();
            poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&pause))?;
            sys::signals(self.signals.as_fd());
        }
    }

    /// Takes in what is in the pipe.
    fn drain(&mut self) {
        loop {
            match rustix::io::read(&self.output, &mut self.buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if self.trouble.is_none()
                        && let Err(error) = self.room.write(&mut self.log, &self.buffer[..length])
                    {
                        // The layer is not held up; the trouble is told with its exit.
                        self.trouble = Some(error);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Not shorter, so that whoever waits for it is not too early.
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

fn pass_on(child: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(child, signal);
    if signal == Signal::TERM {
        let _ = rustix::process::kill_process_group(child, Signal::CONT); // a suspended process could not act on it
    }
}

/// The layer's own variables, in place of the wrapped ones.
fn unwrap_variables(command: &mut Command) {
    let mut at = 0;
    loop {
        let wrapped = format!("{VARIABLE}{at}");
        let Some(pair) = std::env::var_os(&wrapped) else { return };
        command.env_remove(&wrapped);
        let bytes = pair.as_encoded_bytes();
        if let Some(end) = bytes.iter().position(|byte| *byte == b'=') {
            use std::os::unix::ffi::OsStrExt;
            let text = std::ffi::OsStr::from_bytes;
            command.env(text(&bytes[..end]), text(&bytes[end + 1..]));
        }
        at += 1;
    }
}

fn verdict(status: ExitStatus, killed: bool) -> Exit {
    let cause = match (status.code(), status.signal()) {
        (Some(code), _) => Cause::Code(code),
        (None, number) => Cause::Signal(number.unwrap_or(0)),
    };
    if !killed {
        return Exit { cause, evidence: String::new(), usage: Usage::default() };
    }
    let evidence = "the container's memory controller says that the kernel killed a process of it for want of memory";
    match cause {
        // The main process went on and did its work: the layer's own verdict counts.
        Cause::Code(0) => Exit { cause, evidence: evidence.to_owned(), usage: Usage::default() },
        own => Exit {
            cause: Cause::OutOfMemory,
            evidence: format!("{evidence}; its first process ended with {own}"),
            usage: Usage::default(),
        },
    }
}

fn not_started(cause: Cause, evidence: String) -> Exit {
    Exit { cause, evidence, usage: Usage::default() }
}

fn refused(program: &str, error: &io::Error) -> Exit {
    let there = program.contains('/') && Path::new(program).exists();
    match error.kind() {
        io::ErrorKind::NotFound if there => not_started(
            Cause::NotFound,
            format!("`{program}` is there, but the interpreter or loader that it names is not"),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            not_started(Cause::NotFound, format!("there is no `{program}` in the image"))
        }
        // A limit on processes or memory that leaves no room for it.
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            not_started(Cause::EngineFailed, format!("`{program}` cannot be started: {error}"))
        }
        _ => not_started(Cause::NotExecutable, format!("`{program}` cannot be executed: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_somebody_elses() {
        assert!(enter(std::iter::empty()).is_none());
        assert!(enter(["run".into(), MARKER.into()].into_iter()).is_none());
    }

    #[test]
    fn what_the_engine_shows_is_what_a_shell_would() {
        assert_eq!(code(&Cause::Code(3)), 3);
        assert_eq!(code(&Cause::Signal(15)), 143);
        assert_eq!(code(&Cause::NotFound), 127);
        assert_eq!(code(&Cause::NotExecutable), 126);
    }

    #[test]
    fn what_comes_after_the_options_is_the_layers() {
        let words = |words: &[&str]| told(words.iter().map(OsString::from));
        let (limits, log, argv) =
            words(&["--timeout", "1500", "--log-limit", "9", "--grace", "200", "--", "--timeout", "--"]).unwrap();
        let told = Limits { timeout: Some(Duration::from_millis(1500)), grace: Duration::from_millis(200) };
        assert_eq!((limits, log, argv), (told, 9, vec![OsString::from("--timeout"), OsString::from("--")]));
        assert_eq!(words(&["--", "ls"]).unwrap(), (Limits::default(), LOG_LIMIT, vec![OsString::from("ls")]));
        for wrong in [&[][..], &["ls"], &["--timeout", "soon", "--"], &["--log-limit", "-1", "--"]] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }
}
