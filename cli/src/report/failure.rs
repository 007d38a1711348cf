//! How a failed layer is told: its name, the cause and what that rests on, the end of its log, and where the rest is.

use std::fmt::Write;
use std::io;
use std::path::Path;

use laminar_core::executor::{Cause, Exit};
use laminar_core::id::Attempt;

use crate::execution::abbreviate;
use crate::mask::Mask;
use crate::program::CAUGHT;
use crate::report::{Subject, Why};
use crate::tail::tail;
use crate::text::style::Style;
use crate::text::visible;
use crate::text::{count, duration};

/// How many lines of the log are shown.
const LINES: usize = 10;
/// How many failures are told with their logs; the others in one line each.
const IN_FULL: u32 = 20;

/// The most characters of what a cause rests on (a search path can be long), and of the values of a split.
pub(crate) const LONGEST: usize = 120;
/// Words that only a shell understands.
const SHELL_WORDS: [&str; 16] = [
    "alias", "cd", "eval", "exec", "exit", "export", "for", "if", "read", "set", "shift", "source", "trap", "ulimit",
    "unset", "while",
];

/// Why an attempt failed, in a few words: `exit code 3 (wait4 said so)`.
pub(crate) fn cause(why: &Why) -> String {
    match why {
        Why::Rejected(reason) => visible::line(reason),
        Why::Exit(exit) => words(exit, LONGEST),
    }
}

/// A cause with its evidence, unless that only repeats it.
pub(crate) fn exit_words(exit: &Exit) -> String {
    words(exit, usize::MAX)
}

fn words(exit: &Exit, longest: usize) -> String {
    let cause = exit.cause.to_string();
    let evidence = visible::cut(&visible::line(&exit.evidence), longest);
    if evidence.is_empty() || evidence == cause { cause } else { format!("{cause} ({evidence})") }
}

/// What else there is to say of an exit code that is caught: any flow can name any code, so it tells of programs only.
pub(crate) fn caught_words(code: i32) -> &'static str {
    if code == i32::from(CAUGHT) { " (in a flow program: an error that it catches)" } else { "" }
}

/// A failed attempt that is told of: the values of its split on one line, and how many failures were told before it.
pub(crate) struct Told {
    pub(crate) values: String,
    pub(crate) before: u32,
}

/// One failed split.
pub(crate) fn block(subject: &Subject, attempt: Attempt, why: &Why, took_ms: i64, told: &Told) -> String {
    let style = subject.style;
    let name = subject.names.split(attempt.split);
    let values = if told.values.is_empty() { String::new() } else { format!(" ({})", told.values) };
    let attempts = match attempt.number {
        1 => String::new(),
        number => format!(", {}", count(number as usize, "attempt")),
    };
    let took = duration::between(0, took_ms);
    let mut block =
        format!("{}  {}{values}: {} ({took}{attempts})", style.red("failed"), style.bold(&name), cause(why));
    if told.before < IN_FULL {
        push_log(&mut block, subject, attempt, &name, never_ran(why));
    }
    if let Some(hint) = hint(why) {
        let _ = write!(block, "\n    {}: {hint}", style.cyan("hint"));
    }
    block
}

/// What to do about a program that does not exist because it is no program.
fn hint(why: &Why) -> Option<String> {
    let Why::Exit(Exit { cause: Cause::NotFound, evidence, .. }) = why else { return None };
    let program = evidence.split('`').nth(1)?;
    let is_script = program.contains([' ', '\t', '\n', '|', '&', ';', '<', '>', '$']) || SHELL_WORDS.contains(&program);
    is_script
        .then(|| "`command` names a program and its arguments, one by one; `run` takes a script for a shell".to_owned())
}

/// Whether there was nothing that could have printed anything.
fn never_ran(why: &Why) -> bool {
    let Why::Exit(exit) = why else { return false };
    matches!(exit.cause, Cause::NotStarted | Cause::NotFound | Cause::NotExecutable)
}

fn push_log(block: &mut String, subject: &Subject, attempt: Attempt, name: &str, never_ran: bool) {
    let path = subject.folder.log(&subject.task(attempt));
    let all = subject.invocation.line(&["logs", &abbreviate(subject.id), name]);
    match end_of_log(&path, &subject.mask, subject.style, &all) {
        Err(error) => {
            let _ = write!(block, "\n    cannot read its log `{}`: {error}", path.display());
        }
        Ok(end) if !end.is_empty() => block.push_str(&end),
        Ok(_) if never_ran => {}
        Ok(_) => block.push_str("\n    it printed nothing"),
    }
}

/// The last lines of a log, each after a line's end; empty if there are none. `all` shows the whole log.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn end_of_log(path: &Path, mask: &Mask, style: Style, all: &str) -> io::Result<String> {
    let end = tail(path, LINES, mask)?;
    let mut text = String::new();
    for line in &end.lines {
        let _ = write!(text, "\n    {} {line}", style.dim("|"));
    }
    if end.more && !end.lines.is_empty() {
        let _ = write!(text, "\n    {}: {all}", style.dim("all of it"));
    }
    Ok(text)
}
