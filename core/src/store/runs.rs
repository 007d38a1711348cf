//! What was run before, by what it did: where the cache looks.
//!
//! A row says who has the artifacts of a key: the newest execution that ran it or took it from the cache. Whether the objects
//! are still there is for the datastore to say. It is unaware of how keys are made.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::schema::CACHE;
use super::shared::Shared;
use super::{index, row};
use crate::cache::Origin;
use crate::datastore::{Artifact, Digest};
use crate::folder::Root;
use crate::id::{ExecutionId, LayerId, Split};

/// A run that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it did.
    pub key: Digest,
    /// Who ran.
    pub origin: Origin,
    /// The execution that has the artifacts: the one that ran, or the last one that took them from the cache.
    pub holder: ExecutionId,
    /// What it left, by name, in byte order. Nobody says that it is still there.
    pub artifacts: Vec<Artifact>,
}

/// Where the cache looks. All verbs block. What it forgets runs again; nothing else is wrong then.
pub trait Runs: Send + Sync {
    /// The run that did this, if one is remembered.
    ///
    /// # Errors
    /// When that cannot be known.
    fn find(&self, key: Digest) -> Result<Option<Run>, StoreError>;

    /// Remembers runs, in the place of those that did the same.
    ///
    /// # Errors
    /// When it cannot.
    fn remember(&self, runs: &[Run]) -> Result<(), StoreError>;

    /// Forgets a run, since its artifacts are not what they were.
    ///
    /// # Errors
    /// When it cannot.
    fn forget(&self, key: Digest) -> Result<(), StoreError>;
}

/// The runs that a root remembers.
#[derive(Debug)]
pub struct RunCache {
    file: Shared,
    connection: Mutex<Option<Connection>>,
}

impl RunCache {
    /// Those of this root. Nothing is opened yet.
    #[must_use]
    pub fn new(root: &Root) -> RunCache {
        RunCache { file: Shared { path: root.cache(), schema: &CACHE }, connection: Mutex::default() }
    }

    fn with<T>(&self, act: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.keep(&mut connection, act)
    }

    /// Forgets the runs of executions that are gone. Where nothing is remembered, nothing is made.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn tidy(root: &Root) -> Result<(), StoreError> {
        let cache = RunCache::new(root);
        if !cache.file.path.exists() {
            return Ok(());
        }
        let there: HashSet<String> = index::ids(root)?.into_iter().map(|id| id.to_string()).collect();
        cache.with(|connection| {
            let mut select = connection.prepare("SELECT DISTINCT holder FROM runs")?;
            let known = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            for gone in known.iter().filter(|id| !there.contains(*id)) {
                // Who ran may still be there, and have the artifacts.
                connection.execute("UPDATE runs SET holder = execution WHERE holder = ?", [gone])?;
            }
            let known = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            for gone in known.iter().filter(|id| !there.contains(*id)) {
                connection.execute("DELETE FROM runs WHERE holder = ?", [gone])?;
            }
            Ok(())
        })
    }
}

impl Runs for RunCache {
    fn find(&self, key: Digest) -> Result<Option<Run>, StoreError> {
        let found = self.with(|connection| {
            connection
                .prepare_cached("SELECT holder, execution, layer, split, artifacts FROM runs WHERE key = ?")?
                .query_row([key.to_string()], |row| {
                    let id = |at| row.get::<_, String>(at)?.parse().map_err(|error| row::nonsense(at, error));
                    let split = Split { layer: LayerId(row.get(2)?), index: row.get(3)? };
                    let origin = Origin { execution: id(1)?, split };
                    Ok(Run { key, origin, holder: id(0)?, artifacts: row::read_json(row, 4)? })
                })
                .optional()
        })?;
        Ok(found)
    }

    fn remember(&self, runs: &[Run]) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)")?;
            for Run { key, origin, holder, artifacts } in runs {
                let artifacts = serde_json::to_string(artifacts)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                let (layer, split) = (origin.split.layer.0, origin.split.index);
                let (holder, execution) = (holder.to_string(), origin.execution.to_string());
                insert.execute(params![key.to_string(), holder, execution, layer, split, artifacts])?;
            }
            drop(insert);
            transaction.commit()
        })
    }

    fn forget(&self, key: Digest) -> Result<(), StoreError> {
        self.with(|connection| connection.execute("DELETE FROM runs WHERE key = ?", [key.to_string()]).map(drop))
    }
}
