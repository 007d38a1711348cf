//! How much more of a task's output is kept.

use std::io::{self, Write};

/// The room in a log. Whoever writes the log does so through it.
#[derive(Debug)]
pub struct LogRoom {
    limit: u64,
    left: u64,
    beyond: u64,
}

impl LogRoom {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> LogRoom {
        LogRoom { limit, left: limit, beyond: 0 }
    }

    /// What of this output is to be written: mostly all of it. When it is more than there is room for, what fits; and, once, a
    /// line that says that the log ends here.
    #[inline]
    fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], Option<String>) {
        let length = bytes.len() as u64;
        if length <= self.left {
            self.left -= length;
            return (bytes, None);
        }
        self.overflow(bytes)
    }

    /// Writes what is to be written of this output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, into: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let (kept, end) = self.take(bytes);
        into.write_all(kept)?;
        end.map_or(Ok(()), |line| into.write_all(line.as_bytes()))
    }

    #[cold]
    fn overflow<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], Option<String>) {
        // As there are more bytes than room, the room is a place among them.
        let (kept, beyond) = bytes.split_at(usize::try_from(self.left).unwrap_or(bytes.len()));
        let is_first = self.beyond == 0;
        self.left = 0;
        self.beyond += beyond.len() as u64;
        let line = || {
            let open = if kept.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
            format!(
                "{open}laminar: the limit of this log is reached ({} bytes); what follows is not kept\n",
                self.limit
            )
        };
        (kept, is_first.then(line))
    }

    /// How much was left out, if any, as a sentence for an exit's evidence.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let (limit, beyond) = (self.limit, self.beyond);
        let text = || format!("the log ends at its limit of {limit} bytes; {beyond} more were printed and not kept");
        (beyond > 0).then(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept_and_the_end_is_told_once() {
        let mut room = LogRoom::new(8);
        assert_eq!(room.take(b"12345"), (&b"12345"[..], None));
        assert_eq!(room.take(b"678"), (&b"678"[..], None));
        assert_eq!(room.told(), None, "exactly as much as it may be");
        let (kept, line) = room.take(b"9");
        assert_eq!(kept, b"");
        assert!(line.is_some_and(|line| line.starts_with("laminar: the limit of this log is reached (8 bytes)")));
        assert_eq!(room.take(b"10"), (&b""[..], None));
        assert_eq!(
            room.told().as_deref(),
            Some("the log ends at its limit of 8 bytes; 3 more were printed and not kept")
        );
    }

    #[test]
    fn the_line_that_tells_is_one_of_its_own() {
        let mut room = LogRoom::new(2);
        let (kept, line) = room.take(b"123");
        assert_eq!(kept, b"12");
        assert!(line.is_some_and(|line| line.starts_with("\nlaminar: ") && line.ends_with('\n')));
    }
}
