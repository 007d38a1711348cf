//! One simulated execution: schedulers one after another, each on a runtime of its own whose time is virtual, until the
//! execution has settled as an undisturbed one would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::engine::{self, Blocking, Control, EngineError, Limits, Progress, Reporter, Run};
use laminar_core::event::{Outcome, Record};
use laminar_core::executor::Session;
use laminar_core::flow::OnFailure;
use laminar_core::folder::{ExecutionFolder, Root};
use laminar_core::id::{ExecutionId, LayerId, Split};
use laminar_core::scheduler::{Scheduler, State};
use laminar_core::store::StoreError;

use crate::datastore::SimulatedDatastore;
use crate::executor::SimulatedExecutor;
use crate::faults::{Fault, Figures, Weather};
use crate::flows::Case;
use crate::model::{Again, Phase, Stage, name};
use crate::runs::SimulatedRuns;
use crate::sabotage::Sabotage;
use crate::shapes::{MOOD, SOURCE};
use crate::store::SimulatedStore;
use crate::world::{self, Died, World};

/// When no scheduler has said how the execution ended by then, it never will.
const FOREVER: Duration = Duration::from_secs(100 * 24 * 3600);

/// The most schedulers with faults.
const MOST_TROUBLED: u64 = 6;

/// The most executions of one flow.
const MOST_EXECUTIONS: u64 = 3;

/// What is simulated: a seed tells everything; the rest makes it less.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    /// At most this many layers.
    pub(crate) layers: Option<u64>,
    /// Without these faults.
    pub(crate) without: Vec<Fault>,
    pub(crate) sabotage: Option<Sabotage>,
    /// No weather: the first scheduler ends like this at its n-th append.
    pub(crate) planned: Option<(u64, Fault)>,
    /// Whether what happens is written down.
    pub(crate) traced: bool,
}

/// What came of it.
pub(crate) struct Report {
    pub(crate) figures: Figures,
    pub(crate) trace: Vec<String>,
    /// What did not hold, if anything.
    pub(crate) broken: Option<String>,
}

/// How a scheduler ended.
#[derive(Debug)]
enum End {
    Died,
    Returned(Result<Outcome, EngineError>),
    /// It never would.
    Stuck,
    Panicked,
}

/// Simulates one execution. Its folder is made below `root` and removed.
pub(crate) fn simulate(setup: &Setup, root: &Path) -> Report {
    let case = Arc::new(Case::new(setup.seed, setup.layers));
    let mut dice = crate::dice::Dice::new(setup.seed, 3);
    let weather = match setup.planned {
        Some(_) => Weather::CALM,
        None => Weather::new(&mut dice).without(&setup.without),
    };
    let troubled = if setup.planned.is_some() { 1 } else { dice.below(MOST_TROUBLED + 1) };
    let first = execution(setup.seed, 0);
    let world = Arc::new(World::new(Arc::clone(&case), weather.clone(), setup.sabotage, setup.traced, first));
    world.state().planned = setup.planned;
    // Executions of the same flow have something of each other only if it is cached.
    let most = if setup.planned.is_some() { 2 } else { MOST_EXECUTIONS };
    let executions = if case.is_cached() { dice.between(1, most) } else { 1 };
    for number in 0..executions {
        let execution = execution(setup.seed, number);
        let folder = make_folder(root, execution);
        world.begin_execution(execution, weather.clone());
        let mut simulation = Simulation { case: Arc::clone(&case), world: Arc::clone(&world), execution, folder };
        simulation.relay(if number == 0 { troubled } else { dice.below(troubled + 1) });
        // The folder is of no use to anybody, and what cannot be removed is seen by the next one.
        let _ = std::fs::remove_dir_all(simulation.folder.path());
        if simulation.is_broken() {
            break;
        }
    }
    drop(case);
    match Arc::try_unwrap(world) {
        Ok(world) => {
            let (figures, trace, broken) = world.finish();
            Report { figures, trace, broken }
        }
        Err(_) => Report {
            figures: Figures::default(),
            trace: Vec::new(),
            broken: Some("something of a scheduler outlives it".to_owned()),
        },
    }
}

fn execution(seed: u64, number: u64) -> ExecutionId {
    #[expect(clippy::expect_used, reason = "32 hexadecimal digits")]
    format!("{number:016x}{seed:016x}").parse().expect("an id")
}

fn make_folder(root: &Path, execution: ExecutionId) -> ExecutionFolder {
    #[expect(clippy::expect_used, reason = "nothing can be simulated without a folder")]
    let folder = Root::new(root).expect("a root").execution(execution);
    for path in [folder.all_outputs(), folder.views(), folder.path().join("inputs")] {
        #[expect(clippy::expect_used, reason = "nothing can be simulated without a folder")]
        std::fs::create_dir_all(path).expect("a folder for the simulation");
    }
    folder
}

