//! The manifest of a folder artifact: the text that lists its entries, itself stored as an object.
//!
//! It is unaware of files on disk; bytes in, [`Entry`]s out, and back.
//!
//! The format, version 1, is made for reading with ordinary tools. One line each, ended by `\n`, fields separated by a
//! tab, in byte order of the paths:
//!
//! ```text
//! laminar-folder 1
//! folder  <path>
//! file    <path>  <digest>  <size>
//! link    <path>  <target>
//! ```
//!
//! Paths and targets are bytes. What is plain text stands for itself; all else is escaped: `\\`, `\n`, `\r`, `\t`, and
//! `\xhh` for each byte of anything that is not UTF-8, a control character, or a mark that turns the direction of text.
//!
//! Invariants: there is one text for each list of entries, and [`parse`] accepts no other. What it accepts cannot lead
//! out of the folder it is unpacked in: no path is absolute or has a `..`, the folder of every entry is listed before it
//! and is a folder, and every link ends at an entry of the same list.

use std::fmt::Write;

use super::links::{self, Place};
use super::{Digest, Entry, EntryKind};

/// The first line.
pub(super) const HEADER: &str = "laminar-folder 1\n";

/// The most components a path within the outputs may have.
pub(super) const MOST_COMPONENTS: usize = 256;

/// The longest path within the outputs in bytes: the kernel's 4096, less what a folder that holds a view may need.
pub(super) const LONGEST_PATH: usize = 3584;

/// The longest name of one component, and the longest target of a link, in bytes: the kernel's.
const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4095;

/// What is wrong with an entry, of which only its path is.
const NO_PATH: &str = "has a path that cannot be within a folder";

/// Appends the line of one entry.
pub(super) fn write_line(entry: &Entry, text: &mut String) {
    let path = escaped(&entry.path);
    // Writing to a string cannot fail.
    let _ = match &entry.kind {
        EntryKind::File { digest, size } => writeln!(text, "file\t{path}\t{digest}\t{size}"),
        EntryKind::Folder => writeln!(text, "folder\t{path}"),
        EntryKind::Link(target) => writeln!(text, "link\t{path}\t{}", escaped(target)),
    };
}

/// Reads a manifest. The error is a fragment that says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let body = text.strip_prefix(HEADER).ok_or_else(|| format!("it does not begin with `{}`", HEADER.trim_end()))?;
    let mut entries = Vec::new();
    let mut canonical = String::new();
    for (index, line) in body.split_inclusive('\n').enumerate() {
        let number = index + 2;
        let entry = parse_canonical(line, &mut canonical).map_err(|reason| format!("line {number} {reason}"))?;
        check_place(&entry, &entries).map_err(|reason| format!("line {number} {reason}"))?;
        entries.push(entry);
    }
    check_links(&entries)?;
    Ok(entries)
}

/// Reads one line by itself: whether it may follow others, and whether a link leads anywhere, is not looked at. The error is a
/// fragment that follows its number.
pub(super) fn parse_one(line: &[u8]) -> Result<Entry, String> {
    let line = str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let entry = parse_canonical(line, &mut String::new())?;
    if is_path(&entry.path) { Ok(entry) } else { Err(NO_PATH.to_owned()) }
}

fn parse_canonical(line: &str, canonical: &mut String) -> Result<Entry, &'static str> {
    let entry = parse_line(line).ok_or("is no entry")?;
    canonical.clear();
    write_line(&entry, canonical);
    if canonical == line { Ok(entry) } else { Err("is not written the one way it can be") }
}

/// The object and the size that a line names, if it is one of a file. Nothing else of the line is looked at.
pub(super) fn file_of(line: &[u8]) -> Option<(Digest, u64)> {
    let mut fields = str::from_utf8(line).ok()?.strip_suffix('\n')?.split('\t');
    if fields.next()? != "file" {
        return None;
    }
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.strip_suffix('\n')?.split('\t');
    let kind = fields.next()?;
    let path = unescaped(fields.next()?)?;
    let kind = match kind {
        "file" => {
            let digest: Digest = fields.next()?.parse().ok()?;
            EntryKind::File { digest, size: fields.next()?.parse().ok()? }
        }
        "folder" => EntryKind::Folder,
        "link" => EntryKind::Link(unescaped(fields.next()?)?),
        _ => return None,
    };
    fields.next().is_none().then_some(Entry { path, kind })
}

/// Whether the entry may follow the ones before it.
fn check_place(entry: &Entry, before: &[Entry]) -> Result<(), &'static str> {
    if !is_path(&entry.path) {
        return Err(NO_PATH);
    }
    if before.last().is_some_and(|last| last.path >= entry.path) {
        return Err("is out of order");
    }
    match find(before, links::parent(&entry.path)) {
        Some(Place::Folder) => Ok(()),
        _ => Err("is in a folder that is not listed"),
    }
}

fn check_links(entries: &[Entry]) -> Result<(), String> {
    for entry in entries {
        if let EntryKind::Link(target) = &entry.kind {
            let sound = !target.is_empty() && target.len() <= LONGEST_TARGET && !target.contains(&0);
            if !sound || links::resolve(links::parent(&entry.path), target, |path| find(entries, path)).is_err() {
                return Err(format!("link `{}` leads nowhere or out of the folder", escaped(&entry.path)));
            }
        }
    }
    Ok(())
}

/// What is at a path of sorted entries; the empty path is the folder itself.
fn find<'a>(entries: &'a [Entry], path: &[u8]) -> Option<Place<'a>> {
    if path.is_empty() {
        return Some(Place::Folder);
    }
    let at = entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()?;
    Some(match &entries[at].kind {
        EntryKind::File { .. } => Place::File,
        EntryKind::Folder => Place::Folder,
        EntryKind::Link(target) => Place::Link(target),
    })
}

