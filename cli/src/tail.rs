//! The last lines of a log, made safe to show.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

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
pub(crate) fn tail(path: &Path, most: usize) -> io::Result<Tail> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail { lines: Vec::new(), more: false }),
        file => file?,
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
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
        tail(&path, most).unwrap()
    }

    fn lines(lines: &[&str], more: bool) -> Tail {
        Tail { lines: lines.iter().map(ToString::to_string).collect(), more }
    }

    #[test]
    fn the_last_lines_come_in_their_order() {
        assert_eq!(tail_of(b"a\nb\nc\n", 2), lines(&["b", "c"], true));
        assert_eq!(tail_of(b"a\r\n\nunfinished", 5), lines(&["a", "", "unfinished"], false));
        assert_eq!(tail_of(b"", 5), lines(&[], false));
        assert_eq!(tail(Path::new("/does/not/exist"), 5).unwrap(), lines(&[], false));
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
}
