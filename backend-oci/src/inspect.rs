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

impl Shown {
    /// Whether it runs, or has.
    pub(crate) fn has_run(&self) -> bool {
        self.phase != Phase::Created
    }
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It exists and has never run. Its exit code, 0, means nothing.
    Created,
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
        let phase = match state.status.as_str() {
            "created" | "configured" | "initialized" => Phase::Created,
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
    }

    #[test]
    fn what_is_over_tells_how() {
        let exited = one(r#"{"Status": "exited", "ExitCode": 137, "OOMKilled": true, "Error": ""}"#);
        assert_eq!(exited, Phase::Over(Ended { code: 137, oom: true, error: String::new() }));
        assert_eq!(one(r#"{"Status": "running", "ExitCode": 0}"#), Phase::Running);
        assert_eq!(one(r#"{"Status": "paused", "ExitCode": 0}"#), Phase::Paused);
    }
}
