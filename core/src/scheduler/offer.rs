//! What is offered: a split that waits for nothing but one task goes to the executor before that is over, and starts the
//! moment it is, if it ends well and leaves nothing.
//!
//! An offer moves no split: it is launched like any other, once all that it needs has settled. But it may run by then, in the
//! place of the task that it came after, so it is launched before all that is ready. And it may have used the number that it
//! was offered with: that is the next to be launched, or no attempt's.

use std::cmp::Reverse;

use super::{IllegalEvent, Phase, Scheduler, SplitProgress, Stage};
use crate::event::Event;
use crate::id::{Attempt, LayerId, Split};

/// What is offered, and what something may be offered after.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// The places of splits that were launched, and of which nobody has looked yet what comes after them. No part of the log.
    fresh: Vec<u32>,
    /// The places of the splits that are offered.
    offered: Vec<u32>,
}

impl Offers {
    pub(super) fn has(&self, number: u32) -> bool {
        self.offered.contains(&number)
    }

    pub(super) fn take(&mut self, number: u32) {
        self.offered.retain(|other| *other != number);
    }

    /// A split was launched.
    pub(super) fn note(&mut self, number: u32) {
        self.fresh.push(number);
    }
}

impl Scheduler {
    /// An attempt to be offered, and the one after which it may start, if there is one: then say [`Event::AttemptOffered`].
    /// While anything else is ready or has gone ahead there is none, nor before the scheduler may [look ahead](Scheduler::look_ahead).
    pub fn next_offer(&mut self) -> Option<(Attempt, Attempt)> {
        while let Some(number) = self.offers.fresh.pop() {
            if self.stopping || self.is_crowded() || !self.ready.is_empty() {
                self.offers.fresh.clear();
            } else if let Some(next) = self.follower(number as usize) {
                let SplitProgress { split, launched, .. } = self.splits[number as usize];
                return Some((next, Attempt { split, number: launched }));
            }
        }
        None
    }

    /// Whether this attempt is offered, and not launched yet.
    #[must_use]
    pub fn is_offered(&self, attempt: Attempt) -> bool {
        self.number(attempt.split)
            .is_some_and(|number| self.offers.has(number as u32) && self.splits[number].launched + 1 == attempt.number)
    }

    pub(super) fn offered(&mut self, attempt: Attempt, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(attempt.split, event, Stage::Waiting)?;
        if self.stopping || self.splits[number].launched + 1 != attempt.number {
            return Err(self.illegal(attempt.split, event));
        }
        let number = number as u32;
        if !self.offers.has(number) {
            self.offers.offered.push(number);
        }
        Ok(())
    }

    /// Nothing that is offered is wanted any more, or nothing that needs this layer; but it may have begun.
    pub(super) fn void_offers(&mut self, need: Option<LayerId>) {
        let Scheduler { offers, splits, plan, .. } = self;
        offers.offered.retain(|number| {
            let split = &mut splits[*number as usize];
            let is_void = need.is_none_or(|need| plan.needs(split.split.layer).contains(&need));
            split.launched += u32::from(is_void);
            !is_void
        });
    }

    /// A task of this layer did not end well, or has left something, so nothing that was offered after it has begun.
    pub(super) fn drop_offers(&mut self, need: LayerId) {
        let Scheduler { offers, splits, plan, .. } = self;
        offers.offered.retain(|number| !plan.needs(splits[*number as usize].split.layer).contains(&need));
    }

    /// The split that is offered and can be launched now.
    pub(super) fn best_offered(&self) -> Option<u32> {
        let is_ready = |number: &u32| self.splits[*number as usize].stage == Stage::Ready;
        self.offers.offered.iter().copied().find(is_ready)
    }

    /// What would start first once this split has settled well, if it can be started without more ado.
    fn follower(&self, number: usize) -> Option<Attempt> {
        let SplitProgress { split: Split { layer: id, .. }, stage, .. } = self.splits[number];
        let layer = &self.layers[id.at()];
        if !stage.is_alive() || layer.open != 1 || layer.broken || !self.rules[id.at()].leads {
            return None;
        }
        let waits = |id: &LayerId| self.layers[id.at()].waiting_for == 1 && !self.layers[id.at()].broken;
        let waiting = self.plan.dependants(id).iter().copied().filter(waits);
        let first = waiting.max_by_key(|id| (self.plan.rank(*id), Reverse(*id)));
        let layer = first.filter(|id| self.may_follow(*id))?;
        let SplitProgress { split, launched, .. } = self.splits[self.layers[layer.at()].first as usize];
        Some(Attempt { split, number: launched + 1 })
    }

    fn may_follow(&self, id: LayerId) -> bool {
        let layer = &self.layers[id.at()];
        let waits = self.splits[layer.first as usize].stage == Stage::Waiting;
        self.rules[id.at()].follows && layer.phase == Phase::Open && !layer.bereft && waits
    }
}
