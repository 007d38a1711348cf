//! Here-documents: their delimiters, and the bodies that follow the line.

use super::{Context, Frame, Kind, Lexer, Refusal};

/// The deepest that here-documents may be nested.
const HERE_NESTING: usize = 8;

impl Lexer<'_> {
    /// `<<` and its delimiter, or `<<<`.
    pub(super) fn redirection(&mut self) {
        if self.starts_with(b"<<<") {
            self.at += 3;
            return;
        }
        self.at += 2;
        let strip = self.peek(0) == b'-';
        self.at += usize::from(strip);
        while matches!(self.peek(0), b' ' | b'\t') && self.at < self.end {
            self.at += 1;
        }
        let (delimiter, quoted) = self.delimiter();
        self.simple(|simple, _, _| simple.redirected());
        if let Some(top) = self.stack.last_mut() {
            top.pending.push((delimiter, quoted, strip));
        }
    }

    fn delimiter(&mut self) -> (Vec<u8>, bool) {
        let (mut delimiter, mut quoted) = (Vec::new(), false);
        let mut quote = None;
        while self.at < self.end {
            if self.slot().is_some() {
                self.take_slot(Context::Refused(Refusal::Delimiter));
                continue;
            }
            let byte = self.peek(0);
            match quote {
                None if b" \t\r\n;&|()<>`".contains(&byte) => break,
                None if byte == b'\'' || byte == b'"' => (quote, quoted) = (Some(byte), true),
                None if byte == b'$' && matches!(self.peek(1), b'\'' | b'"') => quoted = true,
                None if byte == b'\\' => {
                    quoted = true;
                    self.at += 1;
                    delimiter.push(self.peek(0));
                }
                Some(open) if byte == open => quote = None,
                Some(b'"') if byte == b'\\' && matches!(self.peek(1), b'"' | b'\\' | b'$' | b'`') => {
                    self.at += 1;
                    delimiter.push(self.peek(0));
                }
                _ => delimiter.push(byte),
            }
            self.at += 1;
        }
        (delimiter, quoted)
    }

    /// The bodies of the here-documents that the line before has announced.
    pub(super) fn bodies(&mut self) {
        let pending: Vec<_> = self.stack.iter_mut().flat_map(|frame| std::mem::take(&mut frame.pending)).collect();
        for (delimiter, quoted, strip) in pending {
            let Some((start, end, after)) = self.body(&delimiter, quoted, strip) else {
                // Shells disagree about where such a document ends.
                self.refuse(self.at..self.end, Refusal::Unended);
                self.at = self.end;
                return;
            };
            if self.in_backticks() && self.text[start..end].contains(&b'`') {
                self.refuse(start..self.end, Refusal::Backticks);
                self.at = self.end;
                return;
            }
            if quoted {
                self.refuse(start..end, Refusal::QuotedHereDocument);
            } else if self.here < HERE_NESTING {
                let (text, slots, here) = (self.text, self.slots, self.here + 1);
                let stack = vec![Frame::new(Kind::HereDocument)];
                let (glued, escaped) = (usize::MAX, false);
                Lexer { text, slots, contexts: self.contexts, at: start, end, stack, here, glued, escaped }.run();
            } else {
                self.refuse(start..end, Refusal::Nesting);
            }
            self.at = after;
        }
    }

    /// Where a body starts and ends, and where the script goes on; nothing when it has no end.
    fn body(&self, delimiter: &[u8], quoted: bool, strip: bool) -> Option<(usize, usize, usize)> {
        let (mut line, mut joined) = (self.at, false);
        while line < self.end {
            let stop = self.text[line..self.end].iter().position(|byte| *byte == b'\n').map_or(self.end, |n| line + n);
            let mut content = &self.text[line..stop];
            // A line that ends in a backslash goes on on the next, unless the delimiter was quoted.
            let joins = !quoted && content.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            while strip && content.first() == Some(&b'\t') {
                content = &content[1..];
            }
            if content == delimiter && !joined {
                return Some((self.at, line, (stop + 1).min(self.end)));
            }
            (line, joined) = (stop + 1, joins);
        }
        None
    }
}
