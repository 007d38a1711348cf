//! The loop over a real store and a real datastore, with an executor that plays.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

mod resume;

use super::*;
use crate::datastore::local::LocalDatastore;
use crate::datastore::{Allowed, DatastoreError, Digest, Entry};
use crate::event::Record;
use crate::executor::Cause;
use crate::fake::{Call, FakeExecutor, Part, flow_of, flow_with};
use crate::flow::problem::Format;
use crate::folder::Root;
use crate::id::ExecutionId;
use crate::scheduler::State;
use crate::store::{Creation, Durability, RunReader, RunStore, Status};

const LIMITS: Limits = Limits { jobs: 4, cpu_millis: 4000, memory: 1 << 30 };

struct World {
    folder: tempfile::TempDir,
    execution: ExecutionId,
    notices: Vec<String>,
    /// There is no room for views.
    without_views: bool,
}

impl Reporter for World {
    fn report(&mut self, _: &Record, _: &Progress) {}

    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }
}

impl World {
    fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            execution: ExecutionId::now(),
            notices: Vec::new(),
            without_views: false,
        }
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path()).unwrap()
    }

    fn creation(&self, flow: &Flow) -> Creation {
        Creation {
            id: self.execution,
            flow: flow.name.to_string(),
            source_name: "flow.yaml".into(),
            source_text: "".into(),
            source_format: Format::Yaml,
            parameters: Vec::new(),
            backend: "fake".into(),
            elsewhere: Vec::new(),
            options: Vec::new(),
            workdir: self.folder.path().to_owned(),
            jobs: LIMITS.jobs,
            cpu_millis: LIMITS.cpu_millis,
            memory: LIMITS.memory,
            layers: flow.layers.iter().map(|layer| Arc::clone(&layer.name)).collect(),
            earlier: Vec::new(),
            created_ms: 0,
        }
    }

    fn run(&mut self, flow: Flow, executor: &FakeExecutor, control: &[(u64, Control)]) -> Outcome {
        self.try_run(flow, executor, control).unwrap()
    }

    fn try_run(
        &mut self,
        flow: Flow,
        executor: &FakeExecutor,
        control: &[(u64, Control)],
    ) -> Result<Outcome, EngineError> {
        let store = RunStore::create(&self.root(), &self.creation(&flow), Durability::Group).unwrap();
        if self.without_views {
            std::fs::remove_dir_all(store.folder().views()).unwrap();
            std::fs::write(store.folder().views(), "no folder").unwrap();
        }
        let run = self.work(flow, executor, store);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.drive(run, control))
    }

    fn work(&self, flow: Flow, executor: &FakeExecutor, store: RunStore) -> Run {
        Run {
            plan: Arc::new(Plan::new(&flow).unwrap()),
            earlier: Vec::new(),
            executor: Arc::new(executor.clone()),
            datastore: Arc::new(LocalDatastore::new(self.root().objects())),
            session: Session {
                execution: self.execution,
                flow: Arc::clone(&flow.name),
                folder: store.folder().path().to_owned(),
                workdir: self.folder.path().to_owned(),
                containers: Vec::new(),
                withheld: Vec::new(),
            },
            flow: Arc::new(flow),
            folder: store.folder().clone(),
            store: Box::new(store),
            again: Again::default(),
            blocking: Blocking::Threads,
            limits: LIMITS,
            shares: None,
            grace: Duration::from_millis(10),
            secrets: Default::default(),
            environment: Default::default(),
            runs: Arc::new(crate::fake::Memory::default()),
        }
    }

    async fn drive(&mut self, run: Run, control: &[(u64, Control)]) -> Result<Outcome, EngineError> {
        let (sender, receiver) = unbounded_channel();
        for (after, request) in control.iter().copied() {
            let sender = sender.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                let _ = sender.send(request);
            });
        }
        super::run(run, self, receiver).await
    }

    fn reader(&self) -> RunReader {
        RunReader::open(&self.root(), self.execution).unwrap()
    }

    fn states(&self) -> Vec<State> {
        self.reader().splits().unwrap().into_iter().map(|row| row.state).collect()
    }

    fn events(&self) -> Vec<Event> {
        self.reader().records(0, usize::MAX).unwrap().into_iter().map(|record| record.event).collect()
    }
}

