//! What a failed attempt means for the next: whether there is one, after which pause, with how much memory.
//!
//! All of it follows from the events before, so a replay gives the same.

use super::ready::Request;
use super::{Action, LONGEST_REST, Memory, Scheduler, SplitProgress, Stage, State};
use crate::executor::Cause;
use crate::flow::Failure;
use crate::id::{Attempt, Split};

impl Scheduler {
    /// The memory of a split's attempt that runs or comes next; `None` when its layer asks for none, or it is not sized yet.
    #[must_use]
    pub fn memory(&self, split: Split) -> Option<Memory> {
        let number = self.number(split)?;
        let wanted = self.wanted(number);
        (wanted > 0).then(|| Memory { granted: self.request(number).memory, wanted })
    }

    /// The cores, in thousandths, of a split's attempt that runs or comes next; 0 when its layer asks for none, or it is not
    /// sized yet.
    #[must_use]
    pub fn cpu_millis(&self, split: Split) -> u64 {
        self.number(split).map_or(0, |number| self.request(number).cpu_millis)
    }

    /// Whether the split could have been tried more often.
    #[must_use]
    pub fn has_attempts_left(&self, split: Split) -> bool {
        let attempts = |number: usize| self.splits[number].charged < self.rules[split.layer.at()].retry.attempts;
        self.number(split).is_some_and(attempts)
    }

    /// What an attempt of this split reserves. More than there is would wait for ever, so what has grown is cut, and so is
    /// what was found out when nobody could look at it beforehand.
    pub(super) fn request(&self, number: usize) -> Request {
        let Request { cpu_millis, memory } = self.base(number);
        let (most, cpu_millis) = if self.rules[self.splits[number].split.layer.at()].sized {
            (self.limits.memory, cpu_millis.min(self.limits.cpu_millis))
        } else {
            (self.limits.memory.max(memory), cpu_millis)
        };
        Request { cpu_millis, memory: self.wanted(number).min(most) }
    }

    /// What an attempt of this split is said to reserve, whatever the attempts before it had.
    fn base(&self, number: usize) -> Request {
        let rule = &self.rules[self.splits[number].split.layer.at()];
        if !rule.sized {
            return rule.request;
        }
        self.sizes.get(&(number as u32)).copied().unwrap_or_default()
    }

    /// The memory that an attempt of this split is to have; zero when nothing is said.
    fn wanted(&self, number: usize) -> u64 {
        let SplitProgress { split, out_of_memory, .. } = self.splits[number];
        self.rules[split.layer.at()].retry.memory_after(self.base(number).memory, out_of_memory)
    }

    /// A failed attempt: either another one follows, or the split has failed.
    pub(super) fn charge(&mut self, number: usize, attempt: Attempt, failure: Failure<'_>) {
        let retry = &self.rules[attempt.split.layer.at()].retry;
        let split = &mut self.splits[number];
        split.charged += 1;
        split.lost = 0;
        if self.stopping || split.charged >= retry.attempts || !retry.covers(failure) {
            self.set(number, Stage::Settled(State::Failed));
        } else {
            let delay = retry.pause(split.charged, LONGEST_REST);
            self.wishes.push_back(Action::Rest { attempt, delay, jitter: retry.jitter });
            self.set(number, Stage::Tired);
        }
        // Only now: what the attempt had reserved is given back. It counts on when the execution is resumed. What was never
        // granted was not too little: that is told by the log, since the limits may be others by now.
        let split = &mut self.splits[number];
        if failure == Failure::Exit(&Cause::OutOfMemory) && !split.cut {
            split.out_of_memory += 1;
        }
    }
}
