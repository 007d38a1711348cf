//! What becomes of an execution that another scheduler goes on with.
//!
//! Finished splits stay finished, and what has a process, or left something that is not published yet, stays as it was:
//! whoever drives the scheduler finds out what became of it. What failed or was cancelled begins anew, with all its
//! attempts; only the numbers of attempts go on, since names derive from them, and the memory that attempts have grown to.

use super::{Action, IllegalEvent, LONGEST_REST, LayerId, LayerProgress, Scheduler, Stage, State};
use crate::event::Event;
use crate::id::Attempt;
use crate::plan::Plan;

impl Scheduler {
    /// A layer that is under way and needs one of these, or is one of them, under the flow of this update if there is one:
    /// they cannot run again now, since it could be reading what would change. So is one that the update takes out.
    ///
    /// # Panics
    /// When there is no such layer or update.
    #[must_use]
    pub fn under_way(&self, again: &[LayerId], update: Option<u32>) -> Option<LayerId> {
        let next = update.map(|number| self.learnt(number).expect("the update is known"));
        let again = downstream(next.map_or(&self.plan, |next| &next.plan), again);
        let is_gone = |id: LayerId| next.is_some_and(|next| next.flow.layer(id).retired);
        let is_touched = |id: LayerId| again[id.at()] || is_gone(id);
        let mut splits = self.splits.iter();
        let busy = splits.find(|split| split.stage.state() == State::Running && is_touched(split.split.layer));
        busy.map(|split| split.split.layer)
    }

    pub(super) fn resume(&mut self, again: &[LayerId], update: Option<u32>, event: &Event) -> Result<(), IllegalEvent> {
        let illegal = |found| IllegalEvent { event: format!("{event:?}"), found };
        let next = update.map(|number| self.learnt(number).cloned().ok_or(number)).transpose();
        let next = next.map_err(|number| illegal(format!("update {number} is not the next that is known")))?;
        let is_layer = |id: &LayerId| match &next {
            Some(next) => next.flow.layers.get(id.at()).is_some_and(|layer| !layer.retired),
            None => self.rules.get(id.at()).is_some_and(|rule| !rule.retired),
        };
        if let Some(unknown) = again.iter().find(|id| !is_layer(id)) {
            return Err(illegal(format!("there is no layer {}", unknown.0)));
        }
        if let Some(layer) = self.under_way(again, update) {
            return Err(illegal(format!("layer {} is under way", layer.0)));
        }
        if let Some(next) = next {
            self.update(next);
        }
        self.ended = None;
        self.cancel = None;
        self.stopping = false;
        let again = downstream(&self.plan, again);
        for number in 0..self.splits.len() {
            let split = &mut self.splits[number];
            let again = again[split.split.layer.at()];
            match split.stage {
                Stage::Settled(State::Failed | State::Cancelled) => {}
                Stage::Settled(_) | Stage::Tired | Stage::Resting | Stage::Ready if again => {}
                _ => continue,
            }
            split.charged = 0;
            split.lost = 0;
            self.set(number, Stage::Waiting);
        }
        self.line_up_anew();
        self.open_anew();
        self.wish_anew();
        Ok(())
    }

    /// The line holds those that are ready, and nobody else.
    fn line_up_anew(&mut self) {
        self.ready.clear();
        for (number, split) in (0..).zip(&self.splits).filter(|(_, split)| split.stage == Stage::Ready) {
            self.ready.push(number, self.plan.rank(split.split.layer), self.request(number as usize));
        }
    }

    /// What layers wait for, from the stages of their splits alone; then whatever waits for nothing is ready.
    fn open_anew(&mut self) {
        for layer in &mut self.layers {
            *layer = LayerProgress { open: 0, waiting_for: 0, broken: false, ..layer.clone() };
        }
        for split in self.splits.iter().filter(|split| !split.stage.state().is_settled()) {
            self.layers[split.split.layer.at()].open += 1;
        }
        let ids = (0_u32..).map(LayerId).take(self.layers.len());
        for id in ids.clone() {
            let open = self.plan.needs(id).iter().filter(|need| self.layers[need.at()].open > 0).count();
            self.layers[id.at()].waiting_for = u32::try_from(open).unwrap_or(u32::MAX);
        }
        for id in ids {
            if self.layers[id.at()].waiting_for == 0 {
                self.open_layer(id);
            }
        }
    }

    /// What follows from the state and is wished for only once, is wished for once more: what was done about it before is
    /// not known, and may be done again.
    fn wish_anew(&mut self) {
        self.wishes.clear();
        for split in &self.splits {
            let attempt = Attempt { split: split.split, number: split.launched };
            match split.stage {
                Stage::Adopting { .. } => self.wishes.push_back(Action::Adopt(attempt)),
                Stage::Tired => {
                    let retry = &self.rules[split.split.layer.at()].retry;
                    let delay = retry.pause(split.charged, LONGEST_REST);
                    self.wishes.push_back(Action::Rest { attempt, delay, jitter: retry.jitter });
                }
                _ => {}
            }
        }
    }
}

/// These layers and all that need them, directly or not: a flag for each layer of the plan.
fn downstream(plan: &Plan, of: &[LayerId]) -> Vec<bool> {
    let mut flags = vec![false; plan.len()];
    let mut stack = of.to_vec();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut flags[id.at()], true) {
            stack.extend(plan.dependants(id));
        }
    }
    flags
}
