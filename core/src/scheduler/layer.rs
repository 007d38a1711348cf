//! Layers: when their splits are decided, when they are skipped, and what follows once they have settled.
//!
//! A layer without `when` and `foreach` has one split from the start. One that asks stands for one split that waits, until
//! everything that it needs has settled well and it is opened: then it has as many as it is said to have. A layer follows
//! when something that it needs was skipped as a whole, unless it has a `when`.

use std::ops::Range;
use std::sync::Arc;

use super::{Action, Change, IllegalEvent, Scheduler, SplitProgress, Stage, State};
use crate::each::Each;
use crate::event::Event;
use crate::id::{LayerId, Split};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerProgress {
    /// Needs that have not settled well.
    pub(super) waiting_for: u32,
    /// Splits that have not settled.
    pub(super) open: u32,
    /// The place of its first split in [`Scheduler::splits`].
    pub(super) first: u32,
    /// How many splits it has.
    pub(super) splits: u32,
    /// How many places are its own: as many as it has ever had splits. What is known of those beyond `splits` is the
    /// numbers of their attempts, which are not used twice.
    pub(super) capacity: u32,
    pub(super) phase: Phase,
    /// Whether a split of it failed or was cancelled: nothing that needs it will run.
    pub(super) broken: bool,
    /// Whether something that it needs was skipped as a whole.
    pub(super) bereft: bool,
    /// Whether a split of it was caught.
    pub(super) caught: bool,
    /// Whether a split of it ran.
    pub(super) ran: bool,
}

/// What is decided of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// How many splits it has is asked only once everything that it needs has settled well.
    Shut,
    /// It is wished for that somebody decides.
    Asked,
    /// It has its splits.
    Open,
    /// Skipped as a whole.
    Skipped,
    /// Nobody could decide.
    Failed,
}

impl LayerProgress {
    /// Of a layer of which nothing has happened.
    pub(super) fn new(asks: bool, first: u32, waiting_for: u32) -> LayerProgress {
        LayerProgress {
            waiting_for,
            open: 1,
            first,
            splits: 1,
            capacity: 1,
            phase: Phase::before(asks),
            broken: false,
            bereft: false,
            caught: false,
            ran: false,
        }
    }

    /// The places of its splits.
    pub(super) fn numbers(&self) -> Range<usize> {
        self.first as usize..self.first as usize + self.splits as usize
    }

    /// A split of it has settled.
    pub(super) fn note(&mut self, state: State) {
        self.caught |= state == State::Caught;
        self.ran |= matches!(state, State::Caught | State::Finished);
    }
}

impl Phase {
    /// Of a layer of which nothing has happened.
    pub(super) fn before(asks: bool) -> Phase {
        if asks { Phase::Shut } else { Phase::Open }
    }
}

impl Scheduler {
    /// How many splits a layer has; `None` while that is not decided, and of a layer that was skipped as a whole.
    #[must_use]
    pub fn splits(&self, layer: LayerId) -> Option<u32> {
        let layer = self.layers.get(layer.at())?;
        (layer.phase == Phase::Open).then_some(layer.splits)
    }

    /// The values of a layer's splits; `None` while they are not decided, and of a layer without `foreach`.
    #[must_use]
    pub fn each(&self, layer: LayerId) -> Option<&Arc<Each>> {
        self.each.get(&layer)
    }

    /// The state of a whole layer. One that has settled well is skipped, cached if all of its splits are, caught if one of
    /// them is, or else finished, also if it has no split at all. One that has not is failed or cancelled as soon as a
    /// split of it is; or else it waits, or it runs.
    ///
    /// # Panics
    /// When there is no such layer.
    #[must_use]
    pub fn layer_state(&self, layer: LayerId) -> State {
        let layer = &self.layers[layer.at()];
        let mut splits = layer.numbers().map(|number| self.splits[number].stage);
        match layer.phase {
            Phase::Skipped => State::Skipped,
            Phase::Failed => State::Failed,
            _ if layer.broken && splits.any(|stage| stage == Stage::Settled(State::Failed)) => State::Failed,
            _ if layer.broken => State::Cancelled,
            Phase::Shut | Phase::Asked => State::Waiting,
            Phase::Open if layer.waiting_for > 0 => State::Waiting,
            Phase::Open if layer.open > 0 => State::Running,
            Phase::Open if layer.caught => State::Caught,
            Phase::Open if layer.ran || layer.splits == 0 => State::Finished,
            Phase::Open => State::Cached,
        }
    }

