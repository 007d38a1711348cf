//! Executions that another scheduler goes on with. What happens when one dies at any moment is the simulation's part.

use tokio::runtime::Runtime;

use super::*;
use crate::event::Record;

const HOUR: Duration = Duration::from_secs(3600);

/// Schedulers in a row, on one stage: the runtime is the world that outlives them.
struct Relay {
    world: World,
    runtime: Runtime,
    executor: FakeExecutor,
    flow: fn() -> Flow,
    environment: Environment,
    runs: Arc<crate::fake::Memory>,
}

impl Relay {
    fn new(flow: fn() -> Flow, executor: FakeExecutor) -> Relay {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Relay { world: World::new(), runtime, executor, flow, environment: Environment::new(), runs: Arc::default() }
    }

    fn run(&self) -> Run {
        let (root, creation) = (self.world.root(), self.world.creation(&(self.flow)()));
        let store = match root.execution(creation.id).path().exists() {
            true => RunStore::open(&root, creation.id, Durability::Group),
            false => RunStore::create(&root, &creation, Durability::Group),
        };
        let work = self.world.work((self.flow)(), &self.executor, store.unwrap());
        Run { environment: self.environment.clone(), runs: self.runs.clone(), ..work }
    }

    /// A scheduler that dies once its log is like this.
    fn until(&mut self, so: impl Fn(&[Event]) -> bool) {
        let (run, reader) = (self.run(), self.world.reader());
        let reached = async {
            let events = || reader.records(0, usize::MAX).unwrap().into_iter().map(|record| record.event);
            while !so(&events().collect::<Vec<_>>()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                ended = self.world.drive(run, &[]) => panic!("it ended: {ended:?}"),
                () = reached => {}
            }
        });
    }

    fn try_go_on(&mut self, again: &[u32], control: &[(u64, Control)]) -> Result<Outcome, EngineError> {
        let layers = again.iter().map(|id| LayerId(*id)).collect();
        let run = Run { again: Again { layers, ..Again::default() }, ..self.run() };
        self.runtime.block_on(self.world.drive(run, control))
    }

    fn go_on(&mut self) -> Outcome {
        self.try_go_on(&[], &[]).unwrap()
    }

    fn starts(&self) -> Vec<String> {
        let calls = self.executor.calls();
        let starts = calls.iter().filter_map(|call| match call {
            Call::Start(task) => Some(format!("{}.{}", task.layer, task.attempt)),
            _ => None,
        });
        starts.collect()
    }
}

fn started(layer: u32) -> impl Fn(&[Event]) -> bool {
    move |events| {
        let of =
            |event: &Event| matches!(event, Event::AttemptStarted { attempt, .. } if attempt.split.layer.0 == layer);
        events.iter().any(of)
    }
}

#[test]
fn what_runs_is_waited_for_and_what_has_finished_does_not_run_again() {
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L1" => Part::exits(0).after(Duration::from_millis(50)).leaves("name", b"one"),
        name => Part::exits(0).leaves("name", name.as_bytes()),
    });
    let mut relay = Relay::new(|| flow_of(&[&[], &[0], &[0, 1]]), executor);
    relay.until(started(1));
    assert_eq!(relay.go_on(), Outcome::Finished);
    assert_eq!(relay.starts(), ["L0.1", "L1.1", "L2.1"]);
    let names: Vec<_> =
        relay.world.reader().artifacts(None).unwrap().into_iter().map(|row| row.split.layer.0).collect();
    assert_eq!(names, [0, 1, 2]);
    assert!(relay.world.events().contains(&Event::ExecutionResumed {
        again: Vec::new(),
        splits: Vec::new(),
        changed: Vec::new(),
        update: None
    }));
    assert_eq!(relay.world.reader().status().unwrap(), Status::Ended(Outcome::Finished));
}

#[test]
fn failed_layers_run_again_with_all_their_attempts_and_finished_ones_do_not() {
    let executor = FakeExecutor::new(|task| match (&*task.id.layer, task.id.attempt) {
        ("L1", 1..=3) => Part::exits(1).leaves("half", b"?"),
        _ => Part::exits(0),
    });
    let flow = || {
        let mut flow = flow_of(&[&[], &[0], &[1]]);
        flow.layers[1].retry = crate::flow::Retry { attempts: 2, delay: Duration::ZERO, ..Default::default() }.into();
        flow
    };
    let mut relay = Relay::new(flow, executor);
    assert_eq!(relay.go_on(), Outcome::Failed);
    assert_eq!(relay.world.states(), [State::Finished, State::Failed, State::Cancelled]);
    assert_eq!(relay.go_on(), Outcome::Finished);
    assert_eq!(relay.starts(), ["L0.1", "L1.1", "L1.2", "L1.3", "L1.4", "L2.1"]);
    assert_eq!(relay.world.states(), [State::Finished; 3]);
}

