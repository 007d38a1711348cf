//! Runs an engine's command line: one client process per question, with a deadline.
//!
//! A client is not its container: killing one that has taken too long ends nothing but the question. Clients are in
//! process groups of their own, so that an interrupt at the terminal does not reach them in the middle of a start.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use laminar_core::executor::{Cause, ExecutorError, LogRoom, seconds};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::dialect::{Dialect, Refusal};
use crate::settings::Settings;

/// How long a question may take that the engine answers from what it knows.
pub(crate) const SHORT: Duration = Duration::from_secs(60);
/// How long it may take to create, start or remove containers on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// How long an image may take to arrive.
pub(crate) const PULL: Duration = Duration::from_secs(6 * 3600);

/// The most that is kept of what a client says.
const MOST: u64 = 64 << 20;

/// The variables of an engine's clients that decide what engine it is; kept, unlike `LAMINAR_*`.
const OURS: &str = "LAMINAR_";

/// An engine's command line.
pub(crate) struct Client {
    dialect: &'static Dialect,
    /// Its name or path.
    named: String,
    /// What it is told before every command.
    before: Vec<OsString>,
    program: OnceLock<PathBuf>,
    /// Variables of ours that no client gets: what it leaves behind, such as a container's monitor, would have them.
    withheld: Mutex<BTreeSet<Arc<str>>>,
    patience: Duration,
}

/// What a client said.
pub(crate) struct Answer {
    /// Whether it ended well.
    pub(crate) ok: bool,
    /// Whether somebody killed it before it could answer.
    pub(crate) killed: bool,
    /// Its standard output.
    pub(crate) out: Vec<u8>,
    /// Its standard error, trimmed.
    pub(crate) err: String,
}

impl Client {
    pub(crate) fn new(dialect: &'static Dialect, settings: &Settings) -> Client {
        let named = settings.program.clone().unwrap_or_else(|| dialect.program.to_owned());
        let before = settings.client.clone();
        Client { dialect, named, before, program: OnceLock::new(), withheld: Mutex::default(), patience: Duration::MAX }
    }

    /// The same as another, but for what was said of the engine.
    pub(crate) fn told(&self, settings: &Settings) -> Client {
        Client { patience: self.patience, ..Client::new(self.dialect, settings) }
    }

