//! Going on with an execution that another scheduler has begun.
//!
//! The log is replayed through the scheduler's own `apply`, so what is known afterwards is what the other scheduler knew.
//! What the log cannot know is asked for: each task in flight is found again by its name, and what the executor still has
//! of tasks that are over is forgotten by it. What was to be done and may not have been is done again: adopting, removing
//! published outputs, resting.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::forget::{insist, remove};
use super::left::AllLeft;
use super::{Deed, Engine, EngineError, InFlight};
use crate::cache::CacheKey;
use crate::event::{Event, Record};
use crate::executor::Handle;
use crate::id::{Attempt, LayerId, Split};
use crate::scheduler::State;

use super::News;
use super::attend::Begun;

/// How many events are read at once.
const AT_ONCE: usize = 10_000;

/// What a log says that the scheduler does not need to know, but its successor does.
#[derive(Default)]
pub(super) struct Past {
    /// Attempts that are not settled, with their outputs folder and whether the executor has said that they started.
    in_flight: BTreeMap<Attempt, (u32, Begun)>,
    /// The folders for outputs of attempts that were offered, and not launched.
    pub(super) offers: BTreeMap<Attempt, u32>,
    /// When splits that rest are due, in milliseconds since 1970, and how long they rest in all.
    due_ms: HashMap<Split, (i64, u64)>,
    /// Whether what was left last in an outputs folder is published: then it may be removed.
    published: HashMap<u32, bool>,
    artifacts: AllLeft,
    /// What somebody has asked to run again.
    wanted: Vec<(Vec<LayerId>, Vec<Split>)>,
    /// What splits do that are cached once they have run.
    keys: Vec<(Split, CacheKey)>,
    last: u64,
    /// Whether the flow is another one from now on.
    pub(super) is_updated: bool,
}

impl Past {
    fn note(&mut self, record: Record) {
        self.last = record.seq;
        match record.event {
            Event::AttemptOffered { attempt, outputs } => drop(self.offers.insert(attempt, outputs)),
            Event::AttemptLaunched { attempt, outputs, .. } => {
                self.offers.remove(&attempt);
                self.in_flight.insert(attempt, (outputs, Begun::Perhaps));
                self.published.insert(outputs, false);
            }
            Event::AttemptStarted { attempt, .. } => {
                self.in_flight.entry(attempt).and_modify(|(_, begun)| *begun = Begun::Yes);
            }
            Event::AttemptPublished { attempt, artifacts } => {
                if let Some((outputs, _)) = self.in_flight.remove(&attempt) {
                    self.published.insert(outputs, true);
                }
                // What an earlier attempt left counts no more.
                self.artifacts.set(attempt.split, artifacts.into());
            }
            Event::SplitCached { split, artifacts, .. } => self.artifacts.set(split, artifacts.into()),
            Event::SplitKeyed { split, key } => self.keys.push((split, key)),
            Event::ExecutionResumed { again, splits, update, .. } => {
                if update.is_some() {
                    // Parameters may be others, and they count for what was looked for.
                    self.keys.clear();
                }
                self.wanted.push((again, splits));
            }
            Event::LayerOpened { layer, .. } | Event::LayerSkipped { layer } | Event::LayerFailed { layer, .. } => {
                self.artifacts.forget(layer);
            }
            Event::RetryScheduled { attempt, delay_ms, .. } => {
                let due_ms = record.at_ms.saturating_add_unsigned(delay_ms);
                self.due_ms.insert(attempt.split, (due_ms, delay_ms));
            }
            Event::RetryDue { split } => drop(self.due_ms.remove(&split)),
            Event::AttemptExited { .. }
            | Event::AttemptRejected { .. }
            | Event::AttemptSized { .. }
            | Event::CancelRequested { .. }
            | Event::ExecutionEnded { .. } => {}
        }
    }

    /// Whether a task may have a process that must be found again.
    pub(super) fn is_alive(&self) -> bool {
        !self.in_flight.is_empty() || !self.offers.is_empty()
    }
}

