//! The flow that an execution has, read when it is first asked for: a large one takes its time.

use std::cell::OnceCell;

use laminar_core::plan::Planned;
use laminar_core::store::Creation;

use crate::load;

/// The newest flow of an execution. One that cannot be read any more costs what it would have told, nothing else.
pub(super) struct Newest<'a> {
    creation: &'a Creation,
    flow: OnceCell<Option<Planned>>,
}

impl<'a> Newest<'a> {
    pub(super) fn new(creation: &'a Creation) -> Newest<'a> {
        Newest { creation, flow: OnceCell::new() }
    }

    pub(super) fn get(&self) -> Option<&Planned> {
        self.flow.get_or_init(|| load::flows(self.creation).ok().and_then(|mut flows| flows.pop())).as_ref()
    }

    /// Whether a word stands anywhere in its text.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.creation.source_text.contains(word)
    }
}
