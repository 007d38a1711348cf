//! Two fakes under one roof: who is asked what, and what is made of the answers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::container::{Container, Feature};
use crate::executor::Cause;
use crate::fake::{Call, FakeExecutor, Part, task_in};

/// A fake of another name, with a probe of its own.
struct Named {
    name: &'static str,
    fake: FakeExecutor,
    enforces: BTreeSet<Feature>,
    memory: u64,
    /// Prepared with these layers.
    layers: Arc<std::sync::Mutex<Vec<String>>>,
    refuses: bool,
}

#[async_trait]
impl Executor for Named {
    fn name(&self) -> &str {
        self.name
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        let probe = self.fake.probe().await?;
        Ok(Probe { enforces: self.enforces.clone(), memory: self.memory, ..probe })
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        self.layers.lock().unwrap().extend(session.containers.iter().map(|(layer, _)| layer.to_string()));
        if self.refuses {
            return Err(ExecutorError::Unknown(self.name.to_owned()));
        }
        self.fake.prepare(session).await
    }

    async fn can_hand_over(&self, layers: &[Arc<str>], _secrets: &Path) -> Result<(), ExecutorError> {
        Err(ExecutorError::Unknown(format!("{} of {}", layers.join(", "), self.name)))
    }

    fn inputs_seen(&self, layer: &str, _inputs: &Inputs) -> String {
        format!("/{}/{layer}", self.name)
    }

    async fn identity(&self, _: ExecutionId, layer: &str, _: &Container) -> Result<String, ExecutorError> {
        Ok(format!("{layer} {}", self.name))
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        self.fake.start(task).await
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        self.fake.recover(task).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        self.fake.wait(handle).await
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        self.fake.stop(task, grace).await
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        self.fake.remove(handles).await
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        self.fake.list(execution).await
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        self.fake.release(execution).await
    }
}

struct World {
    mixed: Mixed,
    fakes: [FakeExecutor; 2],
    layers: [Arc<std::sync::Mutex<Vec<String>>>; 2],
    folder: tempfile::TempDir,
    execution: ExecutionId,
}

/// `here` runs A and C, `there` runs B; tasks last until they are stopped, but for C's.
fn world(refuses: bool) -> World {
    let forever = |task: &Task| match &*task.id.layer {
        "C" => Part::exits(3),
        _ => Part::exits(0).after(Duration::from_secs(1 << 30)),
    };
    let fakes = [FakeExecutor::new(forever), FakeExecutor::new(forever).ready_after(Duration::from_millis(20))];
    let layers: [Arc<std::sync::Mutex<Vec<String>>>; 2] = Default::default();
    let member = |at: usize, name, enforces: &[Feature], memory| -> Arc<dyn Executor> {
        let (fake, layers) = (fakes[at].clone(), Arc::clone(&layers[at]));
        let enforces = enforces.iter().copied().collect();
        Arc::new(Named { name, fake, enforces, memory, layers, refuses: refuses && at == 0 })
    };
    let members = vec![
        member(0, "here", &[Feature::Env, Feature::Image], 5),
        member(1, "there", &[Feature::Env, Feature::User], 3),
    ];
    let of = |layer: &str| [("A", 0), ("B", 1), ("C", 0)].into_iter().find(|(it, _)| *it == layer).map(|it| it.1);
    World {
        mixed: Mixed::new(members, of),
        fakes,
        layers,
        folder: tempfile::tempdir().unwrap(),
        execution: ExecutionId::now(),
    }
}

impl World {
    fn session(&self) -> Session {
        Session {
            execution: self.execution,
            flow: "Fake".into(),
            folder: self.folder.path().to_owned(),
            workdir: self.folder.path().to_owned(),
            containers: ["A", "B", "C"].map(|layer| (layer.into(), Arc::new(Container::default()))).into(),
            withheld: Vec::new(),
        }
    }

    fn task(&self, layer: &str) -> Arc<Task> {
        let id = TaskId { execution: self.execution, layer: layer.into(), index: 0, attempt: 1 };
        Arc::new(task_in(self.folder.path(), id, &["true"]))
    }

    fn started(&self, at: usize) -> Vec<String> {
        let calls = self.fakes[at].calls().into_iter();
        calls
            .filter_map(|call| if let Call::Start(task) = call { Some(task.layer.to_string()) } else { None })
            .collect()
    }
}

