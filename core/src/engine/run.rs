//! What the engine is given, asked, and tells.

use std::sync::Arc;
use std::time::Duration;

use crate::datastore::{Datastore, DatastoreError};
use crate::event::{Event, Record};
use crate::executor::{Executor, ExecutorError, Session};
use crate::flow::Flow;
use crate::flow::template::Environment;
use crate::folder::ExecutionFolder;
use crate::id::{LayerId, Split};
use crate::plan::{Plan, Planned};
use crate::scheduler::{IllegalEvent, Limits, Progress};
use crate::secret::Secrets;
use crate::shares::Shares;
use crate::store::{EventLog, Runs, StoreError};

/// Everything that running an execution takes.
pub struct Run {
    /// The flow.
    pub flow: Arc<Flow>,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The flows whose place it took, the first before all others; each is aligned with the one before, as is the flow
    /// itself. Of an execution that was updated, or is: then the log names fewer updates than there are flows here.
    pub earlier: Vec<Planned>,
    /// What runs its tasks.
    pub executor: Arc<dyn Executor>,
    /// Where its artifacts go.
    pub datastore: Arc<dyn Datastore>,
    /// What was run before, for layers that are cached.
    pub runs: Arc<dyn Runs>,
    /// Where its events go. One that has events already is gone on with.
    pub store: Box<dyn EventLog>,
    /// Its folder.
    pub folder: ExecutionFolder,
    /// What runs again. Of an execution that is gone on with.
    pub again: Again,
    /// Where work is done that blocks.
    pub blocking: Blocking,
    /// What the executor is told of it.
    pub session: Session,
    /// What runs at the same time.
    pub limits: Limits,
    /// Those that share the machine with it, if it shares.
    pub shares: Option<Shares>,
    /// How long a task that is stopped has until it is forced.
    pub grace: Duration,
    /// The values of its secrets. A layer that is launched without those it wants fails.
    pub secrets: Secrets,
    /// The variables that expressions can name as `env.NAME`.
    pub environment: Environment,
}

/// What runs again though it has finished, with all that needs it.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// Whole layers that somebody has named.
    pub layers: Vec<LayerId>,
    /// Single splits of foreach layers.
    pub splits: Vec<Split>,
    /// The layers that an update has changed. They run again too, unless the cache has what they would leave.
    pub changed: Vec<LayerId>,
}

impl Again {
    /// All whole layers.
    #[must_use]
    pub fn whole(&self) -> Vec<LayerId> {
        [&self.layers[..], &self.changed].concat()
    }

    /// The event that says so. `update` is the number of the update, if it comes with one.
    #[must_use]
    pub fn event(&self, update: Option<u32>) -> Event {
        let Again { layers, splits, changed } = self.clone();
        Event::ExecutionResumed { again: layers, splits, changed, update }
    }
}

/// Where work is done that blocks: reading and writing artifacts.
#[derive(Clone, Default)]
pub enum Blocking {
    /// On threads of the runtime's.
    #[default]
    Threads,
    /// Where it is waited for, after a pause that this function tells. A simulation of virtual time is the same each time
    /// only if no thread takes part.
    Inline(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Blocking {
    /// Does it, and returns what comes of it. On a thread, what is begun is done, whether or not anybody waits for it.
    pub(super) fn run<T, W>(&self, work: W) -> impl Future<Output = T> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (inline, thread) = match self {
            Blocking::Inline(pause) => (Some((pause(), work)), None),
            Blocking::Threads => (None, Some(tokio::task::spawn_blocking(work))),
        };
        async move {
            match (inline, thread) {
                (Some((pause, work)), _) => {
                    tokio::time::sleep(pause).await;
                    work()
                }
                (None, Some(thread)) => match thread.await {
                    Ok(done) => done,
                    // The runtime never cancels blocking work; what is left is a panic, and it is ours.
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                (None, None) => unreachable!("work is done here or there"),
            }
        }
    }
}

/// What somebody outside asks of a running execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Stop gently: start nothing new, TERM, a grace, KILL.
    Cancel,
    /// Stop at once: KILL.
    Kill,
}

/// Is told what happens, after it was recorded. Called on the engine's thread: it must be quick and must not block.
pub trait Reporter {
    /// An event was recorded. `progress` is the state after it: an exit after which more layers have failed is the end
    /// of its layer.
    fn report(&mut self, record: &Record, progress: &Progress);

    /// An event that an earlier scheduler of the execution recorded, to be remembered, not told. All of them come before
    /// anything is reported.
    fn recall(&mut self, record: &Record, progress: &Progress) {
        let _ = (record, progress);
    }

    /// Something worth knowing that is no event: an engine that does not answer, say.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }
}

/// Why an execution could not go on. What was recorded stays; a failing layer is no error.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// What happens cannot be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Artifacts cannot be kept.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// The executor cannot begin.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The execution's folder cannot be used.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    File {
        /// What was tried, an imperative: "make".
        verb: &'static str,
        /// With what.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A layer that is to run again, or one that needs it, is under way.
    #[error("`{layer}` is under way, and reads what would change")]
    UnderWay {
        /// The layer that is under way.
        layer: Arc<str>,
    },
    /// The scheduler was told something impossible: a mistake in laminar or in an executor.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
}