    /// It was asked, and this is the answer.
    pub(super) fn opened(&mut self, id: LayerId, splits: u32, each: Option<&Arc<Each>>) -> Result<(), String> {
        self.expect_asked(id)?;
        let foreach = self.rules[id.at()].foreach;
        let said = each.map_or(Some(1), |each| each.splits());
        if each.is_some() != foreach || said != Some(splits) {
            return Err(format!("it has no {splits} splits"));
        }
        let total = self.progress.total - 1;
        let places = u32::try_from(self.splits.len()).ok().and_then(|all| all.checked_add(splits));
        let (Some(total), Some(_)) = (total.checked_add(splits), places) else {
            return Err(format!("{splits} more splits are too many"));
        };
        self.progress.total = total;
        self.progress.waiting = self.progress.waiting - 1 + splits;
        if let Some(each) = each {
            self.each.insert(id, Arc::clone(each));
        }
        self.make_room(id, splits);
        let layer = &mut self.layers[id.at()];
        layer.splits = splits;
        layer.open = splits;
        layer.phase = Phase::Open;
        for number in layer.numbers() {
            self.begin(number);
        }
        if splits == 0 {
            self.go_on_after(id);
        }
        Ok(())
    }

    pub(super) fn skipped(&mut self, id: LayerId) -> Result<(), String> {
        let number = self.expect_asked(id)?;
        self.layers[id.at()].phase = Phase::Skipped;
        self.set(number, Stage::Settled(State::Skipped));
        Ok(())
    }

    pub(super) fn could_not_open(&mut self, id: LayerId) -> Result<(), String> {
        let number = self.expect_asked(id)?;
        self.layers[id.at()].phase = Phase::Failed;
        self.set(number, Stage::Settled(State::Failed));
        Ok(())
    }

    /// The place of the split that stands for a layer which is asked.
    fn expect_asked(&self, id: LayerId) -> Result<usize, String> {
        let layer = self.layers.get(id.at()).ok_or("there is no such layer")?;
        let number = layer.first as usize;
        if layer.phase == Phase::Asked && self.splits[number].stage == Stage::Waiting {
            Ok(number)
        } else {
            Err(format!("{:?} with {} splits", layer.phase, layer.splits))
        }
    }

    /// Whether a layer was asked, and cancelled before there was an answer.
    pub(super) fn is_given_up(&self, id: LayerId) -> bool {
        self.layers.get(id.at()).is_some_and(|layer| {
            let stage = self.splits[layer.first as usize].stage;
            layer.phase == Phase::Asked && stage == Stage::Settled(State::Cancelled)
        })
    }

    /// A layer has places for so many splits, each of which waits. Where they move, what is known of them moves too.
    fn make_room(&mut self, id: LayerId, splits: u32) {
        let LayerProgress { first, capacity, .. } = self.layers[id.at()];
        if splits <= capacity {
            return;
        }
        let end = self.splits.len();
        let mut from = first as usize;
        if from + capacity as usize != end {
            self.splits.reserve(splits as usize);
            self.splits.extend_from_within(from..from + capacity as usize);
            from = end;
        }
        let new = (capacity..splits).map(|index| SplitProgress::new(Split { layer: id, index }));
        self.splits.extend(new);
        let layer = &mut self.layers[id.at()];
        #[expect(clippy::cast_possible_truncation, reason = "it was looked at that there are not too many")]
        let first = from as u32;
        layer.first = first;
        layer.capacity = splits;
    }

    /// A layer is what it was before anything happened, but for what is known of its attempts. No process of it is alive.
    pub(super) fn close(&mut self, id: LayerId) {
        let asks = self.rules[id.at()].asks();
        let layer = &mut self.layers[id.at()];
        layer.phase = Phase::before(asks);
        let numbers = layer.numbers();
        let first = numbers.start;
        let had = std::mem::replace(&mut layer.splits, 1);
        self.each.remove(&id);
        if had == 0 {
            self.progress.total += 1;
            self.progress.waiting += 1;
        }
        for number in numbers {
            self.rest_from_charges(number);
            self.place(number, Stage::Waiting);
        }
        let beyond = had.saturating_sub(1);
        self.progress.total -= beyond;
        self.progress.waiting -= beyond;
        debug_assert_eq!(self.splits[first].stage, Stage::Waiting, "places that are not in use wait");
    }

