//! The world that outlives schedulers: virtual time, processes, what the executor remembers of them, the log and the
//! objects. Nothing in it has a thread or a clock: whoever looks brings it up to the present first.
//!
//! It checks what must always hold, and takes note of the first thing that does not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use laminar_core::datastore::{Artifact, Digest};
use laminar_core::event::Record;
use laminar_core::executor::{Cause, Exit, Task, Usage};
use laminar_core::fake::Memory;
use laminar_core::id::{ExecutionId, Split as SplitId};
use laminar_core::scheduler::State as Split;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::faults::{Fault, Figures, Weather};
use crate::flows::{Case, Leaves, Step};
use crate::model::{Files, Key, Model, attempt, name};
use crate::sabotage::Sabotage;

/// More than this is done in no execution that gets anywhere.
const MOST_STEPS: u64 = 100_000;

/// The name of an entry that cannot be an artifact.
pub(crate) const RUBBISH: &str = "socket";

/// What a scheduler unwinds with that dies within a call.
pub(crate) struct Died;

/// A process, or what the executor remembers of it.
pub(crate) struct Process {
    pub(crate) stage: Stage,
    /// Told whenever the stage, or the end that is in sight, has changed.
    pub(crate) changed: Arc<Notify>,
    pub(crate) outputs: PathBuf,
    inputs: PathBuf,
    read: Views,
    leaves: Vec<(String, String)>,
    step: Step,
}

pub(crate) type Views = BTreeMap<String, Files>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    /// There is a place for it, and it was never started.
    Created,
    Running {
        ends_ms: u64,
        exit: End,
    },
    Over(Exit),
    /// It ran, and nobody knows how it ended.
    Gone,
}

/// What is in sight for a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Itself,
    TimeUp,
    Stopped,
    /// The executor loses it.
    Gone,
    /// The executor loses it, and all memory of it.
    Forgotten,
}

/// What outlives schedulers. One lock, never held over a pause.
pub(crate) struct World {
    state: Mutex<State>,
    /// The present scheduler is dead, and its runtime will be dropped: nobody may do anything.
    dead: AtomicBool,
    /// What was run before, in all executions.
    pub(crate) memory: Memory,
}

pub(crate) struct State {
    pub(crate) case: Arc<Case>,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) model: Model,
    pub(crate) processes: BTreeMap<Key, Process>,
    /// Ends in sight.
    agenda: BTreeSet<(u64, Key)>,
    /// Attempts whose process ran, whatever anybody remembers.
    pub(crate) ran: BTreeSet<Key>,
    pub(crate) log: Vec<Record>,
    pub(crate) execution: ExecutionId,
    /// The states of splits as the store was told them.
    pub(crate) states: BTreeMap<SplitId, Split>,
    pub(crate) objects: HashMap<[u8; 32], Arc<str>>,
    /// Those that are not used again until they are stored again.
    pub(crate) damaged: BTreeSet<[u8; 32]>,
    /// What who has a key must leave, in all executions.
    pub(crate) promised: HashMap<Digest, Files>,
    /// What was left by who was remembered last, where the cache mixes it up.
    pub(crate) mixed_up: Option<Vec<Artifact>>,
    pub(crate) figures: Figures,
    pub(crate) now_ms: u64,
    /// The wall clock's difference to virtual time.
    pub(crate) wall_offset_ms: i64,
    pub(crate) present: Incarnation,
    pub(crate) broken: Option<String>,
    /// Nothing fails any more.
    pub(crate) is_calm: bool,
    /// How the first scheduler ends, and at which of its appends.
    pub(crate) planned: Option<(u64, Fault)>,
    death: Arc<Notify>,
    steps: u64,
    trace: Option<Vec<String>>,
}

/// What is known of the scheduler that is alive.
#[derive(Default)]
pub(crate) struct Incarnation {
    /// When it began, in virtual time and by tokio's clock.
    pub(crate) began: Option<(u64, Instant)>,
    /// The executor is ready, and was not released.
    pub(crate) prepared: bool,
    /// The executor was ready at some time.
    pub(crate) was_prepared: bool,
    /// How often it has appended.
    appends: u64,
    /// An append has failed: it is on its way out.
    pub(crate) failing: bool,
    /// A successor has taken over, and it has been told.
    pub(crate) shut_out: bool,
    /// It has recorded something: it could go on.
    pub(crate) recorded: bool,
    /// The engine answers nobody until then.
    pub(crate) down_until_ms: u64,
    /// Something has failed that explains why the executor has something left.
    pub(crate) leftovers_explained: bool,
    /// The user has asked it to end: then it does not wait until the executor has forgotten everything.
    pub(crate) in_a_hurry: bool,
    pub(crate) failed_stops: HashMap<Key, u32>,
    /// When the engine has heard of a task that it is there.
    pub(crate) heard_of_ms: HashMap<Key, u64>,
    pub(crate) asked_to_stop: BTreeSet<Key>,
    /// What it has launched, under its limits.
    pub(crate) launched: BTreeSet<Key>,
    /// What stands in line, and what is over and has closed it.
    pub(crate) line: VecDeque<Key>,
    pub(crate) closed_by: BTreeSet<Key>,
    /// What is offered, by the task that it comes after.
    pub(crate) offers: BTreeMap<Key, (Key, Task)>,
    /// Told whenever somebody else may be next.
    pub(crate) moved: Arc<Notify>,
}

