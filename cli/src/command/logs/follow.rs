//! Follows the logs of an execution while it runs.
//!
//! The event log says which logs there are and when each is complete, so that nothing is looked for on disk, and an
//! attempt that starts later is picked up. Everything is polled ten times a second.

use std::collections::HashMap;
use std::fs::File;
use std::thread::sleep;
use std::time::Duration;

use laminar_core::event::Event;
use laminar_core::id::{Attempt, LayerId};
use laminar_core::store::Status;

use super::{Log, heading};
use crate::backends::Keeper;
use crate::context::Context;
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::mask::Mask;
use crate::names::Names;
use crate::place::LayerName;
use crate::transfer::Transfer;

/// The time from one look to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How many events are read at once.
const EVENTS: usize = 4096;

/// Why an interrupted execution is followed.
const GOES_ON: &str =
    "the execution was interrupted: its scheduler is gone; layers that still run are followed to their end";

/// A log that is being written.
struct Open {
    log: Log,
    file: Option<File>,
    transfer: Transfer,
    exited: bool,
}

/// What is followed, and how far.
struct Follower<'a> {
    execution: &'a Execution,
    /// Those of layers that are fanned out meanwhile, too.
    names: Names,
    mask: Mask,
    layer: Option<LayerId>,
    index: Option<u32>,
    seen: u64,
    open: Vec<Open>,
    /// Whose bytes were written last, and whether their last line has no end.
    last: Option<(Attempt, bool)>,
}

/// Writes what the logs have and what comes, until the execution is over, or interrupted and nothing of it runs any more.
pub(super) fn follow(context: &mut Context<'_>, execution: &Execution, layer: Option<&LayerName>) -> Result<(), Error> {
    let (layer, index) = match layer.map(|layer| execution.place_to_come(layer)).transpose()? {
        Some((layer, index)) => (Some(layer), index),
        None => (None, None),
    };
    let names = execution.names.clone();
    let mut follower =
        Follower { execution, names, mask: execution.mask(), layer, index, seen: 0, open: Vec::new(), last: None };
    let mut is_told = false;
    loop {
        // First the status: what is written before the end is read after it.
        let status = execution.reader.status().map_err(|error| execution.unreadable(&error))?;
        let is_interrupted = status == Status::Interrupted;
        let goes_on = is_interrupted && matches!(execution.keeper(context.backends), Keeper::Works(_));
        follower.look()?;
        follower.copy(context)?;
        context.output.flush()?;
        match status {
            Status::Running { .. } => sleep(PAUSE),
            // What started goes on under the supervisor, and says what it says.
            Status::Interrupted if goes_on => {
                if !std::mem::replace(&mut is_told, true) {
                    context.output.note(GOES_ON);
                }
                sleep(PAUSE);
            }
            Status::Interrupted => {
                let resume = context.invocation.line(&["resume", &abbreviate(execution.id)]);
                let gone = "the execution was interrupted: its scheduler is gone; nothing is followed any more";
                context.output.note(&format!("{gone}; `{resume}` goes on with it"));
                return follower.end(context);
            }
            Status::Ended(_) | Status::Damaged { .. } | Status::Unreadable { .. } => return follower.end(context),
        }
    }
}

impl Follower<'_> {
    /// Takes note of what started and what exited since the last look.
    fn look(&mut self) -> Result<(), Error> {
        let mut places: HashMap<Attempt, usize> =
            self.open.iter().enumerate().map(|(at, open)| (open.log.attempt, at)).collect();
        loop {
            let records = self.execution.reader.records(self.seen, EVENTS);
            let records = records.map_err(|error| self.execution.unreadable(&error))?;
            for record in &records {
                self.seen = record.seq;
                match &record.event {
                    Event::AttemptLaunched { attempt, .. } if self.is_wanted(*attempt) => {
                        let log = Log::new(self.execution, *attempt);
                        places.insert(*attempt, self.open.len());
                        self.open.push(Open { log, file: None, transfer: Transfer::masked(&self.mask), exited: false });
                    }
                    Event::AttemptExited { attempt, .. } => {
                        if let Some(at) = places.get(attempt) {
                            self.open[*at].exited = true;
                        }
                    }
                    Event::LayerOpened { layer, each: Some(_), .. } => self.names.fan_out(*layer),
                    _ => {}
                }
            }
            if records.len() < EVENTS {
                return Ok(());
            }
        }
    }

    fn is_wanted(&self, attempt: Attempt) -> bool {
        self.layer.is_none_or(|layer| layer == attempt.split.layer)
            && self.index.is_none_or(|index| index == attempt.split.index)
    }

    /// Writes what is new in every open log, and lets go of those that are complete.
    fn copy(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let mut open = std::mem::take(&mut self.open);
        for one in &mut open {
            self.copy_one(context, one)?;
        }
        open.retain(|one| !one.exited);
        self.open = open;
        Ok(())
    }

    fn copy_one(&mut self, context: &mut Context<'_>, one: &mut Open) -> Result<(), Error> {
        if one.file.is_none() {
            one.file = one.log.open()?;
        }
        let Some(file) = &mut one.file else { return Ok(()) };
        let length = file.metadata().map_err(|error| one.log.unreadable(&error))?.len();
        let position = std::io::Seek::stream_position(file).map_err(|error| one.log.unreadable(&error))?;
        if length > position {
            let attempt = one.log.attempt;
            let other = self.last.filter(|(last, _)| *last != attempt);
            let first = self.last.is_none() && self.layer.is_none();
            if first || other.is_some() {
                heading(&mut context.output, &self.names, attempt, other.is_some_and(|(_, unfinished)| unfinished))?;
            }
            one.transfer.copy(file, &mut context.output, &|error| one.log.unreadable(error))?;
            self.last = Some((attempt, one.transfer.is_unfinished()));
        }
        if one.exited {
            one.transfer.end(&mut context.output)?;
            // An execution that is over may have more logs than a process may have files.
            one.file = None;
        }
        Ok(())
    }

    fn end(mut self, context: &mut Context<'_>) -> Result<(), Error> {
        for one in &mut self.open {
            one.transfer.end(&mut context.output)?;
        }
        if self.last.is_some_and(|(_, unfinished)| unfinished) && context.output.data_is_terminal() {
            context.output.print("\n")?;
        }
        Ok(())
    }
}
