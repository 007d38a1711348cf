//! The line: tasks that were asked for and wait for a place, in the order in which they were asked for.
//!
//! It is closed by a task that ends badly, until that task is removed: whoever asked for the tasks may not want any more of
//! them then. Beside it stand the tasks that are offered: each takes the place of one task, if that ends well. All of it is
//! its scheduler's, and ends with the connection. Unaware of processes and frames.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

/// A task that waits.
pub(super) struct Waiting {
    /// The request that asked for it.
    pub(super) seq: u32,
    pub(super) name: Box<str>,
    /// How many tasks may be alive once it is.
    pub(super) places: u64,
    /// The rest of the request.
    pub(super) body: Box<[u8]>,
}

/// A task that is offered.
pub(super) struct Offered {
    pub(super) name: Box<str>,
    /// The task whose place it takes.
    pub(super) after: Box<str>,
    /// What that one must have left as it was.
    pub(super) outputs: PathBuf,
    /// What it is, as in a request to start it.
    pub(super) body: Box<[u8]>,
}

/// The tasks that wait.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    offered: Vec<Offered>,
    closed_by: HashSet<Box<str>>,
}

impl Line {
    /// Whether a task with so many places can start now, before all that wait, when so many are alive.
    pub(super) fn is_needless(&self, places: u64, alive: usize) -> bool {
        self.waiting.is_empty() && self.closed_by.is_empty() && (alive as u64) < places
    }

    /// A task waits.
    pub(super) fn join(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// The next whose turn it is, when so many are alive.
    pub(super) fn next(&mut self, alive: usize) -> Option<Waiting> {
        let may = self.closed_by.is_empty() && (alive as u64) < self.waiting.front()?.places;
        may.then(|| self.waiting.pop_front()).flatten()
    }

    /// A task is offered.
    pub(super) fn offer(&mut self, offered: Offered) {
        self.retract(&offered.name);
        self.offered.push(offered);
    }

    /// A task is not offered any more.
    pub(super) fn retract(&mut self, name: &str) {
        self.offered.retain(|offered| &*offered.name != name);
    }

    /// A task is over: what takes its place, if it ended well and nothing else waits for one.
    pub(super) fn follow(&mut self, name: &str, well: bool) -> Option<Offered> {
        let at = self.offered.iter().position(|offered| &*offered.after == name)?;
        let offered = self.offered.swap_remove(at);
        (well && self.closed_by.is_empty() && self.waiting.is_empty()).then_some(offered)
    }

    /// Takes a task out that does not want to wait any more, and what is offered of it.
    pub(super) fn leave(&mut self, name: &str) -> Option<Waiting> {
        self.retract(name);
        let at = self.waiting.iter().position(|waiting| &*waiting.name == name)?;
        self.waiting.remove(at)
    }

    /// A task has ended badly.
    pub(super) fn close(&mut self, name: &str) {
        self.closed_by.insert(name.into());
    }

    /// A task is removed, however it ended.
    pub(super) fn reopen(&mut self, name: &str) {
        self.closed_by.remove(name);
    }

    /// Whoever asked for all of them is gone.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.offered.clear();
        self.closed_by.clear();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the scheduler must hear at once of what ends now, since what waits does not fill the places for long.
    pub(super) fn is_short(&self) -> bool {
        let places = self.waiting.front().map_or(1, |next| next.places);
        (self.waiting.len() as u64) < places || !self.closed_by.is_empty()
    }
}
