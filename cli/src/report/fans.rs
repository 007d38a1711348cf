//! Layers that are fanned out: how far each is. One look into a small table an event, however many splits there are.

use std::collections::HashMap;
use std::sync::Arc;

use laminar_core::each::Each;
use laminar_core::event::{Event, Record};
use laminar_core::id::{LayerId, Split};
use laminar_core::scheduler::State;

use crate::report::News;
use crate::values::{self, Common};

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
    /// Those that failed.
    pub(crate) failed: u32,
    /// Those that were stopped.
    pub(crate) cancelled: u32,
    /// When it was opened, or gone on with, in milliseconds since 1970.
    pub(crate) opened_ms: i64,
}

impl Fan {
    /// How many have settled.
    pub(crate) fn settled(&self) -> u32 {
        self.well + self.failed + self.cancelled
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Fans {
    fans: HashMap<LayerId, Fan>,
    each: HashMap<LayerId, Arc<Each>>,
    /// What the values of those have in common of which a split was shown.
    common: HashMap<LayerId, Common>,
    /// How each split settled that settled well.
    well: HashMap<LayerId, Vec<Option<State>>>,
}

impl Fans {
    /// Takes note of an event, and of what it means.
    pub(crate) fn note(&mut self, record: &Record, news: Option<&News>) {
        match &record.event {
            Event::LayerOpened { layer, splits, each: Some(each) } => {
                self.fans.insert(*layer, Fan { splits: *splits, opened_ms: record.at_ms, ..Fan::default() });
                self.each.insert(*layer, Arc::clone(each));
                self.common.remove(layer);
                self.well.insert(*layer, vec![None; *splits as usize]);
            }
            Event::AttemptLaunched { attempt, .. } => self.with(attempt.split, |fan| fan.running += 1),
            Event::AttemptExited { attempt, .. } => {
                self.with(attempt.split, |fan| fan.running = fan.running.saturating_sub(1));
            }
            Event::ExecutionResumed { splits, .. } => {
                for fan in self.fans.values_mut() {
                    // What had failed or was stopped is still to come.
                    (fan.failed, fan.cancelled) = (0, 0);
                    fan.opened_ms = record.at_ms;
                }
                splits.iter().for_each(|split| self.settle(*split, None));
            }
            _ => {}
        }
        match news {
            Some(News::Settled { attempt, state, .. }) => self.settle(attempt.split, Some(*state)),
            Some(News::Cached { split, .. }) => self.settle(*split, Some(State::Cached)),
            Some(News::Failed { attempt, .. }) => self.with(attempt.split, |fan| fan.failed += 1),
            Some(News::Stopped(attempt)) => self.with(attempt.split, |fan| fan.cancelled += 1),
            _ => {}
        }
    }

    /// A split has settled well, or does not count as that any more.
    fn settle(&mut self, split: Split, state: Option<State>) {
        let place = self.well.get_mut(&split.layer).and_then(|splits| splits.get_mut(split.index as usize));
        let Some(place) = place else { return };
        let before = std::mem::replace(place, state);
        self.with(split, |fan| {
            let counts =
                |of: Option<State>| [of.is_some(), of == Some(State::Cached), of == Some(State::Caught)].map(u32::from);
            let all = [&mut fan.well, &mut fan.cached, &mut fan.caught];
            for ((count, was), is) in all.into_iter().zip(counts(before)).zip(counts(state)) {
                *count = *count + is - was;
            }
        });
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

    /// The values of a split, in so many characters.
    pub(crate) fn values(&mut self, split: Split, most: usize) -> String {
        let Some(each) = self.each.get(&split.layer) else { return String::new() };
        let common = self.common.entry(split.layer).or_insert_with(|| Common::of(each));
        values::line(&values::object(each, split.index), common, most)
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::each::{Dimension, Key};
    use laminar_core::id::{Attempt, ExecutionId};

    use super::*;

    #[test]
    fn what_runs_again_is_not_counted_twice() {
        let mut fans = Fans::default();
        let layer = LayerId(0);
        let at = |index| Split { layer, index };
        let mut note = |event: Option<Event>, news: Option<&News>| {
            let event = event.unwrap_or(Event::RetryDue { split: at(0) });
            fans.note(&Record { seq: 1, at_ms: 7, event }, news);
            *fans.of(layer).unwrap_or(&Fan::default())
        };
        let key = Key { name: "x".into(), values: vec![1.into(), 2.into(), 3.into()] };
        let each = Each { dimensions: vec![Dimension { keys: vec![key] }] };
        note(Some(Event::LayerOpened { layer, splits: 3, each: Some(Arc::new(each)) }), None);
        let cached = |index| News::Cached { split: at(index), from: ExecutionId::now() };
        for index in 0..2 {
            note(None, Some(&cached(index)));
        }
        let fan = note(None, Some(&News::Stopped(Attempt { split: at(2), number: 1 })));
        assert_eq!((fan.well, fan.cached, fan.failed, fan.cancelled, fan.settled()), (2, 2, 0, 1, 3));
        let resumed = Event::ExecutionResumed {
            again: Vec::new(),
            splits: vec![at(0), at(2)],
            changed: Vec::new(),
            update: None,
        };
        let fan = note(Some(resumed), None);
        assert_eq!((fan.well, fan.cached, fan.cancelled), (1, 1, 0));
        let fan = note(None, Some(&cached(0)));
        assert_eq!((fan.well, fan.cached, fan.settled()), (2, 2, 2));
    }
}
