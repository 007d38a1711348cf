//! What a split does, as a key: equal keys, equal artifacts.
//!
//! Values only. It is unaware of how a key is made, where runs are looked for, and what is done with those that are found.

use serde::{Deserialize, Serialize};

use crate::datastore::Digest;
use crate::id::{ExecutionId, Split};

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
