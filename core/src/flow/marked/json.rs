//! Reads JSON that is known to be free of syntax errors into a marked tree.
//!
//! It is a second look at what a real parser has accepted, so it is lenient: what it does not expect, it passes over.

use std::borrow::Cow;
use std::ops::Range;

use super::{Counted, Kind, NESTING, Node, Plain, Tree, Unreadable};

pub(super) fn compose(text: &str) -> Result<Tree<'_>, Unreadable> {
    let mut reader = Reader { text, at: 0 };
    let root = reader.value(0)?;
    Ok(Tree { root, counted: Counted::Bytes })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, Unreadable> {
        self.pass(|byte| byte.is_ascii_whitespace());
        let start = self.at;
        if depth > NESTING {
            return Err(Unreadable::nesting(start..start + 1));
        }
        let kind = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text(self.string()),
            _ => self.bare(),
        };
        Ok(Node::new(narrow(start..self.at), kind))
    }

    fn map(&mut self, depth: usize) -> Result<Kind<'a>, Unreadable> {
        let mut entries = Vec::new();
        self.at += 1;
        while self.next_is_item(b'}') {
            let start = self.at;
            let key = self.string();
            let key = Node::new(narrow(start..self.at), Kind::Text(key));
            self.pass(|byte| byte.is_ascii_whitespace() || byte == b':');
            entries.push((key, self.value(depth + 1)?));
        }
        Ok(Kind::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Kind<'a>, Unreadable> {
        let mut items = Vec::new();
        self.at += 1;
        while self.next_is_item(b']') {
            items.push(self.value(depth + 1)?);
        }
        Ok(Kind::List(items))
    }

    /// Goes to the next item, or behind the bracket that closes.
    fn next_is_item(&mut self, close: u8) -> bool {
        self.pass(|byte| byte.is_ascii_whitespace() || byte == b',');
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                false
            }
            other => other.is_some(),
        }
    }

    fn string(&mut self) -> Cow<'a, str> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        self.at = super::floor(self.text, self.at);
        let quoted = &self.text[start..self.at];
        match quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside),
            _ => Cow::Owned(serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())),
        }
    }

    fn bare(&mut self) -> Kind<'a> {
        let start = self.at;
        self.pass(|byte| !byte.is_ascii_whitespace() && !b",:]}".contains(&byte));
        // Whatever this is, go on, so that it ends.
        self.at = super::floor(self.text, self.at.max(start + 1));
        let text = &self.text[start..self.at.max(start)];
        let plain = |plain| Kind::Plain(Cow::Borrowed(text), plain);
        match text {
            "null" => Kind::Null,
            "true" | "false" => plain(Plain::Bool(text == "true")),
            _ => Plain::number(text).map_or(Kind::Null, plain),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn pass(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }
}

fn narrow(span: Range<usize>) -> Range<u32> {
    let narrow = |at| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(span.start)..narrow(span.end)
}
