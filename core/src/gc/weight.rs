//! How many bytes would be free without a file or folder.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The sum of the sizes of all files in it that have no other name. What cannot be looked at weighs nothing.
pub(super) fn of(path: &Path) -> u64 {
    let mut sum = 0u64;
    let mut ahead: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = ahead.pop() {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_dir() {
            ahead.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if found.nlink() == 1 {
            sum = sum.saturating_add(found.len());
        }
    }
    sum
}
