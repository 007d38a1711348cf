//! A manifest read line by line, for folders with millions of entries of which nobody needs a list.
//!
//! It is unaware of what is done with a line. That the bytes are those that the digest promises is known only at the end, so
//! what came of the lines counts only when the whole went well.

use std::io::{BufRead, BufReader};

use super::objects::Objects;
use super::{DatastoreError, Digest, manifest};

/// Hands each line of a manifest to `take`, the first left out. `take` says what is wrong with it, as a fragment, if it is no
/// line that can be used.
pub(super) fn of(
    objects: &Objects,
    digest: Digest,
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), DatastoreError> {
    let damaged = |found: String| DatastoreError::Damaged { digest, found };
    let mut reader = BufReader::with_capacity(64 * 1024, objects.open_object(digest)?);
    let (mut hasher, mut line, mut number) = (blake3::Hasher::new(), Vec::new(), 0_u64);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|error| objects.failed("read", &digest.to_string(), error))? == 0 {
            break;
        }
        hasher.update(&line);
        number += 1;
        if number > 1 {
            take(&line).map_err(|reason| damaged(format!("it is no manifest: line {number} {reason}")))?;
        } else if line != manifest::HEADER.as_bytes() {
            return Err(damaged("it is no manifest".to_owned()));
        }
    }
    match number > 0 && *hasher.finalize().as_bytes() == digest.hash {
        true => Ok(()),
        false => Err(damaged("its bytes are others".to_owned())),
    }
}
