//! How the keys of splits are written. Most parts are the same for all splits of a layer, so after a key that is written whole
//! the others say which event that is, their base, and only what they have of their own.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::row::{self, Count};
use crate::cache::{CacheKey, KeyPart};
use crate::id::{LayerId, Split};

/// Of how many layers a base is remembered at once; more are seldom looked for at the same time.
const MOST: usize = 64;

/// The keys that others can be told by, with the numbers of their events: one of each layer that has several splits.
#[derive(Debug, Default)]
pub(super) struct Bases(HashMap<LayerId, (u64, Vec<KeyPart>)>);

/// The parts of a key as they are written.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
pub(super) struct Parts<T> {
    /// The event that has the key whole; none: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    parts: Vec<Part<T>>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(untagged)]
enum Part<T> {
    /// So many are what the base has at the same places.
    Same(usize),
    /// A name and a value.
    Own(T, T),
}

impl Bases {
    /// How a key is written with the event of this number.
    pub(super) fn write<'k>(&mut self, seq: u64, split: Split, key: &'k CacheKey) -> Parts<&'k str> {
        if let Some(parts) = self.0.get(&split.layer).and_then(|(base, whole)| differing(*base, whole, &key.parts)) {
            return parts;
        }
        // Most layers have one split only, whose number is 0. What is no key is like none.
        if split.index > 0 && key.reason().is_none() {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            self.0.insert(split.layer, (seq, key.parts.clone()));
        }
        Parts { base: None, parts: key.parts.iter().map(own).collect() }
    }

    /// None of them may have been written.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn own(part: &KeyPart) -> Part<&str> {
    Part::Own(&part.name, &part.value)
}

/// What a key has of its own, if that is the lesser part of it.
fn differing<'k>(base: u64, whole: &[KeyPart], key: &'k [KeyPart]) -> Option<Parts<&'k str>> {
    let mut parts: Vec<Part<&str>> = Vec::new();
    let (mut same, mut all) = (0, 0);
    for (at, part) in key.iter().enumerate() {
        let weight = part.name.len() + part.value.len();
        all += weight;
        if whole.get(at) != Some(part) {
            parts.push(own(part));
            continue;
        }
        same += weight;
        match parts.last_mut() {
            Some(Part::Same(count)) => *count += 1,
            _ => parts.push(Part::Same(1)),
        }
    }
    (same * 2 > all).then_some(Parts { base: Some(base), parts })
}

impl Parts<String> {
    /// The parts themselves; those of the base are read.
    pub(super) fn read(self, keys: &mut KeyReader<'_>) -> rusqlite::Result<Vec<KeyPart>> {
        let whole = match self.base {
            Some(seq) => keys.base(seq)?,
            None => &[],
        };
        let mut parts = Vec::with_capacity(whole.len().max(self.parts.len()));
        for part in self.parts {
            match part {
                Part::Own(name, value) => parts.push(KeyPart { name, value }),
                Part::Same(count) => {
                    let at = parts.len();
                    let same = at.checked_add(count).and_then(|end| whole.get(at..end));
                    let same = same.ok_or_else(|| row::nonsense(6, "a key has more parts of another than that has"))?;
                    parts.extend_from_slice(same);
                }
            }
        }
        Ok(parts)
    }
}

/// Reads the keys that others are told by. The one that was read last is kept: it is that of most that follow.
pub(super) struct KeyReader<'c> {
    connection: &'c Connection,
    last: Option<(u64, Vec<KeyPart>)>,
}

impl<'c> KeyReader<'c> {
    pub(super) fn new(connection: &'c Connection) -> KeyReader<'c> {
        KeyReader { connection, last: None }
    }

    fn base(&mut self, seq: u64) -> rusqlite::Result<&[KeyPart]> {
        let last = match self.last.take() {
            Some(last) if last.0 == seq => last,
            _ => (seq, base(self.connection, seq)?),
        };
        Ok(&self.last.insert(last).1)
    }
}

/// A key that is written whole.
fn base(connection: &Connection, seq: u64) -> rusqlite::Result<Vec<KeyPart>> {
    let mut select = connection.prepare_cached("SELECT detail FROM events WHERE seq = ? AND kind IN (15, 16)")?;
    let read = |row: &rusqlite::Row<'_>| row::read_json::<Parts<String>>(row, 0);
    let Some(Parts { base: None, parts }) = select.query_row([Count(seq)], read).optional()? else {
        return Err(row::nonsense(6, format!("event {seq} does not have a whole key")));
    };
    let whole = parts.into_iter().map(|part| match part {
        Part::Own(name, value) => Ok(KeyPart { name, value }),
        Part::Same(_) => Err(row::nonsense(6, format!("event {seq} does not have a whole key"))),
    });
    whole.collect()
}
