//! Copies bytes that nobody vouches for to standard output: as they are, or made visible where they would reach a
//! terminal.

use std::io::{self, Read};

use crate::error::Error;
use crate::mask::{self, Mask};
use crate::output::Output;
use crate::text::visible::Stream;

/// How much is copied at once.
const CHUNK: usize = 64 * 1024;

/// One stream of bytes on its way.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    mask: mask::Stream,
    visible: Stream,
    /// Whether the last byte ended a line, or there was none.
    unfinished: bool,
}

impl Transfer {
    /// One in which secrets are hidden.
    pub(crate) fn masked(mask: &Mask) -> Transfer {
        Transfer { mask: mask.stream(), ..Transfer::default() }
    }

    /// Copies everything that can be read now; says how much it was.
    ///
    /// # Errors
    /// What `unreadable` makes of an error of the reader, or that standard output cannot be written.
    pub(crate) fn copy(
        &mut self,
        reader: &mut dyn Read,
        output: &mut Output,
        unreadable: &dyn Fn(&io::Error) -> Error,
    ) -> Result<u64, Error> {
        let mut chunk = vec![0; CHUNK];
        let mut total = 0;
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(total),
                Ok(length) => {
                    self.pass(&chunk[..length], output)?;
                    total += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&error)),
            }
        }
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn end(&mut self, output: &mut Output) -> Result<(), Error> {
        let waited = self.mask.end();
        self.show(&waited, output)?;
        let rest = self.visible.end();
        output.print(&rest)
    }

    /// Whether the last line has no end.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    fn pass(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), Error> {
        let shown = self.mask.next(bytes);
        self.show(&shown, output)
    }

    fn show(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), Error> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.unfinished = last != &b'\n';
        if output.data_is_terminal() {
            let shown = self.visible.next(bytes);
            output.print(&shown)
        } else {
            Ok(output.data().write_all(bytes)?)
        }
    }
}