struct Simulation {
    case: Arc<Case>,
    world: Arc<World>,
    execution: ExecutionId,
    folder: ExecutionFolder,
}

impl Simulation {
    /// Schedulers one after another: first those with faults, then one without, and one more where that one found the
    /// work of the others half done.
    fn relay(&mut self, troubled: u64) {
        for _ in 0..troubled {
            let end = self.incarnation();
            if self.is_broken() {
                return;
            }
            if matches!(end, End::Returned(Ok(_))) && self.world.state().dice.one_in(2) {
                break;
            }
            let mut state = self.world.state();
            let between = state.dice.moment();
            state.perhaps_set_clock();
            drop(state);
            self.world.pass(between);
        }
        self.world.state().calm();
        for again in [false, true] {
            let end = self.incarnation();
            if self.is_broken() {
                return;
            }
            match end {
                End::Returned(Ok(outcome)) => {
                    let left = self.world.state().processes.len();
                    if left > 0 {
                        return self.breaks(format!("{left} tasks are left for somebody to clean up"));
                    }
                    if again || outcome == Outcome::Finished {
                        return self.check_outcome(outcome);
                    }
                }
                end => return self.breaks(format!("nothing has disturbed it, and it ended with {end:?}")),
            }
        }
    }

    fn breaks(&self, text: String) {
        self.world.state().breaks(|| text);
    }

    fn is_broken(&self) -> bool {
        self.world.state().broken.is_some()
    }

