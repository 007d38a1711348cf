//! What whoever removes executions, or what they refer to, must know of each.
//!
//! It is unaware of what is removed, and removes nothing itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::datastore::{Content, Digest};
use crate::folder::Root;
use crate::id::ExecutionId;

use super::error::StoreError;
use super::lock::Lock;
use super::reader::connect;
use super::schema::STORE;
use super::{RunReader, Status, folders, index, lock, row};

/// The events with which something was taken from the cache. The words of the first condition are those of the index.
const CACHED: &str = "SELECT detail FROM events WHERE kind IN (15, 16) AND kind = ?";

/// An execution that has no scheduler, and gets none while this value lives.
#[derive(Debug)]
pub struct Seized {
    /// How it stands; never running.
    pub status: Status,
    /// When it ended.
    pub ended_ms: Option<i64>,
    _lock: Lock,
}

/// Keeps schedulers away from an execution, and says how it stands; `None` where there is no such execution.
///
/// # Errors
/// [`StoreError::Locked`] when its scheduler is alive; when its lock cannot be taken.
pub fn seize(root: &Root, id: ExecutionId) -> Result<Option<Seized>, StoreError> {
    let folder = root.execution(id);
    if !folder.path().is_dir() {
        return Ok(None);
    }
    let path = folder.lock();
    let lock = match Lock::take(&path) {
        Ok(Ok(lock)) => lock,
        Ok(Err(holder)) => return Err(StoreError::Locked { id, holder }),
        // It was removed at this very moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::file("lock", &path, source)),
    };
    if !folder.path().is_dir() {
        return Ok(None);
    }
    let (status, ended_ms) = match RunReader::open(root, id).and_then(|reader| reader.ended()) {
        Ok(Some((outcome, ended_ms))) => (Status::Ended(outcome), Some(ended_ms)),
        Ok(None) => (Status::Interrupted, None),
        Err(error) => (Status::unread(&error), None),
    };
    Ok(Some(Seized { status, ended_ms, _lock: lock }))
}

/// How an execution stands, by its own store; `None` where there is no such execution. One that cannot be read is
/// [`Status::Damaged`] or [`Status::Unreadable`].
#[must_use]
pub fn status(root: &Root, id: ExecutionId) -> Option<(Status, Option<i64>)> {
    if let Err(error) = root.execution(id).path().symlink_metadata()
        && error.kind() == io::ErrorKind::NotFound
    {
        return None;
    }
    let read = RunReader::open(root, id).and_then(|reader| reader.ending());
    Some(read.unwrap_or_else(|error| (Status::unread(&error), None)))
}

/// The ids of all executions, in no order.
///
/// # Errors
/// When the folder of executions cannot be read.
pub fn ids(root: &Root) -> Result<Vec<ExecutionId>, StoreError> {
    index::ids(root)
}

/// Tells of every artifact that an execution has on record: of the moment, also while it runs. Of those that several
/// layers share, or left again, each time.
///
/// # Errors
/// When the store is missing or damaged.
pub fn references(root: &Root, id: ExecutionId, mut tell: impl FnMut(Content)) -> Result<(), StoreError> {
    let path = root.execution(id).store();
    let (connection, _copy, _) = open(&path)?;
    let mut read = || {
        let stored: String = connection.query_row("SELECT id FROM creation WHERE one = 1", [], |row| row.get(0))?;
        if stored != id.to_string() {
            return Err(row::nonsense(0, format!("it is of execution {stored}")));
        }
        let mut select = connection.prepare("SELECT name, kind, digest, entries, size FROM artifacts")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            tell(row::read_artifact(row, 0)?.content);
        }
        Ok(())
    };
    read().map_err(|error| StoreError::database("read", &path, error))
}

/// Tells of the key of everything that an execution took from the cache, whatever has become of it since.
///
/// # Errors
/// When the store is missing or damaged.
pub(super) fn taken(root: &Root, id: ExecutionId, mut tell: impl FnMut(Digest)) -> Result<(), StoreError> {
    let path = root.execution(id).store();
    let (connection, _copy, version) = open(&path)?;
    // Before, nothing was.
    if version < 4 {
        return Ok(());
    }
    let mut read = || {
        let mut select = connection.prepare(CACHED)?;
        let mut rows = select.query([row::kind::CACHED])?;
        while let Some(row) = rows.next()? {
            tell(row::read_taken(row, 0)?.key);
        }
        Ok(())
    };
    read().map_err(|error| StoreError::database("read", &path, error))
}

/// Opens a store to be read, and tells the version of its layout.
fn open(path: &Path) -> Result<(Connection, Option<TempDir>, i64), StoreError> {
    if let Err(source) = fs::metadata(path) {
        return Err(StoreError::file("open", path, source));
    }
    let (connection, copy) = connect(path)?;
    let version = STORE.check(&connection, path)?;
    if version < STORE.readable {
        return Err(StoreError::damaged(path, format!("version {version} of its layout cannot be read as it is")));
    }
    Ok((connection, copy, version))
}

/// Folders and files of the root that a crash has left half made or half removed, and that were not touched for this long.
///
/// # Errors
/// When a folder cannot be read.
pub fn abandoned(root: &Root, age: Duration) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let places: [(PathBuf, &[&str]); 2] = [(root.executions(), &[".new"]), (root.path().to_owned(), &[])];
    for (folder, ends) in places {
        let failed = |source| StoreError::file("read", &folder, source);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let begins = [".removing-", ".index-"].iter().any(|begin| name.starts_with(begin));
            let ends = name.starts_with('.') && ends.iter().any(|end| name.ends_with(end));
            // What is being made or removed just now was changed a moment ago, and what is being made is locked.
            let free = || matches!(lock::holder(&entry.path().join("lock")), Ok(None));
            let old = || entry.metadata().ok()?.modified().ok()?.checked_add(age);
            if (begins || ends) && old().is_some_and(|until| until <= SystemTime::now()) && free() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Has the removal of executions on disk for good: to be called before what they referred to goes.
///
/// # Errors
/// When the folder of executions cannot be synced.
pub fn removed(root: &Root) -> Result<(), StoreError> {
    folders::sync(&root.executions())
}
