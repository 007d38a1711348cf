//! Another flow takes the place of the one before, when an execution is resumed.
//!
//! Layers keep their places, so what is known of those that stay is known on. New ones wait; those that are gone settle as
//! skipped, and wait again when a later flow has them once more. What that means for what each layer waits for is found by
//! resuming, which follows.

use super::{Change, LayerId, LayerProgress, Request, Scheduler, SplitProgress, Stage, State, jobs, rules};
use crate::plan::Planned;

impl Scheduler {
    /// Makes a flow known that takes the place of those before once an event says so.
    ///
    /// # Panics
    /// When it is not aligned with the one before: it has fewer layers.
    pub fn learn(&mut self, next: Planned) {
        let before = self.updates.last().map_or(self.layers.len(), |before| before.plan.len());
        assert!(next.plan.len() >= before && next.plan.len() == next.flow.layers.len(), "the flow is not aligned");
        self.updates.push(next);
    }

    /// How many updates have taken place.
    #[must_use]
    pub fn updated(&self) -> u32 {
        self.updated
    }

    /// The update of this number, if it is the next.
    pub(super) fn learnt(&self, number: u32) -> Option<&Planned> {
        let is_next = number.checked_sub(1) == Some(self.updated);
        self.updates.get(self.updated as usize).filter(|_| is_next)
    }

    pub(super) fn update(&mut self, next: Planned) {
        let was_retired: Vec<bool> = self.rules.iter().map(|rule| rule.retired).collect();
        self.updated += 1;
        self.rules = rules(&next.flow);
        self.on_failure = next.flow.on_failure;
        self.limits.jobs = jobs(&next.flow, self.most);
        for id in (0_u32..).map(LayerId).take(next.plan.len()).skip(self.layers.len()) {
            #[expect(clippy::cast_possible_truncation, reason = "as many as there are layers, and each has an id")]
            let first = self.splits.len() as u32;
            self.layers.push(LayerProgress { waiting_for: 0, open: 1, first, splits: 1, broken: false });
            self.splits.push(SplitProgress::new(id));
            self.progress.total += 1;
            self.progress.waiting += 1;
        }
        self.plan = next.plan;
        for number in 0..self.splits.len() {
            let layer = self.splits[number].split.layer.at();
            let was_retired = was_retired.get(layer).copied().unwrap_or(false);
            match (was_retired, self.rules[layer].retired) {
                (false, true) => self.place(number, Stage::Settled(State::Skipped)),
                (true, false) => {
                    self.splits[number].charged = 0;
                    self.splits[number].lost = 0;
                    self.place(number, Stage::Waiting);
                }
                _ => {}
            }
        }
        // What is reserved follows from the rules, also for those that run.
        self.used = Request::default();
        for number in 0..self.splits.len() {
            if self.splits[number].stage.is_alive() {
                let request = self.request(number);
                self.used.cpu_millis += request.cpu_millis;
                self.used.memory += request.memory;
            }
        }
    }

    /// A split of which no process is alive is put elsewhere; nothing follows but the counts.
    fn place(&mut self, number: usize, stage: Stage) {
        let SplitProgress { split, stage: before, .. } = self.splits[number];
        self.splits[number].stage = stage;
        if before.state() != stage.state() {
            *self.progress.of(before.state()) -= 1;
            *self.progress.of(stage.state()) += 1;
            self.changes.push(Change { split, state: stage.state() });
        }
    }
}