impl World {
    pub(crate) fn new(
        case: Arc<Case>,
        weather: Weather,
        sabotage: Option<Sabotage>,
        traced: bool,
        execution: ExecutionId,
    ) -> World {
        let state = State {
            dice: Dice::new(case.seed, 2),
            weather,
            sabotage,
            model: Model::new(Arc::clone(&case)),
            processes: BTreeMap::new(),
            agenda: BTreeSet::new(),
            ran: BTreeSet::new(),
            log: Vec::new(),
            execution,
            states: BTreeMap::new(),
            objects: HashMap::new(),
            damaged: BTreeSet::new(),
            promised: HashMap::new(),
            mixed_up: None,
            figures: Figures::default(),
            now_ms: 0,
            wall_offset_ms: 1_700_000_000_000,
            present: Incarnation::default(),
            broken: None,
            is_calm: false,
            planned: None,
            death: Arc::default(),
            steps: 0,
            trace: traced.then(Vec::new),
            case,
        };
        World { state: Mutex::new(state), dead: AtomicBool::new(false), memory: Memory::default() }
    }

    /// The state, brought up to the present.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = match state.present.began {
            Some((began_ms, instant)) => began_ms + instant.elapsed().as_millis() as u64,
            None => state.now_ms,
        };
        state.advance(now_ms);
        state
    }

    /// An execution begins; what was run before is there still.
    pub(crate) fn begin_execution(&self, execution: ExecutionId, weather: Weather) {
        let mut state = self.state();
        (state.execution, state.weather, state.is_calm) = (execution, weather, false);
        state.figures.executions += 1;
        state.figures.layers += state.case.parts.len() as u64;
        state.figures.events += state.log.len() as u64;
        state.log.clear();
        state.states.clear();
        state.ran.clear();
        state.agenda.clear();
        state.model = Model::new(Arc::clone(&state.case));
        // What nobody has on record may be lost.
        let mut lost: Vec<_> = state.objects.keys().copied().collect();
        lost.sort_unstable();
        lost.retain(|_| state.dice.one_in(2) && state.happens(Fault::ObjectLost));
        state.objects.retain(|hash, _| !lost.contains(hash));
        state.note(|| format!("execution {execution}"));
    }

    /// What blocks is done only while the scheduler is alive.
    pub(crate) fn must_be_alive(&self) {
        if self.is_dead() || self.state().broken.is_some() {
            std::panic::resume_unwind(Box::new(Died));
        }
    }

    /// A scheduler begins, within its runtime. What is returned is told when it dies.
    pub(crate) fn begin(&self) -> Arc<Notify> {
        let mut state = self.state();
        let now_ms = state.now_ms;
        state.present = Incarnation { began: Some((now_ms, Instant::now())), ..Incarnation::default() };
        state.death = Arc::default();
        state.steps = 0;
        state.figures.incarnations += 1;
        self.dead.store(false, Ordering::Relaxed);
        Arc::clone(&state.death)
    }

    /// The scheduler is no more: within its runtime still, since time passes there.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.present.began = None;
        self.dead.store(true, Ordering::Relaxed);
    }

    /// The scheduler died within a call, and its runtime with it.
    pub(crate) fn died(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.present.began = None;
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Time passes while there is no scheduler.
    pub(crate) fn pass(&self, ms: u64) {
        let mut state = self.state();
        let now_ms = state.now_ms + ms;
        state.advance(now_ms);
    }

    /// Comes back only while the scheduler is alive.
    pub(crate) async fn alive(&self) {
        if self.dead.load(Ordering::Relaxed) || self.state().broken.is_some() {
            std::future::pending().await
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// The scheduler dies here and now.
    pub(crate) fn die(&self) -> ! {
        self.dead.store(true, Ordering::Relaxed);
        self.state().death.notify_one();
        std::panic::resume_unwind(Box::new(Died))
    }

    pub(crate) fn finish(self) -> (Figures, Vec<String>, Option<String>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut figures = state.figures;
        figures.events += state.log.len() as u64;
        figures.virtual_ms = state.now_ms;
        (figures, state.trace.unwrap_or_default(), state.broken)
    }
}

impl State {
    /// Whether this happens now.
    pub(crate) fn happens(&mut self, fault: Fault) -> bool {
        let rate = self.weather.rate(fault);
        let happens = self.dice.one_in(rate);
        if happens {
            self.figures.met(fault);
            self.note(|| format!("fault     {}", fault.word()));
        }
        happens
    }

    /// How the scheduler is to end at this append, if that was planned.
    pub(crate) fn planned_end(&mut self) -> Option<Fault> {
        self.present.appends += 1;
        let (_, fault) = self.planned.take_if(|(number, _)| *number == self.present.appends)?;
        self.figures.met(fault);
        Some(fault)
    }

    pub(crate) fn is_sabotaged(&mut self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now_ms = self.now_ms;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now_ms:>9} ms  {}", line()));
        }
    }

    /// Something that must hold does not. Only the first is told; the scheduler is dead from here on.
    pub(crate) fn breaks(&mut self, promise: impl FnOnce() -> String) {
        if self.broken.is_none() {
            let text = promise();
            self.note(|| format!("BROKEN    {text}"));
            self.broken = Some(text);
            self.death.notify_one();
        }
    }

    /// Counts what is done, so that no run is endless without time passing.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            self.breaks(|| format!("{MOST_STEPS} steps, and no end"));
        }
    }

    fn advance(&mut self, now_ms: u64) {
        while let Some((ends_ms, key)) = self.agenda.first().copied().filter(|(ends_ms, _)| *ends_ms <= now_ms) {
            self.agenda.pop_first();
            self.now_ms = self.now_ms.max(ends_ms);
            self.ends(key);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A process begins; everything that must be true then is checked.
    pub(crate) fn begin(&mut self, key: Key, task: &Task) {
        self.check_begin(key, task);
        let read = self.check_inputs(key, task);
        let charged = self.model.rows[key.0 as usize].lines[key.1 as usize].charged;
        let mut steps = self.case.steps(key.0, key.1);
        let step = steps.swap_remove((charged as usize).min(steps.len() - 1));
        let all = self.model.leaves(key);
        let leaves = match step.leaves {
            Leaves::All => all.clone().into_iter().collect(),
            Leaves::Less => all.clone().into_iter().skip(1).collect(),
            Leaves::Rubbish => vec![(RUBBISH.to_owned(), String::new())],
            Leaves::Nothing => Vec::new(),
        };
        self.model.leaving.insert(key, all);
        let timeout_ms = task.timeout.map_or(u64::MAX, |timeout| timeout.as_millis() as u64);
        let (mut lasts_ms, mut exit) = match step.lasts_ms <= timeout_ms {
            true => (step.lasts_ms, End::Itself),
            false => (timeout_ms + step.obeys_ms.unwrap_or(task.grace.as_millis() as u64), End::TimeUp),
        };
        for (fault, end) in [(Fault::TaskGone, End::Gone), (Fault::TaskForgotten, End::Forgotten)] {
            if self.happens(fault) {
                (lasts_ms, exit) = (self.dice.below(lasts_ms + 1), end);
            }
        }
        let ends_ms = self.now_ms + lasts_ms;
        self.note(|| format!("begins    {} until {ends_ms} ms, {exit:?} ({:?})", name(key), step.cause));
        self.ran.insert(key);
        self.figures.processes += 1;
        self.agenda.insert((ends_ms, key));
        let changed = self.processes.get(&key).map_or_else(Arc::default, |created| Arc::clone(&created.changed));
        let process = Process {
            stage: Stage::Running { ends_ms, exit },
            changed,
            outputs: task.outputs.clone(),
            inputs: task.inputs.folder.clone(),
            read,
            leaves,
            step,
        };
        self.processes.insert(key, process);
    }

    /// A place for a process is made, and it is not started.
    pub(crate) fn create(&mut self, key: Key) {
        let step = Step { lasts_ms: 0, cause: Cause::Lost, leaves: Leaves::Nothing, obeys_ms: None };
        let process = Process {
            stage: Stage::Created,
            changed: Arc::default(),
            outputs: PathBuf::new(),
            inputs: PathBuf::new(),
            read: Views::new(),
            leaves: Vec::new(),
            step,
        };
        self.processes.entry(key).or_insert(process);
    }

    /// A process ends as it was in sight.
    fn ends(&mut self, key: Key) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Stage::Running { exit: end, .. } = process.stage.clone() else { return };
        process.changed.notify_waiters();
        // What it reads must not change while it runs.
        let read = read_views(&process.inputs, process.read.keys());
        let same = read == process.read;
        let exit = match end {
            End::Itself => Some(process.step.cause.clone()),
            End::TimeUp => Some(Cause::TimedOut),
            End::Stopped => Some(Cause::Cancelled),
            End::Gone | End::Forgotten => None,
        };
        // One that is ended from outside leaves half of it.
        let leaves = if end == End::Itself { process.leaves.len() } else { process.leaves.len() / 2 };
        for (path, text) in &process.leaves[..leaves] {
            if let Err(error) = write(&process.outputs, path, text) {
                let text = format!("{} cannot write {path}: {error}", name(key));
                return self.breaks(|| text);
            }
        }
        let is_good = exit == Some(Cause::Code(0));
        let leaves_nothing = std::fs::read_dir(&process.outputs).is_ok_and(|mut left| left.next().is_none());
        if exit.is_some() && !is_good {
            self.present.closed_by.insert(key);
        }
        self.present.moved.notify_waiters();
        process.stage = match exit {
            Some(cause) => Stage::Over(Exit { cause, evidence: String::new(), usage: Usage::default() }),
            None => Stage::Gone,
        };
        let told = self.log.iter().any(
            |record| matches!(&record.event, laminar_core::event::Event::AttemptStarted { attempt: of, .. } if *of == attempt(key)),
        );
        // One that is not known to have started would be started again.
        if end == End::Forgotten && told {
            self.processes.remove(&key);
        }
        self.note(|| format!("ends      {} ({end:?})", name(key)));
        self.check_cancel(key, &end);
        // Also where something stands in line: it may have come there a moment later.
        let next = self.present.offers.remove(&key).filter(|_| self.present.began.is_some() && !self.present.shut_out);
        if let Some((next, task)) = next
            && (is_good && leaves_nothing && self.present.closed_by.is_empty())
        {
            self.figures.followed += 1;
            self.begin(next, &task);
        }
        if !same {
            self.breaks(|| format!("what {} reads has changed to {read:?} meanwhile", name(key)));
        }
    }

    /// TERM reaches a process: it ends before `kill_ms` if it obeys. Says whether it runs.
    pub(crate) fn term(&mut self, key: Key) -> bool {
        let now_ms = self.now_ms;
        match self.processes.get(&key).map(|process| (&process.stage, process.step.obeys_ms)) {
            Some((Stage::Running { .. }, Some(obeys_ms))) => self.end_by(key, now_ms + obeys_ms),
            Some((Stage::Running { .. }, None)) => {}
            _ => return false,
        }
        true
    }

    /// KILL reaches a process.
    pub(crate) fn kill(&mut self, key: Key) {
        self.end_by(key, self.now_ms);
        self.advance(self.now_ms);
    }

    fn end_by(&mut self, key: Key, by_ms: u64) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if let Stage::Running { ends_ms, exit } = &mut process.stage
            && *ends_ms > by_ms
        {
            self.agenda.remove(&(*ends_ms, key));
            self.agenda.insert((by_ms, key));
            (*ends_ms, *exit) = (by_ms, End::Stopped);
            process.changed.notify_waiters();
        }
    }

    pub(crate) fn alive(&self) -> Vec<Key> {
        let alive = self.processes.iter().filter(|(_, process)| matches!(process.stage, Stage::Running { .. }));
        alive.map(|(key, _)| *key).collect()
    }
}

/// Writes a file, or makes a folder where the path ends with `/`.
fn write(folder: &Path, path: &str, text: &str) -> std::io::Result<()> {
    if let Some(name) = path.strip_suffix('/') {
        return std::fs::create_dir_all(folder.join(name));
    }
    if let Some((name, _)) = path.rsplit_once('/') {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::fs::write(folder.join(path), text)
}

/// The files of views, by the links that a task has.
pub(crate) fn read_views<'a>(folder: &Path, names: impl Iterator<Item = &'a String>) -> Views {
    let read = |name: &String| {
        let mut files = Files::new();
        // What cannot be read is missing.
        let _ = read_files(&folder.join(name), "", &mut files);
        (name.clone(), files)
    };
    names.map(read).collect()
}

/// All files below a folder, by path; folders end with `/`.
pub(crate) fn read_files(folder: &Path, prefix: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            let path = format!("{path}/");
            read_files(&entry.path(), &path, files)?;
            files.insert(path, String::new());
        } else {
            files.insert(path, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}
