//! A flow file as a tree in which every key and value knows its place.
//!
//! It is unaware of what the keys mean. The good path for YAML deserializes from it ([`de`]); a JSON file is only read
//! into one when something is wrong with it.
//!
//! Invariants: a tree is at most [`NESTING`] levels deep with all aliases followed, its aliases stand for at most
//! [`ALIASED`] bytes, and it has at most [`NODES`] nodes, so whoever walks it needs no limits of its own.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

mod de;
mod json;
mod yaml;

pub(super) use de::{Error, TEXT, deserialize};

/// The most levels of maps and lists within each other.
pub(super) const NESTING: usize = 128;
/// The most bytes, roughly, that all aliases of a file may stand for.
pub(super) const ALIASED: u64 = 64 << 20;
/// The most keys and values of a file.
pub(super) const NODES: usize = 10_000_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    /// Where it is; as counted by whoever composed it, see [`Tree::bytes`].
    pub(super) span: Range<u32>,
    /// What it is.
    pub(super) kind: Kind<'a>,
    /// Whether something wrong was taken out of it, so that what it lacks is no news.
    pub(super) pruned: bool,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    /// Nothing.
    Null,
    /// `true`, `42`, `1.5`, as written and as understood.
    Plain(Cow<'a, str>, Plain),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Node<'a>>),
    /// Keys and values in the order of the file; keys may repeat.
    Map(Vec<(Node<'a>, Node<'a>)>),
    /// What an anchor names, or an alias stands for.
    Shared(Rc<Node<'a>>),
}

/// A scalar that is no text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Signed(i64),
    /// A whole number too large for the other.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
}

impl<'a> Node<'a> {
    fn new(span: Range<u32>, kind: Kind<'a>) -> Node<'a> {
        Node { span, kind, pruned: false }
    }

    /// What it is, aliases followed.
    pub(super) fn kind(&self) -> &Kind<'a> {
        match &self.kind {
            Kind::Shared(node) => node.kind(),
            kind => kind,
        }
    }

    /// Whether something was taken out of it, aliases followed.
    pub(super) fn was_pruned(&self) -> bool {
        match &self.kind {
            Kind::Shared(node) => self.pruned || node.was_pruned(),
            _ => self.pruned,
        }
    }

    /// Its text, if it is a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match self.kind() {
            Kind::Plain(text, _) | Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it was written as a whole number that 64 bits cannot hold.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self.kind(), Kind::Plain(text, Plain::Float(_)) if text.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit()))
    }

    /// Its keys and values; none if it is no map.
    pub(super) fn entries(&self) -> &[(Node<'a>, Node<'a>)] {
        match self.kind() {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }
}

/// A whole file.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    /// The outermost value.
    pub(super) root: Node<'a>,
    counted: Counted,
}

/// Why there is no tree.
#[derive(Debug, PartialEq)]
pub(super) struct Unreadable {
    /// What is wrong.
    pub(super) message: String,
    /// The bytes it is about.
    pub(super) span: Range<usize>,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl<'a> Tree<'a> {
    /// Reads YAML.
    pub(super) fn yaml(text: &'a str) -> Result<Tree<'a>, Unreadable> {
        yaml::compose(text)
    }

    /// Reads JSON, which must have been found free of syntax errors before.
    pub(super) fn json(text: &'a str) -> Result<Tree<'a>, Unreadable> {
        json::compose(text)
    }

    /// The bytes of `text`, which the tree was read from, that a span of a node covers.
    pub(super) fn bytes(&self, text: &str, span: &Range<u32>) -> Range<usize> {
        let start = self.counted.byte(text, span.start as usize);
        let end = self.counted.byte(text, span.end as usize).max(start);
        // A block's span reaches to the next token; the blanks between are not what is meant.
        let inside = text[start..end].trim_end();
        start..start + inside.len()
    }
}

/// Turns positions in characters into positions in bytes: every [`STRIDE`]th is remembered.
#[derive(Debug)]
enum Counted {
    /// Positions are bytes.
    Bytes,
    /// Positions are characters; this is the byte of every so many of them.
    Characters(Vec<usize>),
}

const STRIDE: usize = 256;

impl Counted {
    fn characters(text: &str) -> Counted {
        if text.is_ascii() {
            return Counted::Bytes;
        }
        Counted::Characters(text.char_indices().step_by(STRIDE).map(|(at, _)| at).collect())
    }

    fn byte(&self, text: &str, at: usize) -> usize {
        let at = match self {
            Counted::Bytes => at.min(text.len()),
            Counted::Characters(marks) => {
                let Some(base) = marks.get(at / STRIDE) else { return text.len() };
                text[*base..].char_indices().nth(at % STRIDE).map_or(text.len(), |(more, _)| base + more)
            }
        };
        floor(text, at)
    }
}

/// The last character boundary that is not behind `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
