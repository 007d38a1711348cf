//! What is read of the splits of an execution that may have very many: counts of all, and the rows of those that somebody
//! wants to see; and what the cache made of them.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::{RunReader, SPLITS, read_split_row};
use crate::event::Event;
use crate::id::{ExecutionId, LayerId, Split};
use crate::scheduler::State;
use crate::store::error::StoreError;
use crate::store::keys::KeyReader;
use crate::store::row;
use crate::store::{ArtifactRow, KeyRow, SplitCount, SplitRow};

/// The events that have keys. The words of the condition are those of the index.
const KEYS: &str = "SELECT seq, at_ms, kind, layer, split, attempt, detail FROM events WHERE kind IN (15, 16)";

impl RunReader {
    /// How many splits of each layer are in which state, of those that were launched or have settled; by layer.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn split_counts(&self) -> Result<Vec<SplitCount>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT layer, state, count(*), min(launched_ms), max(ended_ms) FROM splits
                 GROUP BY layer, state ORDER BY layer",
            )?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(SplitCount {
                    layer: LayerId(row.get(0)?),
                    state: row::read_state(row, 1)?,
                    splits: row.get(2)?,
                    launched_ms: row.get(3)?,
                    ended_ms: row.get(4)?,
                })
            };
            select.query_map([], read)?.collect()
        })
    }

    /// What is stored of the first split of each layer, by layer: all there is of a layer that is not fanned out.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn first_splits(&self) -> Result<Vec<SplitRow>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(&format!("{SPLITS} WHERE s.split = 0 ORDER BY s.layer"))?;
            select.query_map([], read_split_row)?.collect()
        })
    }

    /// What is stored of the splits of a layer, or of those in a state; by index, at most so many.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn splits_of(&self, layer: LayerId, state: Option<State>, most: usize) -> Result<Vec<SplitRow>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.snapshot(|connection| {
            let sql = format!("{SPLITS} WHERE s.layer = ? AND (?2 IS NULL OR s.state = ?2) ORDER BY s.split LIMIT ?3");
            let mut select = connection.prepare_cached(&sql)?;
            select.query_map(params![layer.0, state.map(State::word), most], read_split_row)?.collect()
        })
    }

    /// What one split published, by name.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn artifacts_of(&self, split: Split) -> Result<Vec<ArtifactRow>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT name, kind, digest, entries, size FROM artifacts WHERE layer = ? AND split = ? ORDER BY name",
            )?;
            let read = |row: &rusqlite::Row<'_>| Ok(ArtifactRow { split, artifact: row::read_artifact(row, 0)? });
            select.query_map([split.layer.0, split.index], read)?.collect()
        })
    }

    /// The numbers of the folders that attempts were given for their outputs, each with when it was given last: in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn outputs(&self) -> Result<HashMap<u32, Option<i64>>, StoreError> {
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT outputs, max(launched_ms) FROM splits WHERE outputs IS NOT NULL GROUP BY outputs",
            )?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// What a split was looked for by last, before an event of this number; `None` if it was not.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn key(&self, split: Split, before: u64) -> Result<Option<KeyRow>, StoreError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        self.snapshot(|connection| {
            let sql = format!("{KEYS} AND layer = ? AND split = ? AND seq < ? ORDER BY seq DESC LIMIT 1");
            let mut select = connection.prepare_cached(&sql)?;
            let mut keys = KeyReader::new(connection);
            let read = |row: &rusqlite::Row<'_>| self.read_key(&mut keys, row);
            select.query_row([split.layer.0.into(), split.index.into(), before], read).optional()
        })
    }

    /// Of each layer's first split, if it was taken from the cache when it was looked for last: the execution that ran it.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn first_origins(&self) -> Result<HashMap<LayerId, ExecutionId>, StoreError> {
        if self.version < 4 {
            return Ok(HashMap::new());
        }
        self.snapshot(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT layer, kind, detail FROM events INDEXED BY keys
                 WHERE kind IN (15, 16) AND split = 0 ORDER BY layer, split, seq",
            )?;
            let mut rows = select.query([])?;
            let mut origins = HashMap::new();
            while let Some(row) = rows.next()? {
                let layer = LayerId(row.get(0)?);
                match row.get::<_, i64>(1)? {
                    row::kind::CACHED => drop(origins.insert(layer, row::read_taken(row, 2)?.execution)),
                    _ => drop(origins.remove(&layer)),
                }
            }
            Ok(origins)
        })
    }

    /// What each split of a layer was looked for by last, by index. Of splits that it does not have any more, too.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn keys(&self, layer: LayerId) -> Result<Vec<KeyRow>, StoreError> {
        self.snapshot(|connection| {
            let sql = format!(
                "{KEYS} AND seq IN (SELECT max(seq) FROM events WHERE kind IN (15, 16) AND layer = ? GROUP BY split)
                 ORDER BY split"
            );
            let mut select = connection.prepare_cached(&sql)?;
            let mut keys = KeyReader::new(connection);
            select.query_map([layer.0], |row| self.read_key(&mut keys, row))?.collect()
        })
    }

    fn read_key(&self, keys: &mut KeyReader<'_>, row: &rusqlite::Row<'_>) -> rusqlite::Result<KeyRow> {
        let record = self.names.read_record(keys, row)?;
        let (split, key, from) = match record.event {
            Event::SplitKeyed { split, key } => (split, key, None),
            Event::SplitCached { split, key, from, .. } => (split, key, Some(from)),
            _ => return Err(row::nonsense(2, "it has no key")),
        };
        Ok(KeyRow { seq: record.seq, at_ms: record.at_ms, split, key, from })
    }
}
