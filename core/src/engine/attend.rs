//! Attends one task from its start to its exit, and tells the loop. An executor's `Err` is never taken for an exit: what
//! became of the task is asked again, with longer and longer pauses, until the executor knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::order::Order;
use super::{News, Remains};
use crate::executor::{Cause, Executor, ExecutorError, Exit, Recovered, Task, Usage};
use crate::id::{Attempt, TaskId};

/// The first and the longest pause before an executor that did not answer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How often a task is started whose engine was away.
const STARTS: u32 = 10;

/// How often a stop that failed is repeated.
const STOPS: u32 = 10;

/// What is said of a task that was stopped in time.
const WITHDRAWN: &str = "stopped before it was started";

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
    /// An earlier scheduler was about to, or it was offered.
    Perhaps,
    /// It was started.
    Yes,
}

/// Lets stops wait for a task's start.
#[derive(Clone)]
pub(super) struct Gate(Arc<Place>);

/// Whoever waits is woken in the order in which they came, which a `watch` of tokio's does not promise.
struct Place {
    stage: Mutex<Stage>,
    changed: Notify,
    /// Whether it is to be stopped.
    unwanted: AtomicBool,
}

impl Gate {
    pub(super) fn new(begun: Begun) -> Gate {
        let stage = if begun == Begun::No { Stage::Preparing } else { Stage::Starting };
        Gate(Arc::new(Place { stage: Mutex::new(stage), changed: Notify::new(), unwanted: AtomicBool::new(false) }))
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the stage was `from`, and now is `to`.
    fn pass(&self, from: Stage, to: Stage) -> bool {
        let mut stage = self.stage();
        let passes = *stage == from;
        if passes {
            *stage = to;
            self.0.changed.notify_waiters();
        }
        passes
    }

    /// Whether the task will never be started, since nobody has been asked for it yet.
    pub(super) fn keep_back(&self) -> bool {
        self.pass(Stage::Preparing, Stage::Withdrawn)
    }

    /// Waits until the task was started; `false` when it never will be.
    async fn started(&self) -> bool {
        self.0.unwanted.store(true, Ordering::Relaxed);
        if self.keep_back() {
            return false;
        }
        loop {
            // Before the look, so that no change is missed.
            let changed = self.0.changed.notified();
            match *self.stage() {
                Stage::Started => return true,
                Stage::Withdrawn => return false,
                Stage::Preparing | Stage::Starting => {}
            }
            changed.await;
        }
    }

    /// Whether a task that did not start may be started again: nobody has asked to stop it. Who asks from now on waits.
    fn again(&self) -> bool {
        let mut stage = self.stage();
        let is_wanted = !self.0.unwanted.load(Ordering::Relaxed);
        if is_wanted {
            *stage = Stage::Starting;
        }
        is_wanted
    }

    /// Withdraws a task that was not started yet, if somebody waits to stop it.
    fn withdraw(&self) -> bool {
        self.0.unwanted.load(Ordering::Relaxed) && self.pass(Stage::Starting, Stage::Withdrawn)
    }
}

pub(super) struct Attendant {
    pub(super) attempt: Attempt,
    pub(super) begun: Begun,
    pub(super) gate: Gate,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) inbox: UnboundedSender<News>,
}

/// A task is over, and it was not its process that said so.
struct Over {
    cause: Cause,
    why: String,
    remains: Remains,
}

impl Attendant {
    pub(super) async fn attend(self, order: Order) {
        let mut pause = PAUSES.0;
        let over = match self.begin(order, &mut pause).await {
            Ok((task, found)) => self.follow(&task, found, &mut pause).await,
            Err(over) => Some(over),
        };
        if let Some(Over { cause, why, remains }) = over {
            // Nobody shall wait for its start any more.
            let _ =
                self.gate.pass(Stage::Preparing, Stage::Withdrawn) || self.gate.pass(Stage::Starting, Stage::Withdrawn);
            let exit = Exit { cause, evidence: why, usage: Usage::default() };
            self.tell(News::Exited(self.attempt, exit, remains));
        }
    }

