//! The run store as everyone else sees it: read-only, also while the execution runs, without ever blocking its scheduler.
//!
//! Works on a read-only file system too. There SQLite needs its shared memory file to read a write-ahead log; where a
//! crash has left a log without one, or a journal that must be rolled back first, the files are copied away and read there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tempfile::TempDir;

use crate::each::Each;
use crate::event::{Outcome, Record};
use crate::folder::{ExecutionFolder, Root};
use crate::id::{ExecutionId, LayerId, Split};
use crate::scheduler::State;

use super::error::StoreError;
use super::keys::KeyReader;
use super::row::{self, Count, Names};
use super::schema::{self, Access, STORE};
use super::{ArtifactRow, Counts, Creation, LayerRow, SplitRow, Status, creation, lock};

mod splits;

/// How long to wait where a scheduler begins or closes just now; at all other times there is nothing to wait for.
const PATIENCE: Duration = Duration::from_secs(5);

const SPLITS: &str = "SELECT s.layer, s.split, s.state, s.attempt, s.launched_ms, s.ended_ms, s.outputs, e.detail,
            r.detail, s.exited, e.kind, s.rejected, r.kind
     FROM splits s LEFT JOIN events e ON e.seq = s.exited LEFT JOIN events r ON r.seq = s.rejected";

/// Reads the run store of one execution.
#[derive(Debug)]
pub struct RunReader {
    connection: Connection,
    creation: Creation,
    names: Names,
    folder: ExecutionFolder,
    path: PathBuf,
    /// Of the layout.
    version: i64,
    /// Where the files were copied to, if they had to be.
    _copy: Option<TempDir>,
}

impl RunReader {
    /// Opens the store of an execution.
    ///
    /// # Errors
    /// When it is missing, damaged or written by a newer laminar.
    pub fn open(root: &Root, id: ExecutionId) -> Result<RunReader, StoreError> {
        let folder = root.execution(id);
        if !folder.path().is_dir() {
            return Err(StoreError::Unknown { text: id.to_string(), similar: Vec::new() });
        }
        let path = folder.store();
        if let Err(source) = fs::metadata(&path) {
            return Err(StoreError::file("open", &path, source));
        }
        let (connection, copy) = connect(&path)?;
        let version = STORE.check(&connection, &path)?;
        if version < STORE.readable {
            return Err(StoreError::damaged(&path, format!("version {version} of its layout cannot be read as it is")));
        }
        let creation =
            creation::read(&connection, version).map_err(|error| StoreError::database("read", &path, error))?;
        if creation.id != id {
            return Err(StoreError::damaged(&path, format!("it is of execution {}", creation.id)));
        }
        let names = Names::new(id, &creation.layers);
        Ok(RunReader { connection, creation, names, folder, path, version, _copy: copy })
    }

    /// What the execution was created with.
    #[must_use]
    pub fn creation(&self) -> &Creation {
        &self.creation
    }

    /// Whether it runs, and how it ended.
    ///
    /// # Errors
    /// When the store is damaged, or the lock cannot be looked at.
    pub fn status(&self) -> Result<Status, StoreError> {
        Ok(self.ending()?.0)
    }

