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
//! waiting ─▶ ready: recalling ─▶ sizing ─▶ in line ─▶ running: launched ─▶ started ─▶ adopting ─▶ finished | caught
//!    │                  │          ▲         │                     └──────────┴──────────┴─▶ failed
//!    ├─▶ skipped        └─▶ cached │         │                                └─▶ resting ─▶ (sizing)
//!    └──────────────────┴──────────┴─────────┴─▶ cancelled
//! ```
//!
//! Only splits of cached layers are recalled, once for each run; only those of layers whose cores or memory are expressions
//! are sized, once for each attempt.
//!
//! # Life of a layer
//!
//! ```text
//! shut ─▶ asked ─▶ open: it has its splits, none or many
//!   │       ├─▶ skipped
//!   │       └─▶ failed
//!   └─▶ skipped
//! ```
//!
//! A layer with `when` or `foreach` asks, once everything that it needs has settled well; every other is open from the start,
//! with one split. It settles well when all of its splits have, or when it is skipped. See `layer`.
//!
//! When an execution is resumed, what failed or was cancelled waits again; see `resume`. Its flow may be another one then;
//! see `update`.
//!
//! Every transition goes through one private function, which keeps the counts, the line of ready splits and what the
//! dependants wait for in step; but for those of whole layers, which keep them in step themselves.
//!
//! # Invariants
//!
//! - A split starts only when every layer its layer needs has settled well.
//! - A layer runs though a layer that it needs was skipped only if it has a `when` that says so.
//! - Never more than [`Limits::jobs`] splits are running, and as many as may go [ahead](Scheduler::look_ahead) or have been
//!   [offered](Scheduler::next_offer), nor do they reserve more cores and memory than there are; of a layer with
//!   `max_parallel` never more than that.
//! - What a layer was opened to be stays so, unless it is asked anew: the number of an attempt is never used twice, however
//!   many splits its layer had in between.
//! - A settled split never changes again, unless the execution is resumed; a finished one not even then, unless asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::each::Each;
use crate::event::{Event, Outcome};
use crate::flow::{Failure, Flow, OnFailure};
use crate::id::{Attempt, LayerId, Split};
use crate::plan::{Plan, Planned};
use crate::shares::Share;

mod ahead;
mod attempt;
mod lane;
mod layer;
mod offer;
mod query;
mod ready;
mod resume;
mod retry;
mod rule;
mod stage;
mod state;
mod stop;
/// What is left of something that is shared.
fn free(all: u64, used: u64, elsewhere: u64) -> u64 {
    all.saturating_sub(used).saturating_sub(elsewhere)
}

#[cfg(test)]
mod tests;
mod update;

