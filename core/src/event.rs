//! What has happened in an execution. Facts, past tense; the log of them is the truth about an execution.
//!
//! An event knows dense ids only, and no time: the store adds when it was written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheKey, Origin};
use crate::datastore::Artifact;
use crate::each::Each;
use crate::executor::{Exit, Handle};
use crate::id::{Attempt, LayerId, Split};

/// A fact. Replaying the events of an execution through [`crate::scheduler::Scheduler::apply`] gives its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// What a layer needs has settled, and how many splits it has is decided. Of layers that ask: that have a `when` or a
    /// `foreach`.
    LayerOpened {
        /// Which layer.
        layer: LayerId,
        /// How many splits it has; zero is a layer that has finished.
        splits: u32,
        /// Their values, where it has a `foreach`; without one it has one split.
        each: Option<Arc<Each>>,
    },
    /// Its `when` said no.
    LayerSkipped {
        /// Which layer.
        layer: LayerId,
    },
    /// Its `when` or `foreach` cannot be evaluated: it has failed before it had splits.
    LayerFailed {
        /// Which layer.
        layer: LayerId,
        /// Why, as a sentence fragment.
        reason: String,
    },
    /// What an attempt to come reserves is known. Of layers whose cores or memory are expressions.
    AttemptSized {
        /// Which attempt.
        attempt: Attempt,
        /// Cores in thousandths; 0: nothing is asked for.
        cpu_millis: u64,
        /// Memory in bytes; 0: nothing is asked for.
        memory: u64,
    },
    /// What a split does was not found in the cache: it will run.
    SplitKeyed {
        /// Which split.
        split: Split,
        /// What it was looked for by.
        key: CacheKey,
    },
    /// It was found: the split does not run, and its artifacts are those of an earlier, equal run.
    SplitCached {
        /// Which split.
        split: Split,
        /// What it was found by.
        key: CacheKey,
        /// Who left the artifacts.
        from: Origin,
        /// What it has, by name, in byte order.
        artifacts: Vec<Artifact>,
    },
    /// An attempt was offered to the executor, which starts it the moment a task is over that it waits for: see
    /// [`crate::executor::Executor::offer`]. Recorded before that, since its process may exist before it is launched.
    AttemptOffered {
        /// Which attempt.
        attempt: Attempt,
        /// The number of the folder it will write its outputs to.
        outputs: u32,
    },
    /// An attempt is about to be started. Recorded before its process exists, unless it was offered.
    AttemptLaunched {
        /// Which attempt.
        attempt: Attempt,
        /// The number of the folder it writes its outputs to (see [`crate::folder::ExecutionFolder::outputs`]).
        outputs: u32,
        /// The memory that it gets in bytes, where that is less than what it has grown to: all that there was. Should it be
        /// out of it, nothing is known of more, and memory grows no further.
        #[serde(default)]
        memory: Option<u64>,
    },
    /// The executor has started it.
    AttemptStarted {
        /// Which attempt.
        attempt: Attempt,
        /// The executor's own handle on it.
        handle: Handle,
    },
    /// Its process is over. Recorded before its outputs are adopted.
    AttemptExited {
        /// Which attempt.
        attempt: Attempt,
        /// How it ended.
        exit: Exit,
    },
    /// Its artifacts are in the datastore. Recorded before anything that needs them starts.
    AttemptPublished {
        /// Which attempt.
        attempt: Attempt,
        /// What it left, by name, in byte order.
        artifacts: Vec<Artifact>,
    },
    /// It exited well, but what it left cannot be published; the attempt has failed.
    AttemptRejected {
        /// Which attempt.
        attempt: Attempt,
        /// Why, as a sentence fragment.
        reason: String,
    },
    /// A failed attempt will be followed by another after a delay.
    RetryScheduled {
        /// The attempt that failed.
        attempt: Attempt,
        /// The delay in milliseconds, jitter included.
        delay_ms: u64,
        /// The memory of the attempt to come in bytes, where it is more than the layer asks for. Told, not decided, here: it
        /// follows from the attempts before.
        memory: Option<u64>,
    },
    /// The delay is over.
    RetryDue {
        /// The split that may run again.
        split: Split,
    },
    /// Somebody asked the execution to stop.
    CancelRequested {
        /// Whether processes are killed at once, without a grace.
        force: bool,
    },
    /// Every layer has settled.
    ExecutionEnded {
        /// How it ended.
        outcome: Outcome,
    },
    /// Another scheduler goes on with the execution, after the first died or the execution ended. What had failed or was
    /// cancelled runs again.
    ExecutionResumed {
        /// Layers that run again with all that need them, although they had finished.
        again: Vec<LayerId>,
        /// Splits that run again, with all that needs their layers.
        #[serde(default)]
        splits: Vec<Split>,
        /// Layers that the update has changed. They run again too, with all that need them; but what ran before with the same
        /// key is welcome.
        #[serde(default)]
        changed: Vec<LayerId>,
        /// The number of the update, from 1, if another flow takes the place of the one before.
        update: Option<u32>,
    },
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every layer finished, or was cached, caught or skipped.
    Finished,
    /// At least one layer failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl Outcome {
    /// The word for it, as it is stored and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// An event with its place in the log and the time it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// Milliseconds since 1970 (UTC), by the clock of the machine that wrote it. Never used to order events.
    pub at_ms: i64,
    /// What happened.
    pub event: Event,
}
