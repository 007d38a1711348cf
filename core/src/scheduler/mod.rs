//! (being written)

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
