//! How events, artifacts and the rest become columns, and columns become them again. What is read is not trusted.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{CacheKey, Origin};
use crate::datastore::{Artifact, Content, Digest};
use crate::each::{Dimension, Each, Key};
use crate::event::{Event, Outcome, Record};
use crate::executor::Handle;
use crate::id::{Attempt, ExecutionId, LayerId, Split, TaskId};
use crate::scheduler::State;

use super::keys::{Bases, KeyReader, Parts};

/// What an event's `kind` can be; the table `kinds` tells the same to people.
pub(super) mod kind {
    pub(in crate::store) const LAUNCHED: i64 = 1;
    pub(in crate::store) const STARTED: i64 = 2;
    pub(in crate::store) const EXITED: i64 = 3;
    pub(in crate::store) const PUBLISHED: i64 = 4;
    pub(in crate::store) const REJECTED: i64 = 5;
    pub(in crate::store) const RETRY_SCHEDULED: i64 = 6;
    pub(in crate::store) const RETRY_DUE: i64 = 7;
    pub(in crate::store) const CANCEL_REQUESTED: i64 = 8;
    pub(in crate::store) const ENDED: i64 = 9;
    pub(in crate::store) const RESUMED: i64 = 10;
    pub(in crate::store) const OPENED: i64 = 11;
    pub(in crate::store) const SKIPPED: i64 = 12;
    pub(in crate::store) const NOT_OPENED: i64 = 13;
    pub(in crate::store) const SIZED: i64 = 14;
    pub(in crate::store) const KEYED: i64 = 15;
    pub(in crate::store) const CACHED: i64 = 16;
    pub(in crate::store) const OFFERED: i64 = 17;
}

/// An execution's own names: what needs not be repeated in each of its events.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) execution: ExecutionId,
    pub(super) layers: Vec<Arc<str>>,
}

#[derive(Deserialize)]
struct Launched {
    outputs: u32,
    #[serde(default)]
    memory: Option<u64>,
}

#[derive(Deserialize)]
struct RetryScheduled {
    delay_ms: u64,
    #[serde(default)]
    memory: Option<u64>,
}

#[derive(Deserialize)]
struct CancelRequested {
    force: bool,
}

#[derive(Deserialize)]
struct Sized {
    cpu_millis: u64,
    memory: u64,
}

/// A layer with values: what it was opened with. How many splits that gives follows.
#[derive(Deserialize, Serialize)]
struct Opened<D> {
    each: D,
}

#[derive(Deserialize, Serialize)]
struct Keyed<T> {
    key: Digest,
    #[serde(flatten)]
    parts: Parts<T>,
}

/// What was found by a key. The layer of the split that it is of is one of that execution's.
#[derive(Deserialize, Serialize)]
struct Cached<T, A> {
    key: Digest,
    #[serde(flatten)]
    parts: Parts<T>,
    execution: ExecutionId,
    layer: LayerId,
    split: u32,
    artifacts: A,
}

/// A resumption with another flow, or with splits that run again.
#[derive(Deserialize, Serialize)]
struct Resumed {
    again: Vec<LayerId>,
    /// Each a layer and an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    splits: Vec<(LayerId, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<LayerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<u32>,
}

impl Names {
    pub(super) fn new(execution: ExecutionId, layers: &[Arc<str>]) -> Names {
        Names { execution, layers: layers.to_vec() }
    }