use ahead::Ahead;
use lane::Lane;
use layer::{LayerProgress, Phase};
use offer::Offers;
use ready::{Ready, Request};
use rule::{Rule, jobs, rules};
use stage::{SplitProgress, Stage};
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
    /// Everything that this layer needs has settled well: decide whether it runs, and how many splits it has, then say
    /// [`Event::LayerOpened`], [`Event::LayerSkipped`] or [`Event::LayerFailed`].
    Open(LayerId),
    /// Look into the cache for what this split would do, then say [`Event::SplitCached`] or [`Event::SplitKeyed`].
    Recall(Split),
    /// Find out what this attempt, which comes next, is to reserve, then say [`Event::AttemptSized`].
    Size(Attempt),
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
    /// What other executions have reserved of what there is; no part of the log.
    elsewhere: Request,
    /// The most splits at once, whatever the flow says.
    most: u32,
    /// The flows that take the place of the first, and how many of them have.
    updates: Vec<Planned>,
    updated: u32,
    /// Splits that may have a process. Those being adopted have none any more and hold no place.
    alive: u32,
    ahead: Ahead,
    offers: Offers,
    used: Request,
    layers: Vec<LayerProgress>,
    splits: Vec<SplitProgress>,
    ready: Ready,
    /// Of layers with `max_parallel`.
    lanes: HashMap<LayerId, Lane>,
    /// What attempts reserve that are sized, as long as they wait or are alive, by the place of their split.
    sizes: HashMap<u32, Request>,
    /// The values of the splits of layers with `foreach`.
    each: HashMap<LayerId, Arc<Each>>,
    wishes: VecDeque<Action>,
    changes: Vec<Change>,
    progress: Progress,
    stopping: bool,
    cancel: Option<Force>,
    ended: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Force {
    Gently,
    AtOnce,
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
        let rules = rules(flow);
        let layers = ids.clone().map(|id| {
            #[expect(clippy::cast_possible_truncation, reason = "a layer needs each other layer at most once")]
            let needs = plan.needs(id).len() as u32;
            LayerProgress::new(rules[id.at()].asks(), id.0, needs)
        });
        let total = u32::try_from(plan.len()).unwrap_or(u32::MAX);
        let mut scheduler = Scheduler {
            on_failure: flow.on_failure,
            limits: Limits { jobs: jobs(flow, limits.jobs), ..limits },
            elsewhere: Request::default(),
            most: limits.jobs,
            updates: Vec::new(),
            updated: 0,
            alive: 0,
            ahead: Ahead::default(),
            offers: Offers::default(),
            used: Request::default(),
            layers: layers.collect(),
            splits: ids.clone().map(|layer| SplitProgress::new(Split { layer, index: 0 })).collect(),
            ready: Ready::default(),
            lanes: HashMap::new(),
            sizes: HashMap::new(),
            each: HashMap::new(),
            wishes: VecDeque::new(),
            changes: Vec::new(),
            progress: Progress { total, waiting: total, ..Progress::default() },
            stopping: false,
            cancel: None,
            ended: None,
            rules,
            plan,
        };
        for id in ids {
            if scheduler.layers[id.at()].waiting_for == 0 {
                scheduler.enter(id);
            }
        }
        scheduler
    }

    /// What is wished for now, or nothing until more has happened. All but `Launch` and `End` are told once.
    #[must_use]
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(wish) = self.wishes.pop_front() {
            return Some(wish);
        }
        if self.is_settled() {
            return self.ended.is_none().then(|| Action::End(self.outcome()));
        }
        if self.stopping {
            return None;
        }
        let number = match self.best_offered() {
            // It may run already; and if it does and fails, nothing goes on until somebody hears of it.
            Some(offered) => offered,
            None if self.alive < self.limits.jobs => self.ready.best(self.free())?,
            None => self.best_ahead()?,
        };
        let split = &self.splits[number as usize];
        Some(Action::Launch(Attempt { split: split.split, number: split.launched + 1 }))
    }

    /// Whether there is nothing more to be done but to put the end on record.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.wishes.is_empty() && self.progress.settled() == self.progress.total
    }

    fn free(&self) -> Request {
        Request {
            cpu_millis: free(self.limits.cpu_millis, self.used.cpu_millis, self.elsewhere.cpu_millis),
            memory: free(self.limits.memory, self.used.memory, self.elsewhere.memory),
        }
    }

    /// Whether nothing is launched any more.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// What other executions have reserved: as much less can be launched from now on. What is launched stays.
    pub fn leave_to_others(&mut self, elsewhere: Share) {
        self.elsewhere = Request { cpu_millis: elsewhere.cpu_millis, memory: elsewhere.memory };
    }

    /// What its tasks have reserved.
    #[must_use]
    pub fn reserved(&self) -> Share {
        Share { cpu_millis: self.used.cpu_millis, memory: self.used.memory }
    }

    /// Whether something is ready for which there is no room, only because others have it: it starts when they have less.
    #[must_use]
    pub fn waits_for_others(&self) -> bool {
        let can_start = !self.stopping && self.alive < self.limits.jobs && !self.ready.is_empty();
        can_start && self.elsewhere != Request::default()
    }

    /// Takes note of a fact.
    ///
    /// # Errors
    /// When it cannot have happened in this state; the state is then unchanged.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if self.is_late(event) {
            return Ok(());
        }
        match event {
            Event::LayerOpened { layer, splits, each } => {
                let result = self.opened(*layer, *splits, each.as_ref());
                self.illegal_of(result, event)
            }
            Event::LayerSkipped { layer } => {
                let result = self.skipped(*layer);
                self.illegal_of(result, event)
            }
            Event::LayerFailed { layer, .. } => {
                let result = self.could_not_open(*layer);
                self.illegal_of(result, event)
            }
            Event::SplitKeyed { split, .. } => self.keyed(*split, event),
            Event::SplitCached { split, .. } => self.cached(*split, event),
            Event::AttemptSized { attempt, cpu_millis, memory } => {
                self.sized(*attempt, Request { cpu_millis: *cpu_millis, memory: *memory }, event)
            }
            Event::AttemptOffered { attempt, .. } => self.offered(*attempt, event),
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
            Event::AttemptPublished { attempt, artifacts } => {
                let number = self.expect(*attempt, event, |stage| matches!(stage, Stage::Adopting { .. }))?;
                if !artifacts.is_empty() {
                    self.drop_offers(attempt.split.layer);
                }
                let caught = self.splits[number].stage == Stage::Adopting { caught: true };
                self.set(number, Stage::Settled(if caught { State::Caught } else { State::Finished }));
                Ok(())
            }
            Event::AttemptRejected { attempt, .. } => {
                let number = self.expect(*attempt, event, |stage| matches!(stage, Stage::Adopting { .. }))?;
                // Its folder may have been empty still when its executor looked.
                self.void_offers(Some(attempt.split.layer));
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
            Event::ExecutionResumed { again, splits, changed, update } => {
                self.resume(&[&again[..], changed].concat(), splits, *update, event)
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

    /// The one transition: counts, reservations, the line of ready splits, and what follows from settling.
    fn set(&mut self, number: usize, stage: Stage) {
        let SplitProgress { split, stage: before, launched, .. } = self.splits[number];
        self.place(number, stage);
        if before.is_alive() != stage.is_alive() {
            self.hold_places(number, stage.is_alive());
        }
        match stage {
            Stage::Recalling => self.wishes.push_back(Action::Recall(split)),
            Stage::Sizing => self.wishes.push_back(Action::Size(Attempt { split, number: launched + 1 })),
            Stage::Ready => self.line_up(number),
            Stage::Settled(state) => self.settled(split, state),
            _ => {}
        }
        if before.is_alive() && !stage.is_alive() {
            // Only now: if it is ready again, it may go first.
            self.follow_up(split.layer);
        }
    }

    /// A split has a process now, or has none any more: its share of the limits.
    fn hold_places(&mut self, number: usize, is_alive: bool) {
        let layer = self.splits[number].split.layer;
        let request = self.request(number);
        let rank = self.plan.rank(layer);
        let has_lane = self.rules[layer.at()].max_parallel.is_some();
        let lane = has_lane.then(|| self.lanes.entry(layer).or_default());
        if is_alive {
            self.alive += 1;
            self.ahead.enter(rank);
            if self.ahead.looks() {
                self.offers.note(number as u32);
            }
            self.used.cpu_millis += request.cpu_millis;
            self.used.memory += request.memory;
            if let Some(lane) = lane {
                lane.alive += 1;
                lane.lined -= 1;
            }
        } else {
            self.alive -= 1;
            self.ahead.leave(rank);
            self.used.cpu_millis -= request.cpu_millis;
            self.used.memory -= request.memory;
            if let Some(lane) = lane {
                lane.alive -= 1;
            }
            if self.rules[layer.at()].sized {
                // The next attempt is sized anew.
                self.sizes.remove(&(number as u32));
            }
        }
    }

    /// A split is ready: it stands in line, or is held back until its layer may have one more there.
    fn line_up(&mut self, number: usize) {
        let layer = self.splits[number].split.layer;
        if self.rules[layer.at()].max_parallel.is_some() {
            self.lanes.entry(layer).or_default().hold(number as u32);
            self.follow_up(layer);
        } else {
            self.ready.push(number as u32, self.plan.rank(layer), self.request(number));
        }
    }

    /// Splits of a layer stand in line, as many as may.
    fn follow_up(&mut self, layer: LayerId) {
        let Some(most) = self.rules[layer.at()].max_parallel else { return };
        while let Some(number) = self.lanes.get_mut(&layer).and_then(|lane| lane.next(most)) {
            self.ready.push(number, self.plan.rank(layer), self.request(number as usize));
        }
    }

    fn settled(&mut self, split: Split, state: State) {
        let layer = &mut self.layers[split.layer.at()];
        layer.open -= 1;
        layer.note(state);
        let was_broken = layer.broken;
        layer.broken |= matches!(state, State::Failed | State::Cancelled);
        let is_broken = layer.broken;
        if state == State::Failed && self.on_failure == OnFailure::Stop {
            self.stop_launching();
        }
        if is_broken && !was_broken {
            self.cancel_dependants(split.layer);
        } else if !is_broken && self.layers[split.layer.at()].open == 0 {
            self.go_on_after(split.layer);
        }
    }
}
