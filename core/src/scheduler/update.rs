//! Another flow takes the place of the one before, when an execution is resumed.
//!
//! Layers keep their places, so what is known of those that stay is known on. New ones wait; those that are gone settle as
//! skipped, and wait again when a later flow has them once more. What that means for what each layer waits for is found by
//! resuming, which follows.

use super::{LayerId, LayerProgress, Phase, Request, Scheduler, SplitProgress, Stage, State, jobs, rules};
use crate::id::Split;
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
        let before = std::mem::replace(&mut self.rules, rules(&next.flow));
        self.updated += 1;
        self.on_failure = next.flow.on_failure;
        self.limits.jobs = jobs(&next.flow, self.most);
        for id in (0_u32..).map(LayerId).take(next.plan.len()).skip(self.layers.len()) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "as many as there are layers and splits, and each has an id"
            )]
            let first = self.splits.len() as u32;
            self.layers.push(LayerProgress::new(self.rules[id.at()].asks(), first, 0));
            self.splits.push(SplitProgress::new(Split { layer: id, index: 0 }));
            self.progress.total += 1;
            self.progress.waiting += 1;
        }
        self.plan = next.plan;
        self.rank_anew();
        for (id, before) in (0_u32..).map(LayerId).zip(&before) {
            let after = &self.rules[id.at()];
            let is_reshaped = (after.when, after.foreach) != (before.when, before.foreach);
            match (before.retired, after.retired) {
                (false, true) => self.retire(id),
                (true, false) => self.close(id),
                // Such a layer runs again, and so it is asked anew anyway; but what it is must fit in any case.
                (false, false) if is_reshaped && !self.is_running(id) => self.close(id),
                _ => {}
            }
        }
        // What is reserved follows from the rules, also for those that run.
        self.used = Request::default();
        for id in self.ids() {
            for number in self.layers[id.at()].numbers() {
                if self.splits[number].stage.is_alive() {
                    let request = self.request(number);
                    self.used.cpu_millis += request.cpu_millis;
                    self.used.memory += request.memory;
                }
            }
        }
    }

    /// A layer is no longer part of the flow. What its splits left stays theirs.
    fn retire(&mut self, id: LayerId) {
        self.layers[id.at()].phase = Phase::Skipped;
        for number in self.layers[id.at()].numbers() {
            self.place(number, Stage::Settled(State::Skipped));
        }
    }
}
