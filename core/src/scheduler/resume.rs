//! What becomes of an execution that another scheduler goes on with.
//!
//! Finished splits stay finished, and what has a process, or left something that is not published yet, stays as it was:
//! whoever drives the scheduler finds out what became of it. What failed or was cancelled begins anew, with all its
//! attempts; only the numbers of attempts go on, since names derive from them, and the memory that attempts have grown to.
//! How many splits a layer has stays decided, and that it is skipped; it is asked anew if it runs again, or if nobody could
//! decide before.

use super::{
    Action, IllegalEvent, LONGEST_REST, Lane, LayerId, LayerProgress, Phase, Scheduler, SplitProgress, Stage, State,
};
use crate::event::Event;
use crate::id::{Attempt, Split};
use crate::plan::Plan;

impl Scheduler {
    /// A layer that is under way and needs one of these, or is one of them, under the flow of this update if there is one:
    /// they cannot run again now, since it could be reading what would change. So is one that the update takes out, and one
    /// of which one of these splits is under way itself, or that needs its layer.
    ///
    /// # Panics
    /// When there is no such layer or update.
    #[must_use]
    pub fn under_way(&self, again: &[LayerId], splits: &[Split], update: Option<u32>) -> Option<LayerId> {
        let next = update.map(|number| self.learnt(number).expect("the update is known"));
        let plan = next.map_or(&self.plan, |next| &next.plan);
        let again = downstream(plan, &with_dependants(plan, again, splits));
        if let Some(split) = splits.iter().find(|split| self.state(**split) == Some(State::Running)) {
            return Some(split.layer);
        }
        let is_gone = |id: LayerId| next.is_some_and(|next| next.flow.layer(id).retired);
        let is_touched = |id: LayerId| again[id.at()] || is_gone(id);
        self.ids().find(|id| is_touched(*id) && self.is_running(*id))
    }

    pub(super) fn resume(
        &mut self,
        again: &[LayerId],
        splits: &[Split],
        update: Option<u32>,
        event: &Event,
    ) -> Result<(), IllegalEvent> {
        let illegal = |found| IllegalEvent { event: format!("{event:?}"), found };
        let next = update.map(|number| self.learnt(number).cloned().ok_or(number)).transpose();
        let next = next.map_err(|number| illegal(format!("update {number} is not the next that is known")))?;
        let is_layer = |id: &LayerId| match &next {
            Some(next) => next.flow.layers.get(id.at()).is_some_and(|layer| !layer.retired),
            None => self.rules.get(id.at()).is_some_and(|rule| !rule.retired),
        };
        let mut named = again.iter().copied().chain(splits.iter().map(|split| split.layer));
        if let Some(unknown) = named.find(|id| !is_layer(id)) {
            return Err(illegal(format!("there is no layer {}", unknown.0)));
        }
        if let Some(layer) = self.under_way(again, splits, update) {
            return Err(illegal(format!("layer {} is under way", layer.0)));
        }
        if next.is_some() || !again.is_empty() || !splits.is_empty() {
            self.void_offers(None);
        }
        if let Some(next) = next {
            self.update(next);
        }
        self.ended = None;
        self.cancel = None;
        self.stopping = false;
        let again = downstream(&self.plan, &with_dependants(&self.plan, again, splits));
        for id in self.ids() {
            match self.layers[id.at()].phase {
                _ if again[id.at()] => self.close(id),
                // What was asked is asked anew, if only because it was cancelled meanwhile.
                Phase::Shut | Phase::Asked | Phase::Failed => self.close(id),
                Phase::Open => self.begin_anew(id),
                Phase::Skipped => {}
            }
        }
        for split in splits {
            self.run_again(*split);
        }
        self.line_up_anew();
        self.open_anew();
        self.wish_anew();
        Ok(())
    }

    /// A split that has settled waits again. One that is not there does not: its layer is decided anew.
    fn run_again(&mut self, split: Split) {
        let is_open = self.layers[split.layer.at()].phase == Phase::Open;
        if let Some(number) = self.number(split).filter(|_| is_open)
            && matches!(self.splits[number].stage, Stage::Settled(_))
        {
            self.rest_from_charges(number);
            self.place(number, Stage::Waiting);
        }
    }

