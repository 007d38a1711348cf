//! How long the layer may run: asked to end when its time is up, forced when its grace is over too. Pure.

use std::time::{Duration, Instant};

use laminar_core::executor::{Cause, Exit, seconds};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask it to end.
    Ask,
    /// Force it.
    Force,
}

/// What the supervisor is told of time, in its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
}

/// The layer's time.
#[derive(Debug)]
pub(super) struct Time {
    born: Instant,
    limits: Limits,
    asked: Option<Instant>,
    forced: Option<Instant>,
    /// Whether somebody else had asked it to end before its time was up: then that is why it ends.
    late: bool,
}

impl Time {
    pub(super) fn new(born: Instant, limits: Limits) -> Time {
        Time { born, limits, asked: None, forced: None, late: false }
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        match (self.asked, self.forced) {
            (_, Some(_)) => None,
            (Some(asked), None) => asked.checked_add(self.limits.grace),
            (None, None) => self.born.checked_add(self.limits.timeout?),
        }
    }

    /// What is to be done at this moment; each but once. `stopped`: somebody else has asked it to end.
    pub(super) fn due(&mut self, now: Instant, stopped: impl FnOnce() -> bool) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        if self.asked.is_none() {
            self.asked = Some(now);
            self.late = stopped();
            return Some(Due::Ask);
        }
        self.forced = Some(now);
        Some(Due::Force)
    }

    /// The exit of a layer whose time was up says so.
    pub(super) fn judge(&self, exit: &mut Exit) {
        let Some(asked) = self.asked else { return };
        let mut story = format!("SIGTERM after {}", seconds(asked.duration_since(self.born)));
        if let Some(forced) = self.forced {
            story.push_str(&format!(", SIGKILL {} later", seconds(forced.duration_since(asked))));
        }
        if !self.late {
            let own = std::mem::replace(&mut exit.cause, Cause::TimedOut);
            story.push_str(&format!(", then {own}"));
        }
        exit.evidence = match exit.evidence.as_str() {
            "" => story,
            more => format!("{story}; {more}"),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_asked_once_and_then_forced_once() {
        let born = Instant::now();
        let mut time = Time::new(born, Limits { timeout: Some(SECOND * 3), grace: SECOND });
        assert_eq!(time.due(born + SECOND * 2, || false), None);
        assert_eq!(time.due(born + SECOND * 3, || false), Some(Due::Ask));
        assert_eq!(time.due(born + SECOND * 3, || false), None);
        assert_eq!(time.due(born + SECOND * 4, || false), Some(Due::Force));
        assert_eq!((time.due(born + SECOND * 9, || false), time.next()), (None, None));
        let mut exit = Exit { cause: Cause::Signal(9), ..Exit::code(0) };
        time.judge(&mut exit);
        assert_eq!(exit.cause, Cause::TimedOut);
        assert_eq!(exit.evidence, "SIGTERM after 3 s, SIGKILL 1 s later, then SIGKILL");
    }

    #[test]
    fn who_was_stopped_before_has_not_run_out_of_time() {
        let born = Instant::now();
        let mut time = Time::new(born, Limits { timeout: Some(SECOND), grace: SECOND });
        assert_eq!(time.due(born + SECOND, || true), Some(Due::Ask));
        let mut exit = Exit::code(3);
        time.judge(&mut exit);
        assert_eq!(exit.cause, Cause::Code(3));
    }

    #[test]
    fn without_a_timeout_nothing_is_ever_due() {
        let born = Instant::now();
        let mut time = Time::new(born, Limits::default());
        assert_eq!((time.next(), time.due(born + SECOND * 1_000_000, || false)), (None, None));
        let mut endless = Time::new(born, Limits { timeout: Some(Duration::MAX), grace: SECOND });
        assert_eq!(endless.due(born + SECOND, || false), None);
    }
}
