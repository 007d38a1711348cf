//! What a split does, as a key: equal keys, equal artifacts.
//!
//! It is unaware of how the parts of a key are found, where runs are remembered, and what is done with those that are found.

use serde::{Deserialize, Serialize};

use crate::datastore::{Artifact, Digest};
use crate::id::{ExecutionId, Split};
use crate::store::StoreError;

/// What a split is looked for by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// Of all parts.
    pub digest: Digest,
    /// What counts, so that two keys can be compared by who asks why they differ.
    pub parts: Vec<KeyPart>,
}

/// One thing that counts for what a split does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// `command`, `image`, `env.SEED`, `input Split/data.csv`, `source train.py`
    pub name: String,
    /// A text, or the digest of a content.
    pub value: String,
}

/// The split that a cached one has its artifacts of: one that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The execution that it belongs to.
    pub execution: ExecutionId,
    /// Which split; the layer is one of that execution's.
    pub split: Split,
}

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

/// The only part of a key that could not be made.
const UNKNOWN: &str = "no key";

impl CacheKey {
    /// The key of these parts.
    #[must_use]
    pub fn new(parts: Vec<KeyPart>) -> CacheKey {
        let mut text = Vec::new();
        for part in &parts {
            for word in [&part.name, &part.value] {
                text.extend((word.len() as u64).to_le_bytes());
                text.extend(word.as_bytes());
            }
        }
        CacheKey { digest: Digest::of(&text), parts }
    }

    /// What stands for a key that cannot be made; nothing is found by it.
    #[must_use]
    pub fn unknown(reason: String) -> CacheKey {
        CacheKey::new(vec![KeyPart { name: UNKNOWN.to_owned(), value: reason }])
    }

    /// Why there is no key, if there is none.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.parts.first().filter(|part| part.name == UNKNOWN).map(|part| part.value.as_str())
    }
}
