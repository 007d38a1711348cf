//! Nothing new starts any more: somebody cancels, or a layer has failed.

use super::{Action, Force, Scheduler, SplitProgress, Stage, State};
use crate::id::Attempt;

impl Scheduler {
    pub(super) fn cancel(&mut self, force: Force) {
        if self.cancel == Some(Force::AtOnce) || self.cancel == Some(force) {
            return;
        }
        self.cancel = Some(force);
        self.stop_launching();
        for layer in &self.layers {
            for SplitProgress { split, stage, launched, .. } in &self.splits[layer.numbers()] {
                if stage.is_alive() {
                    let attempt = Attempt { split: *split, number: *launched };
                    self.wishes.push_back(Action::Stop { attempt, force: force == Force::AtOnce });
                }
            }
        }
    }

    /// Everything that has no process is cancelled. What was asked about it does not matter any more.
    pub(super) fn stop_launching(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.void_offers(None);
        self.ready.clear();
        self.lanes.values_mut().for_each(super::lane::Lane::clear);
        self.wishes.retain(|wish| matches!(wish, Action::Adopt(_) | Action::Stop { .. }));
        for at in 0..self.layers.len() {
            for number in self.layers[at].numbers() {
                if matches!(self.splits[number].stage.state(), State::Waiting | State::Ready | State::Resting) {
                    self.set(number, Stage::Settled(State::Cancelled));
                }
            }
        }
    }
}
