//! The scheduler: which attempt starts next, and what an exit means.
//!
//! A pure state machine. It has no clock, no randomness, no I/O and no async; it is unaware of processes, stores and
//! executors. [`Scheduler::apply`] is told what happened; [`Scheduler::next_action`] says what is wished for. Whoever drives it
//! records a fact before acting on it, so that replaying the recorded facts through `apply` gives the same state: there is
//! no second code path for recovery.
//!
//! # Life of a split
//!
//! ```text
//! waiting ─▶ ready ─▶ running: launched ─▶ started ─▶ adopting ─▶ finished | caught
//!    │         ▲ │                   └─────────┴──────────┴─▶ failed
//!    │         │ │                             └─▶ resting ─▶ (ready)
//!    └─────────┴─┴─▶ cancelled
//! ```
//!
//! When an execution is resumed, what failed or was cancelled waits again; see `resume`. Its flow may be another one then;
//! see `update`.
//!
//! Every transition goes through one private function, which keeps the counts, the line of ready splits and what the
//! dependants wait for in step.
//!
//! # Invariants
//!
//! - A split starts only when every layer its layer needs has settled well.
//! - Never more than [`Limits::jobs`] splits are running, nor do they reserve more cores and memory than there are.
//! - A settled split never changes again, unless the execution is resumed; a finished one not even then, unless asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, Outcome};
use crate::executor::{Cause, Exit};
use crate::flow::{Failure, Flow, Layer, OnFailure, Retry};
use crate::id::{Attempt, LayerId, Split};
use crate::plan::{Plan, Planned};

mod ready;
mod resume;
mod retry;
mod state;
#[cfg(test)]
mod tests;
mod update;

use ready::{Ready, Request};
pub use state::{Change, Progress, State};

/// How many launches in a row may be lost without being charged to the user's retries.
const LOST_IN_A_ROW: u32 = 3;

/// The longest pause before a retry: what the formula says beyond this is cut.
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What tasks that run at the same time may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many tasks; at least 1.
    pub jobs: u32,
    /// Cores, in thousandths, shared among the layers that ask for some.
    pub cpu_millis: u64,
    /// Memory in bytes, shared among the layers that ask for some.
    pub memory: u64,
}

/// The memory of an attempt, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it gets, reserved and as its limit.
    pub granted: u64,
    /// What it would get if there were more to share out.
    pub wanted: u64,
}

/// What the scheduler wishes for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Launch this attempt. Wished for until [`Event::AttemptLaunched`] is applied.
    Launch(Attempt),
    /// Take what it left into the datastore, then say [`Event::AttemptPublished`] or [`Event::AttemptRejected`].
    Adopt(Attempt),
    /// Add jitter to the delay, say [`Event::RetryScheduled`], and [`Event::RetryDue`] when it is over.
    Rest {
        /// The attempt that failed.
        attempt: Attempt,
        /// The delay without jitter.
        delay: Duration,
        /// The largest random share of the delay to be added.
        jitter: f64,
    },
    /// Stop this attempt; its exit will follow.
    Stop {
        /// Which.
        attempt: Attempt,
        /// Whether at once, without a grace.
        force: bool,
    },
    /// Everything is settled: say [`Event::ExecutionEnded`]. Wished for until it is applied.
    End(Outcome),
}

/// An event that cannot have happened in this state: the log is damaged, or its writer is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event does not fit: {event} while {found}")]
pub struct IllegalEvent {
    /// The event.
    pub event: String,
    /// The state it met.
    pub found: String,
}

/// The state of an execution.
#[derive(Debug)]
pub struct Scheduler {
    plan: Arc<Plan>,
    rules: Vec<Rule>,
    on_failure: OnFailure,
    limits: Limits,
    /// The most splits at once, whatever the flow says.
    most: u32,
    /// The flows that take the place of the first, and how many of them have.
    updates: Vec<Planned>,
    updated: u32,
    /// Splits that may have a process. Those being adopted have none any more and hold no place.
    alive: u32,
    used: Request,
    layers: Vec<LayerProgress>,
    splits: Vec<SplitProgress>,
    ready: Ready,
    wishes: std::collections::VecDeque<Action>,
    changes: Vec<Change>,
    progress: Progress,
    stopping: bool,
    cancel: Option<Force>,
    ended: Option<Outcome>,
}

