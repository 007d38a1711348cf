//! A folder of its own for one execution on a real engine, and short words for what tests do there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use laminar_backend_docker::DOCKER;
use laminar_backend_oci::{Dialect, OciExecutor, Settings};
use laminar_backend_podman::PODMAN;
use laminar_core::container::Container;
use laminar_core::executor::{Executor, ExecutorError, Exit, Handle, Inputs, Recovered, Session, Task};
use laminar_core::id::{ExecutionId, TaskId};
use laminar_tests::engines::{self, Place};

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(120);

/// The program that is mounted into containers.
pub(crate) fn program() -> PathBuf {
    engines::program(env!("CARGO_BIN_EXE_laminar-under-test"))
}

/// The image that tests use.
pub(crate) fn image() -> String {
    engines::image()
}

/// Runs a test on an engine, if it is there, as whoever can drive it. `path` is the test's own, with the crate's name.
pub(crate) fn on(engine: &'static str, path: &str, test: fn(&World)) {
    let dialect = if engine == "docker" { &DOCKER } else { &PODMAN };
    match engines::place(engine) {
        Place::Here => test(&World::new(engine, dialect)),
        Place::As(user) => {
            let (_, name) = path.split_once("::").unwrap();
            let mut program = user.this_test(env!("CARGO_BIN_EXE_laminar-under-test"));
            let ran = program.args(["--exact", name, "--nocapture", "--test-threads=1"]).output().unwrap();
            let (said, erred) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            let passed = ran.status.success() && said.contains("test result: ok. 1 passed");
            assert!(passed, "as another user: {}\n{said}{erred}", ran.status);
            eprint!("{erred}");
        }
        Place::Nowhere(_) => {}
    }
}

/// Runs a test that needs all of these engines, if they are there for whoever runs the tests.
pub(crate) fn on_all(engines: &[&str], test: fn()) {
    if engines.iter().all(|engine| matches!(engines::place(engine), Place::Here)) {
        test();
    }
}

pub(crate) struct World {
    /// What the engine is called among tests; podman has two names.
    pub(crate) column: &'static str,
    pub(crate) dialect: &'static Dialect,
    pub(crate) folder: Folder,
    pub(crate) execution: ExecutionId,
}

