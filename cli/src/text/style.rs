//! Colour, where it is wanted. Colour never says anything that the words do not say too.

use std::fmt::Display;

/// Whether a stream takes colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Text as it is.
    Plain,
    /// With ANSI colours.
    Coloured,
}

impl Style {
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: impl Display) -> String {
        self.paint("36", text)
    }

    /// A state's word in its colour.
    pub(crate) fn state(self, word: &str) -> String {
        match word {
            "finished" | "cached" | "available" => self.green(word),
            "failed" | "damaged" => self.red(word),
            "running" => self.cyan(word),
            "unreadable" | "caught" | "resting" | "cancelled" | "interrupted" => self.yellow(word),
            _ => self.dim(word),
        }
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        match self {
            Style::Plain => text.to_string(),
            Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
