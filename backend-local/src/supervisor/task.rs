//! A task between its start and its exit: what it was asked to do, by when, and what to say of it in the end.
//!
//! It signals its own process group while the first process has not been collected, so that the number cannot mean
//! anybody else. Unaware of strays, records and schedulers.

use std::time::{Duration, Instant};

use laminar_core::executor::{Cause, Exit, Usage, seconds};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::launch::Child;
use super::log::Log;
use super::secrets::Secrets;
use super::sys::Reaped;

/// Why a task was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The scheduler said so.
    Stopped,
    /// Its time is up.
    TimedOut,
}

/// A task that was asked to end.
struct Ending {
    why: Why,
    asked: Instant,
    force_at: Instant,
    forced: Option<Instant>,
}

/// A task that is not over.
pub(super) struct Live {
    pub(super) name: Box<str>,
    pub(super) child: Child,
    pub(super) log: Log,
    pub(super) secrets: Secrets,
    /// The requests that wait for it to be over.
    pub(super) stops: Vec<u32>,
    born: Instant,
    timeout: Option<Duration>,
    grace: Duration,
    ending: Option<Ending>,
    reaped: Option<(Reaped, Instant)>,
}

impl Live {
    pub(super) fn new(
        name: &str,
        child: Child,
        (log, secrets): (Log, Secrets),
        timeout: Option<Duration>,
        grace: Duration,
    ) -> Live {
        Live {
            name: name.into(),
            child,
            log,
            secrets,
            stops: Vec::new(),
            born: Instant::now(),
            timeout,
            grace,
            ending: None,
            reaped: None,
        }
    }

    /// Whether its first process has been collected.
    pub(super) fn is_reaped(&self) -> bool {
        self.reaped.is_some()
    }

    /// Its first process has been collected.
    pub(super) fn reaped(&mut self, reaped: Reaped) {
        self.reaped = Some((reaped, Instant::now()));
    }

    /// When there is something to do next, whatever else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.reaped, &self.ending) {
            (Some(_), _) => None,
            (None, Some(ending)) => ending.forced.is_none().then_some(ending.force_at),
            (None, None) => self.born.checked_add(self.timeout?),
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match &mut self.ending {
            None => {
                let grace = self.grace;
                self.ask(Why::TimedOut, grace);
            }
            Some(ending) => {
                ending.forced = Some(now);
                self.signal(Signal::KILL);
            }
        }
    }

    /// Asks it to end; a task that was asked already gets the shorter of the two times.
    pub(super) fn ask(&mut self, why: Why, grace: Duration) {
        if self.is_reaped() {
            return;
        }
        let now = Instant::now();
        // Farther off than anybody waits, where the sum does not fit.
        let force_at = now.checked_add(grace).unwrap_or(now + Duration::from_secs(1 << 32));
        match &mut self.ending {
            Some(ending) => ending.force_at = ending.force_at.min(force_at),
            None => {
                self.ending = Some(Ending { why, asked: now, force_at, forced: None });
                self.signal(Signal::TERM);
                self.signal(Signal::CONT); // a process that is suspended could not act on it
            }
        }
    }

    /// How it ended. Only after [`Live::reaped`].
    pub(super) fn exit(&self) -> Exit {
        let Some((reaped, died)) = &self.reaped else { return Exit::code(0) };
        let Exit { cause: own, evidence: said, usage } = match &self.child.control {
            None if self.child.spares_shell => as_told_by_shell(reaped.exit()),
            None => reaped.exit(),
            Some(control) => control.exit(reaped),
        };
        let mut evidence = Vec::new();
        if self.ending.is_none() && !said.is_empty() {
            evidence.push(said);
            evidence.extend((own == Cause::EngineFailed).then(|| self.log.last_line()).flatten());
        }
        let cause = match &self.ending {
            None => own,
            Some(ending) => {
                evidence.push(self.story(ending, &own));
                match ending.why {
                    Why::Stopped => Cause::Cancelled,
                    Why::TimedOut => Cause::TimedOut,
                }
            }
        };
        evidence.extend(self.log.trouble());
        let usage = Usage { wall_us: (*died - self.born).as_micros() as u64, ..usage };
        Exit { cause, evidence: evidence.join("; "), usage }
    }

    fn story(&self, ending: &Ending, own: &Cause) -> String {
        let after = seconds(ending.asked - self.born);
        match ending.forced {
            Some(forced) => format!("SIGTERM after {after}, SIGKILL {} later", seconds(forced - ending.asked)),
            None if *own == Cause::Signal(libc::SIGTERM) => format!("SIGTERM after {after}"),
            None => format!("SIGTERM after {after}, then {own}"),
        }
    }

    fn signal(&self, signal: Signal) {
        if signal != Signal::KILL
            && let Some(control) = &self.child.control
        {
            control.pass(signal);
            return;
        }
        let Some(first) = Pid::from_raw(self.child.pid) else { return };
        // The first process may have left its group, for a child's or ours; it is not collected, so its number is its.
        if kill_process_group(first, signal).is_err() || signal == Signal::KILL {
            let _ = kill_process(first, signal);
        }
    }
}

/// What a shell makes of the end of a command: a signal becomes a code.
fn as_told_by_shell(exit: Exit) -> Exit {
    match exit.cause {
        Cause::Signal(signal) => Exit { evidence: exit.cause.to_string(), cause: Cause::Code(128 + signal), ..exit },
        _ => exit,
    }
}
