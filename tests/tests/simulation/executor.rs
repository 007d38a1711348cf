//! An executor whose tasks exist in the world only. It keeps the contract, takes its time, and fails as the weather has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor, ExecutorError, Exit, Handle, Probe, Recovered, Session, Task, Usage};
use laminar_core::id::{ExecutionId, TaskId};

use crate::faults::Fault;
use crate::model::{Key, name};
use crate::sabotage::Sabotage;
use crate::world::{Process, Stage, World};

/// The longest that a verb hangs.
const LONGEST_HANG_MS: u64 = 120_000;

/// The longest that an engine is down.
const LONGEST_DOWN_MS: u64 = 60_000;

pub(crate) struct SimulatedExecutor {
    pub(crate) world: Arc<World>,
    pub(crate) execution: ExecutionId,
}

fn key(task: &TaskId) -> Key {
    (task.layer[1..].parse().unwrap_or(u32::MAX), task.index, task.attempt)
}

fn unavailable() -> ExecutorError {
    ExecutorError::Unavailable { engine: "simulation".into(), reason: "it does not answer".into(), hint: String::new() }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl SimulatedExecutor {
    fn handle(&self, (layer, index, attempt): Key) -> Handle {
        let task = TaskId { execution: self.execution, layer: format!("L{layer}").into(), index, attempt };
        Handle { token: task.name(), task }
    }

    /// A verb is on its way to the engine, and fails there or not.
    async fn enter(&self, verb: &str, of: Option<Key>, fails: Fault) -> Result<(), ExecutorError> {
        self.world.alive().await;
        let ms = {
            let mut state = self.world.state();
            state.step();
            state.note(|| match of {
                Some(key) => format!("{verb:<9} {}", name(key)),
                None => verb.to_owned(),
            });
            if !state.present.prepared && verb != "prepare" && verb != "release" {
                state.breaks(|| format!("{verb}, and the executor is not prepared"));
            }
            let hangs = if state.happens(Fault::Hangs) { state.dice.below(LONGEST_HANG_MS) } else { 0 };
            state.dice.latency() + hangs
        };
        pause(ms).await;
        self.world.alive().await;
        let (dies, fails) = {
            let mut state = self.world.state();
            if state.happens(Fault::EngineDown) {
                state.present.down_until_ms = state.now_ms + state.dice.below(LONGEST_DOWN_MS);
            }
            let down = state.now_ms < state.present.down_until_ms;
            (state.happens(Fault::DiesInVerb), state.happens(fails) || down)
        };
        if dies {
            self.world.die();
        }
        if fails { Err(unavailable()) } else { Ok(()) }
    }

    /// The answer is on its way back.
    async fn leave(&self, lost: Option<Fault>) -> Result<(), ExecutorError> {
        let (dies, ms, lost) = {
            let mut state = self.world.state();
            let lost = lost.is_some_and(|lost| state.happens(lost));
            (state.happens(Fault::DiesInVerb), state.dice.latency(), lost)
        };
        if dies {
            self.world.die();
        }
        pause(ms).await;
        self.world.alive().await;
        if lost { Err(unavailable()) } else { Ok(()) }
    }

    /// Stands in line until it is this task's turn.
    async fn turn(&self, key: Key, places: Option<u32>) -> Result<(), ExecutorError> {
        let Some(places) = places else { return Ok(()) };
        {
            let mut state = self.world.state();
            // One that runs already finds itself.
            if state.processes.get(&key).is_some_and(|process| process.stage != Stage::Created) {
                return Ok(());
            }
            if !state.present.line.contains(&key) {
                state.present.line.push_back(key);
            }
        }
        loop {
            self.world.alive().await;
            let moved = {
                let mut state = self.world.state();
                if !state.present.line.contains(&key) {
                    return Err(ExecutorError::Withdrawn);
                }
                let is_next = state.present.line.front() == Some(&key) && state.present.closed_by.is_empty();
                if is_next && state.alive().len() < places as usize {
                    state.present.line.pop_front();
                    state.present.moved.notify_waiters();
                    return Ok(());
                }
                Arc::clone(&state.present.moved)
            };
            moved.notified().await;
        }
    }

    fn leave_line(&self, key: Key) {
        let mut state = self.world.state();
        state.present.line.retain(|other| *other != key);
        state.present.offers.retain(|_, (other, _)| *other != key);
        state.present.moved.notify_waiters();
    }

    fn heard_of(&self, key: Key) {
        let mut state = self.world.state();
        let now_ms = state.now_ms;
        state.present.heard_of_ms.insert(key, now_ms);
    }

    fn called_stop(&self, key: Key) {
        let mut state = self.world.state();
        state.present.asked_to_stop.insert(key);
        let runs = state.alive().contains(&key);
        if runs && state.present.shut_out {
            state.breaks(|| format!("stop of {} by one who is shut out", name(key)));
        }
        if runs && state.model.is_alive(key) && !state.model.cancelled && !state.present.failing {
            state.breaks(|| format!("stop of {}, and nobody has asked for it", name(key)));
        }
    }

    fn called_remove(&self, handles: &[Handle]) {
        let mut state = self.world.state();
        for key in handles.iter().map(|handle| key(&handle.task)) {
            if state.alive().contains(&key) {
                state.breaks(|| format!("remove of {}, which is alive", name(key)));
            }
            if state.model.is_alive(key) {
                state.breaks(|| format!("remove of {}, and its exit is not on record", name(key)));
            }
            if state.model.is_offered(key) && state.processes.contains_key(&key) {
                state.breaks(|| format!("remove of {}, which is offered and has begun", name(key)));
            }
        }
    }

    /// Waits until a process is over, or until then. Says whether it is over.
    async fn until_over(&self, key: Key, until: Option<tokio::time::Instant>) -> bool {
        loop {
            self.world.alive().await;
            let (left_ms, changed) = {
                let state = self.world.state();
                match state.processes.get(&key) {
                    Some(Process { stage: Stage::Running { ends_ms, .. }, changed, .. }) => {
                        (ends_ms - state.now_ms, Arc::clone(changed))
                    }
                    _ => return true,
                }
            };
            let changed = changed.notified();
            let end = tokio::time::Instant::now() + Duration::from_millis(left_ms);
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(until.map_or(end, |until| until.min(end))) => {
                    if until.is_some_and(|until| until < end) {
                        return false;
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Executor for SimulatedExecutor {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn probe(&self) -> Result<Probe, ExecutorError> {
        Err(unavailable())
    }

    async fn prepare(&self, _: &Session) -> Result<(), ExecutorError> {
        self.enter("prepare", None, Fault::PrepareFails).await?;
        self.leave(None).await?;
        let mut state = self.world.state();
        (state.present.prepared, state.present.was_prepared) = (true, true);
        Ok(())
    }

    async fn identity(&self, _: ExecutionId, _: &str, _: &Container) -> Result<String, ExecutorError> {
        self.enter("identity", None, Fault::IdentityFails).await?;
        self.leave(None).await?;
        Ok("image".to_owned())
    }

    fn keeps_line(&self) -> bool {
        self.world.state().case.keeps_line
    }

    /// Some never arrive.
    fn offer(&self, task: &Task, after: &TaskId, outputs: &Path) {
        let (key, after) = (key(&task.id), key(after));
        let mut state = self.world.state();
        state.note(|| format!("offer     {} after {}", name(key), name(after)));
        if !state.model.is_offered(key) || !state.present.prepared {
            state.breaks(|| format!("offer of {}, and the log does not say so", name(key)));
        }
        let is_over = |process: &Process| matches!(process.stage, Stage::Over(_) | Stage::Gone);
        if !state.processes.get(&after).is_some_and(is_over) && !state.dice.one_in(8) {
            assert_eq!(outputs.parent(), task.outputs.parent());
            state.present.offers.insert(after, (key, task.clone()));
        }
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        let key = key(&task.id);
        self.enter("start", Some(key), Fault::StartFails).await?;
        self.world.state().present.offers.retain(|_, (other, _)| *other != key);
        self.turn(key, task.places).await?;
        let created_only = {
            let mut state = self.world.state();
            if state.present.shut_out {
                state.breaks(|| format!("start of {} by one who is shut out", name(key)));
            }
            let is_new = state.processes.get(&key).is_none_or(|process| process.stage == Stage::Created);
            let created_only = is_new && state.happens(Fault::CreatedOnly);
            if created_only {
                state.create(key);
            } else if is_new {
                // What was answered to a start before was not about this process.
                state.present.heard_of_ms.remove(&key);
                state.begin(key, &task);
            }
            created_only
        };
        let answered = self.leave(Some(Fault::StartAnswerLost)).await;
        self.heard_of(key);
        answered?;
        if created_only { Err(unavailable()) } else { Ok(self.handle(key)) }
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        let key = key(&task.id);
        self.enter("recover", Some(key), Fault::RecoverFails).await?;
        let handle = self.handle(key);
        let found = {
            let mut state = self.world.state();
            let gives_up = state.is_sabotaged(Sabotage::RecoverGivesUp);
            let forgets = state.is_sabotaged(Sabotage::RecoverKnowsNothing);
            let found = match state.processes.get(&key).map(|process| &process.stage) {
                _ if gives_up => Recovered::Gone,
                _ if forgets => Recovered::NeverStarted,
                None | Some(Stage::Created) => Recovered::NeverStarted,
                Some(Stage::Running { .. }) => Recovered::Running(handle),
                Some(Stage::Over(_)) => Recovered::Exited(handle),
                Some(Stage::Gone) => Recovered::Gone,
            };
            let word = match &found {
                Recovered::NeverStarted => "never started",
                Recovered::Running(_) => "running",
                Recovered::Exited(_) => "exited",
                Recovered::Gone => "gone",
            };
            state.note(|| format!("found     {} {word}", name(key)));
            found
        };
        self.leave(None).await?;
        if matches!(found, Recovered::Running(_)) {
            self.heard_of(key);
        }
        Ok(found)
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        let key = key(&handle.task);
        self.enter("wait", Some(key), Fault::WaitBreaks).await?;
        let breaks = {
            let mut state = self.world.state();
            let breaks = state.happens(Fault::WaitBreaks);
            breaks.then(|| tokio::time::Instant::now() + Duration::from_millis(state.dice.moment()))
        };
        if !self.until_over(key, breaks).await {
            return Err(ExecutorError::Disconnected { peer: "simulation", reason: "it broke off".into() });
        }
        let exit = {
            let mut state = self.world.state();
            match state.processes.get(&key).map(|process| process.stage.clone()) {
                Some(Stage::Over(exit)) => Ok(exit),
                Some(Stage::Gone) if state.dice.one_in(2) => {
                    Ok(Exit { cause: Cause::Lost, evidence: "it is gone".into(), usage: Usage::default() })
                }
                _ => Err(ExecutorError::Unknown(handle.task.name())),
            }
        };
        self.leave(None).await?;
        exit
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        let key = key(task);
        self.world.alive().await;
        self.called_stop(key);
        let entered = self.enter("stop", Some(key), Fault::StopFails).await;
        if entered.is_err() {
            *self.world.state().present.failed_stops.entry(key).or_default() += 1;
        }
        entered?;
        self.leave_line(key);
        if self.world.state().is_sabotaged(Sabotage::StopOnlyAsks) {
            self.world.state().term(key);
            return Ok(());
        }
        let kill_at = tokio::time::Instant::now() + grace;
        if self.world.state().term(key) && !self.until_over(key, Some(kill_at)).await {
            self.world.state().kill(key);
        }
        self.leave(Some(Fault::StopAnswerLost)).await
    }

    async fn withdraw(&self, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        self.enter("withdraw", None, Fault::StopFails).await?;
        tasks.iter().for_each(|task| self.leave_line(key(task)));
        self.leave(Some(Fault::StopAnswerLost)).await
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        self.world.alive().await;
        self.called_remove(handles);
        let entered = self.enter("remove", None, Fault::RemoveFails).await;
        self.world.alive().await;
        {
            let mut state = self.world.state();
            state.present.leftovers_explained |= entered.is_err();
            // Some may be gone all the same.
            let lies = state.is_sabotaged(Sabotage::RemoveKeeps);
            let many = if lies {
                0
            } else if entered.is_err() {
                handles.len() / 2
            } else {
                handles.len()
            };
            for handle in &handles[..many] {
                state.processes.remove(&key(&handle.task));
                state.present.closed_by.remove(&key(&handle.task));
            }
            state.present.moved.notify_waiters();
        }
        self.leave(None).await?;
        entered
    }

    async fn list(&self, _: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let entered = self.enter("list", None, Fault::ListFails).await;
        self.world.state().present.leftovers_explained |= entered.is_err();
        entered?;
        let listed = self.world.state().processes.keys().map(|key| self.handle(*key)).collect();
        self.leave(None).await?;
        Ok(listed)
    }

    async fn release(&self, _: ExecutionId) -> Result<(), ExecutorError> {
        self.enter("release", None, Fault::ReleaseFails).await?;
        self.world.state().present.prepared = false;
        Ok(())
    }
}
