//! What must be true of a log, told a second time and in other words than the scheduler's: each event is held against
//! what came before it. It knows what every layer must leave, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use laminar_core::datastore::{Artifact, Content};
use laminar_core::engine::Limits;
use laminar_core::event::{Event, Outcome};
use laminar_core::executor::{Cause, Exit};
use laminar_core::flow::{Failure, OnFailure};
use laminar_core::id::{Attempt, LayerId, Split};

use crate::flows::{Case, content};
use crate::store::told;

/// Launches in a row that may be lost without a charge.
const LOST_IN_A_ROW: u32 = 3;

/// An attempt of a layer: layers here have one split.
pub(crate) type Key = (u32, u32);

pub(crate) fn attempt((layer, number): Key) -> Attempt {
    Attempt { split: Split { layer: LayerId(layer), index: 0 }, number }
}

fn key(attempt: Attempt) -> Key {
    (attempt.split.layer.0, attempt.number)
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
}

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
    /// What it has left, by name.
    pub(crate) left: BTreeMap<String, String>,
}

/// The state of an execution as the log tells it.
#[derive(Debug)]
pub(crate) struct Model {
    case: Arc<Case>,
    pub(crate) lines: Vec<Line>,
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
        let line = Line {
            stage: Stage::Idle,
            launched: 0,
            charged: 0,
            lost: 0,
            out_of_memory: 0,
            is_cut: false,
            memory: 0,
            outputs: 0,
            published: 0,
            left: BTreeMap::new(),
        };
        let lines = vec![line; case.parts.len()];
        let limits = Limits { jobs: 1, cpu_millis: 0, memory: 0 };
        Model {
            case,
            lines,
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
    pub(crate) fn is_alive(&self, (layer, number): Key) -> bool {
        let line = &self.lines[layer as usize];
        line.launched == number && matches!(line.stage, Stage::Launched | Stage::Started)
    }

    /// What a layer's needs have left.
    pub(crate) fn inputs(&self, layer: u32) -> BTreeMap<String, BTreeMap<String, String>> {
        let needs = self.case.plan.needs(LayerId(layer)).iter();
        let left = needs.map(|need| (format!("L{}", need.0), self.lines[need.at()].left.clone()));
        left.filter(|(_, left)| !left.is_empty()).collect()
    }

    /// What an attempt of a layer that is running leaves if it leaves all, having read this.
    pub(crate) fn leaves(
        &self,
        layer: u32,
        read: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Vec<(String, String)> {
        let published = self.lines[layer as usize].published;
        let names = self.case.parts[layer as usize].names.iter();
        let bytes = |name: &String| {
            let words = read.values().flat_map(BTreeMap::values).map(String::as_str);
            content(self.case.seed, layer, published, name, words)
        };
        names.map(|name| (name.clone(), bytes(name))).collect()
    }

    /// Layers that must not run again now, since one that needs them is under way.
    pub(crate) fn under_way(&self, again: &[LayerId]) -> bool {
        let busy = |line: &Line| matches!(line.stage, Stage::Launched | Stage::Started | Stage::Adopting);
        let again = self.downstream(again);
        self.lines.iter().zip(again).any(|(line, again)| again && busy(line))
    }

    fn downstream(&self, of: &[LayerId]) -> Vec<bool> {
        let mut flags = vec![false; self.lines.len()];
        for id in of {
            flags[id.at()] = true;
        }
        for level in self.case.plan.levels() {
            for layer in level {
                flags[layer.at()] |= self.case.plan.needs(layer).iter().any(|need| flags[need.at()]);
            }
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
                let wanted = self.wanted_memory(attempt.split.layer.0);
                let memory = self.memory(attempt.split.layer.0);
                if *less != (memory < wanted).then_some(memory) {
                    return wrong(&format!("it gets {memory} of {wanted} bytes of memory"));
                }
                let line = self.line(*attempt);
                (line.memory, line.is_cut) = (memory, less.is_some());
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
            Event::AttemptPublished { attempt, artifacts } => {
                if self.line(*attempt).stage != Stage::Adopting || self.line(*attempt).launched != attempt.number {
                    return wrong("it has not exited well, or has published before");
                }
                let layer = attempt.split.layer.0;
                let left: BTreeMap<_, _> = self.leaves(layer, &self.inputs(layer)).into_iter().collect();
                if !left.iter().map(|(name, text)| artifact(name, text)).eq(artifacts.iter().cloned()) {
                    return wrong(&format!("an undisturbed execution has {left:?}"));
                }
                let line = self.line(*attempt);
                (line.stage, line.left) = (Stage::Good, left);
                line.published += 1;
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
            Event::LayerOpened { .. }
            | Event::LayerSkipped { .. }
            | Event::LayerFailed { .. }
            | Event::AttemptSized { .. }
            | Event::SplitKeyed { .. }
            | Event::SplitCached { .. } => wrong("no layer of the simulation asks for that"),
        }
    }

    fn due(&mut self, split: Split, now_ms: u64) -> Result<(), String> {
        let line = &mut self.lines[split.layer.at()];
        let Stage::Resting { since_ms, delay_ms } = line.stage else {
            let is_late = line.stage == Stage::Cancelled;
            return if is_late { Ok(()) } else { Err("it does not rest".to_owned()) };
        };
        line.stage = Stage::Idle;
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
        let settled = |line: &Line| matches!(line.stage, Stage::Idle | Stage::Good | Stage::Failed | Stage::Cancelled);
        if let Some(layer) = self.lines.iter().position(|line| !settled(line)) {
            return Err(format!("L{layer} is not settled: {:?}", self.lines[layer]));
        }
        let expected = match self.lines.iter().all(|line| line.stage == Stage::Good) {
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
        for (line, again) in self.lines.iter_mut().zip(again) {
            if again || matches!(line.stage, Stage::Failed | Stage::Cancelled) {
                (line.stage, line.charged, line.lost) = (Stage::Idle, 0, 0);
                line.left.clear();
            }
        }
        (self.cancelled, self.stopping, self.ended) = (false, false, None);
        (self.began_ms, self.cancelled_ms) = (now_ms, None);
        Ok(())
    }

    fn line(&mut self, attempt: Attempt) -> &mut Line {
        &mut self.lines[attempt.split.layer.at()]
    }

    fn may_launch(&self, (layer, number): Key, outputs: u32) -> Result<(), String> {
        let line = &self.lines[layer as usize];
        if line.stage != Stage::Idle {
            return Err(format!("the layer is {:?}", line.stage));
        }
        if number != line.launched + 1 {
            return Err(format!("{} launches came before", line.launched));
        }
        if self.stopping {
            return Err("nothing new may start".into());
        }
        let needs = self.case.plan.needs(LayerId(layer)).iter();
        if let Some(need) = needs.copied().find(|need| self.lines[need.at()].stage != Stage::Good) {
            return Err(format!("it needs L{}, which is {:?}", need.0, self.lines[need.at()].stage));
        }
        let (mut jobs, mut cpu_millis, mut memory) = (0, 0, 0);
        for (id, line) in (0_u32..).zip(&self.lines) {
            let in_use = matches!(line.stage, Stage::Launched | Stage::Started | Stage::Adopting);
            if in_use && line.outputs == outputs {
                return Err(format!("outputs {outputs} are in use by L{id}"));
            }
            if id == layer || matches!(line.stage, Stage::Launched | Stage::Started) {
                let container = &self.case.flow.layer(LayerId(id)).container;
                jobs += 1;
                cpu_millis += container.cpu_millis.unwrap_or(0);
                memory += if id == layer { self.memory(layer) } else { line.memory };
            }
        }
        let most = self.case.flow.max_parallel.unwrap_or(u32::MAX).min(self.limits.jobs).max(1);
        // A layer that asks for nothing takes nothing from limits that changed under those that run.
        let container = &self.case.flow.layer(LayerId(layer)).container;
        let cpu_exceeded = container.cpu_millis.is_some() && cpu_millis > self.limits.cpu_millis;
        let memory_exceeded = container.memory.is_some() && memory > self.limits.memory;
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

    /// The memory that an attempt of a layer has which is launched now: what it is to have, up to what there is.
    fn memory(&self, layer: u32) -> u64 {
        let asked = self.case.flow.layer(LayerId(layer)).container.memory.unwrap_or(0);
        self.wanted_memory(layer).min(self.limits.memory).max(asked)
    }

    /// The memory that it is to have: more after each attempt that was out of what it was to have.
    fn wanted_memory(&self, layer: u32) -> u64 {
        let spec = self.case.flow.layer(LayerId(layer));
        let asked = spec.container.memory.unwrap_or(0);
        let mut memory = asked;
        for _ in 0..self.lines[layer as usize].out_of_memory {
            memory = (memory as f64 * spec.retry.memory.unwrap_or(1.0)) as u64;
        }
        memory.min(spec.retry.max_memory.unwrap_or(u64::MAX)).max(asked)
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
        for line in &mut self.lines {
            if matches!(line.stage, Stage::Idle | Stage::Tired | Stage::Resting { .. }) {
                line.stage = Stage::Cancelled;
            }
        }
    }
}

/// How the simulated datastore names bytes.
pub(crate) fn artifact(name: &str, text: &str) -> Artifact {
    let mut hash = [0; 32];
    for (at, byte) in text.bytes().enumerate() {
        hash[at % 32] ^= byte;
    }
    let digest = laminar_core::datastore::Digest { hash, executable: false };
    Artifact { name: name.to_owned(), content: Content::File { digest, size: text.len() as u64 } }
}