    /// Splits that failed or were cancelled wait again. Those that are ready are recalled and sized once more: what was found
    /// out may not be so any more.
    fn begin_anew(&mut self, id: LayerId) {
        for number in self.layers[id.at()].numbers() {
            match self.splits[number].stage {
                Stage::Settled(State::Failed | State::Cancelled) => {
                    self.rest_from_charges(number);
                    self.place(number, Stage::Waiting);
                }
                Stage::Recalling | Stage::Sizing | Stage::Ready => self.place(number, self.first_stage(number)),
                _ => {}
            }
        }
    }

    /// The line holds those that are ready, and nobody else; their layers' places are held by those that are alive.
    fn line_up_anew(&mut self) {
        self.ready.clear();
        self.lanes.clear();
        for id in self.ids() {
            let numbers = self.layers[id.at()].numbers();
            if self.rules[id.at()].max_parallel.is_some() {
                let alive = self.splits[numbers.clone()].iter().filter(|split| split.stage.is_alive()).count();
                let alive = u32::try_from(alive).unwrap_or(u32::MAX);
                self.lanes.insert(id, Lane::of(alive));
            }
            for number in numbers {
                if self.splits[number].stage == Stage::Ready {
                    self.line_up(number);
                }
            }
        }
        // Only those that are alive are sized now.
        let splits = &self.splits;
        self.sizes.retain(|number, _| splits[*number as usize].stage.is_alive());
    }

    /// What layers wait for, from the stages of their splits alone; then whatever waits for nothing is ready.
    fn open_anew(&mut self) {
        for layer in &mut self.layers {
            let LayerProgress { first, splits, capacity, phase, .. } = *layer;
            let before = LayerProgress::new(false, first, 0);
            *layer = LayerProgress { open: 0, splits, capacity, phase, ..before };
            for split in &self.splits[layer.numbers()] {
                match split.stage {
                    Stage::Settled(state) => layer.note(state),
                    _ => layer.open += 1,
                }
            }
        }
        for id in self.ids() {
            let (mut waiting_for, mut bereft) = (0, false);
            for need in self.plan.needs(id) {
                let need = &self.layers[need.at()];
                waiting_for += u32::from(need.open > 0);
                bereft |= need.phase == Phase::Skipped;
            }
            let layer = &mut self.layers[id.at()];
            layer.waiting_for = waiting_for;
            layer.bereft = bereft;
        }
        for id in self.ids() {
            if self.layers[id.at()].waiting_for == 0 && self.enter(id) {
                self.go_on_after(id);
            }
        }
    }

    /// What follows from the state and is wished for only once, is wished for once more: what was done about it before is
    /// not known, and may be done again.
    fn wish_anew(&mut self) {
        self.wishes.clear();
        for id in self.ids() {
            let layer = &self.layers[id.at()];
            let retry = &self.rules[id.at()].retry;
            if layer.phase == Phase::Asked {
                self.wishes.push_back(Action::Open(id));
            }
            for SplitProgress { split, stage, launched, charged, .. } in &self.splits[layer.numbers()] {
                let (last, next) = [*launched, launched + 1].map(|number| Attempt { split: *split, number }).into();
                let wish = match stage {
                    Stage::Recalling => Action::Recall(*split),
                    Stage::Sizing => Action::Size(next),
                    Stage::Adopting { .. } => Action::Adopt(last),
                    Stage::Tired => {
                        let delay = retry.pause(*charged, LONGEST_REST);
                        Action::Rest { attempt: last, delay, jitter: retry.jitter }
                    }
                    _ => continue,
                };
                self.wishes.push_back(wish);
            }
        }
    }
}

/// These layers, and those that need the layers of these splits.
fn with_dependants(plan: &Plan, again: &[LayerId], splits: &[Split]) -> Vec<LayerId> {
    let dependants = splits.iter().filter(|split| split.layer.at() < plan.len());
    again.iter().copied().chain(dependants.flat_map(|split| plan.dependants(split.layer)).copied()).collect()
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
