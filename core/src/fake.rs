//! Flows and an executor for tests: no file, no process, no engine.
//!
//! [`FakeExecutor`] keeps the contract of [`Executor`] over tasks that only play a part: each writes what its [`Part`] says,
//! lasts as long as it says, and exits as it says. What it "runs" belongs to the fake, not to a process, so several
//! executors may share one stage, as several schedulers in a row share one engine.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::container::Container;
use crate::datastore::Digest;
use crate::executor::{Cause, Executor, ExecutorError, Exit, Handle, Leftover, Probe, Recovered, Session, Task};
use crate::flow::{Command, Flow, Layer, OnFailure, Parameters, Template};
use crate::id::{ExecutionId, LayerId, TaskId};
use crate::store::{Run, Runs, StoreError};

/// A flow whose layers `L0`, `L1`, … run `true` and need the layers of these numbers.
#[must_use]
pub fn flow_of(needs: &[&[u32]]) -> Flow {
    flow_with(needs.iter().map(|needs| needs.to_vec()))
}

/// The same, from an iterator.
#[must_use]
pub fn flow_with(needs: impl IntoIterator<Item = Vec<u32>>) -> Flow {
    let container = Arc::new(Container::default());
    let layers = needs.into_iter().enumerate().map(|(number, needs)| Layer {
        name: format!("L{number}").into(),
        needs: needs.into_iter().map(LayerId).collect(),
        command: Command::Argv(vec![Template::literal("true")]),
        env: Arc::default(),
        outputs: None,
        container: Arc::clone(&container),
        retry: Arc::default(),
        timeout: None,
        catch: Arc::default(),
        limits: Default::default(),
        backend: None,
        when: None,
        foreach: None,
        secrets: Arc::default(),
        max_parallel: None,
        open: None,
        cache: None,
        retired: false,
    });
    Flow {
        name: "Fake".into(),
        parameters: Arc::new(Parameters::new()),
        layers: layers.collect(),
        on_failure: OnFailure::default(),
        max_parallel: None,
        backend: None,
        backends: Vec::new(),
        answers: None,
    }
}

/// What a task does.
#[derive(Clone, Debug)]
pub struct Part {
    /// How long it lasts, by tokio's clock (which tests may pause).
    pub lasts: Duration,
    /// How it ends, unless it is stopped or its time is up before.
    pub exit: Exit,
    /// The files it leaves among its outputs.
    pub outputs: Vec<(String, Vec<u8>)>,
}

impl Part {
    /// It exits at once with this code and leaves nothing.
    #[must_use]
    pub fn exits(code: i32) -> Part {
        Part { lasts: Duration::ZERO, exit: Exit::code(code), outputs: Vec::new() }
    }

    /// It lasts this long.
    #[must_use]
    pub fn after(self, lasts: Duration) -> Part {
        Part { lasts, ..self }
    }

    /// It leaves this file.
    #[must_use]
    pub fn leaves(mut self, name: &str, bytes: &[u8]) -> Part {
        self.outputs.push((name.to_owned(), bytes.to_vec()));
        self
    }
}

/// A verb that was called, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs of the trait")]
pub enum Call {
    Prepare(ExecutionId),
    Start(TaskId),
    Recover(TaskId),
    Stop(TaskId),
    Remove(Vec<TaskId>),
    Release(ExecutionId),
}

type Script = dyn Fn(&Task) -> Part + Send + Sync;

/// An executor that plays.
#[derive(Clone)]
pub struct FakeExecutor {
    script: Arc<Script>,
    stage: Arc<Mutex<Stage>>,
    ready_after: Duration,
}

#[derive(Default)]
struct Stage {
    calls: Vec<Call>,
    players: HashMap<TaskId, Player>,
    folders: HashMap<ExecutionId, PathBuf>,
}

struct Player {
    since: SystemTime,
    exit: watch::Sender<Option<Exit>>,
}

impl fmt::Debug for FakeExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeExecutor").finish_non_exhaustive()
    }
}

impl FakeExecutor {
    /// An executor whose tasks do what this function says of each.
    #[must_use]
    pub fn new(script: impl Fn(&Task) -> Part + Send + Sync + 'static) -> FakeExecutor {
        FakeExecutor { script: Arc::new(script), stage: Arc::default(), ready_after: Duration::ZERO }
    }

    /// The same, but `prepare` takes this long.
    #[must_use]
    pub fn ready_after(self, ready_after: Duration) -> FakeExecutor {
        FakeExecutor { ready_after, ..self }
    }

    /// The verbs called so far, `probe`, `wait` and `list` left out.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.stage().calls.clone()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, call: Call) {
        self.stage().calls.push(call);
    }

    fn exit_of(&self, task: &TaskId) -> Option<watch::Receiver<Option<Exit>>> {
        self.stage().players.get(task).map(|player| player.exit.subscribe())
    }
}

fn handle(task: &TaskId) -> Handle {
    Handle { task: task.clone(), token: task.name() }
}

/// Ends the play of a task, unless it is over.
fn end(sender: &watch::Sender<Option<Exit>>, exit: Exit) {
    sender.send_if_modified(|slot| {
        let first = slot.is_none();
        if first {
            *slot = Some(exit);
        }
        first
    });
}

