//! What was run before, by what it did: where the cache looks.
//!
//! A row says who has the artifacts of a key: the execution that ran it. Who took it from the cache has them too, and says so in
//! its own log, which is read only when the other is gone. Whether the objects are still there is for the datastore to say.
//! It is unaware of how keys are made.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::schema::CACHE;
use super::shared::Shared;
use super::{index, reference, row};
use crate::cache::Origin;
use crate::datastore::{Artifact, Digest};
use crate::folder::Root;
use crate::id::{LayerId, Split};

/// A run that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it did.
    pub key: Digest,
    /// Who ran.
    pub origin: Origin,
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

    /// The same for many, in one go where that is possible; each by itself, in their order.
    fn find_all(&self, keys: &[Digest]) -> Vec<Result<Option<Run>, StoreError>> {
        keys.iter().map(|key| self.find(*key)).collect()
    }

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

    /// Forgets the runs of executions that are gone, but for those that others took from the cache. Where nothing is remembered,
    /// nothing is made.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn tidy(root: &Root) -> Result<(), StoreError> {
        let cache = RunCache::new(root);
        if !cache.file.path.exists() {
            return Ok(());
        }
        let holders = cache.with(|connection| {
            let mut select = connection.prepare("SELECT DISTINCT holder FROM runs")?;
            select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })?;
        // After the holders, so that one that begins just now is not taken for gone.
        let mut ids = index::ids(root)?;
        let there: HashSet<String> = ids.iter().map(ToString::to_string).collect();
        let gone: Vec<&String> = holders.iter().filter(|id| !there.contains(*id)).collect();
        // Who ran may still be there, and have the artifacts.
        let lost = cache.with(|connection| {
            let mut lost = HashSet::new();
            for holder in &gone {
                let mut select = connection.prepare_cached("SELECT DISTINCT execution FROM runs WHERE holder = ?")?;
                let ran = select.query_map([holder], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
                lost.extend(ran.into_iter().filter(|id| !there.contains(id)));
                connection.execute("UPDATE runs SET holder = execution WHERE holder = ?", [holder])?;
            }
            Ok(lost)
        })?;
        let mut orphans = cache.with(|connection| {
            let mut orphans = HashSet::new();
            let mut select = connection.prepare("SELECT key FROM runs WHERE holder = ?")?;
            for holder in &lost {
                let mut rows = select.query([holder])?;
                while let Some(row) = rows.next()? {
                    orphans.insert(row.get::<_, String>(0)?);
                }
            }
            Ok(orphans)
        })?;
        // The newest first: it will be there for longest.
        ids.sort_unstable_by_key(|id| Reverse(*id));
        for heir in ids {
            if orphans.is_empty() {
                break;
            }
            let mut inherited = Vec::new();
            // One whose log cannot be read has nothing that could be used.
            let _ = reference::taken(root, heir, |key| inherited.extend(orphans.take(&key.to_string())));
            cache.with(|connection| {
                let transaction = connection.unchecked_transaction()?;
                let mut update = transaction.prepare_cached("UPDATE runs SET holder = ? WHERE key = ?")?;
                for key in &inherited {
                    update.execute([&heir.to_string(), key])?;
                }
                drop(update);
                transaction.commit()
            })?;
        }
        cache.with(|connection| {
            let mut delete = connection.prepare("DELETE FROM runs WHERE holder = ?")?;
            lost.iter().try_for_each(|holder| delete.execute([holder]).map(drop))
        })
    }
}

fn find(connection: &Connection, key: Digest) -> rusqlite::Result<Option<Run>> {
    connection
        .prepare_cached("SELECT execution, layer, split, artifacts FROM runs WHERE key = ?")?
        .query_row([key.to_string()], |row| {
            let execution = row.get::<_, String>(0)?.parse().map_err(|error| row::nonsense(0, error))?;
            let split = Split { layer: LayerId(row.get(1)?), index: row.get(2)? };
            Ok(Run { key, origin: Origin { execution, split }, artifacts: row::read_json(row, 3)? })
        })
        .optional()
}

impl Runs for RunCache {
    fn find(&self, key: Digest) -> Result<Option<Run>, StoreError> {
        self.with(|connection| find(connection, key))
    }

    fn find_all(&self, keys: &[Digest]) -> Vec<Result<Option<Run>, StoreError>> {
        let all = self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            keys.iter().map(|key| find(&transaction, *key)).collect::<rusqlite::Result<Vec<_>>>()
        });
        match all {
            Ok(all) => all.into_iter().map(Ok).collect(),
            // What is wrong may be wrong with one of them.
            Err(_) => keys.iter().map(|key| self.find(*key)).collect(),
        }
    }

    fn remember(&self, runs: &[Run]) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)")?;
            for Run { key, origin, artifacts } in runs {
                let artifacts = serde_json::to_string(artifacts)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                let (layer, split) = (origin.split.layer.0, origin.split.index);
                let execution = origin.execution.to_string();
                insert.execute(params![key.to_string(), execution, execution, layer, split, artifacts])?;
            }
            drop(insert);
            transaction.commit()
        })
    }

    fn forget(&self, key: Digest) -> Result<(), StoreError> {
        self.with(|connection| connection.execute("DELETE FROM runs WHERE key = ?", [key.to_string()]).map(drop))
    }
}
