//! What must be true of a log, told a second time and in other words than the scheduler's: each event is held against
//! what came before it. What expressions must give, and what layers must leave, is told in [`crate::expect`].

use std::collections::BTreeMap;
use std::sync::Arc;

use laminar_core::each::Each;
use laminar_core::engine::Limits;
use laminar_core::event::{Event, Outcome};
use laminar_core::executor::{Cause, Exit};
use laminar_core::flow::{Failure, OnFailure};
use laminar_core::id::{Attempt, LayerId, Split};

use crate::expect::{Decided, artifacts};
use crate::flows::Case;
use crate::store::told;

/// Launches in a row that may be lost without a charge.
const LOST_IN_A_ROW: u32 = 3;

/// An attempt: its layer, its index, its number.
pub(crate) type Key = (u32, u32, u32);

/// Layers and splits that somebody asks for once more.
pub(crate) type Again = (Vec<LayerId>, Vec<Split>);

/// Files by path; folders end with `/` and have no text.
pub(crate) type Files = BTreeMap<String, String>;

pub(crate) fn attempt((layer, index, number): Key) -> Attempt {
    Attempt { split: Split { layer: LayerId(layer), index }, number }
}

pub(crate) fn key(attempt: Attempt) -> Key {
    (attempt.split.layer.0, attempt.split.index, attempt.number)
}

/// An attempt, for people.
pub(crate) fn name((layer, index, number): Key) -> String {
    format!("L{layer}[{index}].{number}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for something, or for its turn.
    Idle,
    Launched,
    Started,
    Adopting,
    Tired,
    /// Until when, in virtual time, and how long it should be.
    Resting {
        since_ms: u64,
        delay_ms: u64,
    },
    Good,
    Failed,
    Cancelled,
    Skipped,
}

/// What is decided of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It asks, and there is no answer.
    Shut,
    /// It has its splits.
    Open,
    Skipped,
    /// There is no answer to be had.
    Failed,
}

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) phase: Phase,
    pub(crate) each: Option<Arc<Each>>,
    /// How many splits it has; one stands for all as long as that is not decided.
    pub(crate) count: usize,
    /// Of all splits that it ever had.
    pub(crate) lines: Vec<Line>,
}

impl Row {
    pub(crate) fn active(&self) -> &[Line] {
        &self.lines[..self.count]
    }
}

/// A split.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) stage: Stage,
    pub(crate) launched: u32,
    pub(crate) charged: u32,
    lost: u32,
    /// How often it was out of memory, and had got all that it was to have.
    pub(crate) out_of_memory: u32,
    /// Whether its attempt got less.
    pub(crate) is_cut: bool,
    /// What its attempt has reserved.
    pub(crate) memory: u64,
    pub(crate) outputs: u32,
    /// How often it has published.
    pub(crate) published: u32,
    /// What it has left.
    pub(crate) left: Files,
    /// What its attempt has reserved of the cores.
    pub(crate) cpu_millis: u64,
    /// It was looked for in the cache, and will run.
    pub(crate) keyed: bool,
    /// What its next attempt is said to ask for.
    pub(crate) sized: Option<(u64, u64)>,
    /// Its next attempt is offered, with this folder for its outputs.
    pub(crate) offered: Option<u32>,
    /// Whether this scheduler did so. Of what another has offered, the folder is used again if it has not begun.
    pub(crate) offered_now: bool,
    /// Attempts that were offered in vain, and may have begun.
    void: Vec<u32>,
    /// Its attempt has exited with a code that is caught.
    pub(crate) caught: bool,
    pub(crate) cached: bool,
}

impl Line {
    pub(crate) fn new() -> Line {
        Line {
            stage: Stage::Idle,
            launched: 0,
            charged: 0,
            lost: 0,
            out_of_memory: 0,
            is_cut: false,
            memory: 0,
            outputs: 0,
            published: 0,
            left: Files::new(),
            cpu_millis: 0,
            keyed: false,
            sized: None,
            offered: None,
            offered_now: false,
            void: Vec::new(),
            caught: false,
            cached: false,
        }
    }

