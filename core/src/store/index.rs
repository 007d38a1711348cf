//! Which executions there are: the folders say, and a small database beside them remembers what is in those that ended.
//!
//! The database is only a cache, shared by all executions of a root. When it is missing, damaged or of another version, it
//! is built anew; what it lacks is read from the executions' own stores, so nothing is ever missing from a list.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::thread::JoinHandle;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::folder::Root;
use crate::id::ExecutionId;

use super::error::StoreError;
use super::row;
use super::schema::INDEX;
use super::shared::Shared;
use super::{Counts, Creation, RunReader, Status, Summary};

/// How unlike an id may be to be suggested: the least similarity, from 0 to 1.
const SIMILAR: f64 = 0.85;

/// How `counts` is stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Counts", deny_unknown_fields)]
struct StoredCounts {
    running: u32,
    resting: u32,
    finished: u32,
    cached: u32,
    skipped: u32,
    caught: u32,
    failed: u32,
    cancelled: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct CountsText(#[serde(with = "StoredCounts")] Counts);

/// All executions of a root, the newest first; none when there is no root. One whose store cannot be read is listed as
/// [`Status::Damaged`] or [`Status::Unreadable`], with what the index still knows of it; of one that has ended the index knows all.
///
/// # Errors
/// When the folder of executions cannot be read.
pub fn list(root: &Root) -> Result<Vec<Summary>, StoreError> {
    let ids = ids(root)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = with(root, read).unwrap_or_default();
    let mut news = Vec::new();
    let mut summaries = Vec::with_capacity(ids.len());
    for id in ids {
        let summary = match known.remove(&id) {
            Some(summary) if matches!(summary.status, Status::Ended(_)) => summary,
            remembered => {
                let summary = look(root, id, remembered);
                if matches!(summary.status, Status::Ended(_)) {
                    news.push(summary.clone());
                }
                summary
            }
        };
        summaries.push(summary);
    }
    // One that was created since the folders were listed is not gone.
    let gone: Vec<ExecutionId> = known.into_keys().filter(|id| !root.execution(*id).path().exists()).collect();
    if !news.is_empty() || !gone.is_empty() {
        // A cache; the file system may be read-only.
        let _ = with(root, |connection| {
            let transaction = connection.unchecked_transaction()?;
            for summary in &news {
                write(&transaction, summary)?;
            }
            for id in &gone {
                transaction.execute("DELETE FROM executions WHERE id = ?", [id.to_string()])?;
            }
            transaction.commit()
        });
    }
    // Ids sort by the time of creation.
    summaries.sort_by_key(|summary| Reverse(summary.id));
    Ok(summaries)
}

/// The execution that a text means: `latest`, an id, or a beginning that only one has.
///
/// # Errors
/// [`StoreError::NoExecutions`], [`StoreError::Unknown`] with similar ones, [`StoreError::Ambiguous`].
pub fn resolve(root: &Root, text: &str) -> Result<ExecutionId, StoreError> {
    let mut ids = ids(root)?;
    // Ids sort by the time of creation.
    ids.sort_by_key(|id| Reverse(*id));
    let Some(latest) = ids.first() else {
        return Err(StoreError::NoExecutions { root: root.path().to_owned() });
    };
    if text == "latest" {
        return Ok(*latest);
    }
    let wanted: String = text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    let candidates: Vec<ExecutionId> =
        ids.iter().copied().filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted)).collect();
    match candidates.as_slice() {
        [id] => Ok(*id),
        [] => Err(StoreError::Unknown { text: text.to_owned(), similar: similar(&wanted, &ids) }),
        _ => Err(StoreError::Ambiguous { text: text.to_owned(), candidates }),
    }
}

/// Ids that begin much like the text, or have it somewhere; the most similar first, at most three.
fn similar(wanted: &str, ids: &[ExecutionId]) -> Vec<ExecutionId> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let score = |id: &ExecutionId| {
        let id = id.to_string();
        let beginning = id.get(..wanted.len()).unwrap_or(&id);
        if id.contains(wanted) { 1.0 } else { strsim::normalized_damerau_levenshtein(wanted, beginning) }
    };
    let mut scored: Vec<(f64, ExecutionId)> = ids.iter().map(|id| (score(id), *id)).collect();
    scored.retain(|(score, _)| *score >= SIMILAR);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, id)| id).collect()
}