/// What the scheduler must know of a layer.
#[derive(Clone, Debug)]
struct Rule {
    request: Request,
    retry: Retry,
    catch: Box<[i32]>,
    retired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Force {
    Gently,
    AtOnce,
}

#[derive(Clone, Debug)]
struct LayerProgress {
    /// Needs that have not settled well.
    waiting_for: u32,
    /// Splits that have not settled.
    open: u32,
    /// The place of its first split in [`Scheduler::splits`].
    first: u32,
    /// How many splits it has.
    splits: u32,
    /// Whether a split of it failed or was cancelled: nothing that needs it will run.
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SplitProgress {
    split: Split,
    stage: Stage,
    /// Launches so far.
    launched: u32,
    /// Launches that failed and count against the user's retries.
    charged: u32,
    /// Launches in a row whose end nobody knows.
    lost: u32,
    /// Launches that were out of memory, and had got all that they were to have.
    out_of_memory: u32,
    /// Whether the last launch got less memory than it was to have.
    cut: bool,
}

impl SplitProgress {
    fn new(layer: LayerId) -> SplitProgress {
        SplitProgress {
            split: Split { layer, index: 0 },
            stage: Stage::Waiting,
            launched: 0,
            charged: 0,
            lost: 0,
            out_of_memory: 0,
            cut: false,
        }
    }
}

/// Where a split stands. Finer than [`State`]: each variant is what the next event is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
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
    fn state(self) -> State {
        match self {
            Stage::Waiting => State::Waiting,
            Stage::Ready => State::Ready,
            Stage::Launched | Stage::Started | Stage::Adopting { .. } => State::Running,
            Stage::Tired | Stage::Resting => State::Resting,
            Stage::Settled(state) => state,
        }
    }

    /// Whether a process of it may be alive: it holds its share of the limits.
    fn is_alive(self) -> bool {
        matches!(self, Stage::Launched | Stage::Started)
    }
}

impl Scheduler {
    /// The state in which nothing has happened yet.
    ///
    /// # Panics
    /// When the plan is not of this flow.
    #[must_use]
    pub fn new(flow: &Flow, plan: Arc<Plan>, limits: Limits) -> Scheduler {
        assert_eq!(flow.layers.len(), plan.len(), "the plan is of another flow");
        let ids = (0_u32..).map(LayerId).take(plan.len());
        let layers = ids.clone().map(|id| LayerProgress {
            #[expect(clippy::cast_possible_truncation, reason = "a layer needs each other layer at most once")]
            waiting_for: plan.needs(id).len() as u32,
            open: 1,
            first: id.0,
            splits: 1,
            broken: false,
        });
        let total = u32::try_from(plan.len()).unwrap_or(u32::MAX);
        let mut scheduler = Scheduler {
            rules: rules(flow),
            on_failure: flow.on_failure,
            limits: Limits { jobs: jobs(flow, limits.jobs), ..limits },
            most: limits.jobs,
            updates: Vec::new(),
            updated: 0,
            alive: 0,
            used: Request::default(),
            layers: layers.collect(),
            splits: ids.clone().map(SplitProgress::new).collect(),
            ready: Ready::default(),
            wishes: std::collections::VecDeque::new(),
            changes: Vec::new(),
            progress: Progress { total, waiting: total, ..Progress::default() },
            stopping: false,
            cancel: None,
            ended: None,
            plan,
        };
        for id in ids {
            if scheduler.layers[id.at()].waiting_for == 0 {
                scheduler.open_layer(id);
            }
        }
        scheduler
    }