    /// One scheduler, from its beginning to its end, whatever that is.
    fn incarnation(&mut self) -> End {
        let limits = self.limits();
        let again = self.again();
        let (under_way, events, moment) = {
            let mut state = self.world.state();
            state.model.limits = limits;
            state.model.reads_failed = false;
            if state.model.mood.is_empty() || state.happens(Fault::OtherMood) {
                state.model.mood = format!("mood {}", state.dice.below(3));
            }
            if state.model.source.is_empty() || state.happens(Fault::OtherSource) {
                state.model.source = format!("source {}", state.dice.below(3));
                if let Err(error) = std::fs::write(self.folder.path().join(SOURCE), &state.model.source) {
                    state.breaks(|| format!("the source cannot be written: {error}"));
                }
            }
            let (under_way, events) = (state.model.under_way(&again), state.log.len());
            let moment = state.happens(Fault::DiesAtMoment).then(|| state.dice.moment());
            state.note(|| format!("scheduler {limits:?}, again {again:?}, dies after {moment:?} ms"));
            (under_way, events, moment)
        };
        let run = self.run(limits, again);
        let mut reporter = Listener::new(Arc::clone(&self.world));
        #[expect(clippy::expect_used, reason = "a runtime without any file")]
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let world = Arc::clone(&self.world);
        let lived = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let death = world.begin();
                let control = user(&world);
                let end = tokio::select! {
                    biased;
                    () = death.notified() => End::Died,
                    () = tokio::time::sleep(Duration::from_millis(moment.unwrap_or(0))), if moment.is_some() => End::Died,
                    result = engine::run(run, &mut reporter, control) => End::Returned(result),
                    () = tokio::time::sleep(FOREVER) => End::Stuck,
                };
                world.end();
                end
            })
        }));
        let end = lived.unwrap_or_else(|payload| {
            // The time of the death is told by the last who looked.
            self.world.died();
            if payload.is::<Died>() { End::Died } else { End::Panicked }
        });
        drop(runtime);
        self.world.state().note(|| format!("scheduler {end:?}"));
        if !self.is_broken() {
            self.check_end(&end, under_way, events);
        }
        end
    }

    fn run(&self, limits: Limits, (layers, splits): Again) -> Run {
        let world = Arc::clone(&self.world);
        let mood = self.world.state().model.mood.clone();
        Run {
            earlier: Vec::new(),
            flow: Arc::clone(&self.case.flow),
            plan: Arc::clone(&self.case.plan),
            executor: Arc::new(SimulatedExecutor { world: Arc::clone(&world), execution: self.execution }),
            datastore: Arc::new(SimulatedDatastore { world: Arc::clone(&world) }),
            store: Box::new(SimulatedStore { world: Arc::clone(&world), execution: self.execution }),
            folder: self.folder.clone(),
            again: engine::Again { layers, splits, ..Default::default() },
            blocking: Blocking::Inline(Arc::new(move || Duration::from_millis(world.state().dice.latency()))),
            session: Session {
                execution: self.execution,
                flow: Arc::clone(&self.case.flow.name),
                folder: self.folder.path().to_owned(),
                workdir: self.folder.path().to_owned(),
                containers: Vec::new(),
                withheld: Vec::new(),
            },
            limits,
            shares: None,
            grace: Duration::from_millis(self.world.state().dice.moment()),
            secrets: Default::default(),
            environment: [(MOOD.to_owned(), mood)].into(),
            runs: Arc::new(SimulatedRuns { world: Arc::clone(&self.world) }),
        }
    }

    fn limits(&self) -> Limits {
        let Case { cpu_millis, memory, .. } = *self.case;
        let mut state = self.world.state();
        if state.log.is_empty() || state.happens(Fault::OtherLimits) {
            let jobs = state.dice.pick(&[1, 2, 4, 8]);
            let more = state.dice.pick(&[1, 1, 2, 100]);
            // What is known to be asked for is there; what turns out to be may not be.
            let (cpu_millis, memory) = match self.case.is_sized() {
                true => (
                    cpu_millis.max(state.dice.pick(&[1, 5, 50]) * 1000),
                    memory.max((state.dice.pick(&[3, 10, 50]) * 100) << 20),
                ),
                false => (cpu_millis, memory),
            };
            return Limits { jobs, cpu_millis: cpu_millis * more, memory: memory * more };
        }
        // In the end there is enough.
        if state.is_calm && self.case.is_sized() {
            return Limits { cpu_millis: 1 << 30, memory: 1 << 42, ..state.model.limits };
        }
        state.model.limits
    }

    fn again(&self) -> Again {
        let mut state = self.world.state();
        if state.log.is_empty() || !state.happens(Fault::Again) {
            return Again::default();
        }
        let many = self.case.parts.len() as u64;
        let layers: Vec<LayerId> =
            (0..state.dice.between(1, 2)).map(|_| LayerId(state.dice.below(many) as u32)).collect();
        if state.dice.one_in(2) {
            return (layers, Vec::new());
        }
        let splits = layers.into_iter().map(|layer| Split { layer, index: state.dice.below(4) as u32 });
        (Vec::new(), splits.collect())
    }

    /// What must be true when a scheduler has ended.
    fn check_end(&self, end: &End, under_way: bool, events: usize) {
        let mut state = self.world.state();
        let alive = state.alive();
        match end {
            End::Stuck => return state.breaks(|| "nothing more will happen, and it has not ended".to_owned()),
            End::Panicked => return state.breaks(|| "the scheduler panicked".to_owned()),
            End::Died => {
                let present = &state.present;
                let has_ended = state.model.ended.is_some() && present.recorded;
                let is_explained = present.leftovers_explained || present.in_a_hurry || !present.was_prepared;
                if has_ended && !is_explained && !state.processes.is_empty() {
                    let left: Vec<_> = state.processes.keys().copied().map(name).collect();
                    state.breaks(|| format!("its end is on record, and the executor has {left:?} still"));
                }
            }
            End::Returned(Ok(outcome)) => {
                if state.model.ended != Some(*outcome) {
                    let logged = state.model.ended;
                    state.breaks(|| format!("it says {outcome:?}, and the log {logged:?}"));
                }
                if let Some(key) = alive.first() {
                    state.breaks(|| format!("it has ended, and {} is alive", name(*key)));
                }
                if !state.present.leftovers_explained && state.present.was_prepared && !state.processes.is_empty() {
                    let left: Vec<_> =
                        state.processes.iter().map(|(key, process)| (*key, process.stage.clone())).collect();
                    state.breaks(|| format!("it has ended, and the executor has {left:?} still"));
                }
            }
            End::Returned(Err(EngineError::UnderWay { .. })) => {
                if !under_way || state.log.len() != events {
                    state.breaks(|| "it says that something is under way".to_owned());
                }
            }
            End::Returned(Err(EngineError::Illegal(illegal))) => return state.breaks(|| illegal.to_string()),
            End::Returned(Err(EngineError::File { path, source, .. })) => {
                return state.breaks(|| format!("{path:?}: {source}"));
            }
            End::Returned(Err(EngineError::Store(StoreError::ShutOut { .. }))) => {}
            End::Returned(Err(_)) => {
                let unstoppable =
                    |key: &crate::model::Key| state.present.failed_stops.get(key).is_some_and(|failed| *failed >= 10);
                let left = alive.into_iter().find(|key| !unstoppable(key));
                if let Some(key) = left.filter(|_| state.present.recorded) {
                    state.breaks(|| format!("it gave up, and {} is alive", name(key)));
                }
            }
        }
        if under_way && state.log.len() != events {
            state.breaks(|| "layers run again while others read what they left".to_owned());
        }
        state.check_replay();
    }

    /// The end is that of an undisturbed execution.
    fn check_outcome(&self, outcome: Outcome) {
        let mut state = self.world.state();
        let finishers = state.model.finishers();
        let all = finishers.iter().all(|finishes| *finishes);
        let expected = if all { Outcome::Finished } else { Outcome::Failed };
        if outcome != expected {
            state.breaks(|| format!("it ended as {outcome:?}, and would be {expected:?} undisturbed"));
        }
        let continues = self.case.flow.on_failure == OnFailure::Continue;
        for (layer, finishes) in (0..).zip(finishers) {
            let good = state.model.is_well(layer);
            if good && !finishes || !good && finishes && continues {
                state.breaks(|| format!("L{layer} is {}, unlike undisturbed", if good { "good" } else { "not good" }));
            }
        }
        if let Err(wrong) = state.model.check_fates() {
            state.breaks(|| wrong);
        }
    }
}