    /// No question takes longer.
    pub(crate) fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// From now on no client gets these variables of ours.
    pub(crate) fn withhold(&self, names: &[Arc<str>]) {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).extend(names.iter().cloned());
    }

    /// Asks in this folder. An engine that is not there is an error; one that refuses is an answer.
    pub(crate) async fn ask<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: &[S],
        patience: Duration,
    ) -> Result<Answer, ExecutorError> {
        self.ask_with(folder, args, &[], patience).await
    }

    /// The same of what takes long: when nobody waits for the answer any more, the client is asked to end.
    pub(crate) async fn ask_while_wanted<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: &[S],
        patience: Duration,
    ) -> Result<Answer, ExecutorError> {
        self.converse(self.command(folder, args)?, args, patience, true).await
    }

    /// The same with variables for the client.
    pub(crate) async fn ask_with<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: &[S],
        env: &[(String, String)],
        patience: Duration,
    ) -> Result<Answer, ExecutorError> {
        let mut command = self.command(folder, args)?;
        command.envs(env.iter().map(|(name, value)| (name, value)));
        self.converse(command, args, patience, false).await
    }

    async fn converse<S: AsRef<OsStr>>(
        &self,
        mut command: Command,
        args: &[S],
        patience: Duration,
        ends_unwanted: bool,
    ) -> Result<Answer, ExecutorError> {
        let child = self.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let mut asked = Asked { child, ends_unwanted };
        let child = &mut asked.child;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let talk = async { tokio::join!(read(out), read(err), child.wait()) };
        let patience = patience.min(self.patience);
        let Ok((out, err, status)) = tokio::time::timeout(patience, talk).await else {
            return Err(self.give_up(child, args, patience));
        };
        let status = status.map_err(|error| self.unavailable(format!("cannot wait for its client: {error}")))?;
        self.answer(status, out, &err)
    }

    /// Shows containers, as JSON; those that are not there are in none of the answers. One answer, but where the client shows
    /// nothing at all on account of one that is half removed. The removal of that one is brought to its end: until then its
    /// name is taken, and nobody can say what it is.
    pub(crate) async fn show(&self, folder: &Path, names: &[&str], verb: &str) -> Result<Vec<Vec<u8>>, ExecutorError> {
        let is_gone = |answer: &Answer| answer.ok || self.dialect.says_only(&answer.err, &[Refusal::Gone]);
        let is_empty = |answer: &Answer| !answer.ok && answer.out.trim_ascii().is_empty();
        let ask = async |names: &[&str]| {
            let args: Vec<&str> = ["container", "inspect"].into_iter().chain(names.iter().copied()).collect();
            let answer = self.ask(folder, &args, SHORT).await?;
            if is_gone(&answer) { Ok(answer) } else { Err(self.refused(verb, &answer)) }
        };
        let mut answer = ask(names).await?;
        if !is_empty(&answer) {
            return Ok(vec![answer.out]);
        }
        let mut each = Vec::new();
        for name in names {
            if names.len() > 1 {
                answer = ask(&[name]).await?;
            }
            if !is_empty(&answer) {
                each.push(std::mem::take(&mut answer.out));
                continue;
            }
            let mut is_removed = false;
            if self.dialect.is_half_gone(&answer.err) {
                // Not by force: another may have its name by now.
                let removed = self.ask(folder, &self.dialect.remove_idle(&[name]), LONG).await?;
                is_removed = is_gone(&removed);
            }
            if !is_removed && names.len() < 2 {
                return Err(self.refused(verb, &answer));
            }
        }
        Ok(each)
    }

    /// Asks, and has both streams of the answer written to a file. When nobody waits for it any more, the client is ended.
    pub(crate) async fn pour<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: &[S],
        into: &File,
        patience: Duration,
    ) -> Result<Answer, ExecutorError> {
        let copy = || into.try_clone().map_err(|error| self.unavailable(format!("cannot start its client: {error}")));
        let mut command = self.command(folder, args)?;
        command.stdout(copy()?).stderr(copy()?).kill_on_drop(true);
        let mut child = self.spawn(&mut command)?;
        let Ok(status) = tokio::time::timeout(patience, child.wait()).await else {
            return Err(self.give_up(&mut child, args, patience));
        };
        let status = status.map_err(|error| self.unavailable(format!("cannot wait for its client: {error}")))?;
        let said = if status.success() { Vec::new() } else { end_of(into) };
        self.answer(status, Vec::new(), &said)
    }

    /// Asks, and writes both streams of the answer to a file, as far as there is room, which is returned. Unlike
    /// [`Client::pour`] it tells what could not be written: not every client does. The inner error is that.
    pub(crate) async fn fetch<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: &[S],
        into: &File,
        room: LogRoom,
        patience: Duration,
    ) -> Result<io::Result<(Answer, LogRoom)>, ExecutorError> {
        let failed = |error: io::Error| self.unavailable(format!("cannot start its client: {error}"));
        let (mut from, both) = io::pipe().map_err(failed)?;
        let (target, mut into) = (into, into.try_clone().map_err(failed)?);
        let mut command = self.command(folder, args)?;
        command.stdout(both.try_clone().map_err(failed)?).stderr(both).kill_on_drop(true);
        let mut child = self.spawn(&mut command)?;
        drop(command); // with our ends of the pipe
        let copying = tokio::task::spawn_blocking(move || {
            let mut into = Bounded { into: &mut into, room };
            io::copy(&mut from, &mut into)?;
            Ok(into.room)
        });
        let talk = async { tokio::join!(copying, child.wait()) };
        let Ok((copied, status)) = tokio::time::timeout(patience, talk).await else {
            return Err(self.give_up(&mut child, args, patience));
        };
        let room = match copied.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
            Ok(room) => room,
            Err(error) => return Ok(Err(error)),
        };
        let status = status.map_err(|error| self.unavailable(format!("cannot wait for its client: {error}")))?;
        let said = if status.success() { Vec::new() } else { end_of(target) };
        self.answer(status, Vec::new(), &said).map(|answer| Ok((answer, room)))
    }

    fn command<S: AsRef<OsStr>>(&self, folder: &Path, args: &[S]) -> Result<Command, ExecutorError> {
        let mut command = Command::new(self.program()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(OURS.as_bytes())) {
            command.env_remove(name);
        }
        let withheld = self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        for name in withheld.iter() {
            command.env_remove(&**name);
        }
        command.args(&self.before).args(args).current_dir(folder).stdin(Stdio::null()).process_group(0);
        Ok(command)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, ExecutorError> {
        command.spawn().map_err(|error| self.unavailable(format!("cannot start its client: {error}")))
    }

    /// Ends a client that takes too long; not what it has started, which may be a container's monitor.
    fn give_up<S: AsRef<OsStr>>(&self, child: &mut Child, args: &[S], patience: Duration) -> ExecutorError {
        let _ = child.start_kill();
        let asked = args.first().map(|word| word.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        self.unavailable(format!("no answer to `{asked}` in {}", seconds(patience)))
    }

    /// What a client said. An engine that is not there is an error.
    fn answer(&self, status: ExitStatus, out: Vec<u8>, err: &[u8]) -> Result<Answer, ExecutorError> {
        let mut err = String::from_utf8_lossy(err).trim().to_owned();
        if let Some(signal) = status.signal() {
            err = format!("its client was ended by {} before it could answer", Cause::Signal(signal));
        }
        let answer = Answer { ok: status.success(), killed: status.signal().is_some(), out, err };
        if !answer.ok
            && let Refusal::Down(hint) = self.dialect.refusal(&answer.err)
        {
            return Err(ExecutorError::Unavailable {
                engine: self.dialect.name.to_owned(),
                reason: answer.err,
                hint: hint.to_owned(),
            });
        }
        Ok(answer)
    }

    fn program(&self) -> Result<&Path, ExecutorError> {
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let found = which::which(&self.named).map_err(|_| ExecutorError::Unavailable {
            engine: self.dialect.name.to_owned(),
            reason: match self.named.contains('/') {
                true => format!("`{}` is no program", self.named),
                false => format!("there is no program `{}` in PATH", self.named),
            },
            hint: match self.named == self.dialect.program {
                true => self.dialect.install.to_owned(),
                false => "the option `program` names a program in PATH, or its path".to_owned(),
            },
        })?;
        Ok(self.program.get_or_init(|| found))
    }

    pub(crate) fn unavailable(&self, reason: String) -> ExecutorError {
        ExecutorError::Unavailable { engine: self.dialect.name.to_owned(), reason, hint: self.dialect.wake.to_owned() }
    }

    /// The engine has said no.
    pub(crate) fn refused(&self, verb: impl Into<String>, answer: &Answer) -> ExecutorError {
        let reason = said(answer);
        ExecutorError::Refused { engine: self.dialect.name.to_owned(), verb: verb.into(), reason }
    }
}

/// A client that was asked something.
struct Asked {
    child: Child,
    /// Whether it is asked to end when nobody waits for it any more. Not by a KILL: it may have to tidy up, and may have a part in
    /// another user namespace.
    ends_unwanted: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        // None once it was waited for.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group.filter(|_| self.ends_unwanted) {
            let _ = rustix::process::kill_process_group(group, Signal::TERM); // it may be over by now
        }
    }
}

