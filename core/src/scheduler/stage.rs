//! Where a split stands.

use super::State;
use crate::id::Split;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SplitProgress {
    pub(super) split: Split,
    pub(super) stage: Stage,
    /// Launches so far.
    pub(super) launched: u32,
    /// Launches that failed and count against the user's retries.
    pub(super) charged: u32,
    /// Launches in a row whose end nobody knows.
    pub(super) lost: u32,
    /// Launches that were out of memory, and had got all that they were to have.
    pub(super) out_of_memory: u32,
    /// Whether the last launch got less memory than it was to have.
    pub(super) cut: bool,
}

impl SplitProgress {
    pub(super) fn new(split: Split) -> SplitProgress {
        SplitProgress { split, stage: Stage::Waiting, launched: 0, charged: 0, lost: 0, out_of_memory: 0, cut: false }
    }
}

/// Where a split stands. Finer than [`State`]: each variant is what the next event is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    /// It is looked for in the cache.
    Recalling,
    /// What its next attempt reserves is asked for.
    Sizing,
    Ready,
    Launched,
    Started,
    Adopting {
        caught: bool,
    },
    /// Failed, and the pause is not recorded yet.
    Tired,
    /// The pause is recorded.
    Resting,
    Settled(State),
}

impl Stage {
    pub(super) fn state(self) -> State {
        match self {
            Stage::Waiting => State::Waiting,
            Stage::Recalling | Stage::Sizing | Stage::Ready => State::Ready,
            Stage::Launched | Stage::Started | Stage::Adopting { .. } => State::Running,
            Stage::Tired | Stage::Resting => State::Resting,
            Stage::Settled(state) => state,
        }
    }

    /// Whether a process of it may be alive: it holds its share of the limits.
    pub(super) fn is_alive(self) -> bool {
        matches!(self, Stage::Launched | Stage::Started)
    }
}