#[test]
fn a_layer_runs_again_from_where_it_is_asked_for_with_all_that_need_it() {
    let executor =
        FakeExecutor::new(|task| Part::exits(0).leaves(&format!("name{}", task.id.attempt), task.id.layer.as_bytes()));
    let mut relay = Relay::new(|| flow_of(&[&[], &[0], &[1], &[0]]), executor);
    relay.go_on();
    let before = relay.starts().len();
    assert_eq!(relay.try_go_on(&[1], &[]).unwrap(), Outcome::Finished);
    assert_eq!(relay.starts()[before..], ["L1.2", "L2.2"]);
    let left: Vec<_> = relay.world.reader().artifacts(Some(LayerId(1))).unwrap();
    assert_eq!(left.iter().map(|row| row.artifact.name.as_str()).collect::<Vec<_>>(), ["name2"]);
    let view = relay.world.root().execution(relay.world.execution).view("L1");
    assert!(view.join("name2").exists() && !view.join("name1").exists(), "the view shows the new one");
}

#[test]
fn what_is_under_way_cannot_be_asked_to_run_again() {
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L1" => Part::exits(0).after(HOUR),
        _ => Part::exits(0),
    });
    let mut relay = Relay::new(|| flow_of(&[&[], &[0]]), executor);
    relay.until(started(1));
    let error = relay.try_go_on(&[0], &[]).unwrap_err();
    assert!(matches!(&error, EngineError::UnderWay { layer } if &**layer == "L1"), "{error}");
    assert!(!relay.executor.calls().iter().any(|call| matches!(call, Call::Stop(_))), "it is left alone");
}

#[test]
fn a_cancel_stops_what_another_scheduler_has_started() {
    let executor = FakeExecutor::new(|_| Part::exits(0).after(HOUR)).ready_after(Duration::from_millis(30));
    let mut relay = Relay::new(|| flow_of(&[&[], &[], &[0]]), executor);
    relay.until(started(1));
    // Before the executor is ready.
    assert_eq!(relay.try_go_on(&[], &[(0, Control::Cancel)]).unwrap(), Outcome::Cancelled);
    assert_eq!(relay.world.states(), [State::Cancelled; 3]);
    let stops = relay.executor.calls().iter().filter(|call| matches!(call, Call::Stop(_))).count();
    assert_eq!(stops, 2);
    assert_eq!(relay.starts(), ["L0.1", "L1.1"]);
}

#[test]
fn an_executor_that_a_cancel_kept_from_getting_ready_is_asked_nothing() {
    let executor = FakeExecutor::new(|_| Part::exits(1)).ready_after(Duration::from_millis(30));
    let flow = || {
        let mut flow = flow_of(&[&[]]);
        flow.layers[0].retry =
            crate::flow::Retry { attempts: 2, delay: HOUR, backoff: 1.0, jitter: 0.0, ..Default::default() }.into();
        flow
    };
    let mut relay = Relay::new(flow, executor);
    relay.until(|events| events.iter().any(|event| matches!(event, Event::RetryScheduled { .. })));
    let before = relay.executor.calls().len();
    assert_eq!(relay.try_go_on(&[], &[(0, Control::Cancel)]).unwrap(), Outcome::Cancelled);
    let calls = relay.executor.calls().split_off(before);
    assert!(matches!(&calls[..], [Call::Prepare(_), Call::Release(_)]), "{calls:?}");
}

#[test]
fn a_task_that_runs_is_found_again_though_what_it_was_started_with_is_missing() {
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L1" => Part::exits(0).after(Duration::from_millis(50)),
        name => Part::exits(0).leaves("name", name.as_bytes()),
    });
    let mut relay = Relay::new(|| flow_of(&[&[], &[0]]), executor);
    relay.until(started(1));
    let root = relay.world.root();
    crate::datastore::remove(&root.execution(relay.world.execution).view("L0")).unwrap();
    crate::datastore::remove(&root.objects()).unwrap();
    assert_eq!(relay.go_on(), Outcome::Finished);
    assert_eq!(relay.starts(), ["L0.1", "L1.1"]);
}

#[test]
fn a_pause_goes_on_where_it_was() {
    let executor = FakeExecutor::new(|task| Part::exits(i32::from(task.id.attempt == 1)));
    let flow = || {
        let mut flow = flow_of(&[&[]]);
        flow.layers[0].retry = crate::flow::Retry {
            attempts: 2,
            delay: Duration::from_millis(200),
            backoff: 1.0,
            jitter: 0.0,
            ..Default::default()
        }
        .into();
        flow
    };
    let mut relay = Relay::new(flow, executor);
    relay.until(|events| events.iter().any(|event| matches!(event, Event::RetryScheduled { .. })));
    assert_eq!(relay.go_on(), Outcome::Finished);
    let records = relay.world.reader().records(0, usize::MAX).unwrap();
    let at = |is: fn(&Event) -> bool| records.iter().find(|record| is(&record.event)).unwrap().at_ms;
    let pause =
        at(|event| matches!(event, Event::RetryDue { .. })) - at(|event| matches!(event, Event::RetryScheduled { .. }));
    assert!(pause >= 190, "{pause} ms");
    assert_eq!(relay.starts(), ["L0.1", "L0.2"]);
}

