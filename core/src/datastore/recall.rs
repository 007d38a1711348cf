//! Artifacts that were adopted before, taken into use once more: whether all of them is still there.
//!
//! It is unaware of who remembers them, and of why. Each object is marked first, under the lock, and looked at then: what is
//! marked stays (see `garbage`), so nothing that was found goes before it is on record.

use rustix::fs::FlockOperation;

use super::objects::Objects;
use super::{Artifact, Content, DatastoreError, Digest, lines, manifest};

/// Whether every object is there.
pub(super) fn recall(objects: &Objects, artifacts: &[Artifact]) -> Result<bool, DatastoreError> {
    for artifact in artifacts {
        let there = match &artifact.content {
            Content::File { digest, size } => file(objects, *digest, *size),
            Content::Folder { manifest, .. } => folder(objects, *manifest),
        };
        match there {
            Ok(()) => {}
            Err(DatastoreError::Missing { .. } | DatastoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn file(objects: &Objects, digest: Digest, size: u64) -> Result<(), DatastoreError> {
    mark(objects, digest)?;
    objects.check(digest, size)
}

/// The manifest and every file that it lists. Its own bytes are hashed in any case.
fn folder(objects: &Objects, digest: Digest) -> Result<(), DatastoreError> {
    mark(objects, digest)?;
    let mut wrong = Ok(());
    let read = lines::of(objects, digest, |line| {
        let Some((digest, size)) = manifest::file_of(line) else { return Ok(()) };
        wrong = file(objects, digest, size);
        // What is wrong with the file is told, not this.
        if wrong.is_err() { Err("names a file that cannot be used".to_owned()) } else { Ok(()) }
    });
    wrong.and(read)
}

/// For each object by itself, so that a collector need not wait for long.
fn mark(objects: &Objects, digest: Digest) -> Result<(), DatastoreError> {
    let _locked = objects.lock(FlockOperation::LockShared)?;
    objects.mark(digest)
}
