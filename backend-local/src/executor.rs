//! [`LocalExecutor`]: the [`Executor`] over supervisors, one per execution.
//!
//! It turns tasks into requests and replies into exits; all state about processes is the supervisor's.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::container::Container;
use laminar_core::executor::{Executor, ExecutorError, Exit, Handle, Leftover, Probe, Recovered, Seen, Session, Task};
use laminar_core::id::{ExecutionId, TaskId};
use laminar_core::option::Options;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use crate::launcher::Launcher;
use crate::leftovers;
use crate::link::{Connection, Link, Program, Reply, Waiting};
use crate::supervisor::{family, first};
use crate::wire::{Frame, Kind, NEVER, State};

/// Runs tasks as processes of this machine under a supervisor: plain ones, or such that a [`Launcher`] has launched.
///
/// Its program must call [`supervise`](crate::supervise) first thing in its `main`. Dropping the executor, or the end of
/// the runtime that [`prepare`](Executor::prepare) was called in, ends no task.
pub struct LocalExecutor {
    name: &'static str,
    program: Program,
    launcher: Option<Arc<dyn Launcher>>,
    links: Mutex<HashMap<ExecutionId, Served>>,
}

/// A link, and the task of the runtime that serves it.
struct Served {
    link: Arc<Link>,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl LocalExecutor {
    /// An executor whose supervisors are this very program.
    #[must_use]
    pub fn new() -> LocalExecutor {
        LocalExecutor::with_program("/proc/self/exe")
    }

    /// An executor whose supervisors are another program, which calls [`supervise`](crate::supervise).
    #[must_use]
    pub fn with_program(program: impl Into<PathBuf>) -> LocalExecutor {
        let program = Program { path: program.into(), nice: 0, backend: crate::NAME };
        LocalExecutor { name: crate::NAME, program, launcher: None, links: Mutex::default() }
    }

    /// An executor of another backend, whose tasks are started by what `launcher` says. `name` is what `--backend` takes, and
    /// that of the backend's folder in executions. Its supervisors are this very program.
    #[must_use]
    pub fn launching(name: &'static str, launcher: impl Launcher) -> LocalExecutor {
        let local = LocalExecutor::new();
        let program = Program { backend: name, ..local.program };
        LocalExecutor { name, program, launcher: Some(Arc::new(launcher)), links: Mutex::default() }
    }

    /// The same whose supervisors are another program, which calls [`supervise`](crate::supervise).
    #[must_use]
    pub fn supervised_by(self, program: impl Into<PathBuf>) -> LocalExecutor {
        LocalExecutor { program: Program { path: program.into(), ..self.program }, ..self }
    }

    /// The same, with these of the backend's [`OPTIONS`](crate::OPTIONS).
    #[must_use]
    pub fn with_options(self, options: &Options) -> LocalExecutor {
        let nice = options.integer("nice").and_then(|nice| u8::try_from(nice).ok()).unwrap_or(0);
        LocalExecutor { program: Program { nice, ..self.program }, ..self }
    }

    /// The supervisor that is at work for an execution's tasks of the backend of this name, whoever started it. Starts none, and
    /// asks it nothing.
    #[must_use]
    pub fn supervisor(backend: &str, folder: &Path, execution: ExecutionId) -> Option<Supervisor> {
        let lock = std::fs::File::open(folder.join(backend).join("lock")).ok()?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Some(Supervisor { pid: supervisor_pid(backend, &execution.to_string()) }),
            _ => None,
        }
    }

    fn links(&self) -> MutexGuard<'_, HashMap<ExecutionId, Served>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of a task to the supervisor.
    fn said<'a>(&self, task: &'a Task, session: &'a Session) -> Result<Said<'a>, ExecutorError> {
        let each = task.each.as_ref().map_or(Ok(""), |each| text(&each.folder))?;
        let secrets = task.secrets.as_ref().map_or(Ok(""), |folder| text(folder))?;
        let seen = Seen { inputs: text(&task.inputs.folder)?, outputs: text(&task.outputs)?, each, secrets };
        let launched = self.launcher.as_ref().map(|launcher| launcher.launch(task, session)).transpose()?;
        Ok(Said { task, session, seen, launched })
    }

    fn link(&self, execution: ExecutionId) -> Result<Arc<Link>, ExecutorError> {
        let links = self.links();
        let served = links.get(&execution).ok_or_else(|| ExecutorError::Unknown(format!("execution {execution}")))?;
        Ok(Arc::clone(&served.link))
    }
}

