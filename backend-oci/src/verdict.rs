//! How a task ended, from everything that is known of it. Pure.
//!
//! The most exact witness counts: the supervisor inside, then the engine. Exit code 137 alone is never "out of memory".

use std::time::Duration;

use laminar_core::executor::{Cause, Exit, Usage};

use crate::inspect::Ended;
use crate::place::Why;

/// What is known of a task that is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// What the supervisor inside has said, or what was put on record in its place.
    pub(crate) inside: Option<Exit>,
    /// Whether the supervisor inside ever began.
    pub(crate) began: bool,
    /// What the engine says.
    pub(crate) engine: Option<Ended>,
    /// Whether podman's monitor saw the kernel kill for want of memory.
    pub(crate) oom: bool,
    /// Whether it was in a warm container, which ends without its tasks having a part in it.
    pub(crate) warm: bool,
    /// Why it was asked to end, with the story of it.
    pub(crate) asked: Option<(Why, String)>,
}

/// How it ended.
pub(crate) fn verdict(known: &Known, engine: &str) -> Exit {
    let mut exit = known.inside.clone().unwrap_or_else(|| outside(known, engine));
    // A warm container that was killed as a whole takes its task with it, which is lost unless there is a reason.
    let is_killed =
        exit.cause == Cause::Signal(libc::SIGKILL) || known.warm && known.began && exit.cause == Cause::Lost;
    if is_killed && known.oom {
        exit.cause = Cause::OutOfMemory;
        exit.evidence = join(&exit.evidence, "the container's monitor saw the kernel kill for want of memory");
    }
    // Whose time was up first was ended for that; a stop that came later changes nothing.
    if let Some((why, story)) = known.asked.as_ref().filter(|_| exit.cause != Cause::TimedOut) {
        let own = std::mem::replace(&mut exit.cause, why.cause());
        exit.evidence = match own {
            own if known.inside.is_some() => join(&format!("{story}, then {own}"), &exit.evidence),
            // The kill was ours.
            Cause::Signal(libc::SIGKILL) => story.clone(),
            _ => join(story, &exit.evidence),
        };
    }
    exit
}

/// How it ended, when the supervisor inside could not say.
fn outside(known: &Known, engine: &str) -> Exit {
    let Some(ended) = &known.engine else {
        let evidence = format!("{engine} knows of no such container any more");
        return Exit { cause: Cause::Lost, evidence, usage: Usage::default() };
    };
    let mut evidence = format!("{engine} says exit code {}", ended.code);
    if !ended.error.is_empty() {
        evidence = join(&evidence, &ended.error);
    }
    let cause = if known.warm && !known.began {
        evidence = join(&evidence, "the warm container that it was handed to ended before it began");
        Cause::Lost
    } else if !known.began {
        evidence = join(&evidence, "the layer's program was never started");
        Cause::EngineFailed
    } else if ended.oom && ended.code != 0 {
        evidence = join(&evidence, "and that the kernel killed for want of memory");
        Cause::OutOfMemory
    } else if known.warm {
        evidence = join(&evidence, "the warm container that it was in ended with it");
        Cause::Lost
    } else if ended.code > 128 && ended.code <= 128 + 64 {
        evidence = join(&evidence, "the whole container was killed from outside");
        Cause::Signal(ended.code - 128)
    } else {
        evidence = join(&evidence, "the supervisor inside left no record");
        Cause::Lost
    };
    Exit { cause, evidence, usage: Usage::default() }
}

/// How a task without a supervisor inside ended, where the engine alone can say. `oom`: podman's monitor saw the kernel kill.
pub(crate) fn bare(ended: &Ended, oom: bool, engine: &str, lasted: Duration) -> Exit {
    let mut evidence = format!("{engine} says exit code {}", ended.code);
    if !ended.error.is_empty() {
        evidence = join(&evidence, &ended.error);
    }
    let killed = ended.code == 128 + libc::SIGKILL;
    let cause = if ended.oom && ended.code != 0 {
        evidence = join(&evidence, "and that the kernel killed for want of memory");
        Cause::OutOfMemory
    } else if oom && killed {
        evidence = join(&evidence, "the container's monitor saw the kernel kill for want of memory");
        Cause::OutOfMemory
    } else if (125..=127).contains(&ended.code) && !ended.error.is_empty() {
        Cause::EngineFailed
    } else {
        if ended.code > 128 && ended.code <= 128 + 64 {
            evidence.push_str(&format!(", which may stand for {}", Cause::Signal(ended.code - 128)));
        }
        Cause::Code(ended.code)
    };
    Exit { cause, evidence, usage: Usage { wall_us: lasted.as_micros() as u64, ..Usage::default() } }
}