/// A task's inputs, as `Layer/artifact=bytes`.
fn read_inputs(task: &crate::executor::Task) -> Vec<String> {
    let mut all = Vec::new();
    for view in std::fs::read_dir(&task.inputs.folder).unwrap() {
        let view = view.unwrap();
        for file in std::fs::read_dir(view.path()).unwrap() {
            let file = file.unwrap();
            let bytes = std::fs::read_to_string(file.path()).unwrap();
            all.push(format!("{}/{}={bytes}", view.file_name().display(), file.file_name().display()));
        }
    }
    all.sort();
    all
}

#[test]
fn artifacts_are_passed_on_and_everything_is_recorded() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let saw = Arc::clone(&seen);
    let executor = FakeExecutor::new(move |task| {
        saw.lock().unwrap().push((task.id.layer.to_string(), read_inputs(task)));
        Part::exits(0).leaves("name", task.id.layer.as_bytes())
    });
    let mut flow = flow_of(&[&[], &[0], &[0], &[1, 2]]);
    flow.parameters = Arc::new([("seed".to_owned(), serde_json::json!(7))].into_iter().collect());
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Finished);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1, ["Parameters/seed.json=7"]);
    assert_eq!(seen[1].1, ["L0/name=L0", "Parameters/seed.json=7"]);
    assert_eq!(seen[3], ("L3".into(), vec!["L1/name=L1".into(), "L2/name=L2".into(), "Parameters/seed.json=7".into()]));
    assert_eq!(world.states(), [State::Finished; 4]);
    assert_eq!(world.reader().artifacts(None).unwrap().len(), 4);
    assert_eq!(world.reader().status().unwrap(), Status::Ended(Outcome::Finished));
    let left = std::fs::read_dir(world.root().execution(world.execution).path().join("outputs")).unwrap().count();
    assert_eq!(left, 0, "published outputs are removed");
    assert!(matches!(executor.calls().last(), Some(Call::Release(_))));
    let removed = executor.calls().into_iter().filter_map(|call| match call {
        Call::Remove(tasks) => Some(tasks.len()),
        _ => None,
    });
    assert_eq!(removed.sum::<usize>(), 4, "the executor may forget every task");
}

#[test]
fn a_launch_is_recorded_before_the_executor_is_asked() {
    let world = World::new();
    let (root, execution) = (world.root(), world.execution);
    let checked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&checked);
    let executor = FakeExecutor::new(move |task| {
        let records = RunReader::open(&root, execution).unwrap().records(0, usize::MAX).unwrap();
        let launched = records.iter().any(|record| {
            matches!(&record.event,
            Event::AttemptLaunched { attempt, .. } if format!("L{}", attempt.split.layer.0) == *task.id.layer)
        });
        assert!(launched, "{} runs and nobody would know", task.id);
        count.fetch_add(1, Ordering::Relaxed);
        Part::exits(0)
    });
    let mut world = world;
    world.run(flow_of(&[&[], &[0]]), &executor, &[]);
    assert_eq!(checked.load(Ordering::Relaxed), 2);
}

#[test]
fn empty_output_folders_are_used_again() {
    let executor = FakeExecutor::new(|_| Part::exits(0));
    let mut world = World::new();
    world.run(flow_with((0..500).map(|_| Vec::new())), &executor, &[]);
    let folders = std::fs::read_dir(world.root().execution(world.execution).path().join("outputs")).unwrap().count();
    assert!(folders <= LIMITS.jobs as usize, "{folders} folders for 500 tasks");
}

#[test]
fn a_failed_attempt_publishes_nothing_and_keeps_what_it_left() {
    let executor = FakeExecutor::new(|_| Part::exits(1).leaves("half", b"?"));
    let mut world = World::new();
    assert_eq!(world.run(flow_of(&[&[], &[0]]), &executor, &[]), Outcome::Failed);
    assert_eq!(world.states(), [State::Failed, State::Cancelled]);
    assert_eq!(world.reader().artifacts(None).unwrap().len(), 0);
    let outputs = world.reader().splits().unwrap()[0].outputs.unwrap();
    assert!(world.root().execution(world.execution).outputs(outputs).join("half").exists());
}