/// Whether these bytes are a path that can be within a folder artifact.
pub(super) fn is_path(path: &[u8]) -> bool {
    let within = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= LONGEST_NAME && !part.contains(&0);
    is_kept(path) && path.split(|byte| *byte == b'/').all(within)
}

/// Whether a path is short and shallow enough to be kept.
pub(super) fn is_kept(path: &[u8]) -> bool {
    path.len() <= LONGEST_PATH && path.iter().filter(|byte| **byte == b'/').count() < MOST_COMPONENTS
}

/// Bytes as text on one line: plain text as it is, all else escaped, so that nothing is lost.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                plain if is_plain(plain) => text.push(plain),
                other => escape_bytes(other.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        escape_bytes(chunk.invalid(), &mut text);
    }
    text
}

fn escape_bytes(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Not a control character, and none of the marks that change how the text around them is shown.
fn is_plain(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !character.is_control() && !turns
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first()?;
        rest = after;
        bytes.push(match kind {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(entries: &[Entry]) -> String {
        let mut text = HEADER.to_owned();
        for entry in entries {
            write_line(entry, &mut text);
        }
        text
    }

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        Entry { path: path.to_vec(), kind }
    }

    fn file() -> EntryKind {
        EntryKind::File { digest: Digest { hash: [0xab; 32], executable: true }, size: 7 }
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let entries = [
            entry(b"a", EntryKind::Folder),
            entry(b"a-b \\", file()),
            entry(b"a/\xff\n", EntryKind::Link(b"../a-b \\".to_vec())),
        ];
        let hex = "ab".repeat(32);
        let text = format!("laminar-folder 1\nfolder\ta\nfile\ta-b \\\\\t{hex}+x\t7\nlink\ta/\\xff\\n\t../a-b \\\\\n");
        assert_eq!(write(&entries), text);
        assert_eq!(parse(text.as_bytes()).unwrap(), entries);
        assert_eq!(parse(HEADER.as_bytes()).unwrap(), []);
    }

    #[test]
    fn what_leads_out_is_not_accepted() {
        let link = |path: &[u8], target: &[u8]| entry(path, EntryKind::Link(target.to_vec()));
        let folder = |path: &[u8]| entry(path, EntryKind::Folder);
        let bad = [
            vec![entry(b"/etc", file())],
            vec![entry(b"..", file())],
            vec![folder(b"a"), entry(b"a/../b", file())],
            vec![folder(b"a"), entry(b"a//b", file())],
            vec![entry(b"", file())],
            vec![entry(b"a\0b", file())],
            vec![entry(b"a/b", file())],
            vec![entry(b"a", file()), entry(b"a/b", file())],
            vec![entry(b"b", file()), entry(b"a", file())],
            vec![entry(b"a", file()), entry(b"a", file())],
            vec![entry(&[b'n'; 256], file())],
            vec![link(b"l", b"/etc")],
            vec![link(b"l", b"")],
            vec![link(b"l", b"..")],
            vec![link(b"l", b"l")],
            vec![link(b"l", b"gone")],
            // A link through which another leads out, and an entry below a link.
            vec![folder(b"a"), folder(b"a/b"), link(b"l", b"a/b"), link(b"m", b"l/../../..")],
            vec![folder(b"a"), link(b"l", b"a"), entry(b"l/x", file())],
        ];
        for entries in bad {
            let text = write(&entries);
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn other_ways_to_write_the_same_are_not_accepted() {
        let hex = "ab".repeat(32);
        for body in [
            "folder\ta".to_owned(),
            "folder\t\\x61\n".to_owned(),
            "folder\ta\t\n".to_owned(),
            "folder\ta\r\n".to_owned(),
            "\n".to_owned(),
            format!("file\ta\t{hex}\t07\n"),
            format!("file\ta\t{hex}\t+7\n"),
            format!("file\ta\t{}\t7\n", hex.to_uppercase()),
            format!("file\ta\t{hex}\t18446744073709551616\n"),
            format!("file\ta\t{hex}\n"),
            "folder\t\\\n".to_owned(),
            "folder\t\\x\u{e9}\n".to_owned(),
        ] {
            assert!(parse(format!("{HEADER}{body}").as_bytes()).is_err(), "{body}");
        }
        assert!(parse(b"").is_err());
        assert!(parse(b"laminar-folder 2\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_survive_escaping(bytes: Vec<u8>) {
            let text = escaped(&bytes);
            prop_assert!(text.chars().all(|character| !character.is_control()));
            prop_assert_eq!(unescaped(&text), Some(bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_accepted_is_what_would_be_written(
            lines in prop::collection::vec("(folder|file|link)\t[ab.\\\\/x6]{0,6}(\t([ab./]{0,5}|(ab){32}(\\+x)?)(\t[0-9]{1,3})?)?\n?", 0..6),
        ) {
            let text = format!("{HEADER}{}", lines.concat());
            if let Ok(entries) = parse(text.as_bytes()) {
                prop_assert_eq!(write(&entries), text);
            }
        }

        #[test]
        fn what_is_written_is_accepted(names: std::collections::BTreeSet<Vec<u8>>) {
            let entries: Vec<Entry> = names.into_iter().filter(|name| is_path(name) && !name.contains(&b'/'))
                .map(|path| Entry { path, kind: file() }).collect();
            prop_assert_eq!(parse(write(&entries).as_bytes()), Ok(entries));
        }
    }
}
