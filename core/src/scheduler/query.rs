//! What can be asked of a scheduler.

use super::{Change, IllegalEvent, Progress, Scheduler, SplitProgress, Stage, State};
use crate::event::{Event, Outcome};
use crate::id::{Attempt, LayerId, Split};

impl Scheduler {
    /// The splits whose state has changed since this was last asked, each with its last state. One that is not there any
    /// more, since its layer is decided anew, is told to wait.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// How many splits are in which state. A layer whose splits are not decided counts as one.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The state of one split; `None` when there is no such split. A layer whose splits are not decided has one.
    #[must_use]
    pub fn state(&self, split: Split) -> Option<State> {
        Some(self.splits[self.number(split)?].stage.state())
    }

    /// Whether this attempt may have a process: its exit is still to come.
    #[must_use]
    pub fn is_alive(&self, attempt: Attempt) -> bool {
        self.number(attempt.split).is_some_and(|number| {
            let split = &self.splits[number];
            split.launched == attempt.number && split.stage.is_alive()
        })
    }

    /// Whether a split rests, and the pause is on record: [`Event::RetryDue`] is still to come.
    #[must_use]
    pub fn is_resting(&self, split: Split) -> bool {
        self.number(split).is_some_and(|number| self.splits[number].stage == Stage::Resting)
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<Outcome> {
        self.ended
    }

    pub(super) fn outcome(&self) -> Outcome {
        let Progress { failed, cancelled, .. } = self.progress;
        if self.cancel.is_some() && failed + cancelled > 0 {
            Outcome::Cancelled
        } else if failed + cancelled > 0 {
            Outcome::Failed
        } else {
            Outcome::Finished
        }
    }

    /// Whether a split of a layer is under way.
    pub(super) fn is_running(&self, layer: LayerId) -> bool {
        let mut splits = self.splits[self.layers[layer.at()].numbers()].iter();
        splits.any(|split| split.stage.state() == State::Running)
    }

    /// All layers, also those that an update has taken out.
    pub(super) fn ids(&self) -> impl Iterator<Item = LayerId> + use<> {
        (0_u32..).map(LayerId).take(self.layers.len())
    }

    /// The place of a split.
    pub(super) fn number(&self, split: Split) -> Option<usize> {
        let layer = self.layers.get(split.layer.at())?;
        (split.index < layer.splits).then_some((layer.first + split.index) as usize)
    }

    pub(super) fn illegal(&self, split: Split, event: &Event) -> IllegalEvent {
        let found = match self.number(split) {
            Some(number) => {
                let SplitProgress { stage, launched, .. } = self.splits[number];
                format!("{stage:?} at attempt {launched}")
            }
            None => "there is no such split".to_owned(),
        };
        IllegalEvent { event: format!("{event:?}"), found }
    }
}
