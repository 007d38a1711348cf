//! What a running execution tells: lines in a pipe, live lines on a terminal, or one JSON object an event.
//!
//! Reporters know events, names and counts; they are unaware of the scheduler, the store and the executor. They are called
//! on the engine's loop for every event, so that what they do for an ordinary one is a look into a small table.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Outcome, Record};
use laminar_core::executor::{Cause, Exit};
use laminar_core::folder::ExecutionFolder;
use laminar_core::id::{Attempt, ExecutionId, LayerId, Split, TaskId};
use laminar_core::scheduler::State;

use crate::invocation::Invocation;
use crate::mask::Mask;
use crate::names::Names;
use crate::text::style::Style;

pub(crate) mod failure;
pub(crate) mod fans;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod live;
pub(crate) mod masked;
pub(crate) mod summary;

/// A reporter that has something to do when the execution is over.
pub(crate) trait Report: Reporter {
    /// Says what is still unsaid. Called once, last.
    ///
    /// # Errors
    /// When data was lost. What only people would have read is no data.
    fn finish(&mut self) -> io::Result<()>;
}

/// The execution that is reported on.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its id.
    pub(crate) id: ExecutionId,
    /// The flow's name.
    pub(crate) flow: Arc<str>,
    /// The names of its layers.
    pub(crate) names: Names,
    /// Its folder.
    pub(crate) folder: ExecutionFolder,
    /// How to call the command line again.
    pub(crate) invocation: Invocation,
    /// The style of the stream that is written to.
    pub(crate) style: Style,
    /// Hides what is secret in logs.
    pub(crate) mask: Mask,
}

impl Subject {
    /// An attempt's task, by which its log is found.
    pub(crate) fn task(&self, attempt: Attempt) -> TaskId {
        let Attempt { split, number } = attempt;
        TaskId { execution: self.id, layer: self.names.layer(split.layer).into(), index: split.index, attempt: number }
    }
}

/// What an event means for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// An attempt was launched.
    Launched(Attempt),
    /// Nobody knows how the attempt before this one ended; that one is not counted against the layer's retries.
    Relaunched(Attempt),
    /// A split settled well.
    Settled {
        /// Its last attempt.
        attempt: Attempt,
        /// Finished or caught.
        state: State,
        /// The exit code, when it was caught.
        code: Option<i32>,
        /// From the launch of its last attempt to its exit, in milliseconds.
        took_ms: i64,
    },
    /// A foreach layer has so many splits.
    Opened {
        /// Which layer.
        layer: LayerId,
        /// How many.
        splits: u32,
    },
    /// Its `when` said no.
    Skipped {
        /// Which layer.
        layer: LayerId,
        /// How many others were skipped with it, since they need it.
        others: u32,
    },
    /// Layers were skipped since something that they need was.
    Followed(u32),
    /// Its `when` or `foreach` could not be evaluated.
    Unopened {
        /// Which layer.
        layer: LayerId,
        /// Why.
        reason: String,
    },
    /// A split did not run: it has the artifacts of an earlier run.
    Cached {
        /// Which split.
        split: Split,
        /// The execution that left them.
        from: ExecutionId,
    },
    /// A split failed for good.
    Failed {
        /// Its last attempt.
        attempt: Attempt,
        /// Why.
        why: Why,
        /// From the launch of its last attempt to its exit, in milliseconds.
        took_ms: i64,
    },
    /// A split was stopped.
    Stopped(Attempt),
    /// An attempt failed, and another follows.
    Retrying {
        /// The attempt that failed.
        attempt: Attempt,
        /// Why.
        why: Why,
        /// The pause in milliseconds.
        delay_ms: u64,
        /// The memory of the next attempt, where it has grown.
        memory: Option<u64>,
    },
    /// Somebody asked the execution to stop.
    Cancelling {
        /// Whether processes are killed at once.
        force: bool,
    },
    /// Another scheduler goes on with the execution.
    Resumed(Progress),
    /// The execution is over.
    Ended(Outcome),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Why {
    /// It ended badly.
    Exit(Exit),
    /// What it left cannot be published.
    Rejected(String),
}

/// Reads the news out of events: remembers what runs, and since when.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    open: HashMap<Split, Open>,
    failed: u32,
    cached: u32,
    skipped: u32,
}

/// What is remembered of an attempt until its split settles.
#[derive(Debug)]
struct Open {
    launched_ms: i64,
    exited_ms: Option<i64>,
    code: Option<i32>,
    why: Option<Why>,
}

impl Watch {
    /// What this event means, and what it entails: the progress is that after the event.
    pub(crate) fn observe(&mut self, record: &Record, progress: &Progress) -> (Option<News>, Option<News>) {
        let before = self.skipped;
        let news = self.meaning(record, progress);
        let followed = match news {
            Some(News::Skipped { .. } | News::Resumed(_)) => 0,
            _ => progress.skipped.saturating_sub(before),
        };
        (news, (followed > 0).then_some(News::Followed(followed)))
    }

