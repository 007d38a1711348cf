//! Makes text safe to show: what would move the cursor, colour the screen or turn the direction of writing becomes
//! visible as an escape (`\x1b`, `\r`, `\u{202e}`). Tabs and newlines stay; `\r\n` is a newline.

use std::fmt::Write;

use serde::Serialize;

/// The text with everything invisible made visible. Bytes that are not UTF-8 become `\xff`.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(character) = characters.next() {
            if character == '\r' && characters.peek() == Some(&'\n') {
                continue;
            }
            push(&mut shown, character);
        }
        for byte in chunk.invalid() {
            push_byte(&mut shown, *byte);
        }
    }
    shown
}

/// The text on one line: newlines and tabs are made visible too.
pub(crate) fn line(line: &str) -> String {
    text(line.as_bytes()).replace('\n', "\\n").replace('\t', "\\t")
}

/// A value as JSON that does nothing to a terminal either: what is invisible is escaped as JSON has it, which programs read as
/// the same. `pretty`: over several lines.
pub(crate) fn json(value: &impl Serialize, pretty: bool) -> serde_json::Result<String> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }?;
    if text.is_ascii() {
        return Ok(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if !is_hidden(character) {
            shown.push(character);
            continue;
        }
        // Only strings have such characters in them.
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Ok(shown)
}

/// A text that was drawn with colours, and maybe what else: only the colours stay.
pub(crate) fn but_colours(drawn: &str) -> String {
    let mut shown = String::with_capacity(drawn.len());
    let mut rest = drawn;
    while let Some(at) = rest.find('\x1b') {
        shown.push_str(&text(&rest.as_bytes()[..at]));
        let inner = rest[at + 1..].strip_prefix('[').unwrap_or_default();
        let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(inner.len());
        let length = if inner[end..].starts_with('m') { end + 3 } else { 0 };
        match length {
            0 => push_byte(&mut shown, b'\x1b'),
            length => shown.push_str(&rest[at..at + length]),
        }
        rest = &rest[at + length.max(1)..];
    }
    shown.push_str(&text(rest.as_bytes()));
    shown
}

/// At most so many characters, with `…` where something was cut off.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn push(shown: &mut String, character: char) {
    match character {
        '\n' | '\t' => shown.push(character),
        '\r' => shown.push_str("\\r"),
        '\0'..='\x1f' | '\x7f' => push_byte(shown, character as u8),
        _ if is_hidden(character) => {
            let _ = write!(shown, "{}", character.escape_unicode());
        }
        _ => shown.push(character),
    }
}

/// C1 controls, and everything that turns or hides text; not the joiners, which scripts and emoji are written with.
fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn push_byte(shown: &mut String, byte: u8) {
    let _ = write!(shown, "\\x{byte:02x}");
}

/// The same for a stream: a character that is cut by the end of a chunk waits for the next one.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    rest: Vec<u8>,
}

impl Stream {
    /// The next chunk, made visible.
    pub(crate) fn next(&mut self, chunk: &[u8]) -> String {
        self.rest.extend_from_slice(chunk);
        let complete = self.rest.len() - incomplete(&self.rest);
        let shown = text(&self.rest[..complete]);
        self.rest.drain(..complete);
        shown
    }

    /// What still waits, when nothing more comes.
    pub(crate) fn end(&mut self) -> String {
        text(&std::mem::take(&mut self.rest))
    }
}

/// How many bytes at the end may be the beginning of something: a character, or `\r\n`.
fn incomplete(bytes: &[u8]) -> usize {
    if bytes.last() == Some(&b'\r') {
        return 1;
    }
    (1..=bytes.len().min(3)).find(|back| width(bytes[bytes.len() - back]) > *back).unwrap_or(0)
}

/// How long the character is that begins with this byte; 0 for a byte that begins none.
fn width(byte: u8) -> usize {
    match byte {
        0x00..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(text(b"plain \xc3\xa9 text\n\tindented\r\n"), "plain é text\n\tindented\n");
        assert_eq!(text(b"\x1b[31mred\x1b[0m"), "\\x1b[31mred\\x1b[0m");
        assert_eq!(text(b"10%\r20%"), "10%\\r20%");
        assert_eq!(text(b"\x00\x07\x7f\xff\xc3"), "\\x00\\x07\\x7f\\xff\\xc3");
        assert_eq!(text("a\u{202e}b\u{9b}c\u{feff}".as_bytes()), "a\\u{202e}b\\u{9b}c\\u{feff}");
        assert_eq!(text("a\u{ad}b\u{206a}c\u{fff9}d\u{e0041}".as_bytes()), "a\\u{ad}b\\u{206a}c\\u{fff9}d\\u{e0041}");
        assert_eq!(text("👩\u{200d}🔬 می\u{200c}خواهم".as_bytes()), "👩\u{200d}🔬 می\u{200c}خواهم");
        assert_eq!(line("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn json_says_the_same_and_shows_nothing_else() {
        let value = serde_json::json!({ "a\u{202e}": "\u{1b}[2J é \u{9b}\u{e0041}" });
        for pretty in [false, true] {
            let text = json(&value, pretty).unwrap();
            assert!(text.contains("a\\u202e") && text.contains("\\u001b[2J é \\u009b\\udb40\\udc41"), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn of_what_was_drawn_only_colours_stay() {
        let drawn = "\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;x\x07 \x1b[31";
        assert_eq!(but_colours(drawn), "\x1b[1;31mred\x1b[0m \\x1b[2J\\x1b]0;x\\x07 \\x1b[31");
        assert_eq!(but_colours("\x1b"), "\\x1b");
    }

    #[test]
    fn a_stream_shows_what_the_whole_would() {
        let whole = "é€🦀\r\n\u{1b}[0m end\r".as_bytes();
        for size in 1..whole.len() {
            let mut stream = Stream::default();
            let mut shown: String = whole.chunks(size).map(|chunk| stream.next(chunk)).collect();
            shown.push_str(&stream.end());
            assert_eq!(shown, text(whole), "in chunks of {size}");
        }
    }

    #[test]
    fn a_stream_does_not_wait_for_what_cannot_come() {
        let mut stream = Stream::default();
        assert_eq!(stream.next(b"password: "), "password: ");
        assert_eq!(stream.next(b"\xff\x80\x80\x80"), "\\xff\\x80\\x80\\x80");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "ééé…");
    }
}
