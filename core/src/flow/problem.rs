//! What is wrong with a flow file, where, and what to do about it. Values only; drawing them is the command line's.

use std::ops::Range;
use std::sync::Arc;

/// The text of a flow file, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name to show: the path as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// How to read it.
    pub format: Format,
}

/// How a flow file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON, the fast path; chosen by the file's ending `.json`.
    Json,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, a lower-case fragment without a full stop: "unknown key `retires`".
    pub message: String,
    /// Where, if there is a place; the first is the main one. Others show what it collides with or the steps of a cycle.
    pub places: Vec<Place>,
    /// What to do about it: "did you mean `retries`?".
    pub hint: Option<String>,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bytes of the text it is about. Never beyond the text, always at character boundaries, may be empty.
    pub span: Range<usize>,
    /// What to write beside the line drawn; may be empty.
    pub label: String,
}

/// Everything that is wrong with one flow file, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The text, if it could be read at all.
    pub source: Option<Source>,
    /// What is wrong; never empty.
    pub list: Vec<Problem>,
}

impl Source {
    /// Line and column of a byte of the text, both from 1; columns count characters.
    #[must_use]
    pub fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }
}
