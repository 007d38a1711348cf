//! Sequences that are kept in pieces and read when they are wanted.

use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::artifact::{Artifact, Folder, entries, shown};
use super::failure::{Context, Failure, Result};

/// A sequence of artifacts, each of them kept by itself: what a layer leaves to fan out over, or what the splits of a foreach
/// layer have left. Nothing is read before it is asked for, and cutting a slice reads nothing.
///
/// ```
/// # use laminar::Shards;
/// let mut numbers = Shards::create()?;
/// for number in 0..10_u64 {
///     numbers.push(number * number)?;
/// }
/// assert_eq!(numbers.slice(2..4).to_vec()?, [4, 9]);
/// # Ok::<(), laminar::Failure>(())
/// ```
pub struct Shards<T> {
    /// What is made new is in here.
    made: Option<Folder>,
    /// A slice of what is made new keeps it.
    kept: Option<Folder>,
    pieces: Arc<[Piece]>,
    /// Those that were pushed, and are not among the pieces yet.
    pushed: Vec<Piece>,
    range: (usize, usize),
    kind: PhantomData<fn() -> T>,
}

#[derive(Clone, Debug)]
enum Piece {
    At(PathBuf),
    Value(Value),
}

/// Digits of a piece's name: more than anybody has pieces.
const DIGITS: usize = 9;

impl<T: Artifact> Shards<T> {
    /// An empty sequence, for a layer to leave.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn create() -> Result<Shards<T>> {
        let folder = Folder::create().context("cannot make a folder for shards")?;
        Ok(Shards { made: Some(folder), ..Shards::of(Vec::new()) })
    }

    /// The same with these in it.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn collect(items: impl IntoIterator<Item = T>) -> Result<Shards<T>> {
        let mut shards = Shards::create()?;
        items.into_iter().try_for_each(|item| shards.push(item))?;
        Ok(shards)
    }

    fn of(pieces: Vec<Piece>) -> Shards<T> {
        let range = (0, pieces.len());
        Shards { made: None, kept: None, pieces: pieces.into(), pushed: Vec::new(), range, kind: PhantomData }
    }

    /// Writes one more.
    ///
    /// # Errors
    /// When it cannot be written, or the sequence is one that was read.
    pub fn push(&mut self, item: T) -> Result<()> {
        let Some(folder) = &self.made else {
            return Err(Failure::new("only a sequence that was made here can grow, no slice of one"));
        };
        let path = folder.path().join(format!("{:0DIGITS$}{}", self.len(), T::ENDING));
        item.save(&path)?;
        self.pushed.push(Piece::At(path));
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.1 - self.range.0 + self.pushed.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the one at this place; `None` where there is none.
    pub fn get(&self, at: usize) -> Option<Result<T>> {
        Some(match self.piece(at)? {
            Piece::At(path) => T::load(path),
            Piece::Value(value) => T::from_value(value.clone()),
        })
    }

    fn piece(&self, at: usize) -> Option<&Piece> {
        let here = self.range.1 - self.range.0;
        if at < here { self.pieces.get(self.range.0 + at) } else { self.pushed.get(at - here) }
    }

    /// The number that a piece has in its name: of what a foreach layer has left, the index of the split. `None` where there is
    /// none.
    #[must_use]
    pub fn index(&self, at: usize) -> Option<u32> {
        match self.piece(at)? {
            Piece::At(path) => number(path),
            Piece::Value(_) => u32::try_from(self.range.0 + at).ok(),
        }
    }

    /// All of them, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// All of them at once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.iter().collect()
    }

    /// A part of it. What lies outside of the sequence is not in it.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Shards<T> {
        let pieces = match self.pushed.is_empty() {
            true => Arc::clone(&self.pieces),
            false => self.pieces.iter().chain(&self.pushed).cloned().collect(),
        };
        let len = self.len();
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => len,
        };
        let (from, to) = (from.min(len), to.min(len));
        let range = (self.range.0 + from, self.range.0 + to.max(from));
        let kept = self.made.clone().or_else(|| self.kept.clone());
        Shards { made: None, kept, pieces, pushed: Vec::new(), range, kind: PhantomData }
    }

    /// What is in a folder; of one that is not there, nothing.
    pub(super) fn of_folder(folder: Option<&Path>) -> Result<Shards<T>> {
        let Some(folder) = folder else { return Ok(Shards::of(Vec::new())) };
        let paths = entries(folder).context(format!("cannot read {}", shown(folder)))?;
        Ok(Shards::of(paths.into_iter().map(Piece::At).collect()))
    }
}

/// The number in the name of a file: `0012.json` is 12.
pub(super) fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

impl<T> fmt::Debug for Shards<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("pieces", &self.pieces).field("range", &self.range).finish_non_exhaustive()
    }
}

impl<T: Artifact> Artifact for Shards<T> {
    const ENDING: &'static str = "";

    fn save(self, to: &Path) -> Result<()> {
        // One that is whole moves; a slice, or one that was read, is written anew.
        if let Some(folder) = self.made {
            return folder.save(to);
        }
        fs::create_dir(to).context(format!("cannot make `{}`", to.display()))?;
        for (at, item) in self.iter().enumerate() {
            item?.save(&to.join(format!("{at:0DIGITS$}{}", T::ENDING)))?;
        }
        Ok(())
    }

    fn load(from: &Path) -> Result<Shards<T>> {
        Shards::of_folder(Some(from))
    }

    fn from_value(value: Value) -> Result<Shards<T>> {
        match value {
            Value::Array(items) => Ok(Shards::of(items.into_iter().map(Piece::Value).collect())),
            _ => Err(Failure::new("the value is no list")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_a_slice_is_cut_from_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        Shards::collect(0..10_u32).unwrap().save(&kept).unwrap();
        let all = Shards::<u32>::load(&kept).unwrap();
        let some = all.slice(2..8).slice(1..=2);
        assert_eq!((some.to_vec().unwrap(), some.index(1)), (vec![3, 4], Some(4)));
        assert_eq!(all.slice(8..99).to_vec().unwrap(), [8, 9]);
        assert!(all.slice(5..5).is_empty() && all.slice(99..).is_empty() && all.get(10).is_none());
        some.save(&folder.path().join("some")).unwrap();
        assert_eq!(Shards::<u32>::load(&folder.path().join("some")).unwrap().to_vec().unwrap(), [3, 4]);
    }

    #[test]
    fn what_was_read_does_not_grow() {
        let mut read = Shards::<u32>::from_value(serde_json::json!([1, 2])).unwrap();
        assert!(read.push(3).is_err());
        assert_eq!(read.to_vec().unwrap(), [1, 2]);
    }
}
