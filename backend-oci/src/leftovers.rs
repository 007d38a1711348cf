//! Containers of whatever execution, as `laminar gc` asks for them: by label, and removed by id.
//!
//! Unaware of whether they may go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use laminar_core::executor::{ExecutorError, Leftover};
use serde::Deserialize;

use crate::client::{Client, LONG, SHORT};
use crate::dialect::{Dialect, Refusal};
use crate::name;
use crate::outside::Outside;
use crate::program;
use crate::warm::desk::WARM;

/// How many containers one question is about at most.
const AT_ONCE: usize = 200;

/// Where the engine's client is asked: it is about no execution.
const ANYWHERE: &str = "/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    id: String,
    name: String,
    #[serde(default)]
    created: String,
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
}

/// Every container that carries our labels, all of them, as far as we see the folders of their executions.
pub(crate) async fn find(
    client: &Client,
    dialect: &Dialect,
    outside: &Outside,
) -> Result<Vec<Leftover>, ExecutorError> {
    let label = format!("label={}", name::EXECUTION);
    let args = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &label];
    let answer = client.ask(Path::new(ANYWHERE), &args, SHORT).await?;
    if !answer.ok {
        return Err(client.refused("list containers", &answer));
    }
    let ids = String::from_utf8_lossy(&answer.out).into_owned();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(AT_ONCE) {
        let unreadable = |error: serde_json::Error| ExecutorError::Refused {
            engine: dialect.name.to_owned(),
            verb: "show containers".to_owned(),
            reason: error.to_string(),
        };
        for shown in client.show(Path::new(ANYWHERE), ids, "show containers").await? {
            let raw: Vec<Raw> = serde_json::from_slice(&shown).map_err(unreadable)?;
            found.extend(raw.into_iter().filter_map(leftover).filter_map(|it| seen(it, outside)));
        }
    }
    Ok(found)
}

/// Removes containers, running or not, with the volumes that nobody named.
pub(crate) async fn remove(client: &Client, dialect: &Dialect, ids: &[String]) -> Result<(), ExecutorError> {
    let mut failed = None;
    for ids in ids.chunks(AT_ONCE) {
        let args: Vec<&str> = dialect.remove.iter().copied().chain(ids.iter().map(String::as_str)).collect();
        let answer = client.ask(Path::new(ANYWHERE), &args, LONG).await?;
        if !answer.ok && !dialect.says_only(&answer.err, &[Refusal::Gone]) {
            failed.get_or_insert(client.refused("remove containers", &answer));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The same with its folder as we see it. Whoever does not see the folder must not judge: it would look as if it were gone.
fn seen(leftover: Leftover, outside: &Outside) -> Option<Leftover> {
    let folder = outside.here(&leftover.folder)?.into_owned();
    Some(Leftover { folder, ..leftover })
}

/// What a container is of, if its labels are whole; others are not ours.
fn leftover(raw: Raw) -> Option<Leftover> {
    let labels = raw.config.labels?;
    Some(Leftover {
        id: raw.id,
        name: raw.name.trim_start_matches('/').to_owned(),
        execution: labels.get(name::EXECUTION)?.parse().ok()?,
        folder: labels.get(name::ROOT).map(PathBuf::from)?,
        created: moment(&raw.created),
        running: matches!(raw.state.status.as_str(), "running" | "paused" | "restarting" | "stopping"),
    })
}

/// A moment as RFC 3339 has it: `2026-11-24T21:45:57.123456789+01:00`. What comes after the seconds' point is cut.
fn moment(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let (hours, minutes) = (zone.get(1..3)?.parse::<i64>().ok()?, zone.get(4..6)?.parse::<i64>().ok()?);
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - offset;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// What is left in the private folder of an execution that has ended: the program, and folders of tasks and of warm
/// containers.
pub(crate) fn litter(private: &Path) -> Vec<PathBuf> {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    let is_program = |path: &PathBuf| path.file_name().is_some_and(program::is_copy);
    let programs = names(private).into_iter().filter(is_program);
    programs.chain(names(&private.join("tasks"))).chain(names(&private.join(WARM))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_both_engines_are_understood() {
        let seconds = |text: &str| moment(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds("1970-01-01T00:00:00Z"), 0);
        assert_eq!(seconds("2026-11-24T21:45:57.911627323Z"), 1_795_556_757);
        assert_eq!(seconds("2026-11-24T22:45:57.9+01:00"), 1_795_556_757);
        assert_eq!(seconds("2026-11-24T16:15:57-05:30"), 1_795_556_757);
        assert_eq!(seconds("2024-02-29T00:00:00Z"), 1_709_164_800);
        for wrong in ["", "yesterday", "2026-11-24", "2026-11-24T21:45:57", "0001-01-01T00:00:00Z"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_container_without_whole_labels_is_not_ours() {
        let of = |labels: &str| {
            let json = format!(
                r#"{{"Id": "1", "Name": "/laminar-x", "Created": "", "Config": {{"Labels": {labels}}}, "State": {{"Status": "exited"}}}}"#
            );
            leftover(serde_json::from_str(&json).unwrap())
        };
        let id = laminar_core::id::ExecutionId::now();
        let ours = of(&format!(r#"{{"laminar.execution": "{id}", "laminar.root": "/a, b=c"}}"#)).unwrap();
        assert_eq!((ours.execution, ours.folder, ours.created), (id, PathBuf::from("/a, b=c"), None));
        for labels in [
            "null",
            "{}",
            &format!(r#"{{"laminar.execution": "{id}"}}"#),
            r#"{"laminar.execution": "x", "laminar.root": "/a"}"#,
        ] {
            assert_eq!(of(labels), None, "{labels}");
        }
    }
}
