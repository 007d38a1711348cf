//! A run store in the world: what was appended outlives the scheduler, whatever becomes of the one who appended it.

use std::io::Error;
use std::path::PathBuf;
use std::sync::Arc;

use laminar_core::event::{Event, Record};
use laminar_core::id::{Attempt, ExecutionId};
use laminar_core::scheduler::Change;
use laminar_core::store::{EventLog, StoreError};

use crate::faults::Fault;
use crate::model::{key, name as name_of};
use crate::sabotage::Sabotage;
use crate::world::{State, World};

/// The furthest that somebody sets the clock, in milliseconds.
const CLOCK_JUMP_MS: u64 = 7_200_000;

pub(crate) struct SimulatedStore {
    pub(crate) world: Arc<World>,
    pub(crate) execution: ExecutionId,
}

pub(crate) fn failed(verb: &'static str) -> StoreError {
    StoreError::File { verb, path: PathBuf::from("simulation"), source: Error::from(std::io::ErrorKind::StorageFull) }
}

impl EventLog for SimulatedStore {
    fn append(&mut self, events: Vec<Event>, changes: &[Change]) -> Result<Vec<Record>, StoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        state.step();
        if state.present.shut_out || state.happens(Fault::ShutOut) {
            state.present.shut_out = true;
            return Err(StoreError::ShutOut { id: self.execution });
        }
        let planned = state.planned_end();
        if state.happens(Fault::AppendFails) || planned == Some(Fault::AppendFails) {
            state.present.failing = true;
            return Err(failed("write"));
        }
        let dies_before = state.happens(Fault::DiesBeforeAppend) || planned == Some(Fault::DiesBeforeAppend);
        let dies_after = state.happens(Fault::DiesAfterAppend) || planned == Some(Fault::DiesAfterAppend);
        if !dies_before {
            let records = state.append(events, changes);
            if !dies_after {
                return Ok(records);
            }
        }
        drop(state);
        self.world.die()
    }

    fn records(&mut self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        if state.happens(Fault::RecordsFail) {
            return Err(failed("read"));
        }
        Ok(state.log.iter().filter(|record| record.seq > after).take(limit).cloned().collect())
    }

    fn now_ms(&self) -> i64 {
        self.world.state().wall_ms()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.world.must_be_alive();
        if self.world.state().happens(Fault::CloseFails) { Err(failed("sync")) } else { Ok(()) }
    }
}

/// An event in few words.
pub(crate) fn told(event: &Event) -> String {
    let name = |attempt: &Attempt| name_of(key(*attempt));
    match event {
        Event::AttemptLaunched { attempt, outputs, .. } => format!("{} launched, outputs {outputs}", name(attempt)),
        Event::AttemptOffered { attempt, outputs } => format!("{} offered, outputs {outputs}", name(attempt)),
        Event::AttemptStarted { attempt, .. } => format!("{} started", name(attempt)),
        Event::AttemptExited { attempt, exit } => format!("{} exited: {}", name(attempt), exit.cause),
        Event::AttemptPublished { attempt, artifacts } => format!("{} published {}", name(attempt), artifacts.len()),
        Event::AttemptRejected { attempt, reason } => format!("{} rejected: {reason}", name(attempt)),
        Event::RetryScheduled { attempt, delay_ms, .. } => format!("{} rests {delay_ms} ms", name(attempt)),
        Event::RetryDue { split } => format!("L{}[{}] may run again", split.layer.0, split.index),
        Event::SplitKeyed { split, .. } => format!("L{}[{}] is not in the cache", split.layer.0, split.index),
        Event::SplitCached { split, .. } => format!("L{}[{}] is in the cache", split.layer.0, split.index),
        other => format!("{other:?}"),
    }
}

impl State {
    fn wall_ms(&self) -> i64 {
        i64::try_from(self.now_ms).unwrap_or(0) + self.wall_offset_ms
    }

    /// Somebody may set the clock.
    pub(crate) fn perhaps_set_clock(&mut self) {
        if self.happens(Fault::ClockJumps) {
            let ms = self.dice.between(1, CLOCK_JUMP_MS);
            let back = self.dice.one_in(2);
            self.model.clock_jumped_ms += ms;
            let ms = i64::try_from(ms).unwrap_or(0);
            self.wall_offset_ms += if back { -ms } else { ms };
        }
    }

    /// What the world remembers of an event besides what the model does.
    fn take_note(&mut self, event: &Event) {
        let figures = &mut self.figures;
        match event {
            Event::AttemptLaunched { attempt, .. } => drop(self.present.launched.insert(key(*attempt))),
            Event::LayerOpened { splits, .. } => {
                figures.opened += 1;
                figures.splits += u64::from(*splits);
            }
            Event::LayerSkipped { .. } => figures.skipped += 1,
            Event::LayerFailed { .. } => figures.undecided += 1,
            Event::AttemptSized { .. } => figures.sized += 1,
            Event::AttemptOffered { .. } => figures.offered += 1,
            Event::SplitKeyed { split, key } => {
                figures.keyed += 1;
                if key.reason().is_none() && !self.model.is_late(*split) {
                    let leaves = self.model.leaves((split.layer.0, split.index, 1));
                    let promised = self.promised.entry(key.digest).or_insert_with(|| leaves.clone()).clone();
                    if promised != leaves {
                        self.breaks(|| format!("{split:?} leaves {leaves:?}, and {promised:?} has the same key"));
                    }
                }
            }
            Event::SplitCached { .. } => figures.cached += 1,
            _ => {}
        }
    }

    fn append(&mut self, mut events: Vec<Event>, changes: &[Change]) -> Vec<Record> {
        self.perhaps_set_clock();
        self.present.recorded = true;
        if self.is_sabotaged(Sabotage::LogLosesAnEvent) && events.len() > 1 {
            events.pop();
        }
        let mut records = Vec::new();
        for event in events {
            self.note(|| format!("log       {}", told(&event)));
            if let Err(wrong) = self.model.apply(&event, self.now_ms) {
                self.breaks(|| wrong);
            }
            self.take_note(&event);
            records.push(Record {
                seq: self.log.len() as u64 + 1 + records.len() as u64,
                at_ms: self.wall_ms(),
                event,
            });
        }
        self.log.extend(records.iter().cloned());
        for change in changes {
            self.states.insert(change.split, change.state);
        }
        self.check_alive();
        records
    }
}
