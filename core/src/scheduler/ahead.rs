//! What may be launched before there is a place for it: whoever runs it has it wait for one, so that no time passes between
//! the end of one task and the start of the next.
//!
//! Only what would be next in any case goes ahead. What a task releases has a shorter path to the end than the task itself; so
//! a split whose path is no more than one shorter than the longest of those that are alive comes before all that they release.

use std::collections::BTreeMap;

use super::{Request, Scheduler};

/// How many may go ahead, and the ranks of those that are alive.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    many: u32,
    /// How many of those that are alive have which rank.
    ranks: BTreeMap<u32, u32>,
}

impl Ahead {
    /// Whether any may.
    pub(super) fn looks(&self) -> bool {
        self.many > 0
    }

    /// One of this rank is alive.
    pub(super) fn enter(&mut self, rank: u32) {
        *self.ranks.entry(rank).or_default() += 1;
    }

    /// One of this rank is not any more.
    pub(super) fn leave(&mut self, rank: u32) {
        let many = self.ranks.entry(rank).or_default();
        *many = many.saturating_sub(1);
        if *many == 0 {
            self.ranks.remove(&rank);
        }
    }
}

impl Scheduler {
    /// How many attempts may be launched beyond the places there are. No part of the log.
    pub fn look_ahead(&mut self, many: u32) {
        self.ahead.many = many;
    }

    /// How many tasks may be alive at once.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.limits.jobs
    }

    /// Whether more is launched than there are places.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.alive > self.limits.jobs
    }

    /// The split to launch now that waits for a place elsewhere, if one may.
    pub(super) fn best_ahead(&self) -> Option<u32> {
        if self.alive >= self.limits.jobs.saturating_add(self.ahead.many) {
            return None;
        }
        let longest = self.ahead.ranks.last_key_value().map_or(0, |(rank, _)| *rank);
        let number = self.ready.best_of_rank(longest.saturating_sub(1))?;
        // What reserves something must wait until it is there, not for a place.
        (self.request(number as usize) == Request::default()).then_some(number)
    }

    /// The plan is another one.
    pub(super) fn rank_anew(&mut self) {
        self.ahead.ranks.clear();
        for split in self.splits.iter().filter(|split| split.stage.is_alive()) {
            self.ahead.enter(self.plan.rank(split.split.layer));
        }
    }
}
