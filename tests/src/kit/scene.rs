//! One execution in a folder of its own, prepared, and short words to use it.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a case that cannot go on panics, and says why")]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use laminar_core::executor::{Executor, Exit, Handle, Inputs, Recovered, Session, Task};
use laminar_core::id::{ExecutionId, TaskId};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;

use super::factory::Factory;

/// Begins a script: the task, and all that descends from it, is alive as long as anything has the pipe open.
pub(super) const ALIVE: &str = r#"mkfifo "$LAMINAR_OUTPUTS/alive"; exec 9<>"$LAMINAR_OUTPUTS/alive"; "#;

/// Waits in a script until the gate is opened.
pub(super) const GATE: &str = r#": <"$LAMINAR_INPUTS/Gate/gate"; "#;

/// A script that does nothing for longer than any case takes.
pub(super) const IDLE: &str = "exec sleep 1000";

/// A grace that is over soon.
pub(super) const SOON: Duration = Duration::from_millis(50);

/// One execution of a case.
pub struct Scene {
    factory: Arc<dyn Factory>,
    _root: tempfile::TempDir,
    folder: PathBuf,
    /// Held open from when the gate is.
    gate: Option<File>,
    session: Session,
    executor: Arc<dyn Executor>,
    tasks: Cell<u32>,
}

impl Scene {
    pub(super) async fn new(factory: Arc<dyn Factory>, below: &str) -> Scene {
        let root = tempfile::Builder::new().prefix("laminar-kit-").tempdir_in(factory.folder()).unwrap();
        let folder = root.path().canonicalize().unwrap().join(below);
        for part in ["execution", "views/Gate", "views/Upstream", "inputs", "outputs", "logs"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        for view in ["Gate", "Upstream"] {
            std::os::unix::fs::symlink(folder.join("views").join(view), folder.join("inputs").join(view)).unwrap();
        }
        let (pipe, everybody) = (FileType::Fifo, Mode::from_raw_mode(0o666));
        mknodat(CWD, folder.join("views/Gate/gate"), pipe, everybody, 0).unwrap();
        let session = Session {
            execution: ExecutionId::now(),
            flow: "Kit".into(),
            folder: folder.join("execution"),
            workdir: folder.clone(),
            containers: vec![("Kit".into(), std::sync::Arc::new(factory.container()))],
            withheld: Vec::new(),
        };
        let executor = factory.executor();
        executor.prepare(&session).await.unwrap();
        Scene { factory, _root: root, folder, gate: None, session, executor, tasks: Cell::new(0) }
    }

    /// The executor's factory.
    #[must_use]
    pub fn factory(&self) -> &dyn Factory {
        self.factory.as_ref()
    }

    /// The executor.
    #[must_use]
    pub fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }

