//! What a split does, as a key: equal keys, equal artifacts.
//!
//! It is unaware of how the parts of a key are found, where runs are remembered, and what is done with those that are found.

use std::collections::{HashMap, HashSet};

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

/// A part in which two keys are not the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyChange {
    /// See [`KeyPart::name`].
    pub name: String,
    /// What the earlier key has.
    pub was: Option<String>,
    /// What the later key has.
    pub is: Option<String>,
}

/// The split that a cached one has its artifacts of: one that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The execution that it belongs to.
    pub execution: ExecutionId,
    /// Which split; the layer is one of that execution's.
    pub split: Split,
}

/// The only part of a key that could not be made.
const UNKNOWN: &str = "no key";

impl CacheKey {
    /// The key of these parts.
    #[must_use]
    pub fn new(parts: Vec<KeyPart>) -> CacheKey {
        let mut text = Vec::with_capacity(parts.iter().map(|part| part.name.len() + part.value.len() + 16).sum());
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

    /// In which parts it is not an earlier key, in its own order; then those that only the earlier one has.
    #[must_use]
    pub fn changes_since(&self, before: &CacheKey) -> Vec<KeyChange> {
        let was: HashMap<&str, &str> = before.parts.iter().map(|part| (&*part.name, &*part.value)).collect();
        let is: HashSet<&str> = self.parts.iter().map(|part| &*part.name).collect();
        let changed = self.parts.iter().filter_map(|part| {
            let was = was.get(&*part.name).map(|was| (*was).to_owned());
            let is_same = was.as_ref() == Some(&part.value);
            (!is_same).then(|| KeyChange { name: part.name.clone(), was, is: Some(part.value.clone()) })
        });
        let gone = before.parts.iter().filter(|part| !is.contains(&*part.name));
        let gone = gone.map(|part| KeyChange { name: part.name.clone(), was: Some(part.value.clone()), is: None });
        changed.chain(gone).collect()
    }

    /// Why there is no key, if there is none.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.parts.first().filter(|part| part.name == UNKNOWN).map(|part| part.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> CacheKey {
        let part = |(name, value): &(&str, &str)| KeyPart { name: (*name).to_owned(), value: (*value).to_owned() };
        CacheKey::new(parts.iter().map(part).collect())
    }

    #[test]
    fn two_keys_differ_in_what_changed_what_is_new_and_what_is_gone() {
        let before = key(&[("command", "a"), ("env.A", "1"), ("env.B", "1")]);
        let after = key(&[("command", "b"), ("env.B", "1"), ("image", "x")]);
        let change = |name: &str, was: Option<&str>, is: Option<&str>| KeyChange {
            name: name.to_owned(),
            was: was.map(str::to_owned),
            is: is.map(str::to_owned),
        };
        assert_eq!(
            after.changes_since(&before),
            [
                change("command", Some("a"), Some("b")),
                change("image", None, Some("x")),
                change("env.A", Some("1"), None)
            ]
        );
        assert!(after.changes_since(&after).is_empty() && before.digest != after.digest);
    }
}