/// An execution that is entered into the index, by a thread of its own, since opening the index takes as long as a sync.
/// It is there, if it can be, once this is dropped.
#[derive(Debug)]
pub(super) struct Entry(Option<JoinHandle<()>>);

impl Entry {
    /// What fails is not told: the index is a cache, and whoever lists executions looks at their folders too.
    pub(super) fn begin(root: &Root, summary: Summary) -> Entry {
        let root = root.clone();
        let enter = move || drop(with(&root, |connection| write(connection, &summary)));
        Entry(std::thread::Builder::new().name("store-index".to_owned()).spawn(enter).ok())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // It cannot panic: nothing in it does.
            let _ = thread.join();
        }
    }
}

pub(super) fn ids(root: &Root) -> Result<Vec<ExecutionId>, StoreError> {
    let folder = root.executions();
    let failed = |source| StoreError::file("read", &folder, source);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<ExecutionId>().ok()));
    }
    Ok(ids)
}

/// What an execution's store says now; what is remembered helps where it says nothing.
fn look(root: &Root, id: ExecutionId, remembered: Option<Summary>) -> Summary {
    summarise(root, id).unwrap_or_else(|error| {
        let status = Status::unread(&error);
        match remembered {
            Some(summary) => Summary { status, ..summary },
            None => Summary {
                id,
                flow: String::new(),
                backend: String::new(),
                backends: Vec::new(),
                created_ms: id.created_ms(),
                ended_ms: None,
                status,
                layers: 0,
                counts: None,
            },
        }
    })
}

fn summarise(root: &Root, id: ExecutionId) -> Result<Summary, StoreError> {
    let reader = RunReader::open(root, id)?;
    let (status, ended_ms) = reader.ending()?;
    let counts = matches!(status, Status::Ended(_)).then(|| reader.counts()).transpose()?;
    Ok(Summary { status, ended_ms, counts, ..of_creation(reader.creation()) })
}

/// What is said of an execution of which nothing is known but its creation.
pub(super) fn of_creation(creation: &Creation) -> Summary {
    Summary {
        id: creation.id,
        flow: creation.flow.clone(),
        backend: creation.backend.clone(),
        backends: creation.backends().into_iter().map(str::to_owned).collect(),
        created_ms: creation.created_ms,
        ended_ms: None,
        status: Status::Interrupted,
        layers: u32::try_from(creation.layers.len()).unwrap_or(u32::MAX),
        counts: None,
    }
}

fn write(connection: &Connection, summary: &Summary) -> rusqlite::Result<()> {
    let outcome = match &summary.status {
        Status::Ended(outcome) => Some(outcome.word()),
        _ => None,
    };
    let counts = summary.counts.map(|counts| serde_json::to_string(&CountsText(counts)));
    let counts = counts.transpose().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let backends = serde_json::to_string(&summary.backends)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection.execute(
        "INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            summary.id.to_string(),
            summary.flow,
            summary.backend,
            summary.created_ms,
            summary.layers,
            summary.ended_ms,
            outcome,
            counts,
            backends
        ],
    )?;
    Ok(())
}

/// Everything that is remembered. A row that makes no sense counts as damage of the whole.
fn read(connection: &Connection) -> rusqlite::Result<HashMap<ExecutionId, Summary>> {
    let mut select = connection
        .prepare("SELECT id, flow, backend, created_ms, layers, ended_ms, outcome, counts, backends FROM executions")?;
    let summaries = select.query_map([], |row| {
        let outcome = row::read_outcome(row, 6)?;
        let counts: Option<CountsText> = row::read_json_or_null(row, 7)?;
        Ok(Summary {
            id: row.get::<_, String>(0)?.parse().map_err(|error| row::nonsense(0, error))?,
            flow: row.get(1)?,
            backend: row.get(2)?,
            created_ms: row.get(3)?,
            layers: row.get(4)?,
            ended_ms: row.get(5)?,
            status: outcome.map_or(Status::Interrupted, Status::Ended),
            counts: counts.map(|counts| counts.0),
            backends: row::read_json(row, 8)?,
        })
    })?;
    summaries.map(|summary| summary.map(|summary| (summary.id, summary))).collect()
}

/// Does something with the index.
fn with<T>(root: &Root, act: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
    Shared { path: root.index(), schema: &INDEX }.with(act)
}
