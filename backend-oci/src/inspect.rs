//! Containers as an engine's `container inspect` shows them.

use std::collections::HashMap;

use serde::Deserialize;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its name, without the slash that docker puts before it.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: HashMap<String, String>,
    /// Where it stands.
    pub(crate) phase: Phase,
}

impl Phase {
    /// The same for who knows whether the program inside has begun. To be known before the engine is asked: it may begin
    /// meanwhile.
    pub(crate) fn given(self, began: bool) -> Phase {
        match self {
            Phase::Unsure { .. } if !began => Phase::Created,
            Phase::Unsure { over: false } => Phase::Running,
            Phase::Unsure { over: true } => Phase::Over(Ended::default()),
            sure => sure,
        }
    }
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It exists and has never run, maybe half removed. Its exit code, 0, means nothing.
    Created,
    /// It was made ready to run, and the engine does not know whether it has. So podman shows one to the end, and beyond, whose
    /// client was killed when it had started it and not yet taken that down. It can be neither signalled nor started.
    Unsure {
        /// Whether it runs no more, if it did.
        over: bool,
    },
    /// It runs, or will again without being asked.
    Running,
    /// It is frozen.
    Paused,
    /// It is over.
    Over(Ended),
}

/// What the engine says of a container that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code; 128 + n for signal n.
    pub(crate) code: i32,
    /// Whether the kernel killed one of its processes for want of memory.
    pub(crate) oom: bool,
    /// What went wrong in the engine, if anything.
    pub(crate) error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    name: String,
    config: Config,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    started_at: String,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    error: String,
}

/// Reads the output of `container inspect`.
pub(crate) fn parse(json: &[u8]) -> Result<Vec<Shown>, String> {
    let all: Vec<Raw> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(Shown::from).collect())
}

impl From<Raw> for Shown {
    fn from(raw: Raw) -> Shown {
        let state = raw.state;
        let never = state.started_at.starts_with("0001-");
        let phase = match state.status.as_str() {
            "initialized" => Phase::Unsure { over: false },
            // The number of a process that is gone stays.
            "created" | "configured" if state.pid != 0 => Phase::Unsure { over: true },
            "dead" | "removing" if never && state.pid != 0 => Phase::Unsure { over: true },
            "created" | "configured" => Phase::Created,
            // The client that cleared it away was killed.
            "dead" | "removing" if never => Phase::Created,
            // One that is being removed is over; the engine no longer lets it run.
            "exited" | "dead" | "stopped" | "removing" => {
                Phase::Over(Ended { code: state.exit_code, oom: state.oom_killed, error: state.error })
            }
            "paused" => Phase::Paused,
            _ => Phase::Running,
        };
        let name = raw.name.trim_start_matches('/').to_owned();
        Shown { name, labels: raw.config.labels.unwrap_or_default(), phase }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn one(state: &str) -> Phase {
        let json = format!(r#"[{{"Id": "1", "Name": "/x", "Config": {{"Labels": null}}, "State": {state}}}]"#);
        parse(json.as_bytes()).unwrap().remove(0).phase
    }

    #[test]
    fn a_container_that_never_ran_is_no_success() {
        // As docker 20.10 and podman 4.3 show it: exit code 0, at a time long ago.
        let docker = r#"{"Status": "created", "Running": false, "OOMKilled": false, "Pid": 0, "ExitCode": 0, "Error": "",
            "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"}"#;
        assert_eq!(one(docker), Phase::Created);
        let podman = r#"{"OciVersion": "1.0.2-dev", "Status": "configured", "ExitCode": 0, "Health": {"Log": null}}"#;
        assert_eq!(one(podman), Phase::Created);
        // Nor is one that podman had begun to remove.
        let never = r#""ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z""#;
        assert_eq!(one(&format!(r#"{{"Status": "removing", "Pid": 0, {never}}}"#)), Phase::Created);
        let ran = r#"{"Status": "removing", "ExitCode": 3, "StartedAt": "2026-12-01T03:28:38.1Z"}"#;
        assert_eq!(one(ran), Phase::Over(Ended { code: 3, ..Ended::default() }));
    }

    #[test]
    fn whether_one_has_run_that_its_starter_left_in_the_dark_is_for_the_program_inside_to_say() {
        let shown = |status: &str| {
            one(&format!(
                r#"{{"Status": "{status}", "Pid": 4711, "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z"}}"#
            ))
        };
        for status in ["initialized", "created", "removing"] {
            assert_eq!(shown(status).given(false), Phase::Created, "{status}");
        }
        assert_eq!(shown("initialized").given(true), Phase::Running);
        assert_eq!(shown("created").given(true), Phase::Over(Ended::default()));
        assert_eq!(shown("removing").given(true), Phase::Over(Ended::default()));
    }

    #[test]
    fn what_is_over_tells_how() {
        let exited = one(r#"{"Status": "exited", "ExitCode": 137, "OOMKilled": true, "Error": ""}"#);
        assert_eq!(exited, Phase::Over(Ended { code: 137, oom: true, error: String::new() }));
        assert_eq!(one(r#"{"Status": "running", "ExitCode": 0}"#), Phase::Running);
        assert_eq!(one(r#"{"Status": "paused", "ExitCode": 0}"#), Phase::Paused);
    }
}
