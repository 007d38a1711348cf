//! [`OciExecutor`]: the [`Executor`] over a docker-like command line.
//!
//! It turns verbs into questions to the engine, and what the engine and the supervisors inside say into answers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::container::Container;
use laminar_core::executor::{
    Executor, ExecutorError, Exit, Handle, Inputs, Leftover, Probe, Recovered, Session, Task,
};
use laminar_core::id::{ExecutionId, TaskId};
use tokio::task::JoinHandle;

use crate::dialect::Dialect;
use crate::engine::{Engine, Found};
use crate::execution::Execution;
use crate::place::{INPUTS, Why};
use crate::settings::Settings;
use crate::{leftovers, name, probe, program, watch};

/// How many containers one question is about at most.
const AT_ONCE: usize = 200;
/// How many tasks that are over are removed together: containers by one client, and the folders of those that were in warm
/// containers, which are used again.
const MANY: usize = 64;
const FEW: usize = 8;

/// Runs tasks as containers of one engine.
///
/// Its program must call [`enter`](crate::enter) first thing in its `main`. Dropping the executor ends no task.
pub struct OciExecutor {
    engine: Arc<Engine>,
    executions: Mutex<HashMap<ExecutionId, Attended>>,
}

/// An execution, and the task of the runtime that watches it.
struct Attended {
    execution: Arc<Execution>,
    watcher: JoinHandle<()>,
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.watcher.abort();
        self.execution.let_go();
    }
}

impl OciExecutor {
    /// An executor over the engine of this dialect, with this very program in the containers.
    #[must_use]
    pub fn new(dialect: &'static Dialect) -> OciExecutor {
        OciExecutor::with_program(dialect, "/proc/self/exe")
    }

    /// The same with another program in the containers, which calls [`enter`](crate::enter).
    #[must_use]
    pub fn with_program(dialect: &'static Dialect, program: impl Into<PathBuf>) -> OciExecutor {
        OciExecutor { engine: Arc::new(Engine::new(dialect, program.into())), executions: Mutex::default() }
    }

    /// The same over an engine of which something was said. To be said before the first verb, as all of these are.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> OciExecutor {
        self.with(|engine| engine.set(settings))
    }

    /// The same without a supervisor in the containers, as where this program cannot run inside: the engine's own logs and
    /// exits are used.
    #[must_use]
    pub fn bare(self) -> OciExecutor {
        self.with(|engine| engine.bare = true)
    }

    /// The same with less patience for each question to the engine.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> OciExecutor {
        self.with(|engine| engine.client.be_patient_for(patience))
    }

    /// The same with warm containers that wait for so long until they end by themselves, while there is no scheduler.
    #[must_use]
    pub fn with_warmth(self, patience: Duration) -> OciExecutor {
        self.with(|engine| engine.warmth = patience)
    }

    fn with(mut self, change: impl FnOnce(&mut Engine)) -> OciExecutor {
        // Nothing has a part in it before the first verb.
        if let Some(engine) = Arc::get_mut(&mut self.engine) {
            change(engine);
        }
        self
    }

    fn executions(&self) -> MutexGuard<'_, HashMap<ExecutionId, Attended>> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn execution(&self, id: ExecutionId) -> Result<Arc<Execution>, ExecutorError> {
        let executions = self.executions();
        let attended = executions.get(&id).ok_or_else(|| ExecutorError::Unknown(format!("execution {id}")))?;
        Ok(Arc::clone(&attended.execution))
    }
}

#[async_trait]
impl Executor for OciExecutor {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn withhold(&self, names: &[Arc<str>]) {
        self.engine.client.withhold(names);
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        let facts = self.engine.facts().await?;
        let own = self.engine.outside().await?.container();
        Ok(probe::probe(facts, self.engine.bareness(facts)?, own))
    }

    async fn check(&self, layers: &[(Arc<str>, Arc<Container>)], workdir: &Path) -> Vec<ExecutorError> {
        self.engine.check(layers, workdir).await
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        if self.execution(session.execution).is_ok() {
            return Ok(());
        }
        self.engine.client.withhold(&session.withheld);
        let execution = self.engine.prepare(session).await?;
        let mut executions = self.executions();
        executions.entry(session.execution).or_insert_with(|| {
            let watcher = tokio::spawn(watch::watch(Arc::clone(&self.engine), Arc::clone(&execution)));
            Attended { execution, watcher }
        });
        Ok(())
    }