    pub(super) fn shared_executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.executor)
    }

    /// What the executor was prepared for.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn execution(&self) -> ExecutionId {
        self.session.execution
    }

    /// A file or folder of the scene's.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new task that runs a script.
    #[must_use]
    pub fn sh(&self, script: &str) -> Task {
        self.task(self.factory.shell(script))
    }

    /// A new task that is alive until everything of it is gone.
    pub(super) fn lively(&self, script: &str) -> Task {
        self.sh(&format!("{ALIVE}{script}"))
    }

    /// A new task.
    #[must_use]
    pub fn task(&self, argv: Vec<String>) -> Task {
        let index = self.tasks.replace(self.tasks.get() + 1);
        let id = TaskId { execution: self.execution(), layer: "Layer".into(), index, attempt: 1 };
        let view = |name: &str| (name.to_owned(), self.path("views").join(name));
        let task = Task {
            flow: Arc::clone(&self.session.flow),
            splits: 1000,
            argv,
            env: Vec::new(),
            container: Arc::new(self.factory.container()),
            timeout: None,
            grace: Duration::from_secs(10),
            places: None,
            inputs: Inputs { folder: self.path("inputs"), views: Arc::new([view("Gate"), view("Upstream")]) },
            each: None,
            secrets: None,
            log_limit: laminar_core::executor::LOG_LIMIT,
            outputs: PathBuf::new(),
            log: PathBuf::new(),
            id: id.clone(),
        };
        self.named(task, id)
    }

    /// A task under another name, with the folders that go with it.
    pub(super) fn named(&self, task: Task, id: TaskId) -> Task {
        let name = format!("{}-{}", id.execution, id.name());
        let outputs = self.path("outputs").join(&name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&outputs).unwrap();
        Task { outputs, log: self.path("logs").join(format!("{name}.log")), id, ..task }
    }

    /// Starts a task.
    pub async fn start(&self, task: &Task) -> Handle {
        self.executor.start(Arc::new(task.clone())).await.unwrap()
    }

    /// Waits for a task.
    pub async fn wait(&self, handle: &Handle) -> Exit {
        self.executor.wait(handle).await.unwrap()
    }

    /// Starts a task and waits for it.
    pub async fn run(&self, task: &Task) -> Exit {
        let handle = self.start(task).await;
        self.wait(&handle).await
    }

    /// Stops a task.
    pub async fn stop(&self, task: &Task, grace: Duration) {
        self.executor.stop(&task.id, grace).await.unwrap();
    }

    /// What became of a task.
    pub async fn recover(&self, task: &Task) -> Recovered {
        self.executor.recover(Arc::new(task.clone())).await.unwrap()
    }

    /// The tasks that are still there, sorted by name.
    pub async fn list(&self) -> Vec<TaskId> {
        let handles = self.executor.list(self.execution()).await.unwrap();
        let mut tasks: Vec<_> = handles.into_iter().map(|handle| handle.task).collect();
        tasks.sort_by_key(TaskId::name);
        tasks
    }

    /// The scheduler is gone, and another comes after it.
    pub async fn succeed(&mut self) {
        // It has let go of the first one before it prepares the second.
        let next = self.factory.executor();
        self.executor = next;
        self.executor.prepare(&self.session).await.unwrap();
    }

    /// Lets every task go on that holds at the gate, now and later.
    pub fn open_gate(&mut self) {
        let pipe = self.path("views/Gate/gate");
        self.gate = Some(File::options().read(true).write(true).open(pipe).unwrap());
    }

    /// Waits until a task has left this file among its outputs.
    pub async fn left(&self, task: &Task, name: &str) {
        let path = task.outputs.join(name);
        self.until(&format!("the task leaves `{name}`"), || path.exists()).await;
    }

    /// Waits until something is so; the case's deadline is the limit.
    pub async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let limit = self.factory.deadline() * 3 / 4;
        let waited = tokio::time::timeout(limit, async {
            while !so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "not in {limit:?}: {what}");
    }

    pub(super) async fn clear(&self) {
        // A mute engine, or one that never came to be, has nothing to be cleared; the case has told.
        let Ok(handles) = self.executor.list(self.execution()).await else { return };
        for handle in &handles {
            self.executor.stop(&handle.task, Duration::ZERO).await.unwrap();
        }
        self.executor.remove(&handles).await.unwrap();
        assert_eq!(self.list().await, [], "still there after `remove`");
        self.executor.release(self.execution()).await.unwrap();
    }
}

/// What a task wrote; nothing where there is no log.
pub(super) fn log(task: &Task) -> Vec<u8> {
    std::fs::read(&task.log).unwrap_or_default()
}

/// The same as text.
pub(super) fn text(task: &Task) -> String {
    String::from_utf8_lossy(&log(task)).into_owned()
}

/// The text of a file among a task's outputs.
pub(super) fn output(task: &Task, name: &str) -> String {
    read(&task.outputs.join(name))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether something of a lively task is alive.
pub(super) fn is_alive(task: &Task) -> bool {
    match rustix::fs::open(task.outputs.join("alive"), OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
        Ok(_) => true,
        Err(Errno::NXIO) => false,
        Err(error) => panic!("the task did not begin: {error}"),
    }
}