    /// Whether a scheduler holds the execution: one that has ended may still be tidying up.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn is_held(&self) -> Result<bool, StoreError> {
        let path = self.folder.lock();
        let holder = lock::holder(&path).map_err(|source| StoreError::file("open", &path, source))?;
        Ok(holder.is_some())
    }

    /// The same, with when it ended.
    pub(super) fn ending(&self) -> Result<(Status, Option<i64>), StoreError> {
        if let Some((outcome, at_ms)) = self.ended()? {
            return Ok((Status::Ended(outcome), Some(at_ms)));
        }
        let path = self.folder.lock();
        if let Some(holder) = lock::holder(&path).map_err(|source| StoreError::file("open", &path, source))? {
            return Ok((Status::Running { pid: holder.pid }, None));
        }
        // It may have ended and let go of the lock between the two looks.
        Ok(match self.ended()? {
            Some((outcome, at_ms)) => (Status::Ended(outcome), Some(at_ms)),
            None => (Status::Interrupted, None),
        })
    }

    pub(super) fn ended(&self) -> Result<Option<(Outcome, i64)>, StoreError> {
        self.snapshot(ended)
    }

    /// The events after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// When the store is damaged: also when an event is missing.
    pub fn records(&self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = self.snapshot(|connection| read_records(connection, &self.names, after, limit))?;
        check_gaps(&self.path, after, &records)?;
        Ok(records)
    }

    /// The number of the last event; 0 if there is none.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        let last: Option<Count> =
            self.snapshot(|connection| connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)))?;
        Ok(last.map_or(0, |seq| seq.0))
    }

    /// What is stored of all splits that were launched or have settled, by layer, then index.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn splits(&self) -> Result<Vec<SplitRow>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(&format!("{SPLITS} ORDER BY s.layer, s.split"))?;
            select.query_map([], read_split_row)?.collect()
        })
    }

    /// What is stored of one split; `None` when it was not launched and has not settled.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn split(&self, split: Split) -> Result<Option<SplitRow>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(&format!("{SPLITS} WHERE s.layer = ? AND s.split = ?"))?;
            select.query_row([split.layer.0, split.index], read_split_row).optional()
        })
    }

    /// What is stored of all layers as a whole, in their order.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn layers(&self) -> Result<Vec<LayerRow>, StoreError> {
        let columns = match self.version {
            ..4 => "NULL, NULL, NULL, NULL",
            _ => {
                "l.splits, l.state, l.reason, (SELECT e.detail IS NOT NULL FROM events e WHERE e.seq = l.opened)
                 OR EXISTS (SELECT 1 FROM splits s WHERE s.layer = l.id AND s.split > 0)"
            }
        };
        self.snapshot(|connection| {
            let mut select =
                connection.prepare_cached(&format!("SELECT l.id, {columns} FROM layers l ORDER BY l.id"))?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(LayerRow {
                    layer: LayerId(row.get(0)?),
                    splits: row.get(1)?,
                    state: row::read_state_or_null(row, 2)?,
                    reason: row.get(3)?,
                    foreach: row.get::<_, Option<bool>>(4)?.unwrap_or(false),
                })
            };
            select.query_map([], read)?.collect()
        })
    }

    /// The values of a layer's splits, as it was opened last; `None` of one that was not, or has no `foreach`.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn each(&self, layer: LayerId) -> Result<Option<Each>, StoreError> {
        if self.version < 4 {
            return Ok(None);
        }
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT e.kind, e.layer, e.detail FROM layers l JOIN events e ON e.seq = l.opened WHERE l.id = ?",
            )?;
            let read = |row: &rusqlite::Row<'_>| {
                if (row.get::<_, i64>(0)?, row.get::<_, u32>(1)?) != (row::kind::OPENED, layer.0) {
                    return Err(row::nonsense(0, format!("layer {} was not opened by what it says", layer.0)));
                }
                row::read_each(row, 2)
            };
            Ok(select.query_row([layer.0], read).optional()?.flatten())
        })
    }

    /// What was published by all layers, or by one: by layer, index and name.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn artifacts(&self, layer: Option<LayerId>) -> Result<Vec<ArtifactRow>, StoreError> {
        self.snapshot(|connection| {
            let (first, last) = layer.map_or((0, i64::MAX), |layer| (layer.0.into(), layer.0.into()));
            connection
                .prepare_cached(
                    "SELECT layer, split, name, kind, digest, entries, size FROM artifacts
                     WHERE layer BETWEEN ? AND ? ORDER BY layer, split, name",
                )?
                .query_map([first, last], |row| {
                    Ok(ArtifactRow { split: row::read_split(row, 0)?, artifact: row::read_artifact(row, 2)? })
                })?
                .collect()
        })
    }

    /// How many splits are in which state.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.snapshot(counts)
    }

    fn snapshot<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let read = || {
            // What one call reads is of one moment.
            let transaction = self.connection.unchecked_transaction()?;
            read(&transaction)
        };
        read().map_err(|error| StoreError::database("read", &self.path, error))
    }
}