    /// It begins anew, but for the numbers of its attempts and the memory that they have grown to.
    pub(crate) fn begin_anew(&mut self) {
        (self.stage, self.charged, self.lost) = (Stage::Idle, 0, 0);
        (self.keyed, self.sized, self.caught, self.cached) = (false, None, false, false);
        self.left.clear();
    }

    /// What its attempt has reserved, if that was asked for.
    pub(crate) fn reserves(&self) -> Option<(u64, u64)> {
        self.sized
    }

    /// Whether it may have a process.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Launched | Stage::Started)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.is_alive() || self.stage == Stage::Adopting
    }
}

/// The state of an execution as the log tells it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) case: Arc<Case>,
    pub(crate) rows: Vec<Row>,
    /// What attempts leave that run, or ran: what they read does not change meanwhile.
    pub(crate) leaving: BTreeMap<Key, Files>,
    /// What was asked for once more by name: it is not taken from the cache.
    pub(crate) insisted: Again,
    /// The variable that expressions name, under the present scheduler.
    pub(crate) mood: String,
    /// What is in the file beside the flow.
    pub(crate) source: String,
    /// Something could not be read, so expressions may have had no value.
    pub(crate) reads_failed: bool,
    pub(crate) limits: Limits,
    pub(crate) cancelled: bool,
    /// When the first cancel was recorded.
    pub(crate) cancelled_ms: Option<u64>,
    pub(crate) stopping: bool,
    pub(crate) ended: Option<Outcome>,
    /// When the present scheduler went on with it.
    pub(crate) began_ms: u64,
    /// How far the clock was set in all.
    pub(crate) clock_jumped_ms: u64,
}

impl Model {
    pub(crate) fn new(case: Arc<Case>) -> Model {
        let row = |shape: &crate::shapes::Shape| Row {
            phase: if shape.asks() { Phase::Shut } else { Phase::Open },
            each: None,
            count: 1,
            lines: vec![Line::new()],
        };
        let rows = case.shapes.iter().map(row).collect();
        let limits = Limits { jobs: 1, cpu_millis: 0, memory: 0 };
        Model {
            case,
            rows,
            leaving: BTreeMap::new(),
            insisted: Again::default(),
            mood: String::new(),
            source: String::new(),
            reads_failed: false,
            limits,
            cancelled: false,
            cancelled_ms: None,
            stopping: false,
            ended: None,
            began_ms: 0,
            clock_jumped_ms: 0,
        }
    }

    /// Whether the attempt may have a process.
    pub(crate) fn is_alive(&self, (layer, index, number): Key) -> bool {
        let line = self.rows[layer as usize].active().get(index as usize);
        line.is_some_and(|line| line.launched == number && line.is_alive())
    }

    /// Whether the attempt may have a process though it is not launched.
    pub(crate) fn is_offered(&self, (layer, index, number): Key) -> bool {
        let line = self.rows[layer as usize].active().get(index as usize);
        line.is_some_and(|line| line.offered.is_some() && line.launched + 1 == number)
    }

    /// Whether the attempt was offered, and is not wanted any more.
    pub(crate) fn is_void(&self, (layer, index, number): Key) -> bool {
        let line = self.rows[layer as usize].lines.get(index as usize);
        line.is_some_and(|line| line.void.contains(&number))
    }

    /// Whether a layer needs this one, or there is none to need.
    fn needs(case: &Case, id: u32, need: Option<LayerId>) -> bool {
        need.is_none_or(|need| case.plan.needs(LayerId(id)).contains(&need))
    }

    /// A task of this layer did not end well, or has left something, so nothing that was offered after it has begun.
    fn drop_offers(&mut self, need: LayerId) {
        let rows = (0..).zip(&mut self.rows).filter(|(id, _)| Model::needs(&self.case, *id, Some(need)));
        rows.flat_map(|(_, row)| &mut row.lines).for_each(|line| line.offered = None);
    }

