//! The last lines of a log, made safe to show.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use laminar_core::secret::LARGEST;

use crate::mask::Mask;
use crate::text::visible;

/// How far back the last lines are looked for, in bytes.
const WINDOW: u64 = 32 * 1024;
/// The most characters of a line that are shown.
const WIDTH: usize = 240;

/// The end of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The last lines, without control characters.
    pub(crate) lines: Vec<String>,
    /// Whether there is more before them.
    pub(crate) more: bool,
}

/// The last lines of a file, at most so many. A file that does not exist has none.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn tail(path: &Path, most: usize, mask: &Mask) -> io::Result<Tail> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail { lines: Vec::new(), more: false }),
        file => file?,
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(WINDOW);
    // A secret may begin before.
    let before = start.saturating_sub(if mask.is_empty() { 0 } else { LARGEST });
    file.seek(SeekFrom::Start(before))?;
    let (mut ahead, mut bytes) = (Vec::new(), Vec::new());
    (&mut file).take(start - before).read_to_end(&mut ahead)?;
    file.take(WINDOW).read_to_end(&mut bytes)?;
    if !mask.is_empty() {
        let mut stream = mask.stream();
        drop(stream.next(&ahead));
        bytes = stream.next(&bytes).into_owned();
        bytes.extend(stream.end());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if text.is_empty() {
        return Ok(Tail { lines: Vec::new(), more: start > 0 });
    }
    let mut lines: Vec<&[u8]> = text.rsplitn(most + 1, |byte| *byte == b'\n').collect();
    let more = start > 0 || lines.len() > most;
    lines.truncate(most);
    let shown = |line: &&[u8]| visible::cut(&visible::text(line.strip_suffix(b"\r").unwrap_or(line)), WIDTH);
    Ok(Tail { lines: lines.iter().rev().map(shown).collect(), more })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tail_of(bytes: &[u8], most: usize) -> Tail {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        tail(&path, most, &Mask::default()).unwrap()
    }

    fn lines(lines: &[&str], more: bool) -> Tail {
        Tail { lines: lines.iter().map(ToString::to_string).collect(), more }
    }

    #[test]
    fn the_last_lines_come_in_their_order() {
        assert_eq!(tail_of(b"a\nb\nc\n", 2), lines(&["b", "c"], true));
        assert_eq!(tail_of(b"a\r\n\nunfinished", 5), lines(&["a", "", "unfinished"], false));
        assert_eq!(tail_of(b"", 5), lines(&[], false));
        assert_eq!(tail(Path::new("/does/not/exist"), 5, &Mask::default()).unwrap(), lines(&[], false));
    }

    #[test]
    fn a_flood_is_cut_and_controls_are_shown() {
        let mut bytes = vec![b'x'; 1_000_000];
        bytes.extend_from_slice(b"\n\x1b[31mred\n");
        let tail = tail_of(&bytes, 2);
        assert_eq!(tail.lines[0].chars().count(), WIDTH + 1);
        assert_eq!(tail.lines[1], "\\x1b[31mred");
        assert!(tail.more);
    }

    #[test]
    fn a_secret_is_hidden_before_anything_is_cut_off() {
        let secret = "x".repeat(WIDTH) + "-and-the-rest";
        let mask = Mask::new([secret.as_bytes()]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, format!("a {secret} b\n")).unwrap();
        assert_eq!(tail(&path, 5, &mask).unwrap(), lines(&["a *** b"], false));
        // Where the last lines begin in the middle of it.
        let rest = "y".repeat(WINDOW as usize - 20);
        std::fs::write(&path, format!("a {secret} {rest}\n")).unwrap();
        let told = tail(&path, 5, &mask).unwrap();
        assert!(told.lines[0].starts_with("*** yyy") && told.more, "{told:?}");
    }
}
