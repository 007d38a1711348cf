//! What the executor still has of tasks that are over, and how nothing of an execution is left behind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::attend::Stoppable;
use super::{Control, Engine, News};
use crate::executor::{Executor, ExecutorError, Handle};

/// How often an executor is asked that must not be believed at its first error, and the first pause between.
const INSISTENCE: (u32, Duration) = (6, Duration::from_millis(100));

impl Engine<'_> {
    /// Lets the executor forget what is over, once there is enough of it.
    pub(super) fn forget(&mut self, at_least: usize) {
        if self.over.len() < at_least {
            return;
        }
        let (executor, handles) = (Arc::clone(&self.executor), std::mem::take(&mut self.over));
        self.chores.spawn(remove(executor, handles, self.inbox.clone()));
    }

    /// Has everything forgotten that is over, before the end is put on record: whoever dies before leaves an execution that is
    /// resumed, and whoever comes then looks for what is left. Somebody who wants to leave does not wait for it.
    pub(super) async fn tidy_up(&mut self, control: &mut UnboundedReceiver<Control>) {
        self.take_offers_back();
        self.forget(1);
        // What is asked to end has its grace.
        self.finish_chores(control).await;
        if std::mem::take(&mut self.looks_again) {
            self.forget_all_but(&HashSet::new()).await;
            self.finish_chores(control).await;
        }
    }

    async fn finish_chores(&mut self, control: &mut UnboundedReceiver<Control>) {
        let chores = async { while self.chores.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = chores => {}
            Some(_) = control.recv() => {}
        }
    }

    /// The execution cannot go on: nothing of it may stay alive unseen.
    pub(super) async fn stop_everything(&mut self) {
        let tasks = self.in_flight.values_mut().filter_map(|flight| flight.task.take());
        let stop =
            |task: Stoppable| tokio::spawn(task.stop(Arc::clone(&self.executor), self.grace, self.inbox.clone()));
        for stopped in tasks.map(stop).collect::<Vec<_>>() {
            let _ = stopped.await;
        }
        self.take_offers_back();
        for attempt in std::mem::take(&mut self.in_flight).into_keys() {
            self.take_secrets(attempt);
        }
    }
}

/// Lets the executor forget tasks that are over. What it does not forget until the end stays until somebody resumes the
/// execution, or collects garbage.
pub(super) async fn remove(executor: Arc<dyn Executor>, handles: Vec<Handle>, inbox: UnboundedSender<News>) {
    if let Err(error) = insist(|| executor.remove(&handles)).await {
        let _ = inbox.send(News::NotForgotten(handles, error.to_string()));
    }
}

/// Asks an executor again, a few times, with longer and longer pauses; its last error if it never answers.
pub(super) async fn insist<T, F>(ask: impl Fn() -> F) -> Result<T, ExecutorError>
where
    F: Future<Output = Result<T, ExecutorError>>,
{
    let (mut tries, mut pause) = INSISTENCE;
    loop {
        tries -= 1;
        match ask().await {
            Err(_) if tries > 0 => tokio::time::sleep(pause).await,
            answer => return answer,
        }
        pause *= 2;
    }
}