    /// Nothing that is offered is wanted any more, or nothing that needs this layer; what has begun has its number.
    fn void_offers(&mut self, need: Option<LayerId>) {
        let rows = (0..).zip(&mut self.rows).filter(|(id, _)| Model::needs(&self.case, *id, need));
        for line in rows.flat_map(|(_, row)| &mut row.lines) {
            if line.offered.take().is_some() {
                line.launched += 1;
                line.void.push(line.launched);
            }
        }
    }

    /// Layers that must not run again now, since one that needs them is under way.
    pub(crate) fn under_way(&self, (layers, splits): &Again) -> bool {
        let is_busy = |split: &Split| {
            let line = self.rows[split.layer.at()].active().get(split.index as usize);
            line.is_some_and(Line::is_busy)
        };
        let again = self.downstream(&self.closed(layers, splits));
        splits.iter().any(is_busy)
            || self.rows.iter().zip(again).any(|(row, again)| again && row.active().iter().any(Line::is_busy))
    }

    /// These layers, and those that need the layers of these splits.
    fn closed(&self, layers: &[LayerId], splits: &[Split]) -> Vec<LayerId> {
        let needs = |id: &LayerId| splits.iter().any(|split| self.case.plan.needs(*id).contains(&split.layer));
        let dependants = (0..self.rows.len() as u32).map(LayerId).filter(needs);
        layers.iter().copied().chain(dependants).collect()
    }

    fn downstream(&self, of: &[LayerId]) -> Vec<bool> {
        let mut flags = vec![false; self.rows.len()];
        for id in of {
            flags[id.at()] = true;
        }
        for layer in self.case.order.iter().copied() {
            flags[layer.at()] |= self.case.plan.needs(layer).iter().any(|need| flags[need.at()]);
        }
        flags
    }

