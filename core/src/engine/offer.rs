//! Offers: tasks that the executor may start the moment that another is over, before anybody here has heard of it.
//!
//! An offer is on record before it is made, so that whatever comes of it is found again; the folder that the task would write
//! to is its own from then on. It is launched like any other, and is found running then. What has begun and is not
//! wanted any more is ended: when nothing is to start, and when the execution goes on otherwise than it was.

use std::sync::Arc;
use std::time::Duration;

use super::forget::{insist, remove};
use super::order::Said;
use super::resume::Past;
use super::{Deed, Engine, EngineError, News};
use crate::event::Event;
use crate::id::Attempt;
use crate::scheduler::Scheduler;

impl Engine<'_> {
    /// Whatever can be offered now becomes facts and deeds.
    pub(super) fn make_offers(&mut self) -> Result<(), EngineError> {
        while let Some((attempt, after)) = self.scheduler.next_offer() {
            // What others left would have to be laid out for it, which takes its time.
            if !self.producers(attempt.split.layer).is_empty() {
                continue;
            }
            let outputs = self.outputs_for(attempt)?;
            self.offers.insert(attempt, outputs);
            if !self.scheduler.is_offered(attempt) {
                self.happen(Event::AttemptOffered { attempt, outputs })?;
            }
            self.group.deeds.push(Deed::Offer { attempt, after });
        }
        Ok(())
    }

    /// The folder for an attempt's outputs: that with which it was offered, since it may write there already, or an empty one.
    pub(super) fn outputs_for(&mut self, attempt: Attempt) -> Result<u32, EngineError> {
        self.offers.get(&attempt).copied().map_or_else(|| self.outputs.take(), Ok)
    }

    pub(super) fn offer(&mut self, attempt: Attempt, after: Attempt) {
        let folders = (self.offers.get(&attempt).copied(), self.in_flight.get(&after).map(|flight| flight.outputs));
        let (Some(outputs), Some(others)) = folders else { return };
        if let (task, Said::Here) = self.task(attempt, outputs) {
            self.executor.offer(&task, &self.task_id(after), &self.folder.outputs(others));
        }
    }

    /// Nothing that is offered is to start; what has begun all the same ends.
    pub(super) fn take_offers_back(&mut self) {
        self.take_back(|_, _| true);
    }

    /// The same of what is not wanted any more.
    pub(super) fn take_void_offers_back(&mut self) {
        self.take_back(|scheduler, attempt| !scheduler.is_offered(attempt));
    }

    fn take_back(&mut self, is_void: impl Fn(&Scheduler, Attempt) -> bool) {
        let attempts = self.offers.keys().copied();
        let void: Vec<_> = attempts.filter(|attempt| is_void(&self.scheduler, *attempt)).collect();
        for attempt in void {
            self.offers.remove(&attempt);
            self.looks_again = true;
            let (task, grace) = (self.task_id(attempt), self.grace);
            let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
            self.chores.spawn(async move {
                // Whatever is left of it in the end is looked for then.
                if let Err(error) = insist(|| executor.stop(&task, grace)).await {
                    let _ = inbox.send(News::Notice(error.to_string()));
                }
            });
        }
    }

    /// What an earlier scheduler has offered: what has begun of it is welcome still, or over and forgotten before anything else
    /// begins, since its name and its folder may be used again.
    pub(super) async fn settle_offers(&mut self, past: &mut Past) -> Result<(), EngineError> {
        let offers = std::mem::take(&mut past.offers);
        if offers.is_empty() {
            return Ok(());
        }
        let listed = insist(|| self.executor.list(self.session.execution)).await?;
        let mut void = Vec::new();
        for (attempt, outputs) in offers {
            let task = self.task_id(attempt);
            let Some(handle) = listed.iter().find(|handle| handle.task == task) else { continue };
            match self.scheduler.is_offered(attempt) {
                true => drop(self.offers.insert(attempt, outputs)),
                false => void.push(handle.clone()),
            }
        }
        if void.is_empty() {
            return Ok(());
        }
        // What is ended is wanted by no log.
        self.commit()?;
        for handle in &void {
            insist(|| self.executor.stop(&handle.task, Duration::ZERO)).await?;
        }
        remove(Arc::clone(&self.executor), void, self.inbox.clone()).await;
        Ok(())
    }
}