/// A file of which no more is written than there is room for.
struct Bounded<'a> {
    into: &'a mut File,
    room: LogRoom,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room.write(self.into, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

/// The last bytes of a file.
fn end_of(mut file: &File) -> Vec<u8> {
    const LAST: u64 = 2048;
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(LAST))).and_then(|_| file.read_to_end(&mut bytes));
    bytes
}

/// Why the engine has said no, in its own words.
pub(crate) fn said(answer: &Answer) -> String {
    match gist(&answer.err) {
        "" => "it did not say why".to_owned(),
        said => said.to_owned(),
    }
}

/// The line that says what went wrong, among hints of usage and news of progress.
pub(crate) fn gist(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("Error")).or_else(|| lines().next()).unwrap_or_default();
    let line = line.strip_prefix("Error response from daemon: ").unwrap_or(line);
    line.strip_prefix("Error: ").unwrap_or(line)
}

/// Everything that comes, as far as it is kept; the rest is read all the same, so that the client can end.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return bytes };
    let _ = (&mut stream).take(MOST).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    bytes
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn one_line_says_what_went_wrong() {
        let docker = "Error response from daemon: network x not found\nError: failed to start containers: y";
        assert_eq!(gist(docker), "network x not found");
        let podman = "Trying to pull x...\nError: initializing source x: connection refused";
        assert_eq!(gist(podman), "initializing source x: connection refused");
        assert_eq!(gist("unknown flag: --x\n\nUsage:  docker create"), "unknown flag: --x");
        assert_eq!(gist(""), "");
    }
}