    /// Takes note of an event, or says what is wrong with it.
    pub(crate) fn apply(&mut self, event: &Event, now_ms: u64) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("{}: {why}", told(event)));
        if self.ended.is_some() && !matches!(event, Event::ExecutionResumed { .. }) {
            return wrong("the execution has ended");
        }
        match event {
            Event::AttemptOffered { attempt, outputs } => self.offered(*attempt, *outputs).or_else(|why| wrong(&why)),
            Event::AttemptLaunched { attempt, outputs, memory: less } => {
                self.launched(*attempt, *outputs, *less).or_else(|why| wrong(&why))
            }
            Event::AttemptStarted { attempt, .. } => {
                if self.line(*attempt).stage != Stage::Launched || self.line(*attempt).launched != attempt.number {
                    return wrong("it was not launched, or has started before");
                }
                self.line(*attempt).stage = Stage::Started;
                Ok(())
            }
            Event::AttemptExited { attempt, exit } => {
                if !self.is_alive(key(*attempt)) {
                    return wrong("it is not running");
                }
                self.exited(*attempt, exit).or_else(|why| wrong(&why))
            }
            Event::AttemptPublished { attempt, artifacts: published } => {
                if self.line(*attempt).stage != Stage::Adopting || self.line(*attempt).launched != attempt.number {
                    return wrong("it has not exited well, or has published before");
                }
                let Some(left) = self.leaving.remove(&key(*attempt)) else { return wrong("it has never begun") };
                if !published.is_empty() {
                    self.drop_offers(attempt.split.layer);
                }
                if artifacts(&left) != *published {
                    return wrong(&format!("it has left {left:?}"));
                }
                let line = self.line(*attempt);
                (line.stage, line.left) = (Stage::Good, left);
                line.published += 1;
                self.follow();
                Ok(())
            }
            Event::AttemptRejected { attempt, .. } => {
                if self.line(*attempt).stage != Stage::Adopting || self.line(*attempt).launched != attempt.number {
                    return wrong("it has not exited well");
                }
                self.void_offers(Some(attempt.split.layer));
                self.charge(*attempt, Failure::Rejected).or_else(|why| wrong(&why))
            }
            Event::RetryScheduled { attempt, delay_ms, .. } => {
                if self.line(*attempt).stage != Stage::Tired {
                    return wrong("it has not failed");
                }
                let retry = self.case.flow.layer(attempt.split.layer).retry.clone();
                let exponent = self.line(*attempt).charged as i32 - 1;
                let least = retry.delay.as_millis() as f64 * retry.backoff.powi(exponent);
                let least = retry.max_delay.map_or(least, |most| least.min(most.as_millis() as f64));
                let most = least * (1.0 + retry.jitter) + 1.0;
                if (*delay_ms as f64) < least.floor() || *delay_ms as f64 > most {
                    return wrong(&format!("the pause should be from {least} to {most} ms"));
                }
                self.line(*attempt).stage = Stage::Resting { since_ms: now_ms, delay_ms: *delay_ms };
                Ok(())
            }
            Event::RetryDue { split } => self.due(*split, now_ms).or_else(|why| wrong(&why)),
            Event::CancelRequested { .. } => {
                self.cancelled = true;
                self.cancelled_ms.get_or_insert(now_ms);
                self.stop();
                Ok(())
            }
            Event::ExecutionEnded { outcome } => self.end(*outcome).or_else(|why| wrong(&why)),
            Event::ExecutionResumed { again, splits, .. } => {
                self.resume(&(again.clone(), splits.clone()), now_ms).or_else(|why| wrong(&why))
            }
            Event::LayerOpened { layer, splits, each } => {
                self.opened(layer.0, *splits, each.as_ref()).or_else(|why| wrong(&why))
            }
            Event::LayerSkipped { layer } => self.answered(layer.0, &Decided::Skip).or_else(|why| wrong(&why)),
            Event::LayerFailed { layer, .. } => self.answered(layer.0, &Decided::Fail).or_else(|why| wrong(&why)),
            Event::AttemptSized { attempt, cpu_millis, memory } => {
                self.sized(*attempt, (*cpu_millis, *memory)).or_else(|why| wrong(&why))
            }
            Event::SplitKeyed { split, .. } => self.keyed(*split).or_else(|why| wrong(&why)),
            Event::SplitCached { split, artifacts, from, .. } => {
                self.cached(*split, artifacts, from.split).or_else(|why| wrong(&why))
            }
        }
    }

    fn due(&mut self, split: Split, now_ms: u64) -> Result<(), String> {
        let line = self.line(Attempt { split, number: 0 });
        let Stage::Resting { since_ms, delay_ms } = line.stage else {
            let is_late = line.stage == Stage::Cancelled;
            return if is_late { Ok(()) } else { Err("it does not rest".to_owned()) };
        };
        (line.stage, line.sized) = (Stage::Idle, None);
        let (rested, counted) = (now_ms - since_ms, now_ms - since_ms.max(self.began_ms));
        if rested + self.clock_jumped_ms < delay_ms {
            return Err(format!("it has rested {rested} ms of {delay_ms}"));
        }
        // Alarms tell milliseconds.
        if counted > delay_ms + 2 {
            return Err(format!("it has rested {counted} ms of {delay_ms} under one scheduler"));
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) -> Result<(), String> {
        let settled = |line: &Line| !line.is_busy() && !matches!(line.stage, Stage::Tired | Stage::Resting { .. });
        if let Some(layer) = self.rows.iter().position(|row| !row.active().iter().all(settled)) {
            return Err(format!("L{layer} is not settled: {:?}", self.rows[layer]));
        }
        let expected = match (0..self.rows.len() as u32).all(|layer| self.is_well(layer)) {
            true => Outcome::Finished,
            false if self.cancelled => Outcome::Cancelled,
            false => Outcome::Failed,
        };
        self.ended = Some(outcome);
        if outcome == expected { Ok(()) } else { Err(format!("it should be {expected:?}")) }
    }

    fn resume(&mut self, named: &Again, now_ms: u64) -> Result<(), String> {
        if self.under_way(named) {
            return Err("something is under way that reads what would change".to_owned());
        }
        let again = self.downstream(&self.closed(&named.0, &named.1));
        if again.contains(&true) {
            self.void_offers(None);
        }
        let case = Arc::clone(&self.case);
        for ((row, again), shape) in self.rows.iter_mut().zip(again).zip(&case.shapes) {
            if again || matches!(row.phase, Phase::Shut | Phase::Failed) {
                row.phase = if shape.asks() { Phase::Shut } else { Phase::Open };
                (row.each, row.count) = (None, 1);
                row.lines.iter_mut().for_each(Line::begin_anew);
            } else if row.phase == Phase::Open {
                for line in &mut row.lines[..row.count] {
                    match line.stage {
                        Stage::Failed | Stage::Cancelled => line.begin_anew(),
                        // What was found out may not be so any more.
                        Stage::Idle => (line.keyed, line.sized) = (false, None),
                        _ => {}
                    }
                }
            }
        }
        self.rows.iter_mut().flat_map(|row| &mut row.lines).for_each(|line| line.offered_now = false);
        for split in &named.1 {
            let row = &mut self.rows[split.layer.at()];
            let line = row.lines[..row.count].get_mut(split.index as usize).filter(|_| row.phase == Phase::Open);
            if let Some(line) = line.filter(|line| matches!(line.stage, Stage::Good | Stage::Failed | Stage::Cancelled))
            {
                line.begin_anew();
            }
        }
        self.insisted.0.extend(&named.0);
        self.insisted.1.extend(&named.1);
        (self.cancelled, self.stopping, self.ended) = (false, false, None);
        (self.began_ms, self.cancelled_ms) = (now_ms, None);
        self.follow();
        Ok(())
    }

    pub(crate) fn line(&mut self, attempt: Attempt) -> &mut Line {
        &mut self.rows[attempt.split.layer.at()].lines[attempt.split.index as usize]
    }

    fn exited(&mut self, attempt: Attempt, exit: &Exit) -> Result<(), String> {
        let (cancelled, stopping) = (self.cancelled, self.stopping);
        if !matches!(exit.cause, Cause::Code(0) | Cause::Lost) {
            self.drop_offers(attempt.split.layer);
        }
        let good = match exit.cause {
            Cause::Code(code) => code == 0 || self.case.flow.layer(attempt.split.layer).catch.contains(&code),
            _ => false,
        };
        let line = self.line(attempt);
        line.sized = None;
        line.caught = good && exit.cause != Cause::Code(0);
        match exit.cause {
            _ if good => line.stage = Stage::Adopting,
            Cause::Cancelled if cancelled => line.stage = Stage::Cancelled,
            Cause::Lost | Cause::Cancelled if line.lost < LOST_IN_A_ROW => {
                line.lost += 1;
                line.stage = if stopping { Stage::Cancelled } else { Stage::Idle };
            }
            _ => return self.charge(attempt, Failure::Exit(&exit.cause)),
        }
        Ok(())
    }

    fn charge(&mut self, attempt: Attempt, failure: Failure<'_>) -> Result<(), String> {
        let case = Arc::clone(&self.case);
        let retry = &case.flow.layer(attempt.split.layer).retry;
        let attempts = retry.attempts;
        let (stopping, on_failure) = (self.stopping, self.case.flow.on_failure);
        let line = self.line(attempt);
        line.charged += 1;
        line.lost = 0;
        line.out_of_memory += u32::from(failure == Failure::Exit(&Cause::OutOfMemory) && !line.is_cut);
        if line.charged > attempts {
            return Err(format!("{} attempts are charged, of {attempts}", line.charged));
        }
        if line.charged < attempts && !stopping && retry.covers(failure) {
            line.stage = Stage::Tired;
            return Ok(());
        }
        line.stage = Stage::Failed;
        if on_failure == OnFailure::Stop {
            self.stop();
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.void_offers(None);
        }
        for line in self.rows.iter_mut().flat_map(|row| &mut row.lines[..row.count]) {
            if matches!(line.stage, Stage::Idle | Stage::Tired | Stage::Resting { .. }) {
                line.stage = Stage::Cancelled;
            }
        }
    }
}