#[test]
fn a_retry_waits_and_gets_an_empty_folder() {
    let executor = FakeExecutor::new(|task| {
        assert_eq!(std::fs::read_dir(&task.outputs).unwrap().count(), 0);
        if task.id.attempt < 3 { Part::exits(75).leaves("half", b"?") } else { Part::exits(0).leaves("whole", b"!") }
    });
    let mut flow = flow_of(&[&[]]);
    flow.layers[0].retry = crate::flow::Retry {
        attempts: 3,
        delay: Duration::from_millis(5),
        backoff: 2.0,
        jitter: 1.0,
        ..Default::default()
    }
    .into();
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Finished);
    let delays: Vec<_> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::RetryScheduled { delay_ms, .. } => Some(delay_ms),
            _ => None,
        })
        .collect();
    assert!((5..=10).contains(&delays[0]) && (10..=20).contains(&delays[1]), "{delays:?}");
    assert_eq!(world.reader().artifacts(None).unwrap()[0].artifact.name, "whole");
}

/// Three attempts after nothing but out of memory, with twice as much each time.
fn growing(base: u64) -> Flow {
    let mut flow = flow_of(&[&[]]);
    let container = crate::container::Container { memory: Some(base), ..Default::default() };
    flow.layers[0].container = Arc::new(container);
    flow.layers[0].retry = crate::flow::Retry {
        attempts: 3,
        delay: Duration::ZERO,
        only: Some([crate::flow::On::OutOfMemory].into()),
        memory: Some(2.0),
        ..Default::default()
    }
    .into();
    flow
}

#[test]
fn an_attempt_after_one_that_was_out_of_memory_gets_more() {
    let (given, seen) = std::sync::mpsc::channel();
    let executor = FakeExecutor::new(move |task| {
        let memory = task.container.memory.unwrap();
        given.send(memory).unwrap();
        let needs_more = Exit { cause: Cause::OutOfMemory, ..Exit::code(0) };
        if memory < 700 << 20 { Part { exit: needs_more, ..Part::exits(0) } } else { Part::exits(0) }
    });
    let mut world = World::new();
    assert_eq!(world.run(growing(200 << 20), &executor, &[]), Outcome::Finished);
    assert_eq!(seen.try_iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(), [200, 400, 800]);
    let told = world.events().into_iter().filter_map(|event| match event {
        Event::RetryScheduled { memory, .. } => memory.map(|bytes| bytes >> 20),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [400, 800]);
    assert!(world.notices.is_empty(), "{:?}", world.notices);

    // There is 1 GiB to share out: what would wait for ever gets all of it, and is told so.
    let mut world = World::new();
    assert_eq!(world.run(growing(600 << 20), &executor, &[]), Outcome::Finished);
    assert_eq!(seen.try_iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(), [600, 1024]);
    assert_eq!(world.notices, ["`L0` gets 1.0 GiB of memory, not 1.2 GiB: there is no more to share out"]);
}

#[test]
fn an_end_that_is_not_named_is_the_last_and_is_told_so() {
    let executor = FakeExecutor::new(|_| Part::exits(3));
    let mut world = World::new();
    assert_eq!(world.run(growing(1 << 20), &executor, &[]), Outcome::Failed);
    assert_eq!(world.notices, ["`L0` is not tried again: exit code 3 is not in its `retry.only`"]);
    assert_eq!(world.reader().splits().unwrap()[0].attempt, 1);

    let executor = FakeExecutor::new(|_| Part::exits(0));
    let mut flow = growing(1 << 20);
    flow.layers[0].outputs = Some(vec!["model".into()]);
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Failed);
    assert_eq!(world.notices, ["`L0` is not tried again: `outputs` is not in its `retry.only`"]);
}

#[test]
fn a_promised_artifact_that_is_missing_is_a_failure() {
    let executor = FakeExecutor::new(|_| Part::exits(0).leaves("other", b""));
    let mut flow = flow_of(&[&[], &[]]);
    flow.on_failure = crate::flow::OnFailure::Continue;
    flow.layers[0].outputs = Some(vec!["model".into()]);
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Failed);
    let row = world.reader().splits().unwrap().remove(0);
    assert_eq!(row.reason.as_deref(), Some("`outputs` promises `model`, and the layer did not leave it"));
}