pub(crate) fn join(one: &str, other: &str) -> String {
    [one, other].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Known {
        Known { began: true, engine: Some(Ended { code: 137, ..Ended::default() }), ..Known::default() }
    }

    #[test]
    fn a_kill_is_out_of_memory_only_with_evidence() {
        assert_eq!(verdict(&killed(), "engine").cause, Cause::Signal(9));
        assert_eq!(verdict(&Known { oom: true, ..killed() }, "engine").cause, Cause::OutOfMemory);
        let said = Ended { code: 137, oom: true, error: String::new() };
        assert_eq!(verdict(&Known { engine: Some(said), ..killed() }, "engine").cause, Cause::OutOfMemory);
    }

    #[test]
    fn a_warm_container_that_ends_takes_its_task_with_it_and_that_is_no_word_about_the_task() {
        let known = Known { warm: true, ..killed() };
        assert_eq!(verdict(&known, "engine").cause, Cause::Lost);
        let exit = verdict(&Known { began: false, ..known.clone() }, "engine");
        assert_eq!(exit.cause, Cause::Lost);
        assert!(exit.evidence.contains("before it began"), "{}", exit.evidence);
        assert_eq!(verdict(&Known { oom: true, ..known.clone() }, "engine").cause, Cause::OutOfMemory);
        // It ends after the first kill for want of memory, so that one is this task's.
        let said = Ended { code: 137, oom: true, error: String::new() };
        assert_eq!(verdict(&Known { engine: Some(said), ..known }, "engine").cause, Cause::OutOfMemory);
    }

    #[test]
    fn an_exit_code_that_engines_use_too_is_the_layers_when_the_supervisor_says_so() {
        let known = Known { inside: Some(Exit::code(126)), began: true, ..Known::default() };
        assert_eq!(verdict(&known, "engine").cause, Cause::Code(126));
        let failed = Ended { code: 126, error: "exec format error".into(), ..Ended::default() };
        let exit = verdict(&Known { engine: Some(failed), ..Known::default() }, "engine");
        assert_eq!(exit.cause, Cause::EngineFailed);
        assert!(exit.evidence.contains("exec format error"), "{}", exit.evidence);
    }

    #[test]
    fn who_was_asked_to_end_did_so_for_that_reason() {
        let asked = Some((Why::TimedOut, "SIGTERM after 1 s".to_owned()));
        let exit = verdict(&Known { inside: Some(Exit::code(0)), asked, began: true, ..Known::default() }, "engine");
        assert_eq!((exit.cause, exit.evidence.as_str()), (Cause::TimedOut, "SIGTERM after 1 s, then exit code 0"));
    }

    #[test]
    fn without_a_supervisor_the_engines_word_counts_with_its_doubts() {
        let exit = |ended: Ended, oom| bare(&ended, oom, "engine", Duration::from_secs(2));
        let code = |code| Ended { code, ..Ended::default() };
        assert_eq!(exit(code(3), false).cause, Cause::Code(3));
        assert_eq!(exit(code(127), false).cause, Cause::Code(127));
        assert_eq!(exit(code(137), true).cause, Cause::OutOfMemory);
        let doubtful = exit(code(143), false);
        assert_eq!(doubtful.cause, Cause::Code(143));
        assert_eq!(doubtful.evidence, "engine says exit code 143, which may stand for SIGTERM");
        assert_eq!(exit(Ended { error: "no such runtime".into(), ..code(126) }, false).cause, Cause::EngineFailed);
        assert_eq!(exit(Ended { oom: true, ..code(1) }, false).cause, Cause::OutOfMemory);
        assert_eq!(exit(Ended { oom: true, ..code(0) }, false).cause, Cause::Code(0));
    }

    #[test]
    fn a_stop_after_time_was_up_does_not_change_why_it_ended() {
        let inside = Exit { cause: Cause::TimedOut, evidence: "SIGTERM after 1 s".to_owned(), ..Exit::code(0) };
        let asked = Some((Why::Stopped, "SIGTERM after 2 s".to_owned()));
        let known = Known { inside: Some(inside.clone()), asked, began: true, ..Known::default() };
        assert_eq!(verdict(&known, "engine"), inside);
    }

    #[test]
    fn what_nobody_knows_is_lost() {
        assert_eq!(verdict(&Known { began: true, ..Known::default() }, "engine").cause, Cause::Lost);
        let zero = Known { engine: Some(Ended::default()), ..killed() };
        assert_eq!(verdict(&zero, "engine").cause, Cause::Lost);
    }
}
