//! The exit codes of the command line, all of them. Scripts rely on these numbers; they never change their meaning.

use std::process::ExitCode;

use laminar_core::event::Outcome;

/// How a command ends, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done; every layer finished, or was cached, caught or skipped.
    Finished = 0,
    /// At least one layer failed.
    LayerFailed = 1,
    /// The command line or the flow file is wrong; nothing was run.
    Usage = 2,
    /// laminar itself could not go on: the run store, the disk, or an engine that is not there.
    Broken = 3,
    /// What was asked for does not exist: an execution, a layer, an artifact, a log.
    Missing = 4,
    /// The execution was cancelled: Ctrl-C, SIGTERM or SIGHUP.
    Cancelled = 130,
}

/// The codes as `--help` lists them.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done; every layer finished (or was cached, caught or skipped)
    1  a layer failed
    2  the command line or the flow file is wrong; nothing was run
    3  laminar itself could not go on: the run store, the disk, or an engine that is not there
    4  what was asked for does not exist: an execution, a layer, an artifact, a log
  130  the execution was cancelled (Ctrl-C, SIGTERM or SIGHUP)";

impl Code {
    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl Code {
    /// The code of this number, as another process of this program exited with.
    pub(crate) fn from_number(number: i32) -> Option<Code> {
        let all = [Code::Finished, Code::LayerFailed, Code::Usage, Code::Broken, Code::Missing, Code::Cancelled];
        all.into_iter().find(|code| i32::from(code.number()) == number)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code.number())
    }
}

impl From<Outcome> for Code {
    fn from(outcome: Outcome) -> Code {
        match outcome {
            Outcome::Finished => Code::Finished,
            Outcome::Failed => Code::LayerFailed,
            Outcome::Cancelled => Code::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_every_code() {
        let all = [Code::Finished, Code::LayerFailed, Code::Usage, Code::Broken, Code::Missing, Code::Cancelled];
        let listed: Vec<u8> =
            TABLE.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(listed, all.map(Code::number));
    }

    #[test]
    fn outcomes_have_the_documented_numbers() {
        assert_eq!(Code::from(Outcome::Finished).number(), 0);
        assert_eq!(Code::from(Outcome::Failed).number(), 1);
        assert_eq!(Code::from(Outcome::Cancelled).number(), 130);
    }
}
