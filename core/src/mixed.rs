//! One executor over several, for flows whose layers run in different places.
//!
//! Each task goes to the executor of its layer. Whoever calls it sees one [`Executor`] with the same contract; each executor
//! below sees an execution that has only its own layers, and keeps its own private folder. Unaware of which executors they
//! are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::container::Container;
use crate::executor::{Executor, ExecutorError, Exit, Handle, Inputs, Leftover, Probe, Recovered, Session, Task};
use crate::id::{ExecutionId, TaskId};

/// Which member runs a layer, by its place in the list.
type Of = dyn Fn(&str) -> Option<usize> + Send + Sync;

/// An executor over several.
pub struct Mixed {
    name: String,
    members: Vec<Arc<dyn Executor>>,
    of: Box<Of>,
}

impl Mixed {
    /// An executor that gives each layer's tasks to the one of these whose place `of` tells. A layer without one is not
    /// known to it.
    ///
    /// # Panics
    /// When two members have the same name: their private folders would be the same.
    #[must_use]
    pub fn new(members: Vec<Arc<dyn Executor>>, of: impl Fn(&str) -> Option<usize> + Send + Sync + 'static) -> Mixed {
        let names: Vec<_> = members.iter().map(|member| member.name()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two executors of one name: {names:?}");
        Mixed { name: names.join("+"), members, of: Box::new(of) }
    }

    /// The place of a layer's member.
    fn place(&self, layer: &str) -> Option<usize> {
        (self.of)(layer).filter(|place| *place < self.members.len())
    }

    fn member(&self, task: &TaskId) -> Result<&Arc<dyn Executor>, ExecutorError> {
        self.member_of(&task.layer)
    }

    fn member_of(&self, layer: &str) -> Result<&Arc<dyn Executor>, ExecutorError> {
        let place = self.place(layer).ok_or_else(|| ExecutorError::Unknown(format!("layer `{layer}`")))?;
        Ok(&self.members[place])
    }

    /// Does the same with all members at once, and waits for all of them; the first error counts.
    async fn each<T, F>(&self, mut verb: impl FnMut(usize, Arc<dyn Executor>) -> F) -> Result<Vec<T>, ExecutorError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ExecutorError>> + Send + 'static,
    {
        let mut all = JoinSet::new();
        for (place, member) in self.members.iter().enumerate() {
            let done = verb(place, Arc::clone(member));
            all.spawn(async move { (place, done.await) });
        }
        let mut done = Vec::with_capacity(self.members.len());
        while let Some(joined) = all.join_next().await {
            done.push(joined.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())));
        }
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[async_trait]
impl Executor for Mixed {
    fn name(&self) -> &str {
        &self.name
    }

    /// What all of them enforce, and as much of the machine as each of them has: they share it.
    async fn probe(&self) -> Result<Probe, ExecutorError> {
        let probes = self.each(|_, member| async move { member.probe().await }).await?;
        let versions =
            self.members.iter().zip(&probes).map(|(member, probe)| format!("{} {}", member.name(), probe.version));
        let common = |one: BTreeSet<_>, other: &Probe| one.intersection(&other.enforces).copied().collect();
        Ok(Probe {
            version: versions.collect::<Vec<_>>().join(", "),
            facts: Vec::new(),
            enforces: probes
                .iter()
                .fold(probes.first().map(|probe| probe.enforces.clone()).unwrap_or_default(), common),
            cpu_millis: probes.iter().map(|probe| probe.cpu_millis).min().unwrap_or(0),
            memory: probes.iter().map(|probe| probe.memory).min().unwrap_or(0),
        })
    }

    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError> {
        let prepare = |place: usize, member: Arc<dyn Executor>| {
            let own = |layer: &Arc<str>| self.place(layer) == Some(place);
            let containers = session.containers.iter().filter(|(layer, _)| own(layer)).cloned().collect();
            let session = Session { containers, ..session.clone() };
            async move { member.prepare(&session).await }
        };
        self.each(prepare).await.map(drop)
    }