#[test]
fn a_caught_layer_publishes_what_is_there() {
    let executor = FakeExecutor::new(|task| {
        if &*task.id.layer == "L0" { Part::exits(3).leaves("note", b"partial") } else { Part::exits(0) }
    });
    let mut flow = flow_of(&[&[], &[0]]);
    flow.layers[0].catch = [3].into();
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Finished);
    assert_eq!(world.states(), [State::Caught, State::Finished]);
    assert_eq!(world.reader().artifacts(None).unwrap().len(), 1);
}

#[test]
fn a_cancel_stops_what_runs_and_is_recorded() {
    let executor = FakeExecutor::new(|_| Part::exits(0).after(Duration::from_secs(3600)));
    let mut world = World::new();
    let outcome = world.run(flow_of(&[&[], &[], &[0]]), &executor, &[(20, Control::Cancel)]);
    assert_eq!(outcome, Outcome::Cancelled);
    assert_eq!(world.states(), [State::Cancelled; 3]);
    assert!(world.events().contains(&Event::CancelRequested { force: false }));
    let stops = executor.calls().iter().filter(|call| matches!(call, Call::Stop(_))).count();
    assert_eq!(stops, 2);
}

#[test]
fn a_cancel_does_not_wait_for_an_executor_that_is_getting_ready() {
    let executor = FakeExecutor::new(|_| Part::exits(0)).ready_after(Duration::from_secs(3600));
    let mut world = World::new();
    assert_eq!(world.run(flow_of(&[&[]]), &executor, &[(20, Control::Cancel)]), Outcome::Cancelled);
    assert_eq!(world.states(), [State::Cancelled]);
}

#[test]
fn a_task_that_outlives_its_time_has_timed_out() {
    let executor = FakeExecutor::new(|_| Part::exits(0).after(Duration::from_secs(3600)));
    let mut flow = flow_of(&[&[]]);
    flow.layers[0].timeout = Some(Duration::from_millis(5));
    let mut world = World::new();
    assert_eq!(world.run(flow, &executor, &[]), Outcome::Failed);
    assert_eq!(world.reader().splits().unwrap()[0].exit.as_ref().unwrap().cause, Cause::TimedOut);
}

#[test]
fn replaying_the_log_gives_the_states_that_were_projected() {
    let executor = FakeExecutor::new(|task| Part::exits(i32::from(task.id.layer.ends_with('7'))));
    let flow = || {
        let mut flow = flow_with((0..60_u32).map(|id| if id < 10 { Vec::new() } else { vec![id - 10, id - 9] }));
        flow.on_failure = crate::flow::OnFailure::Continue;
        flow
    };
    let mut world = World::new();
    assert_eq!(world.run(flow(), &executor, &[]), Outcome::Failed);
    let flow = flow();
    let mut scheduler = Scheduler::new(&flow, Arc::new(Plan::new(&flow).unwrap()), LIMITS);
    for event in world.events() {
        scheduler.apply(&event).unwrap();
    }
    for row in world.reader().splits().unwrap() {
        assert_eq!(scheduler.state(row.split), Some(row.state));
    }
    assert_eq!(scheduler.ended(), Some(Outcome::Failed));
    assert_eq!(world.notices, [] as [String; 0]);
}

#[test]
fn a_scheduler_that_is_shut_out_leaves_the_tasks_to_its_successor() {
    let mut world = World::new();
    let (root, execution) = (world.root(), world.execution);
    let executor = FakeExecutor::new(move |task| {
        if &*task.id.layer == "L1" {
            return Part::exits(0).after(Duration::from_secs(3600));
        }
        // Somebody believes that this scheduler is dead.
        std::fs::remove_file(root.execution(execution).lock()).unwrap();
        drop(RunStore::open(&root, execution, Durability::Group).unwrap());
        Part::exits(0).after(Duration::from_millis(5))
    });
    let error = world.try_run(flow_of(&[&[], &[]]), &executor, &[]).unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::ShutOut { .. })), "{error}");
    let calls = executor.calls();
    assert!(!calls.iter().any(|call| matches!(call, Call::Stop(_))), "they are the other's: {calls:?}");
    assert!(!calls.iter().any(|call| matches!(call, Call::Remove(_))), "their exits are not on record: {calls:?}");
    assert!(matches!(calls.last(), Some(Call::Release(_))));
}