/// A log whose clock was set back.
struct SetBack(Box<dyn EventLog>);

impl EventLog for SetBack {
    fn append(&mut self, events: Vec<Event>, changes: &[crate::store::Change]) -> Result<Vec<Record>, StoreError> {
        self.0.append(events, changes)
    }

    fn records(&mut self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.0.records(after, limit)
    }

    fn now_ms(&self) -> i64 {
        self.0.now_ms() - 3_600_000
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.0.close()
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_make_a_pause_longer() {
    let executor = FakeExecutor::new(|task| Part::exits(i32::from(task.id.attempt == 1)));
    let flow = || {
        let mut flow = flow_of(&[&[]]);
        flow.layers[0].retry = crate::flow::Retry {
            attempts: 2,
            delay: Duration::from_millis(50),
            backoff: 1.0,
            jitter: 0.0,
            ..Default::default()
        }
        .into();
        flow
    };
    let mut relay = Relay::new(flow, executor);
    relay.until(|events| events.iter().any(|event| matches!(event, Event::RetryScheduled { .. })));
    let run = relay.run();
    let run = Run { store: Box::new(SetBack(run.store)), ..run };
    let drive = relay.world.drive(run, &[]);
    let ended = relay.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), drive).await });
    assert_eq!(ended.unwrap().unwrap(), Outcome::Finished);
}

#[test]
fn memory_that_has_grown_is_known_to_the_next_scheduler_and_to_the_one_after_a_failure() {
    let (given, seen) = std::sync::mpsc::channel();
    let executor = FakeExecutor::new(move |task| {
        let memory = task.container.memory.unwrap();
        given.send(memory >> 20).unwrap();
        let needs_more = Exit { cause: Cause::OutOfMemory, ..Exit::code(0) };
        if memory < 200 << 20 { Part { exit: needs_more, ..Part::exits(0) } } else { Part::exits(0) }
    });
    let mut relay = Relay::new(|| super::growing(20 << 20), executor);
    relay.until(|events| events.iter().any(|event| matches!(event, Event::RetryScheduled { .. })));
    assert_eq!(relay.go_on(), Outcome::Failed);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [20, 40, 80]);
    // It begins anew with all its attempts, but not with what is known to be too little.
    assert_eq!(relay.go_on(), Outcome::Finished);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [160, 320]);
}

#[test]
fn what_a_dead_scheduler_did_not_get_to_tidy_is_tidied() {
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L2" => Part::exits(0).after(Duration::from_millis(30)),
        name => Part::exits(0).leaves("name", name.as_bytes()),
    });
    let mut relay = Relay::new(|| flow_of(&[&[], &[0], &[1]]), executor);
    relay.until(started(2));
    // Fewer than are forgotten at once: the executor has them all.
    assert!(!relay.executor.calls().iter().any(|call| matches!(call, Call::Remove(_))));
    relay.go_on();
    let removed = relay.executor.calls().into_iter().filter_map(|call| match call {
        Call::Remove(tasks) => Some(tasks),
        _ => None,
    });
    let mut removed: Vec<_> = removed.flatten().map(|task| task.layer.to_string()).collect();
    removed.sort();
    assert_eq!(removed, ["L0", "L1", "L2"]);
    let outputs = relay.world.root().execution(relay.world.execution).all_outputs();
    assert_eq!(std::fs::read_dir(outputs).unwrap().count(), 1, "the empty one of L2");
}

/// The flow in the middle of the relay: L2 runs something else, L3 is new, and the parameter is another.
fn next() -> Flow {
    let mut flow = flow_of(&[&[], &[0], &[1], &[0]]);
    flow.layers[2].env = [("X".into(), crate::flow::Template::literal("1"))].into();
    flow.parameters = Arc::new([("x".to_owned(), 2.into())].into_iter().collect());
    flow
}

fn first() -> Flow {
    let mut flow = flow_of(&[&[], &[0], &[1]]);
    flow.parameters = Arc::new([("x".to_owned(), 1.into()), ("old".to_owned(), 1.into())].into_iter().collect());
    flow
}

