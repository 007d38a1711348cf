//! `laminar cancel`: stops an execution from anywhere on its machine.
//!
//! A scheduler that is alive is asked by a signal, as Ctrl-C would, if it is seen from here; one that is gone is followed by this process, which
//! finds what still runs and stops it. Either way the log says so, and the execution can be resumed.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use laminar_core::engine::{Again, Control};
use laminar_core::event::{Event, Outcome};
use laminar_core::store::Status;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::mpsc::unbounded_channel;

use crate::args::{CancelArgs, CommandLineArgs, DriveArgs};
use crate::command::resume;
use crate::context::{Context, runtime};
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::holder;
use crate::load;
use crate::output::Shape;
use crate::secrets;

/// The time from one look to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a scheduler may take to put on record that it was asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops an execution.
pub(crate) fn run(context: &mut Context<'_>, args: &CancelArgs) -> Result<Code, Error> {
    loop {
        let execution = Execution::open(context, &args.id)?;
        let seen = execution.reader.last_event().map_err(|error| execution.unreadable(&error))?;
        match execution.reader.status().map_err(|error| execution.unreadable(&error))? {
            Status::Ended(outcome) => {
                execution.is_let_go()?;
                return tell(context, &execution, outcome, "has ended already");
            }
            Status::Running { pid } => match ask(context, &execution, args, pid, seen)? {
                Some(outcome) => return tell(context, &execution, outcome, "is over"),
                None if args.no_wait => return Ok(Code::Finished),
                // It died of something else meanwhile.
                None => {}
            },
            Status::Interrupted => return stop_what_is_left(context, &execution, args),
            Status::Damaged { reason } | Status::Unreadable { reason } => {
                return Err(Error::broken("cannot cancel the execution").why(reason));
            }
        }
    }
}

/// Asks the scheduler, and waits until the execution is over; nothing if nobody waits, or the scheduler died.
fn ask(
    context: &mut Context<'_>,
    execution: &Execution,
    args: &CancelArgs,
    pid: Option<u32>,
    seen: u64,
) -> Result<Option<Outcome>, Error> {
    let status = || execution.reader.status().map_err(|error| execution.unreadable(&error));
    let Some(pid) = pid else {
        // It has the lock and has not said who it is yet.
        sleep(PAUSE);
        return Ok(None);
    };
    let Some(handle) = open(context, execution, pid)? else { return Ok(None) };
    let signal =
        || pidfd_send_signal(&handle, Signal::TERM).map_err(|error| unreachable_process(execution, pid, error.into()));
    signal()?;
    if args.force {
        // Two signals at once would be one: the second is sent when the first is on record.
        let deadline = Instant::now() + PATIENCE;
        while !is_asked(execution, seen)? && matches!(status()?, Status::Running { .. }) {
            if Instant::now() > deadline {
                return Err(Error::broken(format!("the scheduler, process {pid}, does not react")));
            }
            sleep(PAUSE);
        }
        let _ = signal();
    }
    if args.no_wait {
        return Ok(None);
    }
    loop {
        match status()? {
            Status::Running { .. } => sleep(PAUSE),
            Status::Ended(outcome) => {
                execution.is_let_go()?;
                return Ok(Some(outcome));
            }
            Status::Interrupted | Status::Damaged { .. } | Status::Unreadable { .. } => return Ok(None),
        }
    }
}

fn open(context: &Context<'_>, execution: &Execution, pid: u32) -> Result<Option<std::os::fd::OwnedFd>, Error> {
    let found = holder::find(&execution.folder.lock(), pid);
    if let Some(handle) = found.map_err(|error| unreachable_process(execution, pid, error))? {
        return Ok(Some(handle));
    }
    if execution.reader.status().map_err(|error| execution.unreadable(&error))? != (Status::Running { pid: Some(pid) })
    {
        // It has ended meanwhile.
        return Ok(None);
    }
    let what = format!("cannot signal the scheduler of execution {}", abbreviate(execution.id));
    let why =
        format!("it holds the execution, as process {pid} of another container or machine, and is not seen from here");
    let line = context.invocation.line(&["cancel", &abbreviate(execution.id)]);
    Err(Error::broken(what).why(why).hint(format!(
        "run `{line}` where it runs (`docker exec CONTAINER {line}`), or stop its container: `docker stop CONTAINER`"
    )))
}

fn unreachable_process(execution: &Execution, pid: u32, error: io::Error) -> Error {
    let what = format!("cannot signal the scheduler of execution {}, process {pid}", abbreviate(execution.id));
    Error::because(what, &error)
}

/// Whether a cancel is on record after this event.
fn is_asked(execution: &Execution, seen: u64) -> Result<bool, Error> {
    let records = execution.reader.records(seen, usize::MAX).map_err(|error| execution.unreadable(&error))?;
    Ok(records.iter().any(|record| matches!(record.event, Event::CancelRequested { .. })))
}

/// The scheduler is gone: this process is the next one, and its only wish is to stop.
fn stop_what_is_left(context: &mut Context<'_>, execution: &Execution, args: &CancelArgs) -> Result<Code, Error> {
    let creation = execution.reader.creation().clone();
    let loaded = load::stored(context, &creation)?;
    // Nothing is launched, but something may be told.
    let (secrets, _) = secrets::those_there(&loaded.flow, &creation.workdir);
    let (send, control) = unbounded_channel();
    for request in [Control::Cancel, Control::Kill].into_iter().take(if args.force { 2 } else { 1 }) {
        let _ = send.send(request);
    }
    let runtime = runtime()?;
    let code = runtime.block_on(resume::take_over(
        context,
        &drive_args(),
        creation,
        loaded,
        (Again::default(), secrets),
        control,
    ));
    runtime.shutdown_background();
    // Cancelled is what was asked for.
    code.map(|code| if code == Code::Cancelled { Code::Finished } else { code })
}

/// What `resume` would have been told by nobody.
fn drive_args() -> DriveArgs {
    use clap::Parser;
    let words = ["laminar", "resume"];
    match CommandLineArgs::parse_from(words).command {
        crate::args::Command::Resume(args) => args.drive,
        _ => unreachable!("these words are a resume"),
    }
}

fn tell(context: &mut Context<'_>, execution: &Execution, outcome: Outcome, what: &str) -> Result<Code, Error> {
    match context.output.shape() {
        Shape::Json => {
            context.output.object(&serde_json::json!({"execution": execution.id, "outcome": outcome.word()}))?;
        }
        Shape::Text => {
            let id = abbreviate(execution.id);
            context.output.say(&format!("execution {id} {what}: {}", outcome.word()));
        }
    }
    Ok(Code::Finished)
}
