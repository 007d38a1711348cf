//! Executions without a terminal: a process of its own, in a session of its own, drives them.
//!
//! `--detach` starts this program once more with the same words, and passes on what it says until the execution is under way.
//! Then, with the first event on record, that process lets go: it puts the id on standard output, and from there on writes to a file in the execution's
//! folder. Whatever is wrong before is told to whoever has asked, with the exit code that it has without `--detach`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::output::Shape;
use crate::report::Subject;

/// What a person writes, and what the process is told that they get.
const WORDS: (&str, &str) = ("--detach", "--detached");

/// Starts the process, and returns once the execution is under way.
pub(crate) fn launch(context: &mut Context<'_>) -> Result<Code, Error> {
    let failed = |error: io::Error| Error::because("cannot start a process", &error);
    // By the name that people know it by, in hints and in lists of processes.
    let name = std::env::args_os().next().unwrap_or_else(|| "laminar".into());
    let mut child = Command::new("/proc/self/exe")
        .arg0(name)
        .args(words(std::env::args_os().skip(1)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let talk = std::thread::spawn(move || err.map(|mut err| io::copy(&mut err, &mut io::stderr())));
    let mut id = String::new();
    if let Some(mut out) = out {
        out.read_to_string(&mut id).map_err(failed)?;
    }
    let _ = talk.join();
    let id = id.trim();
    if id.is_empty() {
        let status = child.wait().map_err(failed)?;
        return match (status.code().and_then(Code::from_number), status.signal()) {
            (Some(code), _) => Ok(code),
            (None, signal) => Err(Error::broken("the process that was to run the execution ended")
                .why(signal.map_or("without a word".to_owned(), |number| format!("by signal {number}")))),
        };
    }
    match context.output.shape() {
        Shape::Json => {
            context.output.object(&json!({"execution": id}))?;
        }
        Shape::Text => {
            context.output.print(&format!("{id}\n"))?;
            let short = &id[..id.len().min(12)];
            let line = |words: &[&str]| context.invocation.line(words);
            let hint = format!(
                "it goes on without this terminal; `{}` follows it, `{}` stops it",
                line(&["status", short, "-f"]),
                line(&["cancel", short])
            );
            context.output.say(&hint);
        }
    }
    Ok(Code::Finished)
}

/// The same words for the process, which is told in place of who asked.
fn words(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = all.collect();
    if let Some(word) = all.iter_mut().find(|word| *word == WORDS.0) {
        *word = WORDS.1.into();
    }
    all
}

/// Lets go of the terminal and of whoever has started this process: from now on there is only the execution.
pub(crate) fn let_go(subject: &Subject) -> io::Result<()> {
    let path = subject.folder.scheduler_log();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(nothing.as_fd())?;
    // It is the leader of its group only where it was started by hand; then it stays in the session it is in.
    let _ = rustix::process::setsid();
    rustix::stdio::dup2_stderr(log.as_fd())?;
    // Last, since it tells that all is well. Nobody may be there to read it.
    let _ = writeln!(io::stdout(), "{}", subject.id).and_then(|()| io::stdout().flush());
    Ok(rustix::stdio::dup2_stdout(nothing.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_is_changed() {
        let all = ["run", "-p", "x=--detach", "--detach", "--jobs", "2"].map(OsString::from);
        assert_eq!(words(all.into_iter()), ["run", "-p", "x=--detach", "--detached", "--jobs", "2"]);
    }
}