#[test]
fn no_jitter_is_too_much() {
    let hour = Duration::from_secs(3600);
    assert_eq!(with_jitter(hour, 0.0), hour);
    assert!((hour..=2 * hour).contains(&with_jitter(hour, 1.0)));
    assert_eq!(with_jitter(LONGEST_REST, 1e300), LONGEST_REST);
    assert_eq!(with_jitter(Duration::ZERO, 1e300), Duration::ZERO);
}

#[test]
fn jitter_differs_between_attempts_and_executions_and_is_the_same_again() {
    let attempt = |layer, number| Attempt { split: Split { layer: LayerId(layer), index: 0 }, number };
    let execution = ExecutionId::now();
    let shares: Vec<f64> =
        (0..100).flat_map(|layer| [share(execution, attempt(layer, 1)), share(execution, attempt(layer, 2))]).collect();
    assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
    let mean = shares.iter().sum::<f64>() / 200.0;
    assert!((0.35..0.65).contains(&mean), "{mean}");
    assert_eq!(shares[0].to_bits(), share(execution, attempt(0, 1)).to_bits());
    assert_ne!(shares[0].to_bits(), share(ExecutionId::now(), attempt(0, 1)).to_bits());
}

#[test]
fn nothing_is_prepared_that_would_not_be_released() {
    let executor = FakeExecutor::new(|_| Part::exits(0));
    let mut world = World { without_views: true, ..World::new() };
    let error = world.try_run(flow_of(&[&[]]), &executor, &[]).unwrap_err();
    assert!(matches!(error, EngineError::File { .. }), "{error}");
    assert_eq!(executor.calls(), []);
}

/// A datastore of which the first object that is read cannot be.
struct Flaky(LocalDatastore, AtomicU32);

impl Datastore for Flaky {
    fn adopt_within(&self, outputs: &std::path::Path, allowed: Allowed) -> Result<Vec<Artifact>, AdoptError> {
        self.0.adopt_within(outputs, allowed)
    }

    fn recall(&self, artifacts: &[Artifact]) -> Result<bool, DatastoreError> {
        self.0.recall(artifacts)
    }

    fn view(&self, artifacts: &[Artifact], folder: &std::path::Path) -> Result<(), DatastoreError> {
        self.0.view(artifacts, folder)
    }

    fn open(&self, digest: Digest, size: u64) -> Result<Box<dyn std::io::Read + Send>, DatastoreError> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => Err(DatastoreError::Missing { digest }),
            _ => self.0.open(digest, size),
        }
    }

    fn entries(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        self.0.entries(manifest)
    }
}

#[test]
fn what_asks_for_something_that_could_not_be_read_in_time_does_not_run_without_having_reserved_it() {
    let text = r#"{ "flow": "F", "layers": { "L0": { "command": ["true"] }, "L1": {
        "command": ["true"], "container": { "memory": "${{ L0.size }}MiB" },
        "retry": { "attempts": 2, "delay": "1ms" } } } }"#;
    let source = crate::flow::problem::Source { name: "f.json".into(), text: text.into(), format: Format::Json };
    let flow = crate::flow::file::parse(&source, &[]).unwrap();
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L0" => Part::exits(0).leaves("size.json", b"300"),
        _ => Part::exits(i32::from(task.container.memory != Some(300 << 20))),
    });
    let mut world = World::new();
    let store = RunStore::create(&world.root(), &world.creation(&flow), Durability::Group).unwrap();
    let datastore = Arc::new(Flaky(LocalDatastore::new(world.root().objects()), AtomicU32::new(0)));
    let run = Run { datastore, ..world.work(flow, &executor, store) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(world.drive(run, &[])).unwrap(), Outcome::Finished);
    let sizes = world.events().into_iter().filter_map(|event| match event {
        Event::AttemptSized { attempt, memory, .. } => Some((attempt.number, memory)),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [(1, 0), (2, 300 << 20)]);
    let starts = executor.calls().into_iter().filter(|call| matches!(call, Call::Start(task) if &*task.layer == "L1"));
    assert_eq!(starts.count(), 1, "the first attempt is not started");
}