/// A folder, and maybe what removes it in the end.
pub(crate) struct Folder {
    path: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl World {
    fn new(column: &'static str, dialect: &'static Dialect) -> World {
        let own = tempfile::tempdir().unwrap();
        let folder = Folder { path: own.path().to_owned(), _own: Some(own) };
        World { column, dialect, folder, execution: ExecutionId::now() }
    }

    /// The world of another process.
    pub(crate) fn of_another(
        column: &'static str,
        dialect: &'static Dialect,
        folder: PathBuf,
        execution: ExecutionId,
    ) -> World {
        World { column, dialect, folder: Folder { path: folder, _own: None }, execution }
    }

    /// A scheduler's executor, prepared.
    pub(crate) fn executor(&self) -> Running {
        self.try_executor(self.session(Vec::new())).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, changed.
    pub(crate) fn executor_that(&self, change: impl FnOnce(OciExecutor) -> OciExecutor) -> Running {
        let executor = change(OciExecutor::with_program(self.dialect, program()));
        Running::new(executor, self.session(Vec::new())).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn session(&self, containers: Vec<(Arc<str>, Arc<Container>)>) -> Session {
        Session {
            execution: self.execution,
            flow: "A flow, of tests".into(),
            folder: self.folder.path().to_owned(),
            workdir: self.folder.path().to_owned(),
            containers,
            withheld: Vec::new(),
        }
    }

    pub(crate) fn try_executor(&self, session: Session) -> Result<Running, ExecutorError> {
        self.try_executor_with(Settings::default(), session)
    }

    /// The same over an engine of which something was said.
    pub(crate) fn try_executor_with(&self, settings: Settings, session: Session) -> Result<Running, ExecutorError> {
        Running::new(OciExecutor::with_program(self.dialect, program()).with_settings(settings), session)
    }

    /// A container with the image of all tests.
    pub(crate) fn container(&self) -> Container {
        Container { image: Some(image()), network: Some("none".to_owned()), ..Container::default() }
    }

    /// A task that runs a shell script.
    pub(crate) fn task(&self, layer: &str, script: &str) -> Task {
        let id = TaskId { execution: self.execution, layer: layer.into(), index: 0, attempt: 1 };
        let (inputs, outputs) = (self.folder.path().join("inputs"), self.folder.path().join(layer).join("outputs"));
        let logs = self.folder.path().join("logs");
        for folder in [&inputs, &outputs, &logs] {
            std::fs::create_dir_all(folder).unwrap();
        }
        Task {
            flow: "A flow, of tests".into(),
            splits: 1,
            argv: ["sh", "-e", "-c", script].map(str::to_owned).to_vec(),
            env: Vec::new(),
            container: Arc::new(self.container()),
            timeout: None,
            grace: Duration::from_secs(1),
            places: None,
            inputs: Inputs { folder: inputs, views: Arc::new([]) },
            each: None,
            secrets: None,
            log_limit: laminar_core::executor::LOG_LIMIT,
            outputs,
            log: logs.join(format!("{}.log", id.name())),
            id,
        }
    }

    /// The name of a task's container.
    pub(crate) fn name(&self, task: &Task) -> String {
        let TaskId { execution, layer, index, attempt } = &task.id;
        format!("laminar-{execution}-{layer}-{index}-{attempt}")
    }

    /// A client that does this before it is the engine's own, which it calls `$engine`.
    pub(crate) fn client(&self, before: &str) -> PathBuf {
        let client = self.folder.path().join("client");
        let script = format!("#!/bin/sh\nengine={}\n{before}\nexec \"$engine\" \"$@\"\n", self.dialect.program);
        std::fs::write(&client, script).unwrap();
        std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        client
    }

    /// Freezes a task's container, where this machine can.
    pub(crate) fn can_freeze(&self, task: &Task) -> bool {
        let name = self.name(task);
        let frozen = Command::new(self.dialect.program).args(["pause", &name]).output().unwrap();
        if !frozen.status.success() {
            laminar_tests::gaps::skip(&format!("{} pause", self.column), &String::from_utf8_lossy(&frozen.stderr));
        }
        frozen.status.success()
    }

    /// Asks the engine's own command line.
    pub(crate) fn engine(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.dialect.program);
        let output = command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What a task has left in a file.
    pub(crate) fn output(&self, task: &Task, name: &str) -> String {
        std::fs::read_to_string(task.outputs.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl World {
    /// The name of flows that tests run through the program: this test's own.
    pub(crate) fn flow(&self) -> String {
        format!("T{}", self.execution)
    }

    /// The ids of this test's containers: its own execution's, and its flows'.
    pub(crate) fn containers(&self) -> Vec<String> {
        let labels = [format!("laminar.execution={}", self.execution), format!("laminar.flow={}", self.flow())];
        let mut all = Vec::new();
        for label in labels {
            let mut list = Command::new(self.dialect.program);
            let Ok(list) = list.args(["ps", "-a", "-q", "--filter", &format!("label={label}")]).output() else {
                continue;
            };
            all.extend(String::from_utf8_lossy(&list.stdout).split_whitespace().map(str::to_owned));
        }
        all
    }

    /// Removes them.
    pub(crate) fn clear(&self) {
        for id in self.containers() {
            let _ = Command::new(self.dialect.program).args(["rm", "-f", "-v", &id]).output();
        }
    }
}

impl Drop for World {
    /// Whatever a failed test has left goes, by this test's labels alone.
    fn drop(&mut self) {
        self.clear();
    }
}

/// An executor in a runtime of its own. Dropping it is the death of a scheduler.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    pub(crate) executor: OciExecutor,
}

impl Running {
    fn new(executor: OciExecutor, session: Session) -> Result<Running, ExecutorError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(executor.prepare(&session))?;
        Ok(Running { runtime, executor })
    }

    pub(crate) fn does<T>(&self, verb: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, verb).await }).expect("in time")
    }

    pub(crate) fn start(&self, task: &Task) -> Handle {
        self.does(self.executor.start(Arc::new(task.clone()))).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn wait(&self, handle: &Handle) -> Exit {
        self.does(self.executor.wait(handle)).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn run(&self, task: &Task) -> Exit {
        let handle = self.start(task);
        self.wait(&handle)
    }

    pub(crate) fn recover(&self, task: &Task) -> Recovered {
        self.does(self.executor.recover(Arc::new(task.clone()))).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn stop(&self, task: &Task, grace: Duration) {
        self.does(self.executor.stop(&task.id, grace)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until the task has left this file.
    pub(crate) fn until(&self, task: &Task, name: &str) -> PathBuf {
        let path = task.outputs.join(name);
        self.does(async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        path
    }
}