    async fn can_hand_over(&self, _layers: &[Arc<str>], secrets: &Path) -> Result<(), ExecutorError> {
        self.engine.sees_secrets(secrets).await
    }

    fn inputs_seen(&self, _layer: &str, _inputs: &Inputs) -> String {
        INPUTS.to_owned()
    }

    async fn identity(
        &self,
        execution: ExecutionId,
        _layer: &str,
        container: &Container,
    ) -> Result<String, ExecutorError> {
        let execution = self.execution(execution)?;
        Ok(self.engine.image_of(&execution, container).await?.identity())
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        let execution = self.execution(task.id.execution)?;
        let slot = execution.slot(&task.id);
        let _starting = slot.starting.lock().await;
        if !slot.is_known() {
            self.engine.start(&execution, &slot, &task).await?;
            execution.kick.notify_one();
        }
        Ok(handle(&task.id))
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        let execution = self.execution(task.id.execution)?;
        let slot = execution.slot(&task.id);
        let _starting = slot.starting.lock().await;
        if !slot.is_known() {
            let found = self.engine.find(&execution, &slot, Some(&task)).await?;
            if let Found::Nothing { ran } = found {
                return Ok(if ran { Recovered::Gone } else { Recovered::NeverStarted });
            }
            execution.kick.notify_one();
        }
        Ok(match slot.is_watched() && !slot.is_over() && slot.place.exit().is_none() {
            true => Recovered::Running(handle(&task.id)),
            false => Recovered::Exited(handle(&task.id)),
        })
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        let execution = self.execution(handle.task.execution)?;
        let slot = execution.slot(&handle.task);
        if !slot.is_known() {
            let _starting = slot.starting.lock().await;
            if !slot.is_known()
                && let Found::Nothing { .. } = self.engine.find(&execution, &slot, None).await?
            {
                return Err(ExecutorError::Unknown(format!("task {}", handle.task)));
            }
            execution.kick.notify_one();
        }
        Ok(slot.exit().await)
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        let execution = self.execution(task.execution)?;
        let slot = execution.slot(task);
        {
            let _started = slot.start_is_over().await;
            if !slot.is_known()
                && let Found::Nothing { .. } = self.engine.find(&execution, &slot, None).await?
            {
                return Ok(());
            }
        }
        execution.kick.notify_one();
        self.engine.end(&execution, &slot, Why::Stopped, grace).await
    }

    async fn withdraw(&self, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        for task in tasks {
            if let Some(slot) = self.execution(task.execution)?.known(task) {
                slot.call_off();
            }
        }
        Ok(())
    }

    fn worth_removing(&self) -> usize {
        let is_warm = self.executions().values().any(|attended| attended.execution.pool.is_used());
        if is_warm { FEW } else { MANY }
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        let mut by_execution: HashMap<ExecutionId, Vec<TaskId>> = HashMap::new();
        for handle in handles {
            by_execution.entry(handle.task.execution).or_default().push(handle.task.clone());
        }
        for (execution, tasks) in by_execution {
            let execution = self.execution(execution)?;
            for tasks in tasks.chunks(AT_ONCE) {
                self.engine.remove(&execution, tasks).await?;
                execution.forget(tasks);
            }
        }
        Ok(())
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let known = self.execution(execution)?;
        let names = self.engine.list(&known).await?;
        let own = names.iter().filter_map(|name| name::parse(execution, name));
        Ok(own.chain(Engine::list_warm(&known)).map(|task| handle(&task)).collect())
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        let Some(mut attended) = self.executions().remove(&execution) else { return Ok(()) };
        attended.watcher.abort();
        let _ = (&mut attended.watcher).await; // cancelled
        let removed = self.engine.release_warm(&attended.execution).await;
        program::withdraw(&attended.execution.private);
        removed
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        leftovers::find(&self.engine.client, self.engine.dialect, self.engine.outside().await?).await
    }

    async fn sweep(&self, ids: &[String]) -> Result<(), ExecutorError> {
        leftovers::remove(&self.engine.client, self.engine.dialect, ids).await
    }

    fn litter(&self, folder: &Path) -> Vec<PathBuf> {
        leftovers::litter(&folder.join(self.name()))
    }
}

/// The name says it all, and so two handles on a task are equal whoever made them.
fn handle(task: &TaskId) -> Handle {
    Handle { task: task.clone(), token: String::new() }
}