    /// A split has all its retries again.
    pub(super) fn rest_from_charges(&mut self, number: usize) {
        self.splits[number].charged = 0;
        self.splits[number].lost = 0;
    }

    /// A split is put elsewhere, of which no process is alive; nothing follows but the counts.
    pub(super) fn place(&mut self, number: usize, stage: Stage) {
        let SplitProgress { split, stage: before, .. } = self.splits[number];
        self.splits[number].stage = stage;
        if before.state() != stage.state() {
            *self.progress.of(before.state()) -= 1;
            *self.progress.of(stage.state()) += 1;
            self.changes.push(Change { split, state: stage.state() });
        }
    }

    /// What follows once a layer has settled well. Not recursive: a chain of layers that are skipped may be a million long.
    pub(super) fn go_on_after(&mut self, settled: LayerId) {
        let mut others = Vec::new();
        let mut next = Some(settled);
        while let Some(id) = next {
            let is_skipped = self.layers[id.at()].phase == Phase::Skipped;
            for at in 0..self.plan.dependants(id).len() {
                let dependant = self.plan.dependants(id)[at];
                let layer = &mut self.layers[dependant.at()];
                layer.waiting_for -= 1;
                layer.bereft |= is_skipped;
                if layer.waiting_for == 0 && self.enter(dependant) {
                    others.push(dependant);
                }
            }
            next = others.pop();
        }
    }

    /// Everything that a layer needs has settled well. Says whether it has itself settled by that: then others follow.
    pub(super) fn enter(&mut self, id: LayerId) -> bool {
        let layer = &self.layers[id.at()];
        let rule = &self.rules[id.at()];
        let numbers = layer.numbers();
        // One that has its splits decided has decided not to follow.
        if layer.bereft && !rule.when && (layer.phase == Phase::Shut || !rule.foreach) {
            return self.follow(id);
        }
        match layer.phase {
            Phase::Shut if self.splits[numbers.start].stage == Stage::Waiting => {
                self.layers[id.at()].phase = Phase::Asked;
                self.wishes.push_back(Action::Open(id));
            }
            Phase::Open => {
                for number in numbers {
                    if self.splits[number].stage == Stage::Waiting {
                        self.begin(number);
                    }
                }
            }
            _ => {}
        }
        false
    }

    /// A layer is skipped since something that it needs was. Says whether it has settled by that.
    fn follow(&mut self, id: LayerId) -> bool {
        let mut settles = false;
        for number in self.layers[id.at()].numbers() {
            if self.splits[number].stage == Stage::Waiting {
                self.place(number, Stage::Settled(State::Skipped));
                self.layers[id.at()].open -= 1;
                settles = true;
            }
        }
        let layer = &mut self.layers[id.at()];
        if settles {
            layer.phase = Phase::Skipped;
        }
        settles && layer.open == 0
    }

    /// Everything downstream of a broken layer will not run. Not recursive: a chain may be a million layers long.
    pub(super) fn cancel_dependants(&mut self, broken: LayerId) {
        let mut stack = vec![broken];
        while let Some(id) = stack.pop() {
            for at in 0..self.plan.dependants(id).len() {
                let dependant = self.plan.dependants(id)[at];
                if self.layers[dependant.at()].broken {
                    continue;
                }
                self.layers[dependant.at()].broken = true;
                stack.push(dependant);
                self.cancel_waiting(dependant);
            }
        }
    }

    fn cancel_waiting(&mut self, id: LayerId) {
        for number in self.layers[id.at()].numbers() {
            if self.splits[number].stage == Stage::Waiting {
                // Not through `set`, which would come back here.
                self.place(number, Stage::Settled(State::Cancelled));
                self.layers[id.at()].open -= 1;
            }
        }
    }

    pub(super) fn illegal_of(&self, result: Result<(), String>, event: &Event) -> Result<(), IllegalEvent> {
        result.map_err(|found| IllegalEvent { event: format!("{event:?}"), found })
    }
}
