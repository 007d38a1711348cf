//! The bytes of a file: hashed, on all cores where there are many, or handed on piece by piece. Holes are not read.
//!
//! The hash is BLAKE3, which hashes a tree: a file's groups of [`GROUP`] bytes are subtrees of it, each hashed by itself and
//! then joined as the [specification](https://github.com/BLAKE3-team/BLAKE3-specs) says (section 2.1). The file is read, not
//! mapped, since whoever made it may still cut it short, which would end a process that has it mapped.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

/// How much is read at once: enough for the hash to use all of the processor, little enough to stay in its cache.
const BUFFER: usize = 256 * 1024;

/// What one core hashes at a time. A power of two, as subtrees of BLAKE3 must be.
const GROUP: u64 = 4 << 20;

/// From how many bytes on it is worth it to ask more than one core.
const LARGE: u64 = 8 * GROUP;

thread_local! {
    /// What files are read into.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The hash of the first `size` bytes of a file, and how many were read: fewer where it is shorter, and then the hash means
/// nothing.
pub(super) fn hash(file: &File, size: u64) -> io::Result<([u8; 32], u64)> {
    // Asked only of large files: the answer is in files of the kernel.
    let cores = if size < LARGE { 1 } else { thread::available_parallelism().map_or(1, usize::from) };
    if cores == 1 {
        let mut hasher = Hasher::new();
        let end = feed(&mut hasher, file, 0..size)?;
        return Ok((*hasher.finalize().as_bytes(), end));
    }
    let groups = size.div_ceil(GROUP);
    let (next, mut values) = (AtomicU64::new(0), vec![ChainingValue::default(); groups as usize]);
    let mut end = size;
    thread::scope(|scope| {
        let work = || subtrees(file, size, &next);
        let others: Vec<_> = (1..cores).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mine = work();
        let others =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        for done in std::iter::once(mine).chain(others) {
            let (hashed, reached) = done?;
            end = end.min(reached);
            for (group, value) in hashed {
                values[group as usize] = value;
            }
        }
        io::Result::Ok(())
    })?;
    let left = (left_subtree_len(size) / GROUP) as usize;
    let root = merge_subtrees_root(&joined(&values[..left]), &joined(&values[left..]), Mode::Hash);
    Ok((*root.as_bytes(), end))
}

/// The same, of a file that is about to be synced: where there is much to write to the disk, that goes on while it is hashed.
///
/// # Errors
/// Also when it cannot be written: who syncs it later would not hear of that any more.
pub(super) fn hash_and_write(file: &File, size: u64) -> io::Result<([u8; 32], u64)> {
    if size < LARGE {
        return hash(file, size);
    }
    thread::scope(|scope| {
        let writing = thread::Builder::new().spawn_scoped(scope, || fs::fdatasync(file));
        let hashed = hash(file, size);
        if let Ok(writing) = writing {
            writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        hashed
    })
}

/// Hashes one group after the other that nobody has begun yet, and returns their values, and where the file ended if that
/// was too early.
fn subtrees(file: &File, size: u64, next: &AtomicU64) -> io::Result<(Vec<(u64, ChainingValue)>, u64)> {
    let (mut hashed, mut end) = (Vec::new(), size);
    loop {
        let group = next.fetch_add(1, Ordering::Relaxed);
        let start = group * GROUP;
        if start >= size || end < size {
            return Ok((hashed, end));
        }
        let all = start..size.min(start + GROUP);
        let mut hasher = Hasher::new();
        hasher.set_input_offset(start);
        let reached = feed(&mut hasher, file, all.clone())?;
        if reached < all.end {
            end = reached;
        } else {
            hashed.push((group, hasher.finalize_non_root()));
        }
    }
}

/// Hashes bytes of a file. Returns where it stopped, as [`pieces`] does.
fn feed(hasher: &mut Hasher, file: &File, range: Range<u64>) -> io::Result<u64> {
    pieces(file, range, |piece, _| {
        hasher.update(piece);
        Ok(())
    })
}

/// The value of the subtree that groups make up together: the left half is the largest power of two that leaves something.
fn joined(groups: &[ChainingValue]) -> ChainingValue {
    if let [one] = groups {
        return *one;
    }
    let (left, right) = groups.split_at(groups.len().next_power_of_two() / 2);
    merge_subtrees_non_root(&joined(left), &joined(right), Mode::Hash)
}

/// Hands on bytes of a file piece by piece, each with its place; zeros that are a hole without. Returns where it stopped:
/// before the end where the file is shorter.
pub(super) fn pieces(
    file: &File,
    range: Range<u64>,
    mut take: impl FnMut(&[u8], Option<u64>) -> io::Result<()>,
) -> io::Result<u64> {
    PIECE.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER, 0);
        let mut at = range.start;
        while at < range.end {
            // Small files are not worth asking about.
            let small = range.end <= BUFFER as u64;
            let (start, end) = if small { (at, range.end) } else { next_extent(file, at, range.end) };
            if end == at {
                return Ok(at);
            }
            if start > at {
                buffer.fill(0);
            }
            while at < start {
                let length = (start - at).min(BUFFER as u64);
                take(&buffer[..length as usize], None)?;
                at += length;
            }
            while at < end {
                let most = BUFFER.min((end - at) as usize);
                match file.read_at(&mut buffer[..most], at) {
                    Ok(0) => return Ok(at),
                    Ok(count) => {
                        take(&buffer[..count], Some(at))?;
                        at += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(at)
    })
}

/// The next part of a file that is no hole: where it starts and ends, both `at` where the file is no longer than that. Where
/// the file system knows no holes, all of it.
fn next_extent(file: &File, at: u64, size: u64) -> (u64, u64) {
    let start = match fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => {
            let all = fs::fstat(file).map_or(size, |stat| stat.st_size as u64).clamp(at, size);
            return (all, all);
        }
        Err(_) => return (at, size),
    };
    let end = fs::seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
    // A hole that begins where data does can only be a file that changes.
    if end > start { (start, end) } else { (start, size) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A file of so many bytes, some of which are holes.
    fn file(size: u64) -> (File, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let mut bytes = vec![0; size as usize];
        let mut at = 12_345;
        while at < size {
            let piece = at..size.min(at + 1_234_567);
            for (place, byte) in piece.clone().zip(&mut bytes[piece.start as usize..piece.end as usize]) {
                *byte = (place * 31 / 7) as u8;
            }
            file.write_all_at(&bytes[piece.start as usize..piece.end as usize], at).unwrap();
            at = piece.end + 777_777;
        }
        (file, bytes)
    }

    #[test]
    fn many_cores_come_to_the_same_hash_as_one() {
        let whole = LARGE;
        let (file, bytes) = file(2 * whole + 7);
        for size in
            [0, 1, whole - 1, whole, whole + 1, whole + GROUP - 1024, whole + GROUP, 2 * whole - 1, 2 * whole + 7]
        {
            let expected = *blake3::hash(&bytes[..size as usize]).as_bytes();
            assert_eq!(hash(&file, size).unwrap(), (expected, size), "{size} bytes");
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_it_should_be_tells_how_long_it_is() {
        let (file, bytes) = file(LARGE + 5);
        for there in [0, 17, GROUP, 3 * GROUP + 1, LARGE] {
            file.set_len(there).unwrap();
            assert_eq!(hash(&file, bytes.len() as u64).unwrap().1, there, "{there} bytes");
            file.write_all_at(&bytes, 0).unwrap();
        }
    }
}