impl Engine<'_> {
    /// Brings the scheduler to where the log ends, and says that another goes on; nothing for an execution that is new.
    pub(super) fn replay(&mut self) -> Result<Option<Past>, EngineError> {
        let mut past = Past::default();
        loop {
            let records = self.store.records(past.last, AT_ONCE)?;
            let is_all = records.len() < AT_ONCE;
            for record in records {
                self.scheduler.apply(&record.event)?;
                self.reporter.recall(&record, self.scheduler.progress());
                let settled = match &record.event {
                    Event::AttemptExited { attempt, .. } | Event::AttemptRejected { attempt, .. } => Some(*attempt),
                    _ => None,
                };
                past.note(record);
                if let Some(attempt) = settled.filter(|attempt| !self.is_running(*attempt)) {
                    past.in_flight.remove(&attempt);
                }
            }
            self.scheduler.take_changes();
            if is_all {
                break;
            }
        }
        if past.last == 0 {
            return Ok(None);
        }
        let again = std::mem::take(&mut self.again);
        let update = (self.scheduler.updated() < self.updates).then_some(self.updates);
        past.is_updated = update.is_some();
        if let Some(layer) = self.scheduler.under_way(&again.whole(), &again.splits, update) {
            return Err(EngineError::UnderWay { layer: Arc::clone(&self.flow.layer(layer).name) });
        }
        past.wanted.iter().for_each(|(layers, splits)| self.recalling.insist(layers, splits));
        self.recalling.insist(&again.layers, &again.splits);
        self.happen(again.event(update))?;
        Ok(Some(past))
    }

    /// Everything that was under way is under way again. An executor that is not ready is asked nothing: then nothing was.
    pub(super) async fn go_on(&mut self, mut past: Past, is_ready: bool) -> Result<(), EngineError> {
        self.artifacts = std::mem::take(&mut past.artifacts);
        // What was looked for by another scheduler is what runs only if nothing may have changed since.
        let is_same = |split: &Split| !past.is_updated && !self.flow.layer(split.layer).looks_outside();
        let keys = past.keys.iter().filter(|(split, _)| is_same(split));
        keys.for_each(|(split, key)| self.recalling.note(*split, key));
        let scheduler = &self.scheduler;
        let is_done =
            |split: Split| matches!(scheduler.state(split), Some(State::Finished | State::Caught | State::Cached));
        self.artifacts.retain(is_done);
        self.remove_stale_views().await?;
        if is_ready {
            self.settle_offers(&mut past).await?;
        }
        let in_flight = past.in_flight.values().map(|(outputs, _)| outputs);
        let in_use: HashSet<u32> = in_flight.chain(past.offers.values()).chain(self.offers.values()).copied().collect();
        for outputs in self.outputs.look_around(&in_use, &past.published)? {
            self.group.deeds.push(Deed::Discard { outputs });
        }
        if is_ready {
            self.forget_what_is_over(&past).await;
        }
        for (attempt, (outputs, begun)) in past.in_flight {
            self.in_flight.insert(attempt, InFlight { outputs, task: None });
            if self.scheduler.is_alive(attempt) {
                self.group.deeds.push(Deed::Launch { attempt, outputs, begun });
            }
        }
        let now_ms = self.store.now_ms();
        let mut resting: Vec<(Split, (i64, u64))> = past.due_ms.into_iter().collect();
        resting.sort_unstable();
        for (split, (due_ms, delay_ms)) in resting {
            if self.scheduler.is_resting(split) {
                let left_ms = u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(0);
                // A clock that was set back must not make it longer than it was.
                let after = Duration::from_millis(left_ms.min(delay_ms));
                self.group.deeds.push(Deed::Wake { split, after });
            }
        }
        Ok(())
    }

    /// Whether a layer is done, and has left something to be seen.
    fn is_seen(&self, layer: LayerId) -> bool {
        matches!(self.scheduler.layer_state(layer), State::Finished | State::Caught | State::Cached)
            && self.producer(layer).is_seen()
    }

    fn is_running(&self, attempt: Attempt) -> bool {
        self.scheduler.state(attempt.split) == Some(State::Running)
    }

    /// Views of layers that have not finished, or will run again, show what does not count any more. Those of layers that are
    /// no longer part of the flow are nobody's.
    async fn remove_stale_views(&mut self) -> Result<(), EngineError> {
        let by_name: HashMap<&str, LayerId> = self.flow.active().map(|(id, layer)| (&*layer.name, id)).collect();
        let mut stale = Vec::new();
        for name in self.inputs.views_that_are_there()? {
            if by_name.get(name.as_str()).is_some_and(|layer| !self.is_seen(*layer)) {
                stale.push(self.folder.view(&name));
            }
        }
        let remove =
            move || stale.iter().try_for_each(|view| crate::datastore::remove(view).map_err(EngineError::from));
        self.blocking.run(remove).await
    }

    /// What the executor still has of tasks whose exit is on record: the other scheduler died before it could say so.
    /// Nothing waits for it, and it cannot be anything that was launched since.
    async fn forget_what_is_over(&mut self, past: &Past) {
        let alive = past.in_flight.keys().copied().filter(|attempt| self.scheduler.is_alive(*attempt));
        let wanted = alive.chain(self.offers.keys().copied()).collect();
        self.forget_all_but(&wanted).await;
    }

    /// Whatever the executor has of the execution, but for these.
    pub(super) async fn forget_all_but(&mut self, alive: &HashSet<Attempt>) {
        let listed = match insist(|| self.executor.list(self.session.execution)).await {
            Ok(listed) => listed,
            // The next scheduler, or the one who cleans up, will ask again.
            Err(error) => return self.reporter.notice(&format!("cannot list what is left of tasks: {error}")),
        };
        let in_flight: HashSet<_> = alive
            .iter()
            .map(|attempt| (&*self.flow.layer(attempt.split.layer).name, attempt.split.index, attempt.number))
            .collect();
        let is_over = |handle: &Handle| {
            let task = &handle.task;
            !in_flight.contains(&(&*task.layer, task.index, task.attempt))
        };
        let over: Vec<Handle> = listed.into_iter().filter(is_over).collect();
        if over.is_empty() {
            return;
        }
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
        self.chores.spawn(async move {
            for handle in &over {
                // It should not be alive; whoever removes it must be sure.
                if let Err(error) = executor.stop(&handle.task, Duration::ZERO).await {
                    let _ = inbox.send(News::Notice(error.to_string()));
                }
            }
            remove(executor, over, inbox).await;
        });
    }
}
