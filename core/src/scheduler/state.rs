//! The states of a split, and how many splits are in each.
//!
//! Words and counts only; what leads from one state to another is the scheduler's.

use crate::id::Split;

/// The state of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Something it needs has not settled.
    Waiting,
    /// It could start.
    Ready,
    /// An attempt is launched, runs, or has left outputs that are being adopted.
    Running,
    /// An attempt has failed; another follows after a delay.
    Resting,
    /// It exited with 0 and its artifacts are published.
    Finished,
    /// It did not run: its artifacts are those of an earlier, equal run.
    Cached,
    /// It was not to run.
    Skipped,
    /// It exited with a code that its `catch` names; its artifacts are published.
    Caught,
    /// Its last attempt failed.
    Failed,
    /// It was stopped, or never started because of a failure or a cancel.
    Cancelled,
}

impl State {
    /// The word for it, as it is stored and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Ready => "ready",
            State::Running => "running",
            State::Resting => "resting",
            State::Finished => "finished",
            State::Cached => "cached",
            State::Skipped => "skipped",
            State::Caught => "caught",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether it is over for good.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Waiting | State::Ready | State::Running | State::Resting)
    }
}

/// A split whose state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub split: Split,
    /// Its new state.
    pub state: State,
}

/// How many splits are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All of them.
    pub total: u32,
    /// See [`State::Waiting`].
    pub waiting: u32,
    /// See [`State::Ready`].
    pub ready: u32,
    /// See [`State::Running`].
    pub running: u32,
    /// See [`State::Resting`].
    pub resting: u32,
    /// See [`State::Finished`].
    pub finished: u32,
    /// See [`State::Cached`].
    pub cached: u32,
    /// See [`State::Skipped`].
    pub skipped: u32,
    /// See [`State::Caught`].
    pub caught: u32,
    /// See [`State::Failed`].
    pub failed: u32,
    /// See [`State::Cancelled`].
    pub cancelled: u32,
}

impl Progress {
    /// How many are settled.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.finished + self.cached + self.skipped + self.caught + self.failed + self.cancelled
    }

    /// The count of one state.
    pub(super) fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Waiting => &mut self.waiting,
            State::Ready => &mut self.ready,
            State::Running => &mut self.running,
            State::Resting => &mut self.resting,
            State::Finished => &mut self.finished,
            State::Cached => &mut self.cached,
            State::Skipped => &mut self.skipped,
            State::Caught => &mut self.caught,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        }
    }
}