    async fn can_hand_over(&self, layers: &[Arc<str>], secrets: &Path) -> Result<(), ExecutorError> {
        let hand_over = |place: usize, member: Arc<dyn Executor>| {
            let own: Vec<_> = layers.iter().filter(|layer| self.place(layer) == Some(place)).cloned().collect();
            let secrets = secrets.to_owned();
            async move { if own.is_empty() { Ok(()) } else { member.can_hand_over(&own, &secrets).await } }
        };
        self.each(hand_over).await.map(drop)
    }

    fn inputs_seen(&self, layer: &str, inputs: &Inputs) -> String {
        // A layer without a member is never started.
        self.member_of(layer).map(|member| member.inputs_seen(layer, inputs)).unwrap_or_default()
    }

    async fn identity(
        &self,
        execution: ExecutionId,
        layer: &str,
        container: &Container,
    ) -> Result<String, ExecutorError> {
        self.member_of(layer)?.identity(execution, layer, container).await
    }

    /// It does not: what runs elsewhere takes places that a member's line knows nothing of.
    fn keeps_line(&self) -> bool {
        matches!(&*self.members, [only] if only.keeps_line())
    }

    fn offer(&self, task: &Task, after: &TaskId, outputs: &Path) {
        if let [only] = &*self.members {
            only.offer(task, after, outputs);
        }
    }

    fn worth_removing(&self) -> usize {
        self.members.iter().map(|member| member.worth_removing()).min().unwrap_or(1)
    }

    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError> {
        self.member(&task.id)?.start(task).await
    }

    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError> {
        self.member(&task.id)?.recover(task).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError> {
        self.member(&handle.task)?.wait(handle).await
    }

    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError> {
        self.member(task)?.stop(task, grace).await
    }

    async fn withdraw(&self, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        let withdraw = |place: usize, member: Arc<dyn Executor>| {
            let part: Vec<_> = tasks.iter().filter(|task| self.place(&task.layer) == Some(place)).cloned().collect();
            async move { if part.is_empty() { Ok(()) } else { member.withdraw(&part).await } }
        };
        self.each(withdraw).await.map(drop)
    }

    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError> {
        let mut parts = vec![Vec::new(); self.members.len()];
        let mut stranger = None;
        for handle in handles {
            match self.place(&handle.task.layer) {
                Some(place) => parts[place].push(handle.clone()),
                None => stranger = Some(ExecutorError::Unknown(format!("task {}", handle.task))),
            }
        }
        let remove = |place: usize, member: Arc<dyn Executor>| {
            let part = std::mem::take(&mut parts[place]);
            async move { if part.is_empty() { Ok(()) } else { member.remove(&part).await } }
        };
        self.each(remove).await?;
        stranger.map_or(Ok(()), Err)
    }

    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError> {
        let lists = self.each(move |_, member| async move { member.list(execution).await }).await?;
        Ok(lists.into_iter().flatten().collect())
    }

    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError> {
        self.each(move |_, member| async move { member.release(execution).await }).await.map(drop)
    }

    /// What each of them has; an id says whose it is.
    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        let lists = self.each(|place, member| async move {
            let left = member.leftovers().await?;
            Ok(left.into_iter().map(|left| Leftover { id: format!("{place}:{}", left.id), ..left }).collect::<Vec<_>>())
        });
        Ok(lists.await?.into_iter().flatten().collect())
    }

    async fn sweep(&self, ids: &[String]) -> Result<(), ExecutorError> {
        let mut parts = vec![Vec::new(); self.members.len()];
        for (place, id) in ids.iter().filter_map(|id| id.split_once(':')) {
            if let Some(part) = place.parse().ok().and_then(|place: usize| parts.get_mut(place)) {
                part.push(id.to_owned());
            }
        }
        let sweep = |place: usize, member: Arc<dyn Executor>| {
            let part = std::mem::take(&mut parts[place]);
            async move { if part.is_empty() { Ok(()) } else { member.sweep(&part).await } }
        };
        self.each(sweep).await.map(drop)
    }

    fn litter(&self, folder: &Path) -> Vec<PathBuf> {
        self.members.iter().flat_map(|member| member.litter(folder)).collect()
    }
}

#[cfg(test)]
mod tests;
