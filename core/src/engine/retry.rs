//! Says why a layer is not tried again, and with how much memory it is. What is done is the scheduler's decision.

use super::Engine;
use crate::flow::Failure;
use crate::id::Attempt;
use crate::scheduler::State;

impl Engine<'_> {
    /// The memory of the attempt after this one, where it is more than the layer asks for.
    pub(super) fn grown_memory(&mut self, failed: Attempt) -> Option<u64> {
        let layer = self.flow.layer(failed.split.layer);
        let memory = self.scheduler.memory(failed.split)?;
        if memory.granted < memory.wanted {
            let (granted, wanted) = (size(memory.granted), size(memory.wanted));
            let notice =
                format!("`{}` gets {granted} of memory, not {wanted}: there is no more to share out", layer.name);
            self.group.notices.push(notice);
        }
        layer.container.memory.is_some_and(|base| base < memory.granted).then_some(memory.granted)
    }

    /// Says why an attempt that failed is the last, where there could have been another.
    pub(super) fn explain(&mut self, failed: Attempt, failure: Failure<'_>) {
        let layer = self.flow.layer(failed.split.layer);
        let last = self.scheduler.state(failed.split) == Some(State::Failed);
        if last && self.scheduler.has_attempts_left(failed.split) && !layer.retry.covers(failure) {
            let notice = format!("`{}` is not tried again: {failure} is not in its `retry.only`", layer.name);
            self.group.notices.push(notice);
        }
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