    fn meaning(&mut self, record: &Record, progress: &Progress) -> Option<News> {
        let failed_now = progress.failed > self.failed;
        self.failed = progress.failed;
        let cached_now = progress.cached > self.cached;
        self.cached = progress.cached;
        let skipped_now = progress.skipped.saturating_sub(self.skipped);
        self.skipped = progress.skipped;
        match &record.event {
            Event::AttemptLaunched { attempt, .. } => {
                let open = Open { launched_ms: record.at_ms, exited_ms: None, code: None, why: None };
                // An attempt that is retried for any other reason is not open any more: its retry was scheduled.
                let before = self.open.insert(attempt.split, open).and_then(|before| before.why);
                let is_lost = matches!(before, Some(Why::Exit(Exit { cause: Cause::Lost, .. })));
                Some(if is_lost { News::Relaunched(*attempt) } else { News::Launched(*attempt) })
            }
            Event::AttemptExited { attempt, exit } => self.exited(*attempt, exit, record.at_ms, failed_now),
            Event::AttemptPublished { attempt, .. } => {
                let (open, took_ms) = self.close(*attempt, record.at_ms);
                let code = open.and_then(|open| open.code).filter(|code| *code != 0);
                let state = if code.is_some() { State::Caught } else { State::Finished };
                Some(News::Settled { attempt: *attempt, state, code, took_ms })
            }
            Event::AttemptRejected { attempt, reason } => {
                let why = Why::Rejected(reason.clone());
                self.went_wrong(*attempt, why, record.at_ms, failed_now)
            }
            Event::RetryScheduled { attempt, delay_ms, memory } => {
                let why = self.open.remove(&attempt.split).and_then(|open| open.why)?;
                Some(News::Retrying { attempt: *attempt, why, delay_ms: *delay_ms, memory: *memory })
            }
            Event::CancelRequested { force } => Some(News::Cancelling { force: *force }),
            Event::ExecutionEnded { outcome } => Some(News::Ended(*outcome)),
            Event::ExecutionResumed { .. } => Some(News::Resumed(*progress)),
            Event::LayerOpened { layer, splits, each: Some(_) } => {
                Some(News::Opened { layer: *layer, splits: *splits })
            }
            // Where the counts did not change it came too late: the layer was cancelled.
            Event::LayerSkipped { layer } if skipped_now > 0 => {
                Some(News::Skipped { layer: *layer, others: skipped_now - 1 })
            }
            Event::LayerFailed { layer, reason } if failed_now => {
                Some(News::Unopened { layer: *layer, reason: reason.clone() })
            }
            Event::SplitCached { split, from, .. } if cached_now => {
                Some(News::Cached { split: *split, from: from.execution })
            }
            Event::LayerOpened { .. }
            | Event::LayerSkipped { .. }
            | Event::LayerFailed { .. }
            | Event::SplitCached { .. }
            | Event::AttemptSized { .. }
            | Event::AttemptOffered { .. }
            | Event::SplitKeyed { .. }
            | Event::AttemptStarted { .. }
            | Event::RetryDue { .. } => None,
        }
    }

    fn exited(&mut self, attempt: Attempt, exit: &Exit, at_ms: i64, failed: bool) -> Option<News> {
        match exit.cause {
            // Finished or caught if its outputs can be published; else the next event says what is wrong.
            Cause::Code(code) if !failed => {
                let open = self.open.get_mut(&attempt.split)?;
                open.code = Some(code);
                open.exited_ms = Some(at_ms);
                open.why = Some(Why::Exit(exit.clone()));
                None
            }
            Cause::Cancelled if !failed => {
                self.open.remove(&attempt.split);
                Some(News::Stopped(attempt))
            }
            _ => self.went_wrong(attempt, Why::Exit(exit.clone()), at_ms, failed),
        }
    }

    fn went_wrong(&mut self, attempt: Attempt, why: Why, at_ms: i64, failed: bool) -> Option<News> {
        if failed {
            let (_, took_ms) = self.close(attempt, at_ms);
            return Some(News::Failed { attempt, why, took_ms });
        }
        self.open.get_mut(&attempt.split)?.why = Some(why);
        None
    }

    fn close(&mut self, attempt: Attempt, at_ms: i64) -> (Option<Open>, i64) {
        let open = self.open.remove(&attempt.split);
        // Adopting what it left takes its time too, but that is not the layer's.
        let took_ms = open.as_ref().map_or(0, |open| open.exited_ms.unwrap_or(at_ms).saturating_sub(open.launched_ms));
        (open, took_ms)
    }
}

#[cfg(test)]
pub(crate) mod tests;