/// How it ended, and when, if it has.
pub(super) fn ended(connection: &Connection) -> rusqlite::Result<Option<(Outcome, i64)>> {
    let seq: Option<i64> = connection.query_row("SELECT ended FROM meta WHERE one = 1", [], |row| row.get(0))?;
    let Some(seq) = seq else { return Ok(None) };
    connection.query_row("SELECT kind, detail, at_ms FROM events WHERE seq = ?", [seq], |row| {
        if row.get::<_, i64>(0)? != row::kind::ENDED {
            return Err(row::nonsense(0, format!("event {seq} does not end the execution")));
        }
        Ok(Some((row::read_json(row, 1)?, row.get(2)?)))
    })
}

/// How many splits are in which state.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut select = connection.prepare_cached("SELECT state, count(*) FROM splits GROUP BY state")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        *counts.of(row::read_state(row, 0)?) = row.get(1)?;
    }
    Ok(counts)
}

/// The events after number `after`, at most `limit`.
pub(super) fn read_records(
    connection: &Connection,
    names: &Names,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let (after, limit) = (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut keys = KeyReader::new(connection);
    connection
        .prepare_cached(
            "SELECT seq, at_ms, kind, layer, split, attempt, detail FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        )?
        .query_map([after, limit], |row| names.read_record(&mut keys, row))?
        .collect()
}

/// Whether the events after number `after` are all there.
pub(super) fn check_gaps(path: &Path, after: u64, records: &[Record]) -> Result<(), StoreError> {
    match (after..).zip(records).find(|(before, record)| record.seq != before + 1) {
        Some((before, _)) => Err(StoreError::damaged(path, format!("event {} is missing", before + 1))),
        None => Ok(()),
    }
}

impl Counts {
    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Waiting | State::Ready | State::Running => &mut self.running,
            State::Resting => &mut self.resting,
            State::Finished => &mut self.finished,
            State::Cached => &mut self.cached,
            State::Skipped => &mut self.skipped,
            State::Caught => &mut self.caught,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        }
    }
}

fn read_split_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<SplitRow> {
    // Numbers of events must lead to events of the right kind.
    for (number, kind, expected) in [(9, 10, row::kind::EXITED), (11, 12, row::kind::REJECTED)] {
        let (number, kind): (Option<i64>, Option<i64>) = (row.get(number)?, row.get(kind)?);
        if let Some(number) = number
            && kind != Some(expected)
        {
            return Err(row::nonsense(9, format!("event {number} is not what a split says of it")));
        }
    }
    Ok(SplitRow {
        split: row::read_split(row, 0)?,
        state: row::read_state(row, 2)?,
        attempt: row.get(3)?,
        launched_ms: row.get(4)?,
        ended_ms: row.get(5)?,
        outputs: row.get(6)?,
        exit: row::read_json_or_null(row, 7)?,
        reason: row::read_json_or_null(row, 8)?,
    })
}

/// Opens a database in whichever way is possible.
pub(super) fn connect(path: &Path) -> Result<(Connection, Option<TempDir>), StoreError> {
    let failed = |error| StoreError::database("open", path, error);
    match try_open(path, Access::Read) {
        Ok(connection) => return Ok((connection, None)),
        Err(error) if !is_barred(&error) || path.is_dir() => return Err(failed(error)),
        Err(_) => {}
    }
    let beside = ["-wal", "-journal"].map(|suffix| (suffix, schema::beside(path, suffix)));
    let unfinished = beside.iter().filter(|(_, file)| fs::metadata(file).is_ok_and(|file| file.len() > 0));
    let mut unfinished = unfinished.peekable();
    if unfinished.peek().is_none() {
        return Ok((try_open(path, Access::ReadUnchanging).map_err(failed)?, None));
    }
    let folder = tempfile::tempdir().map_err(|source| StoreError::file("copy", path, source))?;
    let copied = folder.path().join("store.db");
    let copy = |from: &Path, to: &Path| fs::copy(from, to).map_err(|source| StoreError::file("copy", from, source));
    copy(path, &copied)?;
    for (suffix, file) in unfinished {
        copy(file, &schema::beside(&copied, suffix))?;
    }
    Ok((try_open(&copied, Access::Write).map_err(failed)?, Some(folder)))
}

fn try_open(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let connection = schema::open(path, access, PATIENCE)?;
    // The first that is read from the file.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Whether SQLite may not make the files it needs beside the database.
fn is_barred(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}
