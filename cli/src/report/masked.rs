//! Masks what is reported: whatever an event or a notice says, no secret is told.

use std::io;

use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::Record;

use crate::mask::Mask;
use crate::report::Report;

/// A reporter that is told nothing of secrets.
pub(crate) struct Masked {
    inner: Box<dyn Report>,
    mask: Mask,
}

impl Masked {
    /// This one, behind a mask, if there is anything to hide.
    pub(crate) fn over(inner: Box<dyn Report>, mask: &Mask) -> Box<dyn Report> {
        if mask.is_empty() { inner } else { Box::new(Masked { inner, mask: mask.clone() }) }
    }
}

impl Reporter for Masked {
    fn report(&mut self, record: &Record, progress: &Progress) {
        self.inner.report(&self.mask.record(record), progress);
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        self.inner.recall(&self.mask.record(record), progress);
    }

    fn notice(&mut self, text: &str) {
        self.inner.notice(&self.mask.text(text));
    }
}

impl Report for Masked {
    fn finish(&mut self) -> io::Result<()> {
        self.inner.finish()
    }
}
