//! Attends one task from its start to its exit, and tells the loop. An executor's `Err` is never taken for an exit: what
//! became of the task is asked again, with longer and longer pauses, until the executor knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::News;
use crate::executor::{Cause, Executor, ExecutorError, Exit, Handle, Recovered, Task, Usage};
use crate::id::{Attempt, TaskId};

/// The first and the longest pause before an executor that did not answer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How often a stop that failed is repeated.
const STOPS: u32 = 10;

/// How far a task's start has got: what a stop must wait for, since an executor is never asked to stop what it was not
/// asked to start, nor in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preparing,
    /// It was stopped before it was started: it never will be.
    Withdrawn,
    Starting,
    Started,
}

/// Whether somebody has asked an executor for a task before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nobody has.
    No,
    /// An earlier scheduler was about to.
    Perhaps,
    /// It was started.
    Yes,
}

/// Lets stops wait for a task's start.
#[derive(Clone)]
pub(super) struct Gate {
    stage: watch::Sender<Stage>,
    /// Whether it is to be stopped.
    unwanted: Arc<AtomicBool>,
}

impl Gate {
    pub(super) fn new(begun: Begun) -> Gate {
        let stage = if begun == Begun::No { Stage::Preparing } else { Stage::Starting };
        Gate { stage: watch::Sender::new(stage), unwanted: Arc::default() }
    }

    /// Whether the stage was `from`, and now is `to`.
    fn pass(&self, from: Stage, to: Stage) -> bool {
        self.stage.send_if_modified(|stage| {
            let passes = *stage == from;
            if passes {
                *stage = to;
            }
            passes
        })
    }

    /// Waits until the task was started; `false` when it never will be.
    async fn started(&self) -> bool {
        self.unwanted.store(true, Ordering::Relaxed);
        if self.pass(Stage::Preparing, Stage::Withdrawn) {
            return false;
        }
        let mut stage = self.stage.subscribe();
        let stage = stage.wait_for(|stage| *stage != Stage::Starting).await.map(|stage| *stage);
        matches!(stage, Ok(Stage::Started))
    }

    /// Withdraws a task that was not started yet, if somebody waits to stop it.
    fn withdraw(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed) && self.pass(Stage::Starting, Stage::Withdrawn)
    }
}

pub(super) struct Attendant {
    pub(super) attempt: Attempt,
    pub(super) begun: Begun,
    pub(super) gate: Gate,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) inbox: UnboundedSender<News>,
}

impl Attendant {
    pub(super) async fn attend(self, task: Arc<Task>) {
        let mut pause = PAUSES.0;
        let mut found = match self.begun {
            Begun::No if !self.gate.pass(Stage::Preparing, Stage::Starting) => {
                return self.end(Cause::Cancelled, "stopped before it was started");
            }
            Begun::No => Recovered::NeverStarted,
            Begun::Perhaps | Begun::Yes => self.ask(&task, &mut pause).await,
        };
        if found == Recovered::NeverStarted && self.begun != Begun::Yes {
            if self.gate.withdraw() {
                return self.end_after(&task, Cause::Cancelled, "stopped before it was started");
            }
            let started = self.executor.start(Arc::clone(&task)).await;
            self.gate.pass(Stage::Starting, Stage::Started);
            found = match started {
                Ok(handle) => Recovered::Running(handle),
                Err(error) => {
                    let found = self.ask_after(&task, &error, &mut pause).await;
                    if found == Recovered::NeverStarted {
                        return self.end_after(&task, Cause::NotStarted, &error.to_string());
                    }
                    found
                }
            };
        }
        self.gate.pass(Stage::Starting, Stage::Started);
        let mut told = self.begun == Begun::Yes;
        loop {
            let handle = match found {
                Recovered::Running(handle) | Recovered::Exited(handle) => handle,
                Recovered::Gone | Recovered::NeverStarted => {
                    return self.end_after(&task, Cause::Lost, "the executor knows of no such task any more");
                }
            };
            if !told {
                self.tell(News::Started(self.attempt, handle.clone()));
                told = true;
            }
            match self.executor.wait(&handle).await {
                Ok(exit) => return self.tell(News::Exited(self.attempt, exit, Some(handle))),
                Err(error) => found = self.ask_after(&task, &error, &mut pause).await,
            }
        }
    }

    /// The task is over, and the executor was never asked for it.
    pub(super) fn end(&self, cause: Cause, why: &str) {
        let exit = Exit { cause, evidence: why.to_owned(), usage: Usage::default() };
        self.tell(News::Exited(self.attempt, exit, None));
    }

    /// The task is over, and it was not its process that said so. Something of it may be there all the same, a container that
    /// was made and not started, say; so the executor is told to forget it, by its name.
    fn end_after(&self, task: &Task, cause: Cause, why: &str) {
        let exit = Exit { cause, evidence: why.to_owned(), usage: Usage::default() };
        let handle = Handle { task: task.id.clone(), token: String::new() };
        self.tell(News::Exited(self.attempt, exit, Some(handle)));
    }

    /// Asks what became of the task after an error, until the executor answers.
    async fn ask_after(&self, task: &Arc<Task>, error: &ExecutorError, pause: &mut Duration) -> Recovered {
        self.tell(News::Notice(format!("{}: {error}", task.id.name())));
        self.rest(pause).await;
        self.ask(task, pause).await
    }

    /// Asks what became of the task, until the executor answers.
    async fn ask(&self, task: &Arc<Task>, pause: &mut Duration) -> Recovered {
        loop {
            match self.executor.recover(Arc::clone(task)).await {
                Ok(found) => return found,
                Err(error) => self.tell(News::Notice(format!("{}: {error}; asking again", task.id.name()))),
            }
            self.rest(pause).await;
        }
    }

    async fn rest(&self, pause: &mut Duration) {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(PAUSES.1);
    }

    fn tell(&self, news: News) {
        // Nobody listens once the loop has given up.
        let _ = self.inbox.send(news);
    }
}

/// A task that may be stopped.
#[derive(Clone)]
pub(super) struct Stoppable {
    pub(super) task: TaskId,
    pub(super) gate: Gate,
}

impl Stoppable {
    /// Stops the task; its exit arrives through its attendant.
    pub(super) async fn stop(self, executor: Arc<dyn Executor>, grace: Duration, inbox: UnboundedSender<News>) {
        if !self.gate.started().await {
            return;
        }
        let mut pause = PAUSES.0;
        for _ in 0..STOPS {
            match executor.stop(&self.task, grace).await {
                Ok(()) => return,
                Err(error) => {
                    let _ = inbox.send(News::Notice(format!("cannot stop {}: {error}", self.task.name())));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
