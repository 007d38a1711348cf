//! A folder, an executor and a prepared execution; and what is to be seen of them from outside.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_backend_local::LocalExecutor;
use laminar_core::executor::{Executor, Exit, Handle, Inputs, Session, Task};
use laminar_core::id::{ExecutionId, TaskId};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_laminar-local-fixture");
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    _root: tempfile::TempDir,
    folder: PathBuf,
    pub(crate) execution: ExecutionId,
    pub(crate) executor: LocalExecutor,
    tasks: Cell<u32>,
}

impl World {
    pub(crate) async fn new() -> World {
        World::below(".").await
    }

    /// In a folder of this name.
    pub(crate) async fn below(name: &str) -> World {
        let world = World::unprepared_below(name);
        world.prepare().await;
        world
    }

    /// Without a supervisor.
    pub(crate) fn unprepared() -> World {
        World::unprepared_below(".")
    }

    fn unprepared_below(name: &str) -> World {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(name);
        std::fs::create_dir_all(folder.join("execution")).unwrap();
        World {
            folder: folder.canonicalize().unwrap(),
            _root: root,
            execution: ExecutionId::now(),
            executor: LocalExecutor::with_program(FIXTURE),
            tasks: Cell::new(0),
        }
    }

    pub(crate) fn session(&self) -> Session {
        Session {
            execution: self.execution,
            flow: "Test".into(),
            folder: self.path("execution"),
            workdir: self.folder.clone(),
            containers: Vec::new(),
            withheld: Vec::new(),
        }
    }

    pub(crate) async fn prepare(&self) {
        self.executor.prepare(&self.session()).await.unwrap();
    }

    pub(crate) fn executor_of_another_process(&self) -> LocalExecutor {
        LocalExecutor::with_program(FIXTURE)
    }

    /// Another execution with a folder of its own.
    pub(crate) fn sibling(&self) -> Session {
        let folder = self.path("sibling");
        std::fs::create_dir_all(&folder).unwrap();
        Session { execution: ExecutionId::now(), folder, ..self.session() }
    }

    /// A task of an execution that nobody has prepared.
    pub(crate) fn foreign_task(&self) -> Task {
        let mut task = self.task(&["true"]);
        task.id.execution = ExecutionId::now();
        task
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A new task.
    pub(crate) fn task(&self, argv: &[&str]) -> Task {
        let index = self.tasks.replace(self.tasks.get() + 1);
        let id = TaskId { execution: self.execution, layer: "L".into(), index, attempt: 1 };
        Task {
            log: self.path(&format!("{}.log", id.name())),
            id,
            flow: "Test".into(),
            splits: 4,
            argv: argv.iter().map(|text| (*text).to_owned()).collect(),
            env: Vec::new(),
            container: Arc::default(),
            timeout: None,
            grace: Duration::from_secs(10),
            places: None,
            inputs: Inputs { folder: self.path("inputs"), views: Arc::new([]) },
            each: None,
            secrets: None,
            log_limit: laminar_core::executor::LOG_LIMIT,
            outputs: self.path("outputs"),
        }
    }

    /// The same under a new name.
    pub(crate) fn next(&self, task: Task) -> Task {
        let fresh = self.task(&[]);
        Task { id: fresh.id, log: fresh.log, ..task }
    }

    pub(crate) async fn start(&self, task: Task) -> Handle {
        self.executor.start(Arc::new(task)).await.unwrap()
    }

    pub(crate) async fn run_only(&self, task: Task) -> (Exit, PathBuf) {
        let log = task.log.clone();
        let handle = self.start(task).await;
        let exit = tokio::time::timeout(PATIENCE, self.executor.wait(&handle)).await;
        (exit.expect("it takes too long").unwrap(), log)
    }

    pub(crate) async fn run(&self, task: Task) -> (Exit, Vec<u8>) {
        let (exit, log) = self.run_only(task).await;
        (exit, std::fs::read(log).unwrap_or_default())
    }

    pub(crate) async fn sh(&self, script: &str) -> (Exit, Vec<u8>) {
        self.run(self.task(&["sh", "-c", script])).await
    }

    /// A scheduler in a process of its own starts these scripts as `L.0.1`, `L.1.1`, … and is killed.
    pub(crate) fn doomed_scheduler(&self, scripts: &[&str]) {
        let mut child = Command::new(FIXTURE)
            .arg("scheduler")
            .arg(&self.folder)
            .arg(self.execution.to_string())
            .args(scripts)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The supervisor of this execution.
    pub(crate) fn supervisor(&self) -> Option<i32> {
        self.supervisor_of("local")
    }

    /// The one for the tasks of this backend.
    pub(crate) fn supervisor_of(&self, backend: &str) -> Option<i32> {
        let folder = self.path("execution").join(backend);
        let folder = folder.to_str().unwrap();
        processes().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let args: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            args.get(1) == Some(&b"__laminar_supervise".as_slice())
                && args.get(2) == Some(&folder.as_bytes())
                && is_alive(*pid)
        })
    }

    /// Everything alive below the supervisor, whatever it is.
    pub(crate) fn descendants(&self) -> Vec<String> {
        let Some(supervisor) = self.supervisor() else { return Vec::new() };
        let mut family = vec![supervisor];
        let all: Vec<(i32, i32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        loop {
            let new = all.iter().find(|(pid, parent)| family.contains(parent) && !family.contains(pid));
            let Some((pid, _)) = new else { break };
            family.push(*pid);
        }
        family[1..].iter().filter(|pid| is_alive(**pid)).map(|pid| describe(*pid)).collect()
    }

    /// Everything alive with this execution's variables.
    pub(crate) fn marked(&self) -> Vec<String> {
        let marker = format!("LAMINAR_EXECUTION_ID={}", self.execution);
        let carries = |pid: &i32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes())
        };
        processes().filter(carries).filter(|pid| is_alive(*pid)).map(describe).collect()
    }

    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        self.until_async(async || condition()).await;
    }

    pub(crate) async fn until_async(&self, condition: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "it takes too long");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test may leave tasks running.
        ["local", "launched"].into_iter().filter_map(|backend| self.supervisor_of(backend)).for_each(kill);
    }
}

pub(crate) fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// From now on this process, and what it starts, can make no file longer than this.
pub(crate) fn limit_files(pid: i32, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    prlimit(Pid::from_raw(pid), Resource::Fsize, limit).unwrap();
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn stat(pid: i32) -> Option<(String, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 2..].split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, parent)| parent)
}

/// A process that waits to be collected is dead.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn describe(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
}
