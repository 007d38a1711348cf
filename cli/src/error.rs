//! Why a command could not do its work: what, where, why, what to do about it, and the exit code.
//!
//! Values only; [`crate::output::Output`] shows them.

use std::io;

use laminar_core::flow::problem::Problems;

use crate::exit::Code;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Error {
    /// The flow file is wrong, in one or more places.
    Problems(Problems),
    /// Anything else.
    Failure(Box<Failure>),
    /// Whoever read our standard output has gone. Nothing is said about it.
    ReaderGone,
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the command ends.
    pub(crate) code: Code,
    /// What is wrong, a lower-case fragment.
    pub(crate) what: String,
    /// Where, one place a line: files, layers.
    pub(crate) places: Vec<String>,
    /// Why, as someone else said it: the kernel, SQLite, an engine.
    pub(crate) why: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Error {
    /// The command line is wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Error {
        Error::new(Code::Usage, what)
    }

    /// laminar itself could not go on.
    pub(crate) fn broken(what: impl Into<String>) -> Error {
        Error::new(Code::Broken, what)
    }

    /// What was asked for does not exist.
    pub(crate) fn missing(what: impl Into<String>) -> Error {
        Error::new(Code::Missing, what)
    }

    /// Something that another room could not do, with everything below it as the reason.
    pub(crate) fn because(what: impl Into<String>, source: &(dyn std::error::Error + 'static)) -> Error {
        Error::broken(what).why(chain(source))
    }

    fn new(code: Code, what: impl Into<String>) -> Error {
        let what = what.into();
        Error::Failure(Box::new(Failure { code, what, places: Vec::new(), why: None, hint: None }))
    }

    /// The same, with a place.
    pub(crate) fn at(self, place: impl Into<String>) -> Error {
        self.with(|failure| failure.places.push(place.into()))
    }

    /// The same, with a reason.
    pub(crate) fn why(self, why: impl Into<String>) -> Error {
        self.with(|failure| failure.why = Some(why.into()))
    }

    /// The same, with a hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Error {
        self.with(|failure| failure.hint = Some(hint.into()))
    }

    fn with(mut self, change: impl FnOnce(&mut Failure)) -> Error {
        if let Error::Failure(failure) = &mut self {
            change(failure);
        }
        self
    }

    /// How the command ends. A reader that has seen enough, like `head`, is no failure.
    pub(crate) fn code(&self) -> Code {
        match self {
            Error::Problems(_) => Code::Usage,
            Error::Failure(failure) => failure.code,
            Error::ReaderGone => Code::Finished,
        }
    }
}

/// Errors of standard output, the only stream whose errors matter.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::ReaderGone,
            _ => Error::because("cannot write to standard output", &error),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Error {
        Error::Problems(problems)
    }
}

/// An error and what it rests on, without what an outer text repeats of an inner one.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = without_number(&error.to_string());
    let mut below = error.source();
    while let Some(inner) = below {
        let inner_text = without_number(&inner.to_string());
        if !text.contains(without_code(&inner_text)) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        below = inner.source();
    }
    text
}

/// A text without the number that SQLite's errors begin with: `Error code 13: `.
fn without_code(text: &str) -> &str {
    let said = text.strip_prefix("Error code ").and_then(|rest| rest.split_once(": "));
    said.map_or(text, |(_, said)| said)
}

/// Whether an error rests on a folder that cannot be written to.
pub(crate) fn is_read_only(error: &(dyn std::error::Error + 'static)) -> bool {
    let kinds = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| kinds.contains(&error.kind()))
}

/// A text without the number that the standard library adds to what the kernel says: ` (os error 2)`.
fn without_number(text: &str) -> String {
    match text.rfind(" (os error ").map(|at| text.split_at(at)) {
        Some((said, number)) if number.ends_with(')') => said.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        assert_eq!(Error::usage("x").code(), Code::Usage);
        assert_eq!(Error::broken("x").code(), Code::Broken);
        assert_eq!(Error::missing("x").code(), Code::Missing);
        assert_eq!(Error::Problems(Problems { source: None, list: Vec::new() }).code(), Code::Usage);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_but_a_full_disk_is() {
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), Code::Finished);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::StorageFull)).code(), Code::Broken);
    }

    #[test]
    fn what_the_kernel_says_needs_no_number() {
        assert_eq!(chain(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(without_number("x (os error y"), "x (os error y");
    }

    #[test]
    fn a_chain_says_nothing_twice() {
        #[derive(Debug)]
        struct Outer(&'static str, io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.1)
            }
        }
        assert_eq!(chain(&Outer("cannot open: disk full", io::Error::other("disk full"))), "cannot open: disk full");
        let numbered = io::Error::other("Error code 13: disk full");
        assert_eq!(chain(&Outer("cannot open: disk full", numbered)), "cannot open: disk full");
        assert!(is_read_only(&Outer("cannot make", io::ErrorKind::ReadOnlyFilesystem.into())));
        assert!(!is_read_only(&Outer("cannot make", io::ErrorKind::StorageFull.into())));
        assert_eq!(chain(&Outer("cannot open", io::Error::other("disk full"))), "cannot open: disk full");
    }
}