#[tokio::test]
async fn each_layer_is_its_own_executors_from_start_to_end() {
    let world = world(false);
    let mixed = &world.mixed;
    mixed.prepare(&world.session()).await.unwrap();
    assert_eq!(*world.layers[0].lock().unwrap(), ["A", "C"]);
    assert_eq!(*world.layers[1].lock().unwrap(), ["B"]);
    assert_eq!(mixed.recover(world.task("B")).await.unwrap(), Recovered::NeverStarted);
    let mut handles = Vec::new();
    for layer in ["A", "B", "C"] {
        handles.push(mixed.start(world.task(layer)).await.unwrap());
    }
    assert_eq!((world.started(0), world.started(1)), (vec!["A".to_owned(), "C".to_owned()], vec!["B".to_owned()]));
    let mut listed = mixed.list(world.execution).await.unwrap();
    listed.sort_by(|one, other| one.task.cmp(&other.task));
    assert_eq!(listed, handles);
    assert_eq!(mixed.recover(world.task("B")).await.unwrap(), Recovered::Running(handles[1].clone()));
    assert_eq!(mixed.wait(&handles[2]).await.unwrap().cause, Cause::Code(3));
    for handle in &handles[..2] {
        mixed.stop(&handle.task, Duration::ZERO).await.unwrap();
        assert_eq!(mixed.wait(handle).await.unwrap().cause, Cause::Cancelled);
    }
    mixed.remove(&handles).await.unwrap();
    assert_eq!(mixed.list(world.execution).await.unwrap(), []);
    mixed.release(world.execution).await.unwrap();
    for fake in &world.fakes {
        assert_eq!(fake.calls().last(), Some(&Call::Release(world.execution)));
    }
}

#[tokio::test]
async fn one_that_cannot_begin_is_told_and_all_are_let_go() {
    let world = world(true);
    let error = world.mixed.prepare(&world.session()).await.unwrap_err();
    assert_eq!(error.to_string(), "here is not known to this executor");
    // The other got ready beside it, and is not left half-way.
    assert_eq!(world.fakes[1].calls(), [Call::Prepare(world.execution)]);
    world.mixed.release(world.execution).await.unwrap();
    assert!(world.fakes.iter().all(|fake| fake.calls().contains(&Call::Release(world.execution))));
}

#[tokio::test]
async fn a_probe_says_what_holds_everywhere() {
    let world = world(false);
    let probe = world.mixed.probe().await.unwrap();
    assert_eq!((probe.enforces, probe.memory), (BTreeSet::from([Feature::Env]), 3));
    assert_eq!((world.mixed.name(), probe.version.as_str()), ("here+there", "here 1, there 1"));
}

#[tokio::test]
async fn each_layers_executor_says_what_its_tasks_will_find() {
    let world = world(false);
    let container = Container::default();
    for (layer, name) in [("A", "here"), ("B", "there"), ("C", "here")] {
        let identity = world.mixed.identity(world.execution, layer, &container).await.unwrap();
        assert_eq!(identity, format!("{layer} {name}"));
        let inputs = &world.task(layer).inputs;
        assert_eq!(world.mixed.inputs_seen(layer, inputs), format!("/{name}/{layer}"));
    }
    assert!(world.mixed.identity(world.execution, "D", &container).await.is_err());
}

#[tokio::test]
async fn a_layer_that_is_nobodys_is_an_error_and_no_answer() {
    let world = world(false);
    let stranger = world.task("D");
    assert!(world.mixed.recover(Arc::clone(&stranger)).await.is_err());
    assert!(world.mixed.start(Arc::clone(&stranger)).await.is_err());
    let handle = Handle { task: stranger.id.clone(), token: String::new() };
    let known = world.mixed.start(world.task("A")).await.unwrap();
    assert!(world.mixed.remove(&[handle, known]).await.is_err());
    assert_eq!(world.mixed.list(world.execution).await.unwrap(), [], "the one that is known was removed all the same");
}

#[tokio::test]
async fn who_is_handed_no_secrets_is_not_asked_whether_that_can_be() {
    let world = world(false);
    let asked = async |layers: &[&str]| {
        let layers: Vec<Arc<str>> = layers.iter().map(|layer| (*layer).into()).collect();
        world.mixed.can_hand_over(&layers, Path::new("/x")).await.map_err(|error| error.to_string())
    };
    assert_eq!(asked(&["A", "C"]).await.unwrap_err(), "A, C of here is not known to this executor");
    assert_eq!(asked(&["B"]).await.unwrap_err(), "B of there is not known to this executor");
    assert_eq!(asked(&[]).await, Ok(()));
}
