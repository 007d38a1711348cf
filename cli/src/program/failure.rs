//! Why a layer failed.

use std::error::Error;
use std::fmt::{self, Write};

/// What a layer's function returns.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a layer failed: any error, with what it was caused by, and the exit code that it has.
///
/// `?` makes one of every error, and of texts: `Err("no data".into())`.
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    code: u8,
}

impl Failure {
    /// A failure that says this.
    pub fn new(text: impl fmt::Display) -> Failure {
        Failure { error: text.to_string().into(), code: 1 }
    }

    /// The same with another exit code than 1: what `retry` and `catch` can name. The code 0 would be no failure, so it stays 1.
    #[must_use]
    pub fn with_code(self, code: u8) -> Failure {
        Failure { code: code.max(1), ..self }
    }

    /// The same, as what this was caused by.
    #[must_use]
    pub fn because(self, what: impl fmt::Display) -> Failure {
        Failure { error: Box::new(Told { what: what.to_string(), error: self.error }), code: self.code }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The error, if it, or what it was caused by, is of this type.
    #[must_use]
    pub fn find<E: Error + 'static>(&self) -> Option<&E> {
        self.chain().find_map(|error| error.downcast_ref())
    }

    /// The error, and what each was caused by.
    fn chain(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let first: &(dyn Error + 'static) = &*self.error;
        std::iter::successors(Some(first), |error: &&(dyn Error + 'static)| (*error).source())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { error: error.into(), code: 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        for (at, error) in self.chain().enumerate() {
            let words = error.to_string();
            // Some errors say themselves what they were caused by.
            if at == 0 {
                said.push_str(&words);
            } else if !said.ends_with(&words) {
                write!(said, "\n  caused by: {words}")?;
            }
        }
        f.write_str(&said)
    }
}

/// What `unwrap` and `main` show.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was tried when it failed, or what is missing where there is nothing.
pub trait Context<T> {
    /// The value, or a failure that says this, caused by the error if there is one.
    ///
    /// # Errors
    /// When there is no value.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().because(what))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(what))
    }
}

#[derive(Debug)]
struct Told {
    what: String,
    error: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_an_error_was_caused_by_is_said() {
        let read = || -> Result<String> { Ok(std::fs::read_to_string("/nowhere")?) };
        let failure = read().context("cannot read the folds").context("cannot train").err();
        let failure = failure.map(|failure| failure.with_code(75));
        let said = failure.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            said,
            "cannot train\n  caused by: cannot read the folds\n  caused by: No such file or directory (os error 2)"
        );
        assert_eq!(failure.as_ref().map(Failure::code), Some(75));
        assert!(failure.is_some_and(|failure| failure.find::<std::io::Error>().is_some()));
    }
}