    /// Writes what `detail` holds of an event; nothing stands for NULL.
    pub(super) fn write_detail(&self, record: &Record, bases: &mut Bases, out: &mut Vec<u8>) -> serde_json::Result<()> {
        use std::io::Write;
        match &record.event {
            Event::LayerOpened { each: None, .. } | Event::LayerSkipped { .. } => Ok(()),
            Event::LayerOpened { each: Some(each), .. } => {
                return serde_json::to_writer(out, &Opened { each: dimensions(each) });
            }
            Event::LayerFailed { reason, .. } => return serde_json::to_writer(out, reason),
            Event::AttemptSized { cpu_millis, memory, .. } => {
                write!(out, r#"{{"cpu_millis":{cpu_millis},"memory":{memory}}}"#)
            }
            Event::SplitKeyed { split, key } => {
                let parts = bases.write(record.seq, *split, key);
                return serde_json::to_writer(out, &Keyed { key: key.digest, parts });
            }
            Event::SplitCached { split: of, key, from, artifacts } => {
                let Origin { execution, split: Split { layer, index: split } } = *from;
                let (key, parts) = (key.digest, bases.write(record.seq, *of, key));
                return serde_json::to_writer(out, &Cached { key, parts, execution, layer, split, artifacts });
            }
            Event::AttemptOffered { outputs, .. } | Event::AttemptLaunched { outputs, memory: None, .. } => {
                write!(out, r#"{{"outputs":{outputs}}}"#)
            }
            Event::AttemptLaunched { outputs, memory: Some(memory), .. } => {
                write!(out, r#"{{"outputs":{outputs},"memory":{memory}}}"#)
            }
            Event::AttemptStarted { attempt, handle } if self.is_task(*attempt, &handle.task) => {
                if handle.token.is_empty() {
                    return Ok(());
                }
                return serde_json::to_writer(out, &handle.token);
            }
            Event::AttemptStarted { handle, .. } => return serde_json::to_writer(out, handle),
            Event::AttemptExited { exit, .. } => return serde_json::to_writer(out, exit),
            Event::AttemptPublished { artifacts, .. } if artifacts.is_empty() => Ok(()),
            Event::AttemptPublished { artifacts, .. } => return serde_json::to_writer(out, artifacts),
            Event::AttemptRejected { reason, .. } => return serde_json::to_writer(out, reason),
            Event::RetryScheduled { delay_ms, memory: None, .. } => write!(out, r#"{{"delay_ms":{delay_ms}}}"#),
            Event::RetryScheduled { delay_ms, memory: Some(memory), .. } => {
                write!(out, r#"{{"delay_ms":{delay_ms},"memory":{memory}}}"#)
            }
            Event::RetryDue { .. } => Ok(()),
            Event::CancelRequested { force } => write!(out, r#"{{"force":{force}}}"#),
            Event::ExecutionEnded { outcome } => return serde_json::to_writer(out, outcome),
            Event::ExecutionResumed { again, splits, changed, update: None }
                if splits.is_empty() && changed.is_empty() =>
            {
                if again.is_empty() {
                    return Ok(());
                }
                return serde_json::to_writer(out, again);
            }
            Event::ExecutionResumed { again, splits, changed, update } => {
                let splits = splits.iter().map(|split| (split.layer, split.index)).collect();
                return serde_json::to_writer(
                    out,
                    &Resumed { again: again.clone(), splits, changed: changed.clone(), update: *update },
                );
            }
        }
        .map_err(serde_json::Error::io)
    }

    fn is_task(&self, attempt: Attempt, task: &TaskId) -> bool {
        let layer = self.layers.get(attempt.split.layer.at());
        task.execution == self.execution
            && task.index == attempt.split.index
            && task.attempt == attempt.number
            && layer.is_some_and(|layer| *layer == task.layer)
    }

    /// Reads a row of `events`: seq, at_ms, kind, layer, split, attempt, detail.
    pub(super) fn read_record(&self, keys: &mut KeyReader<'_>, row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
        Ok(Record { seq: row.get::<_, Count>(0)?.0, at_ms: row.get(1)?, event: self.read_event(keys, row)? })
    }

    fn read_event(&self, keys: &mut KeyReader<'_>, row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
        let attempt = || Ok::<_, rusqlite::Error>(Attempt { split: read_split(row, 3)?, number: row.get(5)? });
        let layer = || row.get(3).map(LayerId);
        Ok(match row.get(2)? {
            kind::OPENED => {
                let each = read_each(row, 6)?;
                let splits = each.as_ref().map_or(Some(1), Each::splits);
                let splits = splits.ok_or_else(|| nonsense(6, "too many splits"))?;
                Event::LayerOpened { layer: layer()?, splits, each: each.map(Arc::new) }
            }
            kind::SKIPPED => Event::LayerSkipped { layer: layer()? },
            kind::NOT_OPENED => Event::LayerFailed { layer: layer()?, reason: read_json(row, 6)? },
            kind::SIZED => {
                let Sized { cpu_millis, memory } = read_json(row, 6)?;
                Event::AttemptSized { attempt: attempt()?, cpu_millis, memory }
            }
            kind::KEYED => {
                let Keyed { key: digest, parts } = read_json(row, 6)?;
                let key = CacheKey { digest, parts: parts.read(keys)? };
                Event::SplitKeyed { split: read_split(row, 3)?, key }
            }
            kind::CACHED => {
                let Cached { key: digest, parts, execution, layer, split, artifacts } = read_json(row, 6)?;
                Event::SplitCached {
                    split: read_split(row, 3)?,
                    key: CacheKey { digest, parts: parts.read(keys)? },
                    from: Origin { execution, split: Split { layer, index: split } },
                    artifacts,
                }
            }
            kind::OFFERED => {
                let Launched { outputs, .. } = read_json(row, 6)?;
                Event::AttemptOffered { attempt: attempt()?, outputs }
            }
            kind::LAUNCHED => {
                let Launched { outputs, memory } = read_json(row, 6)?;
                Event::AttemptLaunched { attempt: attempt()?, outputs, memory }
            }
            kind::STARTED => {
                let attempt = attempt()?;
                Event::AttemptStarted { attempt, handle: self.read_handle(row, attempt)? }
            }
            kind::EXITED => Event::AttemptExited { attempt: attempt()?, exit: read_json(row, 6)? },
            kind::PUBLISHED => {
                let artifacts = if is_null(row, 6)? { Vec::new() } else { read_json(row, 6)? };
                Event::AttemptPublished { attempt: attempt()?, artifacts }
            }
            kind::REJECTED => Event::AttemptRejected { attempt: attempt()?, reason: read_json(row, 6)? },
            kind::RETRY_SCHEDULED => {
                let RetryScheduled { delay_ms, memory } = read_json(row, 6)?;
                Event::RetryScheduled { attempt: attempt()?, delay_ms, memory }
            }
            kind::RETRY_DUE => Event::RetryDue { split: read_split(row, 3)? },
            kind::CANCEL_REQUESTED => Event::CancelRequested { force: read_json::<CancelRequested>(row, 6)?.force },
            kind::ENDED => Event::ExecutionEnded { outcome: read_json(row, 6)? },
            kind::RESUMED => match read_text(row, 6)? {
                None => {
                    Event::ExecutionResumed { again: Vec::new(), splits: Vec::new(), changed: Vec::new(), update: None }
                }
                Some(text) if text.starts_with('{') => {
                    let Resumed { again, splits, changed, update } = parse(6, text)?;
                    let splits = splits.into_iter().map(|(layer, index)| Split { layer, index }).collect();
                    Event::ExecutionResumed { again, splits, changed, update }
                }
                Some(text) => Event::ExecutionResumed {
                    again: parse(6, text)?,
                    splits: Vec::new(),
                    changed: Vec::new(),
                    update: None,
                },
            },
            other => return Err(nonsense(2, format!("{other} is no kind of event"))),
        })
    }

    fn read_handle(&self, row: &rusqlite::Row<'_>, attempt: Attempt) -> rusqlite::Result<Handle> {
        #[derive(Deserialize)]
        struct Whole {
            task: TaskId,
            token: String,
        }
        let token = match read_text(row, 6)? {
            Some(text) if text.starts_with('{') => {
                let Whole { task, token } = parse(6, text)?;
                return Ok(Handle { task, token });
            }
            Some(text) => parse(6, text)?,
            None => String::new(),
        };
        let Some(layer) = self.layers.get(attempt.split.layer.at()) else {
            return Err(nonsense(3, format!("there is no layer {}", attempt.split.layer.0)));
        };
        let (index, number) = (attempt.split.index, attempt.number);
        let task = TaskId { execution: self.execution, layer: Arc::clone(layer), index, attempt: number };
        Ok(Handle { task, token })
    }
}

/// The kind of an event, and whose it is: layer, index of the split, attempt.
pub(super) fn place(event: &Event) -> (i64, Option<LayerId>, Option<u32>, Option<u32>) {
    let attempt = |kind, of: &Attempt| (kind, Some(of.split.layer), Some(of.split.index), Some(of.number));
    let split = |kind, of: &Split| (kind, Some(of.layer), Some(of.index), None);
    match event {
        Event::LayerOpened { layer, .. } => (kind::OPENED, Some(*layer), None, None),
        Event::LayerSkipped { layer } => (kind::SKIPPED, Some(*layer), None, None),
        Event::LayerFailed { layer, .. } => (kind::NOT_OPENED, Some(*layer), None, None),
        Event::AttemptSized { attempt: of, .. } => attempt(kind::SIZED, of),
        Event::SplitKeyed { split: of, .. } => split(kind::KEYED, of),
        Event::SplitCached { split: of, .. } => split(kind::CACHED, of),
        Event::AttemptOffered { attempt: of, .. } => attempt(kind::OFFERED, of),
        Event::AttemptLaunched { attempt: of, .. } => attempt(kind::LAUNCHED, of),
        Event::AttemptStarted { attempt: of, .. } => attempt(kind::STARTED, of),
        Event::AttemptExited { attempt: of, .. } => attempt(kind::EXITED, of),
        Event::AttemptPublished { attempt: of, .. } => attempt(kind::PUBLISHED, of),
        Event::AttemptRejected { attempt: of, .. } => attempt(kind::REJECTED, of),
        Event::RetryScheduled { attempt: of, .. } => attempt(kind::RETRY_SCHEDULED, of),
        Event::RetryDue { split: of } => split(kind::RETRY_DUE, of),
        Event::CancelRequested { .. } => (kind::CANCEL_REQUESTED, None, None, None),
        Event::ExecutionEnded { .. } => (kind::ENDED, None, None, None),
        Event::ExecutionResumed { .. } => (kind::RESUMED, None, None, None),
    }
}

/// The values of a layer's splits as they are written: for each dimension its keys, each with its values.
fn dimensions(each: &Each) -> Vec<Vec<(&str, &[serde_json::Value])>> {
    let mut dimensions = Vec::with_capacity(each.dimensions.len());
    for dimension in &each.dimensions {
        dimensions.push(dimension.keys.iter().map(|key| (&*key.name, key.values.as_slice())).collect());
    }
    dimensions
}

/// Reads the values of a layer's splits, or NULL: it has none.
pub(super) fn read_each(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<Each>> {
    type Dimensions = Vec<Vec<(Arc<str>, Vec<serde_json::Value>)>>;
    let Some(Opened { each }) = read_json_or_null::<Opened<Dimensions>>(row, at)? else { return Ok(None) };
    let mut dimensions = Vec::with_capacity(each.len());
    for keys in each {
        let dimension = Dimension { keys: keys.into_iter().map(|(name, values)| Key { name, values }).collect() };
        if dimension.keys.iter().any(|key| key.values.len() != dimension.len()) {
            return Err(nonsense(at, "keys that go together have as many values"));
        }
        dimensions.push(dimension);
    }
    Ok(Some(Each { dimensions }))
}

/// What was taken from the cache, but for what it is made of.
#[derive(Deserialize)]
pub(super) struct Taken {
    pub(super) key: Digest,
    /// Who ran.
    pub(super) execution: ExecutionId,
}

/// Reads of an event that something was taken from the cache only that.
pub(super) fn read_taken(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Taken> {
    read_json(row, at)
}

/// Reads a split from two columns.
pub(super) fn read_split(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Split> {
    Ok(Split { layer: LayerId(row.get(at)?), index: row.get(at + 1)? })
}

/// Reads an artifact from five columns: name, kind, digest, entries, size.
pub(super) fn read_artifact(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Artifact> {
    let digest = text(row, at + 2)?.parse().map_err(|error| nonsense(at + 2, error))?;
    let Count(size) = row.get(at + 4)?;
    let content = match text(row, at + 1)? {
        "file" => Content::File { digest, size },
        "folder" => Content::Folder { manifest: digest, entries: row.get::<_, Count>(at + 3)?.0, size },
        other => return Err(nonsense(at + 1, format!("`{other}` is no kind of artifact"))),
    };
    Ok(Artifact { name: row.get(at)?, content })
}

/// Reads the word for a state that is stored.
pub(super) fn read_state(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<State> {
    const STORED: [State; 8] = [
        State::Running,
        State::Resting,
        State::Finished,
        State::Cached,
        State::Skipped,
        State::Caught,
        State::Failed,
        State::Cancelled,
    ];
    let word = text(row, at)?;
    STORED
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| nonsense(at, format!("`{word}` is no state of a split")))
}

/// Reads the word for a state that is stored, or NULL.
pub(super) fn read_state_or_null(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<State>> {
    if is_null(row, at)? { Ok(None) } else { read_state(row, at).map(Some) }
}

/// Reads JSON.
pub(super) fn read_json<T: DeserializeOwned>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T> {
    parse(at, text(row, at)?)
}

/// Reads JSON, or NULL.
pub(super) fn read_json_or_null<T: DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<Option<T>> {
    read_text(row, at)?.map(|text| parse(at, text)).transpose()
}

fn is_null(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<bool> {
    Ok(row.get_ref(at)? == ValueRef::Null)
}

fn text<'row>(row: &'row rusqlite::Row<'_>, at: usize) -> rusqlite::Result<&'row str> {
    row.get_ref(at)?.as_str().map_err(|error| nonsense(at, error))
}

fn read_text<'row>(row: &'row rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<&'row str>> {
    if is_null(row, at)? { Ok(None) } else { text(row, at).map(Some) }
}

fn parse<T: DeserializeOwned>(at: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| nonsense(at, error))
}

/// A value that could not have been written.
pub(super) fn nonsense(at: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, why.into())
}

/// JSON, or NULL when there is none.
pub(super) struct Detail<'a>(pub(super) &'a [u8]);

impl ToSql for Detail<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.0.is_empty() { ValueRef::Null } else { ValueRef::Text(self.0) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// A number without a sign: an integer, beyond 2^63 decimal text.
pub(super) struct Count(pub(super) u64);

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match i64::try_from(self.0) {
            Ok(number) => number.into(),
            Err(_) => self.0.to_string().into(),
        })
    }
}

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Count> {
        match value {
            ValueRef::Integer(number) => u64::try_from(number).map(Count).map_err(|_| FromSqlError::OutOfRange(number)),
            ValueRef::Text(_) => value.as_str()?.parse().map(Count).map_err(FromSqlError::other),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A path: text where it is UTF-8, else bytes.
pub(super) struct StoredPath<'a>(pub(super) &'a Path);

impl ToSql for StoredPath<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0.to_str() {
            Some(text) => ValueRef::Text(text.as_bytes()),
            None => ValueRef::Blob(self.0.as_os_str().as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Reads a path.
pub(super) fn read_path(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<PathBuf> {
    match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(PathBuf::from(OsString::from_vec(bytes.to_vec()))),
        _ => Err(nonsense(at, "not a path")),
    }
}

/// Reads an outcome's word, or NULL.
pub(super) fn read_outcome(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<Outcome>> {
    let Some(word) = read_text(row, at)? else { return Ok(None) };
    [Outcome::Finished, Outcome::Failed, Outcome::Cancelled]
        .into_iter()
        .find(|outcome| outcome.word() == word)
        .map(Some)
        .ok_or_else(|| nonsense(at, format!("`{word}` is no outcome")))
}
