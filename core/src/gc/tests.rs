//! Collections over real stores, with an executor that plays.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cache::{CacheKey, Origin};
use crate::event::{Event, Outcome};
use crate::executor::{Exit, Handle, Probe, Recovered, Session, Task};
use crate::fake::{FakeExecutor, Part, task_in};
use crate::flow::problem::Format;
use crate::folder::Root;
use crate::id::{LayerId, Split, TaskId};
use crate::store::{Creation, Durability, RunCache, RunStore};
use crate::store::{Run, Runs};

#[derive(Default)]
struct Heard {
    gone: Vec<String>,
    notes: Vec<Note>,
    problems: Vec<String>,
}

impl Witness for Heard {
    fn gone(&mut self, gone: &Gone<'_>) {
        self.gone.push(match gone {
            Gone::Execution { id, .. } => id.to_string(),
            Gone::Leftover { leftover, .. } => leftover.id.clone(),
            other => format!("{other:?}"),
        });
    }

    fn note(&mut self, note: &Note) {
        self.notes.push(note.clone());
    }

    fn problem(&mut self, problem: &Problem) {
        self.problems.push(problem.to_string());
    }
}

struct World {
    folder: tempfile::TempDir,
    executor: FakeExecutor,
}

impl World {
    fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), executor: FakeExecutor::new(|_| Part::exits(0)) }
    }

    fn root(&self) -> Root {
        Root::new(&self.folder.path().join("root")).unwrap()
    }

    fn execution(&self, outcome: Option<Outcome>) -> ExecutionId {
        self.execution_of(outcome.map(|outcome| Event::ExecutionEnded { outcome }))
    }

    /// An execution in which these have happened.
    fn execution_of(&self, events: impl IntoIterator<Item = Event>) -> ExecutionId {
        let creation = Creation {
            id: ExecutionId::now(),
            flow: "Fake".into(),
            source_name: "flow.yaml".into(),
            source_text: "".into(),
            source_format: Format::Yaml,
            parameters: Vec::new(),
            backend: "fake".into(),
            elsewhere: Vec::new(),
            options: Vec::new(),
            workdir: self.folder.path().to_owned(),
            jobs: 1,
            cpu_millis: 1000,
            memory: 1,
            layers: vec!["A".into()],
            created_ms: 1,
            earlier: Vec::new(),
        };
        let mut store = RunStore::create(&self.root(), &creation, Durability::Group).unwrap();
        store.append(events.into_iter().collect(), &[]).unwrap();
        store.close().unwrap();
        creation.id
    }

    /// The executor has something of this execution, which lives in this folder.
    async fn leaves(&self, execution: ExecutionId, folder: PathBuf, layer: &str) -> String {
        std::fs::create_dir_all(&folder).unwrap();
        let session = Session {
            execution,
            flow: "Fake".into(),
            folder: folder.clone(),
            workdir: folder.clone(),
            containers: Vec::new(),
            withheld: Vec::new(),
        };
        self.executor.prepare(&session).await.unwrap();
        let id = TaskId { execution, layer: layer.into(), index: 0, attempt: 1 };
        let handle = self.executor.start(Arc::new(task_in(&folder, id.clone(), &["true"]))).await.unwrap();
        self.executor.wait(&handle).await.unwrap();
        id.to_string()
    }

    /// A process that another test has forked may have our locks until it executes something; so it is asked again.
    async fn collect_in_the_end(&self, order: &Order) -> (Heard, Tally) {
        for _ in 0..1000 {
            let (heard, tally) = self.collect(&self.root(), order).await;
            if !heard.notes.iter().any(|note| matches!(note, Note::InUse(_))) {
                return (heard, tally);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the lock is never free");
    }

    async fn collect(&self, root: &Root, order: &Order) -> (Heard, Tally) {
        let mut heard = Heard::default();
        let executors: [Arc<dyn Executor>; 1] = [Arc::new(self.executor.clone())];
        let tally = collect(root, &executors, order, &mut heard).await;
        (heard, tally)
    }
}

const AT_ONCE: Order = Order {
    rules: Rules { keep: None, older_than: None, max_size: None },
    interrupted: false,
    damaged: false,
    grace: Duration::ZERO,
    pretend: false,
};

const ALL: Order = Order { rules: Rules { keep: Some(0), older_than: None, max_size: None }, ..AT_ONCE };

#[tokio::test]
async fn of_what_an_engine_has_only_that_of_what_is_over_goes() {
    let world = World::new();
    let (ended, open, gone) = (world.execution(Some(Outcome::Failed)), world.execution(None), ExecutionId::now());
    let at = |id: ExecutionId| world.root().execution(id).path().to_owned();
    let doomed = [world.leaves(ended, at(ended), "A").await, world.leaves(gone, at(gone), "A").await];
    std::fs::remove_dir_all(at(gone)).unwrap();
    world.leaves(open, at(open), "A").await;
    let elsewhere = world.folder.path().join("other/executions").join(ended.to_string());
    let copy = ExecutionId::now();
    world.leaves(copy, elsewhere.with_file_name(copy.to_string()), "A").await;
    // The root by another path is the same root.
    std::os::unix::fs::symlink(world.root().path(), world.folder.path().join("link")).unwrap();
    let root = Root::new(&world.folder.path().join("link")).unwrap();
    let (heard, tally) = world.collect(&root, &AT_ONCE).await;
    let (mut gone, mut expected) = (heard.gone, doomed.to_vec());
    gone.sort();
    expected.sort();
    assert_eq!(gone, expected);
    let there = Note::Elsewhere { backend: "fake".into(), root: world.folder.path().join("other"), count: 1 };
    assert_eq!((heard.notes, tally.leftovers, heard.problems.len()), (vec![there], 2, 0));
    let (heard, _) = world.collect(&world.root(), &AT_ONCE).await;
    assert!(heard.gone.is_empty(), "{:?}", heard.gone);
}

#[tokio::test]
async fn what_an_execution_left_with_an_engine_goes_with_it_whatever_the_grace() {
    let world = World::new();
    let (ended, open) = (world.execution(Some(Outcome::Finished)), world.execution(None));
    let at = |id: ExecutionId| world.root().execution(id).path().to_owned();
    let left = world.leaves(ended, at(ended), "A").await;
    let still = world.leaves(open, at(open), "A").await;
    let order = Order { grace: Duration::from_secs(3600), ..ALL };
    let (heard, tally) = world.collect_in_the_end(&order).await;
    assert_eq!(heard.gone, [left, ended.to_string()], "the execution last");
    assert_eq!(tally.executions.0, 1);
    let (heard, _) = world.collect_in_the_end(&Order { interrupted: true, ..order }).await;
    assert_eq!(heard.gone, [still, open.to_string()]);
    assert!(!at(open).exists());
}

#[tokio::test]
async fn an_interrupted_execution_stays_while_its_engine_cannot_be_asked() {
    let world = World::new();
    let open = world.execution(None);
    let mut heard = Heard::default();
    let order = Order { interrupted: true, ..ALL };
    let tally = collect(&world.root(), &[], &order, &mut heard).await;
    assert!(heard.problems[0].contains("fake"), "{:?}", heard.problems);
    assert_eq!((tally.problems, tally.executions.0), (1, 0));
    assert!(world.root().execution(open).path().exists());
}

#[tokio::test]
async fn an_execution_that_somebody_has_taken_over_stays_whatever_the_list_says() {
    let world = World::new();
    let id = world.execution(Some(Outcome::Failed));
    // The index remembers that it has ended.
    let resumed = loop {
        match RunStore::open(&world.root(), id, Durability::Group) {
            Err(StoreError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            other => break other.unwrap(),
        }
    };
    let (heard, tally) = world.collect(&world.root(), &ALL).await;
    assert_eq!((heard.notes, tally.executions.0), (vec![Note::InUse(id)], 0));
    assert!(world.root().execution(id).path().exists());
    drop(resumed);
    assert_eq!(world.collect_in_the_end(&ALL).await.1.executions.0, 1);
}

#[tokio::test]
async fn what_is_damaged_is_told_once_even_where_there_are_no_objects() {
    let world = World::new();
    let id = world.execution(Some(Outcome::Finished));
    let index = crate::store::list(&world.root()).unwrap();
    assert!(matches!(index[0].status, crate::store::Status::Ended(_)), "the list remembers it");
    std::fs::write(world.root().execution(id).store(), "no database").unwrap();
    assert!(!world.root().objects().exists());
    for order in [AT_ONCE, ALL, Order { pretend: true, ..ALL }] {
        let (heard, tally) = world.collect_in_the_end(&order).await;
        assert_eq!((heard.notes, tally.problems, tally.executions.0), (vec![], 1, 0), "{order:?}");
        assert!(heard.problems[0].contains(&id.to_string()), "{:?}", heard.problems);
    }
}

/// An engine that is not there.
struct Silent(&'static str, FakeExecutor);

#[async_trait::async_trait]
impl Executor for Silent {
    fn name(&self) -> &str {
        self.0
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        Err(ExecutorError::Unavailable { engine: self.0.to_owned(), reason: "asleep".into(), hint: String::new() })
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        self.1.probe().await
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        self.1.prepare(session).await
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        self.1.start(task).await
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        self.1.recover(task).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        self.1.wait(handle).await
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        self.1.stop(task, grace).await
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        self.1.remove(handles).await
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        self.1.list(execution).await
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        self.1.release(execution).await
    }
}

#[tokio::test]
async fn an_engine_that_is_silent_matters_where_an_execution_ran_on_it() {
    let world = World::new();
    let id = world.execution(Some(Outcome::Finished));
    let executors: [Arc<dyn Executor>; 2] =
        [Arc::new(Silent("fake", world.executor.clone())), Arc::new(Silent("other", world.executor.clone()))];
    let note = |backend: &str, used| Note::Unavailable { backend: backend.into(), reason: "asleep".into(), used };
    let mut heard = Heard::default();
    let tally = collect(&world.root(), &executors, &AT_ONCE, &mut heard).await;
    assert_eq!((heard.notes, tally.problems), (vec![note("fake", true), note("other", false)], 0));
    let mut heard = Heard::default();
    remove(&world.root(), &executors, &Order { pretend: true, ..AT_ONCE }, &[id], &mut heard).await;
    assert_eq!(heard.notes, [note("fake", true), note("other", false)]);
}

#[tokio::test]
async fn the_cache_forgets_what_executions_ran_that_are_gone() {
    let world = World::new();
    let [goes, stays] = [(); 2].map(|()| world.execution(Some(Outcome::Finished)));
    let cache = RunCache::new(&world.root());
    let run = |execution: ExecutionId| Run {
        key: CacheKey::unknown(execution.to_string()).digest,
        origin: Origin { execution, split: Split { layer: LayerId(0), index: 0 } },
        artifacts: Vec::new(),
    };
    cache.remember(&[run(goes), run(stays)]).unwrap();
    let executors: Vec<Arc<dyn crate::executor::Executor>> = Vec::new();
    let mut heard = Heard::default();
    let pretend = Order { pretend: true, ..Order::default() };
    remove(&world.root(), &executors, &pretend, &[goes], &mut heard).await;
    assert!(cache.find(run(goes).key).unwrap().is_some(), "nothing has gone");
    remove(&world.root(), &executors, &Order::default(), &[goes], &mut heard).await;
    assert_eq!(cache.find(run(goes).key).unwrap(), None);
    assert_eq!(cache.find(run(stays).key).unwrap(), Some(run(stays)));
    // Removed by hand.
    std::fs::remove_dir_all(world.root().execution(stays).path()).unwrap();
    collect(&world.root(), &executors, &Order::default(), &mut heard).await;
    assert_eq!(cache.find(run(stays).key).unwrap(), None);
    assert!(heard.problems.is_empty(), "{:?}", heard.problems);
}

#[tokio::test]
async fn what_another_execution_took_from_the_cache_is_remembered_though_who_ran_is_gone() {
    let world = World::new();
    let cache = RunCache::new(&world.root());
    let ran = world.execution(Some(Outcome::Finished));
    let run = |index: u32| Run {
        key: CacheKey::unknown(index.to_string()).digest,
        origin: Origin { execution: ran, split: Split { layer: LayerId(0), index } },
        artifacts: Vec::new(),
    };
    let runs = [0, 1, 2].map(run);
    cache.remember(&runs).unwrap();
    let takes = |index: u32| Event::SplitCached {
        split: runs[0].origin.split,
        key: CacheKey::unknown(index.to_string()),
        from: runs[index as usize].origin,
        artifacts: Vec::new(),
    };
    let end = || Event::ExecutionEnded { outcome: Outcome::Finished };
    let first = world.execution_of([takes(0), takes(1), end()]);
    let second = world.execution_of([takes(1), end()]);
    let executors: Vec<Arc<dyn crate::executor::Executor>> = Vec::new();
    let mut heard = Heard::default();
    for (gone, left) in [(ran, [true, true, false]), (second, [true, true, false]), (first, [false; 3])] {
        remove(&world.root(), &executors, &Order::default(), &[gone], &mut heard).await;
        assert_eq!([0, 1, 2].map(|index| cache.find(run(index).key).unwrap().is_some()), left, "without {gone}");
    }
    assert!(heard.problems.is_empty(), "{:?}", heard.problems);
}
