//! Whether what an engine has of an execution may go. Pure.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::ExecutionId;
use crate::store::Status;

/// The shortest grace for what belongs to a root that is gone: it may have been made a moment ago, by somebody who sees a
/// folder that we do not.
pub(super) const SHORTEST: Duration = Duration::from_secs(3600);

/// Whose a leftover is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of an execution in our root: how that stands, and when it ended. `None`: there is no such execution.
    Ours(Option<(Status, Option<i64>)>),
    /// Of a root that is elsewhere.
    Elsewhere(PathBuf),
    /// Of a root that is gone.
    Nobodys,
    /// That cannot be known.
    Unclear,
}

/// What becomes of a leftover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes: why.
    Goes(Reason),
    /// It stays for now, since it is too young.
    Young,
    /// It stays: its execution can go on.
    Needed,
    /// It stays: nobody knows whether its execution can go on.
    Doubtful,
    /// Whoever collects in this root decides.
    Elsewhere(PathBuf),
}

/// Why a leftover goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its execution goes too.
    Removed,
    /// Its execution has ended.
    Ended,
    /// Its execution is gone.
    Unknown,
    /// The root of its execution is gone.
    Nobodys,
}

/// The verdict.
pub(super) fn judge(whose: &Whose, created: Option<SystemTime>, now: SystemTime, grace: Duration) -> Verdict {
    let past = |since: Option<SystemTime>, grace: Duration, reason| {
        let until = since.and_then(|since| since.checked_add(grace));
        if until.is_some_and(|until| until <= now) { Verdict::Goes(reason) } else { Verdict::Young }
    };
    match whose {
        Whose::Ours(Some((Status::Running { .. } | Status::Interrupted, _))) => Verdict::Needed,
        Whose::Ours(Some((Status::Damaged { .. } | Status::Unreadable { .. }, _))) | Whose::Unclear => {
            Verdict::Doubtful
        }
        Whose::Ours(Some((Status::Ended(_), ended_ms))) => past(ended_ms.and_then(moment), grace, Reason::Ended),
        Whose::Ours(None) => past(created, grace, Reason::Unknown),
        Whose::Elsewhere(root) => Verdict::Elsewhere(root.clone()),
        Whose::Nobodys => past(created, grace.max(SHORTEST), Reason::Nobodys),
    }
}

fn moment(ms: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(ms).ok()?))
}

/// The root of an execution's folder; the folder itself where it is not in the place that executions have.
pub(super) fn root_of(folder: &Path, execution: ExecutionId) -> &Path {
    let executions = folder.parent().filter(|_| folder.file_name().is_some_and(|name| *name == *execution.to_string()));
    let executions = executions.filter(|parent| parent.file_name().is_some_and(|name| name == "executions"));
    executions.and_then(Path::parent).unwrap_or(folder)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::Outcome;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + HOUR * 1000
    }

    fn verdict(whose: Whose, age: Duration, grace: Duration) -> Verdict {
        judge(&whose, Some(now() - age), now(), grace)
    }

    fn ours(status: Status, ended_ago: Option<Duration>) -> Whose {
        let ms = |ago| i64::try_from((now() - ago).duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        Whose::Ours(Some((status, ended_ago.map(ms))))
    }

    #[test]
    fn what_can_be_resumed_stays_however_old() {
        for status in [Status::Interrupted, Status::Running { pid: None }] {
            assert_eq!(verdict(ours(status, None), HOUR * 900, Duration::ZERO), Verdict::Needed);
        }
    }

    #[test]
    fn what_has_ended_goes_after_the_grace() {
        for outcome in [Outcome::Finished, Outcome::Failed, Outcome::Cancelled] {
            let ended = |ago| ours(Status::Ended(outcome), Some(ago));
            assert_eq!(verdict(ended(HOUR * 2), HOUR * 9, HOUR), Verdict::Goes(Reason::Ended));
            assert_eq!(verdict(ended(HOUR / 2), HOUR * 9, HOUR), Verdict::Young, "from the end, not the creation");
            assert_eq!(verdict(ended(Duration::ZERO), HOUR, Duration::ZERO), Verdict::Goes(Reason::Ended));
        }
    }

    #[test]
    fn what_belongs_to_no_execution_goes_by_its_own_age() {
        assert_eq!(verdict(Whose::Ours(None), HOUR * 2, HOUR), Verdict::Goes(Reason::Unknown));
        assert_eq!(verdict(Whose::Ours(None), HOUR / 2, HOUR), Verdict::Young);
        assert_eq!(judge(&Whose::Ours(None), None, now(), Duration::ZERO), Verdict::Young, "an age that nobody knows");
        assert_eq!(verdict(Whose::Ours(None), HOUR, Duration::MAX), Verdict::Young);
    }

    #[test]
    fn what_belongs_to_nobody_has_an_hour_at_least() {
        assert_eq!(verdict(Whose::Nobodys, HOUR / 2, Duration::ZERO), Verdict::Young);
        assert_eq!(verdict(Whose::Nobodys, HOUR * 2, Duration::ZERO), Verdict::Goes(Reason::Nobodys));
        assert_eq!(verdict(Whose::Nobodys, HOUR * 2, HOUR * 3), Verdict::Young);
    }

    #[test]
    fn doubt_and_other_peoples_business_are_left_alone() {
        let damaged = ours(Status::Damaged { reason: String::new() }, None);
        assert_eq!(verdict(damaged, HOUR * 900, Duration::ZERO), Verdict::Doubtful);
        assert_eq!(verdict(Whose::Unclear, HOUR * 900, Duration::ZERO), Verdict::Doubtful);
        let elsewhere = Verdict::Elsewhere("/there".into());
        assert_eq!(verdict(Whose::Elsewhere("/there".into()), HOUR * 900, Duration::ZERO), elsewhere);
    }

    #[test]
    fn a_root_is_told_from_an_executions_folder() {
        let id = ExecutionId::now();
        let folder = |text: &str| PathBuf::from(text.replace("ID", &id.to_string()));
        assert_eq!(root_of(&folder("/a/.laminar/executions/ID"), id), Path::new("/a/.laminar"));
        for odd in ["/a/executions/other", "/a/ID", "/ID", "/"] {
            assert_eq!(root_of(&folder(odd), id), folder(odd));
        }
    }
}
