//! Tasks that are handed to an executor that keeps a line, before there is a place for them.
//!
//! What stands in line is on record as launched, and an executor that is handed many at once is woken, and wakes the scheduler,
//! once for all of them. So the line is as long as tasks that are over in [`WINDOW`], and empty where tasks take longer
//! than that: then nothing is gained.

use std::sync::Arc;
use std::time::Duration;

use super::forget::remove;
use super::{Engine, News};
use crate::executor::{Cause, Exit, Handle};

/// How long what stands in line may have to wait.
const WINDOW: Duration = Duration::from_millis(8);
/// The longest line.
const LONGEST: u64 = 64;

/// What is known of an executor's line.
pub(super) struct Line {
    /// How long tasks have taken of late, in microseconds.
    pace_us: u64,
    /// Whether a task has ended since the executor was last told what is over that closed the line.
    is_closed: bool,
    /// Whether it could not be told of some, which may have closed the line.
    is_owed: bool,
    /// Whether all was taken out, since nothing is to start any more.
    is_over: bool,
}

impl Default for Line {
    /// Nothing is known: tasks take long.
    fn default() -> Line {
        Line { pace_us: 100_000, is_closed: false, is_owed: false, is_over: false }
    }
}

impl Line {
    /// A task is over. One that took longer than those before counts for more: a line is dear only then.
    pub(super) fn note(&mut self, exit: &Exit) {
        let (before, now) = (self.pace_us, exit.usage.wall_us.max(1));
        self.pace_us = if now > before { before.midpoint(now) } else { before - (before - now).div_ceil(4) };
        self.is_closed |= exit.cause != Cause::Code(0);
    }

    /// How many may stand there, with so many places.
    fn length(&self, places: u32) -> u32 {
        let in_window = WINDOW.as_micros() as u64 * u64::from(places) / self.pace_us;
        in_window.min(LONGEST) as u32
    }
}

impl Engine<'_> {
    /// Decides how long the line may be from now on, and has the executor forget what is over: at once if that opens a closed
    /// line. But first everything is taken out, if nothing is to start any more.
    pub(super) fn tend_line(&mut self) {
        let is_owed = !self.in_flight.is_empty() && std::mem::take(&mut self.line.is_owed);
        let is_closed = std::mem::take(&mut self.line.is_closed) || is_owed;
        let many = self.executor.worth_removing();
        if !self.executor.keeps_line() {
            return self.forget(many);
        }
        if !self.scheduler.is_stopping() {
            self.scheduler.look_ahead(self.line.length(self.scheduler.places()));
        } else if !std::mem::replace(&mut self.line.is_over, true) {
            self.take_offers_back();
            return self.empty_line();
        }
        self.forget(if is_closed { 1 } else { many });
    }

    /// The executor could not be made to forget these: it is asked again, as soon as something may stand in its line.
    pub(super) fn not_forgotten(&mut self, handles: Vec<Handle>) {
        self.over.extend(handles);
        self.line.is_owed |= self.executor.keeps_line();
    }

    fn empty_line(&mut self) {
        let tasks = self.in_flight.values().filter_map(|flight| flight.task.as_ref());
        // What is not asked for yet never will be.
        let tasks = tasks.filter(|task| !task.gate.keep_back());
        let tasks: Vec<_> = tasks.map(|task| task.task.clone()).collect();
        if tasks.is_empty() {
            return self.forget(1);
        }
        let over = std::mem::take(&mut self.over);
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
        self.chores.spawn(async move {
            // What cannot be withdrawn runs, and is waited for like what runs already.
            if let Err(error) = executor.withdraw(&tasks).await {
                let _ = inbox.send(News::Notice(error.to_string()));
            }
            remove(executor, over, inbox).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Usage;

    fn length(places: u32, walls_us: &[u64]) -> u32 {
        let mut line = Line::default();
        for wall_us in walls_us {
            line.note(&Exit { usage: Usage { wall_us: *wall_us, ..Usage::default() }, ..Exit::code(0) });
        }
        line.length(places)
    }

    #[test]
    fn there_is_a_line_only_where_tasks_are_short() {
        assert_eq!(length(2, &[]), 0, "nothing is known yet");
        assert_eq!(length(64, &[10_000_000; 50]), 0);
        assert_eq!(length(2, &[1000; 50]), 16);
        assert_eq!(length(2, &[0; 200]), 64);
        let mut walls = [1000; 50].to_vec();
        walls.push(40_000);
        assert_eq!(length(2, &walls), 0, "one long one is enough");
    }
}
