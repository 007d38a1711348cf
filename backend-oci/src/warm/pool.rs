//! The warm containers of one execution that this process hands errands to.
//!
//! State only; it asks no engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use laminar_core::executor::ExecutorError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::desk::Desk;
use crate::client::Answer;

/// How long a container waits for one more task that may share it.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Those containers.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Held while some are removed.
    pub(crate) tidying: tokio::sync::Mutex<()>,
    /// The engine's clients that are still at their part of a container which is heard of already.
    finishing: Mutex<Vec<JoinHandle<Result<Answer, ExecutorError>>>>,
    /// Whether it was looked whether there can be any.
    looked: OnceLock<()>,
    /// Why there can be none, if so.
    obstacle: OnceLock<String>,
}

#[derive(Default)]
struct State {
    idle: Vec<(Arc<Desk>, Instant)>,
    /// By the names of their desks.
    taken: HashMap<String, Arc<Desk>>,
    /// Those that are to be removed.
    spent: Vec<Arc<Desk>>,
}

impl Pool {
    /// Looks whether there can be any, once.
    pub(crate) fn look_once(&self, look: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        if self.looked.get().is_none() {
            look()?;
            let _ = self.looked.set(()); // another has looked, too
        }
        Ok(())
    }

    /// There can be none.
    pub(crate) fn give_up(&self, why: String) {
        let _ = self.obstacle.set(why); // the first reason is as good as any
    }

    /// Whether there can be any.
    pub(crate) fn is_possible(&self) -> bool {
        self.obstacle.get().is_none()
    }

    /// A client may take the time that it needs.
    pub(crate) fn let_finish(&self, client: JoinHandle<Result<Answer, ExecutorError>>) {
        let mut finishing = self.finishing.lock().unwrap_or_else(PoisonError::into_inner);
        finishing.retain(|client| !client.is_finished());
        finishing.push(client);
    }

    /// Waits for those clients: what they are at shall not be removed beneath them.
    pub(crate) async fn finish(&self) {
        let finishing = std::mem::take(&mut *self.finishing.lock().unwrap_or_else(PoisonError::into_inner));
        for client in finishing {
            // Whether the container is there is seen by whoever asks for it.
            let _ = client.await;
        }
    }

    /// A container that waits for a task with this key: the one that was at work last, so that others can go.
    pub(crate) fn take(&self, key: &str) -> Option<Arc<Desk>> {
        let mut state = self.state();
        let at = state.idle.iter().rposition(|(desk, _)| desk.key() == key)?;
        let (desk, _) = state.idle.remove(at);
        state.taken.insert(desk.name(), Arc::clone(&desk));
        Some(desk)
    }

    /// One more, for a task.
    pub(crate) fn add(&self, desk: Desk) -> Arc<Desk> {
        let desk = Arc::new(desk);
        self.state().taken.insert(desk.name(), Arc::clone(&desk));
        desk
    }

    /// Whether there are any.
    pub(crate) fn is_used(&self) -> bool {
        let state = self.state();
        !(state.taken.is_empty() && state.idle.is_empty())
    }

    /// The one with this desk, if it is one of them.
    pub(crate) fn any(&self, name: &str) -> Option<Arc<Desk>> {
        let state = self.state();
        let rest = || state.idle.iter().map(|(desk, _)| desk).chain(&state.spent).find(|desk| desk.name() == name);
        state.taken.get(name).or_else(rest).cloned()
    }

    /// The one with this desk, if a task has it.
    pub(crate) fn taken(&self, desk: &str) -> Option<Arc<Desk>> {
        self.state().taken.get(desk).cloned()
    }

    /// Its task is over: it waits for the next, or is spent.
    pub(crate) fn put(&self, desk: &str) {
        let mut state = self.state();
        let Some(desk) = state.taken.remove(desk) else { return };
        match desk.is_ready() {
            true => state.idle.push((desk, Instant::now())),
            false => state.spent.push(desk),
        }
    }

    /// It takes no more tasks.
    pub(crate) fn spend(&self, desk: &str) {
        let mut state = self.state();
        if let Some(desk) = state.taken.remove(desk) {
            state.spent.push(desk);
        }
    }

    /// Those that are to be removed: spent, and idle for too long at this moment.
    pub(crate) fn to_be_removed(&self, now: Instant) -> Vec<Arc<Desk>> {
        let mut state = self.state();
        let old = |since: &Instant| now.saturating_duration_since(*since) >= IDLE;
        let gone: Vec<_> = state.idle.extract_if(.., |(_, since)| old(since)).map(|(desk, _)| desk).collect();
        gone.into_iter().chain(std::mem::take(&mut state.spent)).collect()
    }

    /// They are still there after all.
    pub(crate) fn put_back(&self, desks: Vec<Arc<Desk>>) {
        self.state().spent.extend(desks);
    }

    /// Lets go of all, and tells of those that can be removed.
    pub(crate) fn close(&self) -> Vec<Arc<Desk>> {
        let State { idle, taken, spent } = std::mem::take(&mut *self.state());
        let free = taken.into_values().filter(|desk| !desk.is_taken());
        idle.into_iter().map(|(desk, _)| desk).chain(free).chain(spent).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