impl world::State {
    /// No more faults.
    fn calm(&mut self) {
        (self.weather, self.planned, self.is_calm) = (Weather::CALM, None, true);
        self.note(|| "no more faults".to_owned());
    }

    /// The log, told to a scheduler that knows nothing, gives the states that the store was told.
    fn check_replay(&mut self) {
        let mut scheduler = Scheduler::new(&self.case.flow, Arc::clone(&self.case.plan), self.model.limits);
        for (number, record) in (1..).zip(&self.log) {
            if record.seq != number {
                return self.breaks(|| format!("event {number} of the log is missing"));
            }
            if let Err(illegal) = scheduler.apply(&record.event) {
                return self.breaks(|| format!("the log cannot be replayed: {illegal}"));
            }
        }
        for (layer, row) in (0..).map(LayerId).zip(&self.model.rows) {
            let splits = scheduler.splits(layer);
            if splits != (row.phase == Phase::Open).then_some(row.count as u32) {
                let text = format!("L{} has {splits:?} splits by the log, {} by the rules", layer.0, row.count);
                return self.breaks(|| text);
            }
            for (index, line) in (0..).zip(row.active()) {
                let split = Split { layer, index };
                let told = self.states.get(&split).copied().unwrap_or(State::Waiting);
                let state = scheduler.state(split);
                let modelled = match line.stage {
                    Stage::Idle => matches!(told, State::Waiting | State::Ready | State::Cancelled),
                    Stage::Launched | Stage::Started | Stage::Adopting => told == State::Running,
                    Stage::Tired | Stage::Resting { .. } => told == State::Resting,
                    Stage::Good if line.cached => told == State::Cached,
                    Stage::Good if line.caught => told == State::Caught,
                    Stage::Good => told == State::Finished,
                    Stage::Failed => told == State::Failed,
                    Stage::Cancelled => told == State::Cancelled,
                    Stage::Skipped => told == State::Skipped,
                };
                // Of a split that waits or is ready the store is told nothing at first.
                let same = state == Some(told) || matches!((state, told), (Some(State::Ready), State::Waiting));
                if !same || !modelled {
                    let text = format!(
                        "L{}[{index}] is {state:?} by the log, {told:?} by the store, {:?} by the rules",
                        layer.0, line.stage
                    );
                    return self.breaks(|| text);
                }
            }
        }
    }
}

/// Asks for what users ask for, when they do.
fn user(world: &Arc<World>) -> tokio::sync::mpsc::UnboundedReceiver<Control> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    for (fault, control) in [(Fault::Cancel, Control::Cancel), (Fault::Kill, Control::Kill)] {
        let after = {
            let mut state = world.state();
            state.happens(fault).then(|| state.dice.moment())
        };
        let (sender, world) = (sender.clone(), Arc::clone(world));
        if let Some(after) = after {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                world.alive().await;
                world.state().note(|| format!("user      {control:?}"));
                world.state().present.in_a_hurry = true;
                let _ = sender.send(control);
            });
        }
    }
    receiver
}

/// Hears what the engine reports, and holds it against the log.
struct Listener {
    world: Arc<World>,
    heard: usize,
    reports: bool,
}

impl Listener {
    fn new(world: Arc<World>) -> Listener {
        Listener { world, heard: 0, reports: false }
    }

    fn hear(&mut self, record: &Record) {
        let mut state = self.world.state();
        if state.log.get(self.heard) != Some(record) {
            state.breaks(|| format!("event {} is told out of turn", record.seq));
        }
        self.heard += 1;
    }
}

impl Reporter for Listener {
    fn report(&mut self, record: &Record, _: &Progress) {
        self.reports = true;
        self.hear(record);
    }

    fn recall(&mut self, record: &Record, _: &Progress) {
        if self.reports {
            self.world.state().breaks(|| "an event is recalled after others were reported".to_owned());
        }
        self.hear(record);
    }

    fn notice(&mut self, text: &str) {
        self.world.state().note(|| format!("notice    {text}"));
    }
}