    /// What is wished for now, or nothing until more has happened. `Adopt`, `Rest` and `Stop` are told once.
    #[must_use]
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(wish) = self.wishes.pop_front() {
            return Some(wish);
        }
        if self.progress.settled() == self.progress.total {
            return self.ended.is_none().then(|| Action::End(self.outcome()));
        }
        if self.stopping || self.alive >= self.limits.jobs {
            return None;
        }
        let free = Request {
            cpu_millis: self.limits.cpu_millis.saturating_sub(self.used.cpu_millis),
            memory: self.limits.memory.saturating_sub(self.used.memory),
        };
        let number = self.ready.best(free)?;
        let split = &self.splits[number as usize];
        Some(Action::Launch(Attempt { split: split.split, number: split.launched + 1 }))
    }

    /// Takes note of a fact.
    ///
    /// # Errors
    /// When it cannot have happened in this state; the state is then unchanged.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        match event {
            Event::AttemptLaunched { attempt, memory, .. } => self.launched(*attempt, memory.is_some(), event),
            Event::AttemptStarted { attempt, .. } => {
                let number = self.expect(*attempt, event, |stage| stage == Stage::Launched)?;
                self.set(number, Stage::Started);
                Ok(())
            }
            Event::AttemptExited { attempt, exit } => {
                let number = self.expect(*attempt, event, Stage::is_alive)?;
                self.exited(number, *attempt, exit);
                Ok(())
            }
            Event::AttemptPublished { attempt, .. } => {
                let number = self.expect(*attempt, event, |stage| matches!(stage, Stage::Adopting { .. }))?;
                let caught = self.splits[number].stage == Stage::Adopting { caught: true };
                self.set(number, Stage::Settled(if caught { State::Caught } else { State::Finished }));
                Ok(())
            }
            Event::AttemptRejected { attempt, .. } => {
                let number = self.expect(*attempt, event, |stage| matches!(stage, Stage::Adopting { .. }))?;
                self.charge(number, *attempt, Failure::Rejected);
                Ok(())
            }
            Event::RetryScheduled { attempt, .. } => {
                let number = self.expect(*attempt, event, |stage| stage == Stage::Tired)?;
                self.set(number, Stage::Resting);
                Ok(())
            }
            Event::RetryDue { split } => self.due(*split, event),
            Event::CancelRequested { force } => {
                self.cancel(if *force { Force::AtOnce } else { Force::Gently });
                Ok(())
            }
            Event::ExecutionEnded { outcome } => self.end(*outcome, event),
            Event::ExecutionResumed { again, update } => self.resume(again, *update, event),
        }
    }

    /// The splits whose state has changed since this was last asked, each with its last state.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// How many splits are in which state.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The state of one split; `None` when there is no such split.
    #[must_use]
    pub fn state(&self, split: Split) -> Option<State> {
        Some(self.splits[self.number(split)?].stage.state())
    }

    /// Whether this attempt may have a process: its exit is still to come.
    #[must_use]
    pub fn is_alive(&self, attempt: Attempt) -> bool {
        self.number(attempt.split).is_some_and(|number| {
            let split = &self.splits[number];
            split.launched == attempt.number && split.stage.is_alive()
        })
    }

    /// Whether a split rests, and the pause is on record: [`Event::RetryDue`] is still to come.
    #[must_use]
    pub fn is_resting(&self, split: Split) -> bool {
        self.number(split).is_some_and(|number| self.splits[number].stage == Stage::Resting)
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<Outcome> {
        self.ended
    }

    fn outcome(&self) -> Outcome {
        let Progress { failed, cancelled, .. } = self.progress;
        if self.cancel.is_some() && failed + cancelled > 0 {
            Outcome::Cancelled
        } else if failed + cancelled > 0 {
            Outcome::Failed
        } else {
            Outcome::Finished
        }
    }

    fn launched(&mut self, attempt: Attempt, cut: bool, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.number(attempt.split).filter(|number| {
            let split = &self.splits[*number];
            split.stage == Stage::Ready && split.launched + 1 == attempt.number
        });
        let number = number.ok_or_else(|| self.illegal(attempt.split, event))?;
        if !self.ready.take(number as u32, self.request(number)) {
            return Err(self.illegal(attempt.split, event));
        }
        self.splits[number].launched = attempt.number;
        self.splits[number].cut = cut;
        self.set(number, Stage::Launched);
        Ok(())
    }

    fn exited(&mut self, number: usize, attempt: Attempt, exit: &Exit) {
        let catch = &self.rules[attempt.split.layer.at()].catch;
        match exit.cause {
            Cause::Code(0) => self.adopt(number, attempt, false),
            Cause::Code(code) if catch.contains(&code) => self.adopt(number, attempt, true),
            Cause::Cancelled if self.cancel.is_some() => self.set(number, Stage::Settled(State::Cancelled)),
            // Stopped by a scheduler that is gone is no fault of the layer's either.
            Cause::Lost | Cause::Cancelled if self.splits[number].lost < LOST_IN_A_ROW => {
                self.splits[number].lost += 1;
                self.set(number, if self.stopping { Stage::Settled(State::Cancelled) } else { Stage::Ready });
            }
            _ => self.charge(number, attempt, Failure::Exit(&exit.cause)),
        }
    }

    fn adopt(&mut self, number: usize, attempt: Attempt, caught: bool) {
        self.set(number, Stage::Adopting { caught });
        self.wishes.push_back(Action::Adopt(attempt));
    }

    fn due(&mut self, split: Split, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.number(split).ok_or_else(|| self.illegal(split, event))?;
        match self.splits[number].stage {
            Stage::Resting => self.set(number, Stage::Ready),
            // The alarm of a split that was cancelled while it rested.
            Stage::Settled(State::Cancelled) => {}
            _ => return Err(self.illegal(split, event)),
        }
        Ok(())
    }

    fn cancel(&mut self, force: Force) {
        if self.cancel == Some(Force::AtOnce) || self.cancel == Some(force) {
            return;
        }
        self.cancel = Some(force);
        self.stop_launching();
        for number in 0..self.splits.len() {
            let SplitProgress { split, stage, launched, .. } = self.splits[number];
            if stage.is_alive() {
                let attempt = Attempt { split, number: launched };
                self.wishes.push_back(Action::Stop { attempt, force: force == Force::AtOnce });
            }
        }
    }

    fn end(&mut self, outcome: Outcome, event: &Event) -> Result<(), IllegalEvent> {
        let settled = self.progress.settled() == self.progress.total;
        if !settled || self.ended.is_some() || outcome != self.outcome() {
            return Err(IllegalEvent { event: format!("{event:?}"), found: format!("{:?}", self.progress) });
        }
        self.ended = Some(outcome);
        Ok(())
    }

    /// Nothing new will start: everything that has no process is cancelled.
    fn stop_launching(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.ready.clear();
        self.wishes.retain(|wish| !matches!(wish, Action::Rest { .. }));
        for number in 0..self.splits.len() {
            if matches!(self.splits[number].stage.state(), State::Waiting | State::Ready | State::Resting) {
                self.set(number, Stage::Settled(State::Cancelled));
            }
        }
    }

    /// The one transition: counts, reservations, the line of ready splits, and what follows from settling.
    fn set(&mut self, number: usize, stage: Stage) {
        let SplitProgress { split, stage: before, .. } = self.splits[number];
        self.splits[number].stage = stage;
        let request = self.request(number);
        if before.is_alive() && !stage.is_alive() {
            self.alive -= 1;
            self.used.cpu_millis -= request.cpu_millis;
            self.used.memory -= request.memory;
        }
        if stage.is_alive() && !before.is_alive() {
            self.alive += 1;
            self.used.cpu_millis += request.cpu_millis;
            self.used.memory += request.memory;
        }
        if before.state() == stage.state() {
            return;
        }
        *self.progress.of(before.state()) -= 1;
        *self.progress.of(stage.state()) += 1;
        self.changes.push(Change { split, state: stage.state() });
        match stage {
            Stage::Ready => self.ready.push(number as u32, self.plan.rank(split.layer), request),
            Stage::Settled(state) => self.settled(split, state),
            _ => {}
        }
    }

    fn settled(&mut self, split: Split, state: State) {
        let layer = &mut self.layers[split.layer.at()];
        layer.open -= 1;
        layer.broken |= matches!(state, State::Failed | State::Cancelled);
        if state == State::Failed && self.on_failure == OnFailure::Stop {
            self.stop_launching();
        }
        let layer = &self.layers[split.layer.at()];
        if layer.broken {
            self.cancel_dependants(split.layer);
        } else if layer.open == 0 {
            for at in 0..self.plan.dependants(split.layer).len() {
                let dependant = self.plan.dependants(split.layer)[at];
                self.layers[dependant.at()].waiting_for -= 1;
                if self.layers[dependant.at()].waiting_for == 0 {
                    self.open_layer(dependant);
                }
            }
        }
    }

    /// Everything downstream of a broken layer will not run. Not recursive: a chain may be a million layers long.
    fn cancel_dependants(&mut self, broken: LayerId) {
        let mut stack = vec![broken];
        while let Some(id) = stack.pop() {
            for at in 0..self.plan.dependants(id).len() {
                let dependant = self.plan.dependants(id)[at];
                if self.layers[dependant.at()].broken {
                    continue;
                }
                self.layers[dependant.at()].broken = true;
                stack.push(dependant);
                self.cancel_waiting(dependant);
            }
        }
    }

    fn cancel_waiting(&mut self, id: LayerId) {
        let LayerProgress { first, splits, .. } = self.layers[id.at()];
        for number in first..first + splits {
            let split = &mut self.splits[number as usize];
            if split.stage == Stage::Waiting {
                // Not through `set`, which would come back here: only the counts change.
                split.stage = Stage::Settled(State::Cancelled);
                self.changes.push(Change { split: split.split, state: State::Cancelled });
                self.progress.waiting -= 1;
                self.progress.cancelled += 1;
                self.layers[id.at()].open -= 1;
            }
        }
    }

    fn open_layer(&mut self, id: LayerId) {
        let LayerProgress { first, splits, .. } = self.layers[id.at()];
        for number in first..first + splits {
            if self.splits[number as usize].stage == Stage::Waiting {
                self.set(number as usize, Stage::Ready);
            }
        }
    }

    fn number(&self, split: Split) -> Option<usize> {
        let layer = self.layers.get(split.layer.at())?;
        (split.index < layer.splits).then_some((layer.first + split.index) as usize)
    }

    /// The split of an attempt, if it is its latest and stands where the event needs it.
    fn expect(&self, attempt: Attempt, event: &Event, fits: impl Fn(Stage) -> bool) -> Result<usize, IllegalEvent> {
        let number = self.number(attempt.split).filter(|number| {
            let split = &self.splits[*number];
            split.launched == attempt.number && fits(split.stage)
        });
        number.ok_or_else(|| self.illegal(attempt.split, event))
    }

    fn illegal(&self, split: Split, event: &Event) -> IllegalEvent {
        let found = match self.number(split) {
            Some(number) => {
                let SplitProgress { stage, launched, .. } = self.splits[number];
                format!("{stage:?} at attempt {launched}")
            }
            None => "there is no such split".to_owned(),
        };
        IllegalEvent { event: format!("{event:?}"), found }
    }
}

/// What must be known of each layer of a flow.
fn rules(flow: &Flow) -> Vec<Rule> {
    let rule = |layer: &Layer| Rule {
        request: Request {
            cpu_millis: layer.container.cpu_millis.unwrap_or(0),
            memory: layer.container.memory.unwrap_or(0),
        },
        retry: layer.retry.clone(),
        catch: layer.catch.clone().into_boxed_slice(),
        retired: layer.retired,
    };
    flow.layers.iter().map(rule).collect()
}

/// How many splits may run at once.
fn jobs(flow: &Flow, most: u32) -> u32 {
    flow.max_parallel.unwrap_or(u32::MAX).min(most).max(1)
}
