//! Layers that say how many of their splits may be alive at once.
//!
//! Only as many splits of such a layer stand in the line of the ready ones as may start; the others are held back, and
//! follow in order as places become free. So they never stand in the way of another layer's. Unaware of states and events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Of one layer.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Splits that may have a process.
    pub(super) alive: u32,
    /// Splits in the line of the ready ones.
    pub(super) lined: u32,
    /// Splits that are held back.
    held: BinaryHeap<Reverse<u32>>,
}

impl Lane {
    /// So many of its splits may have a process, and none is ready.
    pub(super) fn of(alive: u32) -> Lane {
        Lane { alive, ..Lane::default() }
    }

    /// One more is ready.
    pub(super) fn hold(&mut self, number: u32) {
        self.held.push(Reverse(number));
    }

    /// The next that may stand in line, if there is one.
    pub(super) fn next(&mut self, most: u32) -> Option<u32> {
        if self.alive + self.lined >= most {
            return None;
        }
        let Reverse(number) = self.held.pop()?;
        self.lined += 1;
        Some(number)
    }

    /// Nobody is ready any more.
    pub(super) fn clear(&mut self) {
        self.lined = 0;
        self.held.clear();
    }
}
