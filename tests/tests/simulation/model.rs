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
    out_of_memory: u32,
    /// Whether its attempt got less.
    is_cut: bool,
    /// What its attempt has reserved.
    pub(crate) memory: u64,
    pub(crate) outputs: u32,
    /// How often it has published.
    pub(crate) published: u32,
    /// What it has left.
    pub(crate) left: Files,
    /// What its attempt has reserved of the cores.
    cpu_millis: u64,
    /// It was looked for in the cache, and will run.
    keyed: bool,
    /// What its next attempt is said to ask for.
    sized: Option<(u64, u64)>,
    /// Its attempt has exited with a code that is caught.
    pub(crate) caught: bool,
    pub(crate) cached: bool,
}

impl Line {
    fn new() -> Line {
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
            caught: false,
            cached: false,
        }
    }

    /// It begins anew, but for the numbers of its attempts and the memory that they have grown to.
    fn begin_anew(&mut self) {
        (self.stage, self.charged, self.lost) = (Stage::Idle, 0, 0);
        (self.keyed, self.sized, self.caught, self.cached) = (false, None, false, false);
        self.left.clear();
    }

    /// What its attempt has reserved, if that was asked for.
    pub(crate) fn reserves(&self) -> Option<(u64, u64)> {
        self.sized
    }

    /// Whether it may have a process.
    fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Launched | Stage::Started)
    }

    fn is_busy(&self) -> bool {
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
    /// The variable that expressions name, under the present scheduler.
    pub(crate) mood: String,
    /// Something could not be read, so expressions may have had no value.
    pub(crate) reads_failed: bool,
    pub(crate) limits: Limits,
    pub(crate) cancelled: bool,
    /// When the first cancel was recorded.
    pub(crate) cancelled_ms: Option<u64>,
    stopping: bool,
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
            mood: String::new(),
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

    /// Layers that must not run again now, since one that needs them is under way.
    pub(crate) fn under_way(&self, again: &[LayerId]) -> bool {
        let again = self.downstream(again);
        self.rows.iter().zip(again).any(|(row, again)| again && row.active().iter().any(Line::is_busy))
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
            Event::AttemptLaunched { attempt, outputs, memory: less } => {
                if let Err(why) = self.may_launch(key(*attempt), *outputs) {
                    return wrong(&why);
                }
                let split = attempt.split;
                let (wanted, memory) = (self.wanted_memory(split), self.memory(split));
                if *less != (memory < wanted).then_some(memory) {
                    return wrong(&format!("it gets {memory} of {wanted} bytes of memory"));
                }
                let cpu_millis = self.base(split).0;
                let line = self.line(*attempt);
                (line.memory, line.cpu_millis, line.is_cut) = (memory, cpu_millis, less.is_some());
                (line.stage, line.launched, line.outputs) = (Stage::Launched, attempt.number, *outputs);
                Ok(())
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
            Event::ExecutionResumed { again, .. } => self.resume(again, now_ms).or_else(|why| wrong(&why)),
            Event::LayerOpened { layer, splits, each } => {
                self.opened(layer.0, *splits, each.as_ref()).or_else(|why| wrong(&why))
            }
            Event::LayerSkipped { layer } => self.answered(layer.0, &Decided::Skip).or_else(|why| wrong(&why)),
            Event::LayerFailed { layer, .. } => self.answered(layer.0, &Decided::Fail).or_else(|why| wrong(&why)),
            Event::AttemptSized { attempt, cpu_millis, memory } => {
                self.sized(*attempt, (*cpu_millis, *memory)).or_else(|why| wrong(&why))
            }
            Event::SplitKeyed { split, .. } => match self.recalled(*split) {
                Ok(Some(line)) => {
                    line.keyed = true;
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(why) => wrong(&why),
            },
            Event::SplitCached { split, artifacts: found, from, .. } => {
                let left = self.leaves((split.layer.0, split.index, 1));
                match self.recalled(*split) {
                    Ok(Some(_)) if artifacts(&left) != *found => wrong(&format!("it would leave {left:?}")),
                    Ok(Some(_)) if from.split != *split => wrong("it is not the same split"),
                    Ok(Some(line)) => {
                        (line.stage, line.cached, line.left) = (Stage::Good, true, left);
                        self.follow();
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(why) => wrong(&why),
                }
            }
        }
    }

    /// Whether an answer about a layer may come, and is not too late.
    fn expects(&self, layer: u32) -> Result<bool, String> {
        let row = &self.rows[layer as usize];
        match (row.phase, row.lines[0].stage) {
            (Phase::Shut, Stage::Cancelled) => Ok(false),
            (Phase::Shut, Stage::Idle) => match self.needs_are_well(layer) {
                Ok(()) => Ok(true),
                Err(why) => Err(why),
            },
            (phase, stage) => Err(format!("the layer is {phase:?}, {stage:?}")),
        }
    }

    fn opened(&mut self, layer: u32, splits: u32, each: Option<&Arc<Each>>) -> Result<(), String> {
        if !self.expects(layer)? {
            return Ok(());
        }
        let expected = self.decides(layer);
        if expected != Decided::Open(each.map(|each| Each::clone(each))) {
            return Err(format!("it should be {expected:?}"));
        }
        if each.map_or(Some(1), |each| each.splits()) != Some(splits) {
            return Err("these are not so many splits".to_owned());
        }
        let row = &mut self.rows[layer as usize];
        (row.phase, row.each, row.count) = (Phase::Open, each.cloned(), splits as usize);
        while row.lines.len() < row.count {
            row.lines.push(Line::new());
        }
        row.lines[..row.count].iter_mut().for_each(Line::begin_anew);
        self.follow();
        Ok(())
    }

    /// A layer is skipped, or nobody can say.
    fn answered(&mut self, layer: u32, answer: &Decided) -> Result<(), String> {
        if !self.expects(layer)? {
            return Ok(());
        }
        let expected = self.decides(layer);
        let is_excused = *answer == Decided::Fail && self.reads_failed;
        if expected != *answer && !is_excused {
            return Err(format!("it should be {expected:?}"));
        }
        let row = &mut self.rows[layer as usize];
        if *answer == Decided::Skip {
            (row.phase, row.lines[0].stage) = (Phase::Skipped, Stage::Skipped);
            self.follow();
        } else {
            (row.phase, row.lines[0].stage) = (Phase::Failed, Stage::Failed);
            if self.case.flow.on_failure == OnFailure::Stop {
                self.stop();
            }
        }
        Ok(())
    }

    fn sized(&mut self, attempt: Attempt, size: (u64, u64)) -> Result<(), String> {
        let asks_for = self.asks_for(key(attempt));
        let limits = self.limits;
        let fits = |(cpu, memory): &(u64, u64)| *cpu <= limits.cpu_millis && *memory <= limits.memory;
        let expected = asks_for.filter(fits).unwrap_or((0, 0));
        let is_excused = self.reads_failed && size == (0, 0);
        let cached = self.case.shapes[attempt.split.layer.at()].cached;
        let ready = self.needs_are_well(attempt.split.layer.0);
        if attempt.split.index as usize >= self.rows[attempt.split.layer.at()].count {
            return Err("there is no such split".to_owned());
        }
        let line = self.line(attempt);
        match line.stage {
            Stage::Cancelled => return Ok(()),
            Stage::Idle if line.sized.is_none() && line.keyed == cached && line.launched + 1 == attempt.number => {}
            _ => return Err(format!("the split is {line:?}")),
        }
        line.sized = Some(size);
        ready?;
        if size == expected || is_excused { Ok(()) } else { Err(format!("it asks for {asks_for:?} of {limits:?}")) }
    }

    /// The split, if an answer of the cache about it may come and is not too late.
    fn recalled(&mut self, split: Split) -> Result<Option<&mut Line>, String> {
        let row = &self.rows[split.layer.at()];
        if row.phase != Phase::Open || !self.case.shapes[split.layer.at()].cached {
            return Err("it is not to be looked for".to_owned());
        }
        match row.active().get(split.index as usize) {
            Some(line) if line.stage == Stage::Cancelled => return Ok(None),
            Some(line) if line.stage == Stage::Idle && !line.keyed => {}
            line => return Err(format!("the split is {line:?}")),
        }
        self.needs_are_well(split.layer.0)?;
        Ok(Some(&mut self.rows[split.layer.at()].lines[split.index as usize]))
    }

    /// Whether a split was cancelled meanwhile.
    pub(crate) fn is_late(&self, split: Split) -> bool {
        let line = self.rows[split.layer.at()].active().get(split.index as usize);
        line.is_none_or(|line| line.stage == Stage::Cancelled)
    }

    fn needs_are_well(&self, layer: u32) -> Result<(), String> {
        let mut needs = self.case.plan.needs(LayerId(layer)).iter();
        match needs.find(|need| !self.is_well(need.0)) {
            Some(need) => Err(format!("it needs L{}, which is {:?}", need.0, self.rows[need.at()])),
            None => Ok(()),
        }
    }

    /// Layers are skipped since something that they need was, unless they are asked.
    fn follow(&mut self) {
        let case = Arc::clone(&self.case);
        for id in case.order.iter().copied() {
            let (shape, row, needs) = (&case.shapes[id.at()], &self.rows[id.at()], case.plan.needs(id));
            let waits = row.lines[0].stage == Stage::Idle && (row.phase == Phase::Shut || !shape.asks());
            let bereft = needs.iter().any(|need| self.rows[need.at()].phase == Phase::Skipped);
            if waits && bereft && shape.when.is_none() && needs.iter().all(|need| self.is_well(need.0)) {
                let row = &mut self.rows[id.at()];
                (row.phase, row.lines[0].stage) = (Phase::Skipped, Stage::Skipped);
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

    fn resume(&mut self, again: &[LayerId], now_ms: u64) -> Result<(), String> {
        if self.under_way(again) {
            return Err("something is under way that reads what would change".to_owned());
        }
        let again = self.downstream(again);
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
        (self.cancelled, self.stopping, self.ended) = (false, false, None);
        (self.began_ms, self.cancelled_ms) = (now_ms, None);
        self.follow();
        Ok(())
    }

    fn line(&mut self, attempt: Attempt) -> &mut Line {
        &mut self.rows[attempt.split.layer.at()].lines[attempt.split.index as usize]
    }

    fn may_launch(&self, (layer, index, number): Key, outputs: u32) -> Result<(), String> {
        let (row, shape) = (&self.rows[layer as usize], &self.case.shapes[layer as usize]);
        let Some(line) = row.active().get(index as usize).filter(|_| row.phase == Phase::Open) else {
            return Err(format!("the layer is {:?} with {} splits", row.phase, row.count));
        };
        if line.stage != Stage::Idle || line.keyed != shape.cached || line.sized.is_some() != shape.is_sized() {
            return Err(format!("the split is {line:?}"));
        }
        if number != line.launched + 1 {
            return Err(format!("{} launches came before", line.launched));
        }
        if self.stopping {
            return Err("nothing new may start".into());
        }
        self.needs_are_well(layer)?;
        let needs = self.case.plan.needs(LayerId(layer)).iter();
        if shape.when.is_none() && needs.copied().any(|need| self.rows[need.at()].phase == Phase::Skipped) {
            return Err("something that it needs was skipped".into());
        }
        let split = attempt((layer, index, number)).split;
        let (asked_cpu, asked_memory) = self.base(split);
        let (mut jobs, mut cpu_millis, mut memory, mut beside) = (1, asked_cpu, self.memory(split), 1);
        for (id, other) in (0_u32..).zip(&self.rows) {
            for line in other.active() {
                if line.is_busy() && line.outputs == outputs {
                    return Err(format!("outputs {outputs} are in use by L{id}"));
                }
                if line.is_alive() {
                    jobs += 1;
                    beside += u32::from(id == layer);
                    cpu_millis += line.cpu_millis;
                    memory += line.memory;
                }
            }
        }
        if let Some(most) = shape.max_parallel.filter(|most| beside > *most) {
            return Err(format!("{beside} splits of it are alive then, of {most}"));
        }
        let most = self.case.flow.max_parallel.unwrap_or(u32::MAX).min(self.limits.jobs).max(1);
        // A layer that asks for nothing takes nothing from limits that changed under those that run.
        let cpu_exceeded = asked_cpu > 0 && cpu_millis > self.limits.cpu_millis;
        let memory_exceeded = asked_memory > 0 && memory > self.limits.memory;
        if jobs > most || cpu_exceeded || memory_exceeded {
            return Err(format!("{jobs} jobs, {cpu_millis} of cpu, {memory} of memory exceed {:?}", self.limits));
        }
        Ok(())
    }

    fn exited(&mut self, attempt: Attempt, exit: &Exit) -> Result<(), String> {
        let (cancelled, stopping) = (self.cancelled, self.stopping);
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

    /// The cores and the memory that the next attempt of a split is said to ask for, whatever those before it had.
    fn base(&self, split: Split) -> (u64, u64) {
        let line = &self.rows[split.layer.at()].lines[split.index as usize];
        let container = &self.case.flow.layer(split.layer).container;
        let fixed = (container.cpu_millis.unwrap_or(0), container.memory.unwrap_or(0));
        if self.case.shapes[split.layer.at()].is_sized() { line.sized.unwrap_or((0, 0)) } else { fixed }
    }

    /// The memory that an attempt has which is launched now: what it is to have, up to what there is.
    fn memory(&self, split: Split) -> u64 {
        self.wanted_memory(split).min(self.limits.memory).max(self.base(split).1)
    }

    /// The memory that it is to have: more after each attempt that was out of what it was to have.
    fn wanted_memory(&self, split: Split) -> u64 {
        let retry = &self.case.flow.layer(split.layer).retry;
        let asked = self.base(split).1;
        let mut memory = asked;
        for _ in 0..self.rows[split.layer.at()].lines[split.index as usize].out_of_memory {
            memory = (memory as f64 * retry.memory.unwrap_or(1.0)) as u64;
        }
        memory.min(retry.max_memory.unwrap_or(u64::MAX)).max(asked)
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

    fn stop(&mut self) {
        self.stopping = true;
        for line in self.rows.iter_mut().flat_map(|row| &mut row.lines[..row.count]) {
            if matches!(line.stage, Stage::Idle | Stage::Tired | Stage::Resting { .. }) {
                line.stage = Stage::Cancelled;
            }
        }
    }
}
