//! Layers that are fanned out: how far each is. One look into a small table an event, however many splits there are.

use std::collections::HashMap;
use std::sync::Arc;

use laminar_core::each::Each;
use laminar_core::event::{Event, Record};
use laminar_core::id::{LayerId, Split};
use laminar_core::scheduler::State;
use serde_json::{Map, Value};

use crate::report::News;
use crate::values;

/// How far a foreach layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fan {
    /// How many splits it has.
    pub(crate) splits: u32,
    /// Those with a process.
    pub(crate) running: u32,
    /// Those that settled well.
    pub(crate) well: u32,
    /// Of those: taken from the cache.
    pub(crate) cached: u32,
    /// Of those: with an exit code that is caught.
    pub(crate) caught: u32,
    /// Those that failed or were stopped.
    pub(crate) bad: u32,
    /// When it was opened, in milliseconds since 1970.
    pub(crate) opened_ms: i64,
}

impl Fan {
    /// How many have settled.
    pub(crate) fn settled(&self) -> u32 {
        self.well + self.bad
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Fans {
    fans: HashMap<LayerId, Fan>,
    each: HashMap<LayerId, Arc<Each>>,
}

impl Fans {
    /// Takes note of an event, and of what it means.
    pub(crate) fn note(&mut self, record: &Record, news: Option<&News>) {
        match &record.event {
            Event::LayerOpened { layer, splits, each: Some(each) } => {
                self.fans.insert(*layer, Fan { splits: *splits, opened_ms: record.at_ms, ..Fan::default() });
                self.each.insert(*layer, Arc::clone(each));
            }
            Event::AttemptLaunched { attempt, .. } => self.with(attempt.split, |fan| fan.running += 1),
            Event::AttemptExited { attempt, .. } => {
                self.with(attempt.split, |fan| fan.running = fan.running.saturating_sub(1));
            }
            // What had failed or was stopped is still to come.
            Event::ExecutionResumed { .. } => self.fans.values_mut().for_each(|fan| fan.bad = 0),
            _ => {}
        }
        match news {
            Some(News::Settled { attempt, state, .. }) => self.with(attempt.split, |fan| {
                fan.well += 1;
                fan.caught += u32::from(*state == State::Caught);
            }),
            Some(News::Cached { split, .. }) => self.with(*split, |fan| {
                fan.well += 1;
                fan.cached += 1;
            }),
            Some(News::Failed { attempt, .. } | News::Stopped(attempt)) => {
                self.with(attempt.split, |fan| fan.bad += 1);
            }
            _ => {}
        }
    }

    fn with(&mut self, split: Split, change: impl FnOnce(&mut Fan)) {
        if let Some(fan) = self.fans.get_mut(&split.layer) {
            change(fan);
        }
    }

    /// How far a layer is, if it is fanned out.
    pub(crate) fn of(&self, layer: LayerId) -> Option<&Fan> {
        self.fans.get(&layer)
    }

    /// The values of a split.
    pub(crate) fn values(&self, split: Split) -> Map<String, Value> {
        self.each.get(&split.layer).map(|each| values::object(each, split.index)).unwrap_or_default()
    }
}