/// A supervisor, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervisor {
    /// Its process id, if it can be seen from here.
    pub pid: Option<u32>,
}

/// The process whose arguments are those of this execution's supervisor for this backend.
fn supervisor_pid(backend: &str, execution: &str) -> Option<u32> {
    let is_it = |told: (PathBuf, String)| told.0.ends_with(backend) && told.1 == execution;
    let pid = family::processes().find(|pid| leftovers::told(*pid).is_some_and(is_it))?;
    u32::try_from(pid).ok()
}

impl Default for LocalExecutor {
    fn default() -> LocalExecutor {
        LocalExecutor::new()
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    fn name(&self) -> &str {
        self.name
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        let Some(launcher) = self.launcher.clone() else { return Ok(crate::probe::probe()) };
        let probed = tokio::task::spawn_blocking(move || launcher.probe(crate::probe::probe())).await;
        probed.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    async fn check(&self, layers: &[(Arc<str>, Arc<Container>)], workdir: &Path) -> Vec<ExecutorError> {
        let Some(launcher) = &self.launcher else { return Vec::new() };
        layers.iter().filter_map(|(layer, container)| launcher.check(layer, container, workdir).err()).collect()
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        let served = |links: &HashMap<ExecutionId, Served>| {
            links.get(&session.execution).is_some_and(|served| !served.server.is_finished())
        };
        if served(&self.links()) {
            return Ok(());
        }
        let connection = Connection::open(session, &self.program).await?;
        let link = Arc::new(Link::new(session.clone(), self.program.clone()));
        let server = tokio::spawn(Arc::clone(&link).serve(connection));
        self.links().insert(session.execution, Served { link, server });
        Ok(())
    }

    fn keeps_line(&self) -> bool {
        true
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        let link = self.link(task.id.execution)?;
        let name = task.id.name();
        let said = self.said(&task, link.session())?;
        let places = task.places.map_or(NEVER, u64::from);
        let frame = |seq| said.put(Frame::new(Kind::Start, seq).text(name.as_bytes()).number(places));
        match link.ask(Some(&name), frame).await? {
            Reply::Found(State::Never) => Err(ExecutorError::Withdrawn),
            Reply::Found(_) => Ok(handle(&task.id)),
            Reply::Failed(reason) => Err(ExecutorError::Unavailable {
                engine: format!("the {} backend's supervisor", self.name),
                reason,
                hint: "make room on the disk that holds the execution's folder".to_owned(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    fn offer(&self, task: &Task, after: &TaskId, outputs: &Path) {
        let Ok(link) = self.link(task.id.execution) else { return };
        if let Ok(said) = self.said(task, link.session()) {
            let frame = Frame::new(Kind::Offer, 0).text(task.id.name().as_bytes()).text(after.name().as_bytes());
            link.tell(said.put(frame.text(outputs.as_os_str().as_bytes())));
        }
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        let link = self.link(task.id.execution)?;
        Ok(match watch(&link, &task.id.name()).await? {
            State::Never => Recovered::NeverStarted,
            State::Running => Recovered::Running(handle(&task.id)),
            State::Over => Recovered::Exited(handle(&task.id)),
            State::Gone => Recovered::Gone,
        })
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        let link = self.link(handle.task.execution)?;
        let name = handle.task.name();
        let mut waiting = link.waiting(&name)?;
        if let Waiting::Unknown = waiting {
            watch(&link, &name).await?;
            waiting = link.waiting(&name)?;
        }
        match waiting {
            Waiting::Over(exit) => Ok(exit),
            Waiting::Until(exit) => exit.await.map_err(|_| link.disconnected()),
            Waiting::Unknown => Err(ExecutorError::Unknown(format!("task {}", handle.task))),
        }
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        let link = self.link(task.execution)?;
        let name = task.name();
        let frame = |seq| Frame::new(Kind::Stop, seq).text(name.as_bytes()).number(micros(grace));
        link.ask(None, frame).await.map(drop)
    }

    async fn withdraw(&self, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        for (execution, names) in by_execution(tasks.iter()) {
            self.link(execution)?.ask(None, |seq| named(Kind::Withdraw, seq, &names)).await?;
        }
        Ok(())
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        for (execution, names) in by_execution(handles.iter().map(|handle| &handle.task)) {
            let link = self.link(execution)?;
            link.ask(None, |seq| named(Kind::Remove, seq, &names)).await?;
            link.forget(names.iter().map(String::as_str));
        }
        Ok(())
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let link = self.link(execution)?;
        match link.ask(None, |seq| Frame::new(Kind::List, seq)).await? {
            Reply::Names(names) => Ok(names.iter().filter_map(|name| parse(execution, name)).collect()),
            other => Err(unexpected(&other)),
        }
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        let Some(mut served) = self.links().remove(&execution) else { return Ok(()) };
        served.server.abort();
        let _ = (&mut served.server).await; // cancelled: the connection is closed now
        Ok(())
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        Ok(leftovers::find(self.name))
    }

    async fn sweep(&self, ids: &[String]) -> Result<(), ExecutorError> {
        let (ids, name) = (ids.to_vec(), self.name);
        let ended = tokio::task::spawn_blocking(move || leftovers::end(&ids, name)).await;
        ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    fn litter(&self, folder: &Path) -> Vec<PathBuf> {
        leftovers::litter(&folder.join(self.name))
    }
}

/// The names of tasks, by their executions.
fn by_execution<'a>(tasks: impl Iterator<Item = &'a TaskId>) -> HashMap<ExecutionId, Vec<String>> {
    let mut names: HashMap<ExecutionId, Vec<String>> = HashMap::new();
    for task in tasks {
        names.entry(task.execution).or_default().push(task.name());
    }
    names
}

/// A request about these tasks.
fn named(kind: Kind, seq: u32, names: &[String]) -> Frame {
    let mut frame = Frame::new(kind, seq).number(names.len() as u64);
    names.iter().for_each(|name| frame.put(&[name.as_bytes()]));
    frame
}

async fn watch(link: &Link, name: &str) -> Result<State, ExecutorError> {
    match link.ask(Some(name), |seq| Frame::new(Kind::Watch, seq).text(name.as_bytes())).await? {
        Reply::Found(state) => Ok(state),
        other => Err(unexpected(&other)),
    }
}

/// A task as the supervisor is told of it.
struct Said<'a> {
    task: &'a Task,
    session: &'a Session,
    seen: Seen<'a>,
    /// The words of what launches it, if anything does.
    launched: Option<Vec<String>>,
}

impl Said<'_> {
    /// Adds all that follows name and places to a frame.
    fn put(&self, frame: Frame) -> Frame {
        let (task, withheld) = (self.task, &self.session.withheld);
        let first: &[&str] = if self.launched.is_some() { &[first::PROGRAM, first::MARKER] } else { &[] };
        let launched = self.launched.as_deref().unwrap_or_default();
        let launched_by = launched.iter().map(String::as_str).chain(first.iter().copied());
        let mut frame = frame
            .text(task.log.as_os_str().as_bytes())
            .number(task.log_limit)
            .text(self.seen.secrets.as_bytes())
            .number(task.timeout.map_or(NEVER, micros))
            .number(micros(task.grace))
            .number(u64::from(!first.is_empty()))
            .number((launched.len() + first.len() + task.argv.len()) as u64);
        for argument in launched_by.chain(task.argv.iter().map(String::as_str)) {
            frame.put(&[argument.as_bytes(), b"\0"]);
        }
        let protocol = task.protocol(&self.seen);
        frame = frame.number((withheld.len() + task.declared().count() + protocol.len()) as u64);
        // First, since the last of equal names counts.
        for name in withheld {
            frame.put(&[name.as_bytes(), b"\0"]);
        }
        for (name, value) in task.declared().chain(protocol.iter().map(|(name, value)| (*name, value.as_str()))) {
            frame.put(&[name.as_bytes(), b"=", value.as_bytes(), b"\0"]);
        }
        frame
    }
}

fn handle(task: &TaskId) -> Handle {
    // The name says it all, and so two handles on a task are equal whoever made them.
    Handle { task: task.clone(), token: String::new() }
}

fn parse(execution: ExecutionId, name: &str) -> Option<Handle> {
    let mut parts = name.split('.');
    let (layer, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    Some(handle(&TaskId { execution, layer: layer.into(), index: index.parse().ok()?, attempt: attempt.parse().ok()? }))
}

fn text(path: &Path) -> Result<&str, ExecutorError> {
    path.to_str().ok_or_else(|| ExecutorError::File {
        verb: "hand to a task",
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "the path is not valid UTF-8"),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).map_or(NEVER - 1, |micros| micros.min(NEVER - 1))
}

fn unexpected(reply: &Reply) -> ExecutorError {
    ExecutorError::Disconnected { peer: "supervisor", reason: format!("it answered with {reply:?}") }
}
