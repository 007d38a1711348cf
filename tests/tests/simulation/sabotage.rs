//! Faults that no weather has: parts of the world that break their promises. The simulation must notice each; see `main.rs`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// `recover` says of everything that it never started.
    RecoverKnowsNothing,
    /// `recover` says of everything that it is gone.
    RecoverGivesUp,
    /// `stop` returns before the task is over.
    StopOnlyAsks,
    /// `remove` removes nothing.
    RemoveKeeps,
    /// The log loses one of the events that it has taken.
    LogLosesAnEvent,
    /// What is adopted is not what was left.
    AdoptsOtherBytes,
    /// A view shows one artifact less.
    ViewLacksOne,
    /// The cache tells of one split what another has left.
    CacheMixesUp,
}

impl Sabotage {
    pub(crate) const ALL: [Sabotage; 8] = [
        Sabotage::RecoverKnowsNothing,
        Sabotage::RecoverGivesUp,
        Sabotage::StopOnlyAsks,
        Sabotage::RemoveKeeps,
        Sabotage::LogLosesAnEvent,
        Sabotage::AdoptsOtherBytes,
        Sabotage::ViewLacksOne,
        Sabotage::CacheMixesUp,
    ];
}