    /// Starts the task, or finds it where it was started. What it needs to be started is not asked for before it is clear
    /// that it must be: a task that runs has all it needs, whatever is missing now.
    async fn begin(&self, order: Order, pause: &mut Duration) -> Result<(Arc<Task>, Recovered), Over> {
        let is_new = self.begun == Begun::No;
        if !is_new {
            let task = Arc::new(order.task.clone());
            let found = self.ask(&task, pause).await;
            if found != Recovered::NeverStarted || self.begun == Begun::Yes {
                return Ok((task, found));
            }
        }
        let over = |cause, why: &str| {
            let remains = if is_new { Remains::Nothing } else { Remains::Perhaps };
            Over { cause, why: why.to_owned(), remains }
        };
        let task = order.ready(&*self.executor).await.map_err(|why| over(Cause::NotStarted, &why))?;
        let is_wanted = if is_new { self.gate.pass(Stage::Preparing, Stage::Starting) } else { !self.gate.withdraw() };
        if !is_wanted {
            return Err(over(Cause::Cancelled, WITHDRAWN));
        }
        let mut starts = 0;
        loop {
            let started = self.executor.start(Arc::clone(&task)).await;
            if let Err(ExecutorError::Withdrawn) = started {
                return Err(over(Cause::Cancelled, WITHDRAWN));
            }
            // It may run although there is no answer, so it can be stopped from now on.
            self.gate.pass(Stage::Starting, Stage::Started);
            let error = match started {
                Ok(handle) => return Ok((task, Recovered::Running(handle))),
                Err(error) => error,
            };
            let found = self.ask_after(&task, &error, pause).await;
            if found != Recovered::NeverStarted {
                return Ok((task, found));
            }
            starts += 1;
            // An engine that was away, and answers now, is no fault of the layer's.
            let was_away = matches!(error, ExecutorError::Unavailable { .. } | ExecutorError::Disconnected { .. });
            if !was_away || starts == STARTS {
                return Err(Over { cause: Cause::NotStarted, why: error.to_string(), remains: Remains::Perhaps });
            }
            if !self.gate.again() {
                let why = WITHDRAWN.to_owned();
                return Err(Over { cause: Cause::Cancelled, why, remains: Remains::Perhaps });
            }
        }
    }

    /// Waits until the task is over.
    async fn follow(&self, task: &Arc<Task>, mut found: Recovered, pause: &mut Duration) -> Option<Over> {
        self.gate.pass(Stage::Starting, Stage::Started);
        let mut told = self.begun == Begun::Yes;
        loop {
            let handle = match found {
                Recovered::Running(handle) | Recovered::Exited(handle) => handle,
                Recovered::Gone | Recovered::NeverStarted => {
                    let why = "the executor knows of no such task any more".to_owned();
                    return Some(Over { cause: Cause::Lost, why, remains: Remains::Perhaps });
                }
            };
            if !told {
                self.tell(News::Started(self.attempt, handle.clone()));
                told = true;
            }
            match self.executor.wait(&handle).await {
                Ok(exit) => {
                    self.tell(News::Exited(self.attempt, exit, Remains::Of(handle)));
                    return None;
                }
                Err(error) => found = self.ask_after(task, &error, pause).await,
            }
        }
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
    /// Whether its start may have to wait: for a place, or for an image.
    pub(super) may_wait: bool,
}

impl Stoppable {
    /// Whether it was started; `false` when it never will be. Does not wait for its turn.
    async fn was_started(&self, executor: &dyn Executor) -> bool {
        let mut started = std::pin::pin!(self.gate.started());
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                started = &mut started => return started,
                () = tokio::time::sleep(pause), if self.may_wait => {}
            }
            // Without effect if it does not wait yet, or no more: so it is said again until there is an answer to its start.
            tokio::select! {
                biased;
                started = &mut started => return started,
                _ = executor.withdraw(std::slice::from_ref(&self.task)) => {}
            }
            pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
        }
    }

    /// Stops the task; its exit arrives through its attendant.
    pub(super) async fn stop(self, executor: Arc<dyn Executor>, grace: Duration, inbox: UnboundedSender<News>) {
        if !self.was_started(&*executor).await {
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
