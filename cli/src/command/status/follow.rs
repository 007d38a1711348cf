//! `laminar status -f`: follows an execution that another process drives, as if this one did.
//!
//! The log is replayed through the scheduler's own function as it grows, so what is shown is what the other process knows.

use std::thread::sleep;
use std::time::Duration;

use laminar_core::event::Event;
use laminar_core::store::{Creation, Status};

use crate::context::Context;
use crate::drive::{conclude, introduce, reporter, subject};
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::load;
use crate::output::Shape;
use crate::report::summary::Span;

/// The time from one look to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How many events are read at once.
const EVENTS: usize = 4096;

/// Follows an execution until it is over, or nobody drives it any more.
pub(super) fn follow(context: &mut Context<'_>, execution: &Execution) -> Result<Code, Error> {
    let creation = execution.reader.creation();
    let loaded = load::stored(context, creation)?;
    let mut scheduler = loaded.scheduler();
    let subject = subject(context, &loaded.flow, execution.id, execution.mask());
    introduce(context, &subject, creation, &loaded.flow);
    let mut span = Span::new(creation.created_ms);
    let mut report = reporter(context, &subject, creation)?;
    let mut seen = 0;
    // What was there before anybody looked is not told one by one, but to programs.
    let past = match context.output.shape() {
        Shape::Json => 0,
        Shape::Text => execution.reader.last_event().map_err(|error| execution.unreadable(&error))?,
    };
    let status = loop {
        let status = execution.reader.status().map_err(|error| execution.unreadable(&error))?;
        loop {
            let records = match execution.reader.records(seen, EVENTS) {
                Ok(records) if !records.iter().any(|record| is_beyond(&record.event, creation)) => records,
                // Its flow was updated while it was followed; whoever begins anew has the new one.
                read => {
                    let now = Execution::open(context, &execution.id.to_string())?;
                    if now.reader.creation().earlier.len() > creation.earlier.len() {
                        report.finish()?;
                        return follow(context, &now);
                    }
                    read.map_err(|error| execution.unreadable(&error))?
                }
            };
            for record in &records {
                scheduler.apply(&record.event).map_err(|error| execution.unreadable(&error))?;
                match record.seq <= past && !matches!(record.event, Event::ExecutionEnded { .. }) {
                    true => report.recall(record, scheduler.progress()),
                    false => report.report(record, scheduler.progress()),
                }
                span.note(record);
                seen = record.seq;
            }
            scheduler.take_changes();
            if records.len() < EVENTS {
                break;
            }
        }
        match status {
            Status::Running { .. } => sleep(PAUSE),
            status => break status,
        }
    };
    report.finish()?;
    match status {
        Status::Ended(outcome) => {
            execution.is_let_go()?;
            conclude(context, &subject, outcome, scheduler.progress(), &span);
            Ok(outcome.into())
        }
        _ => {
            let id = abbreviate(execution.id);
            Err(Error::broken(format!("execution {id} was interrupted: its scheduler is gone"))
                .hint(format!("`{}` goes on with it", context.invocation.line(&["resume", &id]))))
        }
    }
}

/// Whether this event names an update that was not there when the execution was opened.
fn is_beyond(event: &Event, creation: &Creation) -> bool {
    matches!(event, Event::ExecutionResumed { update: Some(number), .. } if *number as usize > creation.earlier.len())
}