impl Relay {
    /// A scheduler that has the next flow; whether it is on record already is the store's to know.
    fn updated(&self, changed: &[u32]) -> Run {
        let (first, next) = (first(), next().aligned(&first()));
        let creation = crate::store::Creation {
            source_text: "next".into(),
            earlier: vec![self.world.creation(&first).to_earlier()],
            ..self.world.creation(&next)
        };
        let mut store = RunStore::open(&self.world.root(), creation.id, Durability::Group).unwrap();
        store.propose(creation).unwrap();
        let earlier = vec![crate::plan::Planned::new(first).unwrap()];
        let again = Again { changed: changed.iter().map(|id| LayerId(*id)).collect(), ..Again::default() };
        Run { earlier, again, ..self.world.work(next, &self.executor, store) }
    }

    fn parameters(&self) -> Vec<String> {
        let folder = self.world.root().execution(self.world.execution).view("Parameters");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let show = |path: std::path::PathBuf| {
            format!("{}={}", path.file_stem().unwrap().to_str().unwrap(), std::fs::read_to_string(&path).unwrap())
        };
        files.into_iter().map(show).collect()
    }
}

#[test]
fn another_flow_takes_over_while_a_layer_runs_and_dies_with_its_scheduler() {
    let executor = FakeExecutor::new(|task| match &*task.id.layer {
        "L1" => Part::exits(0).after(Duration::from_millis(50)).leaves("name", b"one"),
        "L3" => Part::exits(0).after(Duration::from_millis(200)),
        _ => Part::exits(0),
    });
    let mut relay = Relay::new(first, executor);
    relay.until(started(1));
    assert_eq!(relay.parameters(), ["old=1", "x=1"]);
    // What runs may not be touched: nothing happens then.
    let touched = relay.updated(&[0]);
    let refused = relay.runtime.block_on(relay.world.drive(touched, &[]));
    assert!(matches!(&refused, Err(EngineError::UnderWay { layer }) if &**layer == "L1"), "{refused:?}");
    assert_eq!(relay.parameters(), ["old=1", "x=1"]);
    assert!(relay.world.reader().creation().earlier.is_empty());

    let run = relay.updated(&[2]);
    let (root, id) = (relay.world.root(), relay.world.execution);
    let of_new = |event: &Event| matches!(event, Event::AttemptLaunched { attempt, .. } if attempt.split.layer.0 == 3);
    relay.runtime.block_on(async {
        let reached = async {
            // One that was opened before the update would not know the new layer.
            let events = || RunReader::open(&root, id).unwrap().records(0, usize::MAX).unwrap();
            while !events().iter().any(|record| of_new(&record.event)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            ended = relay.world.drive(run, &[]) => panic!("it ended: {ended:?}"),
            () = reached => {}
        }
    });
    assert_eq!(relay.parameters(), ["x=2"]);
    let again = relay.updated(&[]);
    assert_eq!(relay.runtime.block_on(relay.world.drive(again, &[])).unwrap(), Outcome::Finished);
    let mut starts = relay.starts();
    starts.sort();
    assert_eq!(starts, ["L0.1", "L1.1", "L2.1", "L3.1"]);
    let updates = relay.world.events().into_iter().filter_map(|event| match event {
        Event::ExecutionResumed { changed, update, .. } => Some((changed, update)),
        _ => None,
    });
    assert_eq!(updates.collect::<Vec<_>>(), [(vec![LayerId(2)], Some(1)), (vec![], None)]);
    assert_eq!(relay.world.states(), [State::Finished; 4]);
}

#[test]
fn what_runs_in_another_environment_than_it_was_looked_for_in_is_not_remembered() {
    let executor = FakeExecutor::new(|task| match task.id.attempt {
        1 => Part::exits(1).after(Duration::from_millis(50)),
        _ => Part::exits(0).leaves("mood", task.argv[1].as_bytes()),
    });
    let flow = || {
        let text = r#"{ "flow": "F", "layers": { "L0": {
            "command": ["true", "${{ env.MOOD }}"], "cache": true, "retry": { "attempts": 2, "delay": "1ms" } } } }"#;
        let source = crate::flow::problem::Source { name: "f.json".into(), text: text.into(), format: Format::Json };
        crate::flow::file::parse(&source, &[]).unwrap()
    };
    let mut relay = Relay::new(flow, executor);
    relay.environment.insert("MOOD".to_owned(), "good".to_owned());
    relay.until(started(0));
    relay.environment.insert("MOOD".to_owned(), "bad".to_owned());
    assert_eq!(relay.go_on(), Outcome::Finished);
    let events = relay.world.events();
    let keys = events.iter().filter_map(|event| match event {
        Event::SplitKeyed { key, .. } => Some(key.digest),
        _ => None,
    });
    let [of_good_mood] = keys.collect::<Vec<_>>()[..] else { panic!("it was looked for once") };
    assert_eq!(crate::store::Runs::find(&*relay.runs, of_good_mood).unwrap(), None);
}