async fn play(part: Part, task: Arc<Task>, sender: watch::Sender<Option<Exit>>) {
    let cut = task.timeout.filter(|timeout| *timeout < part.lasts);
    tokio::time::sleep(cut.unwrap_or(part.lasts)).await;
    if cut.is_some() {
        let evidence = format!("its {:?} were up", cut.unwrap_or_default());
        return end(&sender, Exit { cause: Cause::TimedOut, evidence, ..part.exit });
    }
    if sender.borrow().is_some() {
        return;
    }
    for (name, bytes) in &part.outputs {
        if let Err(error) = std::fs::write(task.outputs.join(name), bytes) {
            return end(&sender, Exit { evidence: format!("cannot write {name}: {error}"), ..Exit::code(1) });
        }
    }
    end(&sender, part.exit);
}

#[async_trait]
impl Executor for FakeExecutor {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        Ok(Probe {
            version: "1".to_owned(),
            facts: Vec::new(),
            enforces: std::collections::BTreeSet::new(),
            cpu_millis: 1_000_000,
            memory: 1 << 50,
        })
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        self.called(Call::Prepare(session.execution));
        self.stage().folders.insert(session.execution, session.folder.clone());
        tokio::time::sleep(self.ready_after).await;
        Ok(())
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        self.called(Call::Start(task.id.clone()));
        let (sender, _) = watch::channel(None);
        let known = {
            let mut stage = self.stage();
            let player = Player { since: SystemTime::now(), exit: sender.clone() };
            match stage.players.entry(task.id.clone()) {
                std::collections::hash_map::Entry::Occupied(_) => true,
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(player);
                    false
                }
            }
        };
        let handle = handle(&task.id);
        if !known {
            let part = (self.script)(&task);
            tokio::spawn(play(part, task, sender));
        }
        Ok(handle)
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        self.called(Call::Recover(task.id.clone()));
        Ok(match self.exit_of(&task.id) {
            None => Recovered::NeverStarted,
            Some(exit) if exit.borrow().is_some() => Recovered::Exited(handle(&task.id)),
            Some(_) => Recovered::Running(handle(&task.id)),
        })
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        let unknown = || ExecutorError::Unknown(handle.task.to_string());
        let mut exit = self.exit_of(&handle.task).ok_or_else(unknown)?;
        let exit = exit.wait_for(Option::is_some).await.map_err(|_| unknown())?;
        exit.clone().ok_or_else(unknown)
    }

    async fn stop(&self, task: &TaskId, _grace: Duration) -> Result<(), ExecutorError> {
        self.called(Call::Stop(task.clone()));
        if let Some(player) = self.stage().players.get(task) {
            end(&player.exit, Exit { cause: Cause::Cancelled, ..Exit::code(0) });
        }
        Ok(())
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        self.called(Call::Remove(handles.iter().map(|handle| handle.task.clone()).collect()));
        let mut stage = self.stage();
        for handle in handles {
            stage.players.remove(&handle.task);
        }
        Ok(())
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let stage = self.stage();
        Ok(stage.players.keys().filter(|task| task.execution == execution).map(handle).collect())
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        self.called(Call::Release(execution));
        Ok(())
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        let stage = self.stage();
        let left = stage.players.iter().filter_map(|(task, player)| {
            Some(Leftover {
                id: task.to_string(),
                name: task.name(),
                execution: task.execution,
                folder: stage.folders.get(&task.execution)?.clone(),
                created: Some(player.since),
                running: player.exit.borrow().is_none(),
            })
        });
        Ok(left.collect())
    }

    async fn sweep(&self, ids: &[String]) -> Result<(), ExecutorError> {
        self.stage().players.retain(|task, player| {
            let swept = ids.contains(&task.to_string());
            if swept {
                end(&player.exit, Exit { cause: Cause::Cancelled, ..Exit::code(0) });
            }
            !swept
        });
        Ok(())
    }
}

/// A place for tests that need folders: where outputs and logs of a task go.
#[must_use]
pub fn task_in(folder: &std::path::Path, id: TaskId, argv: &[&str]) -> Task {
    Task {
        flow: "Fake".into(),
        splits: 1,
        argv: argv.iter().map(ToString::to_string).collect(),
        env: Vec::new(),
        container: Arc::new(Container::default()),
        timeout: None,
        grace: Duration::from_secs(5),
        places: None,
        inputs: crate::executor::Inputs { folder: folder.join("inputs"), views: Arc::new([]) },
        each: None,
        secrets: None,
        log_limit: crate::executor::LOG_LIMIT,
        outputs: folder.join(format!("outputs-{}", id.name())),
        log: PathBuf::from(folder).join(format!("{}.log", id.name())),
        id,
    }
}

/// Remembers runs as long as it lives.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Digest, Run>>);

impl Runs for Memory {
    fn find(&self, key: Digest) -> Result<Option<Run>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned())
    }

    fn remember(&self, runs: &[Run]) -> Result<(), StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(runs.iter().map(|run| (run.key, run.clone())));
        Ok(())
    }

    fn forget(&self, key: Digest) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }
}
