//! How a failed layer is told: its name, the cause and what that rests on, the end of its log, and where the rest is.

use std::fmt::Write;

use laminar_core::executor::Exit;
use laminar_core::id::Attempt;

use crate::execution::abbreviate;
use crate::report::{Subject, Why};
use crate::tail::tail;
use crate::text::visible;
use crate::text::{count, duration};

/// How many lines of the log are shown.
const LINES: usize = 10;
/// How many failures are told with their logs; the others in one line each.
const IN_FULL: u32 = 20;

/// Why an attempt failed, in a few words: `exit code 3 (wait4 said so)`.
pub(crate) fn cause(why: &Why) -> String {
    match why {
        Why::Rejected(reason) => visible::line(reason),
        Why::Exit(exit) => exit_words(exit),
    }
}

/// A cause with its evidence, unless that only repeats it.
pub(crate) fn exit_words(exit: &Exit) -> String {
    let cause = exit.cause.to_string();
    let evidence = visible::line(&exit.evidence);
    if evidence.is_empty() || evidence == cause { cause } else { format!("{cause} ({evidence})") }
}

/// One failed layer. `shown` is how many were told before it.
pub(crate) fn block(subject: &Subject, attempt: Attempt, why: &Why, took_ms: i64, shown: u32) -> String {
    let style = subject.style;
    let name = subject.names.split(attempt.split);
    let attempts = match attempt.number {
        1 => String::new(),
        number => format!(", {}", count(number as usize, "attempt")),
    };
    let took = duration::between(0, took_ms);
    let mut block = format!("{}  {}: {} ({took}{attempts})", style.red("failed"), style.bold(&name), cause(why));
    if shown < IN_FULL {
        push_log(&mut block, subject, attempt, &name);
    }
    block
}

fn push_log(block: &mut String, subject: &Subject, attempt: Attempt, name: &str) {
    let path = subject.folder.log(&subject.task(attempt));
    let style = subject.style;
    match tail(&path, LINES) {
        Err(error) => {
            let _ = write!(block, "\n    cannot read its log `{}`: {error}", path.display());
        }
        Ok(end) if end.lines.is_empty() => block.push_str("\n    it printed nothing"),
        Ok(end) => {
            let bar = style.dim("|");
            for line in &end.lines {
                let _ = write!(block, "\n    {bar} {line}");
            }
            if end.more {
                let all = subject.invocation.line(&["logs", &abbreviate(subject.id), name]);
                let _ = write!(block, "\n    {}: {all}", style.dim("all of it"));
            }
        }
    }
}
