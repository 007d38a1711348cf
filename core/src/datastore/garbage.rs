//! Which objects nobody refers to, and their end: mark, then sweep, beside any number of others who adopt meanwhile.
//!
//! It is unaware of executions: whoever collects says what is referred to.
//!
//! *The rule.* A collection begins with a moment, by the file system's clock: now, or, where somebody adopts just now
//! ([`super::holds`]), since when. Then it is told everything that is on record. What is not among that, and was not used
//! since the moment, is garbage:
//!
//! - what was adopted and put on record before it was told, it has been told;
//! - what was adopted since, whether or not it is on record by now, was marked as used after the moment;
//! - what is being adopted is held since before it was marked, and the moment is no later than that;
//! - an object that is found to be there by one who adopts, and found to be unused by the collector, is found by one after
//!   the other, under a lock: either it is marked, and stays, or it is gone, and is stored anew.
//!
//! A clock that is set back could make what is new look old: so what was used less than a grace before the moment is
//! spared too.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Dir, FlockOperation, Mode, Stat};
use rustix::io::Errno;

use super::holds::{self, Moment, accessed};
use super::objects::{DAMAGED, FOLDER, Objects, TEMPORARY, is_file, size_of};
use super::{Content, DatastoreError, Digest, lines, manifest};

/// For how long objects are looked at and removed in one go, while those who adopt wait. A disk that is busy makes it one
/// object.
const AT_ONCE: Duration = Duration::from_millis(5);

/// By how many seconds two times of one file may differ that were set at once.
const TOLERANCE: i64 = 2;

/// One collection: what is referred to, as far as it was told.
pub struct Collection {
    objects: Objects,
    moment: Moment,
    referred: Referred,
    unread: Vec<Digest>,
}

/// The digests that something refers to.
///
/// Of each the first eight bytes are kept: two that begin alike make one of them stay that need not, in one of 10¹³ cases
/// with a million objects. Manifests are kept whole, since one that is taken for another would not be read.
#[derive(Default)]
struct Referred {
    objects: HashSet<u64>,
    manifests: HashSet<Digest>,
}

/// What a reference has added to those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many objects.
    pub objects: u64,
    /// The sum of their sizes in bytes, manifests left out.
    pub bytes: u64,
}

/// What a collection has removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Objects that nothing refers to, and their bytes.
    pub objects: (u64, u64),
    /// Files that were never finished, or were damaged and are not referred to, and their bytes.
    pub leavings: (u64, u64),
    /// Objects that nothing refers to, and that are too young; they stay.
    pub young: (u64, u64),
}

/// One thing that goes.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// An object, by its digest as it is written, and its size.
    Object(&'a str, u64),
    /// A file that was never finished or is damaged: its name among the objects, and its size.
    Leaving(&'a str, u64),
}

impl Collection {
    pub(super) fn begin(path: &Path) -> Result<Option<Collection>, DatastoreError> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.is_symlink() => {
                // Whoever else has their objects there is not known here.
                let why =
                    std::io::Error::other("it is a link, so executions of another root may refer to what is there");
                return Err(DatastoreError::file("collect garbage in", path, why));
            }
            _ => {}
        }
        let objects = Objects::open(path)?;
        // In this order: who begins to adopt after the first look marks what it uses after it.
        let now = now(&objects)?;
        let moment = holds::oldest(&objects.folder, path)?.map_or(now, |since| since.min(now));
        Ok(Some(Collection { objects, moment, referred: Referred::default(), unread: Vec::new() }))
    }

    /// Tells that something refers to this.
    ///
    /// # Errors
    /// When it is a folder whose manifest cannot be read: then it is not known what it refers to. One that is missing is
    /// no error: nobody can get at what it referred to.
    pub fn refer(&mut self, content: &Content) -> Result<Added, DatastoreError> {
        match content {
            Content::File { digest, size } => Ok(self.referred.add(*digest, *size)),
            Content::Folder { manifest, .. } => {
                let mut added = self.referred.add(*manifest, 0);
                if self.referred.manifests.insert(*manifest) {
                    let within = self.refer_within(*manifest)?;
                    added.objects += within.objects;
                    added.bytes += within.bytes;
                }
                Ok(added)
            }
        }
    }

    /// Manifests that are missing, and so the artifacts that they listed.
    #[must_use]
    pub fn missing(&self) -> &[Digest] {
        &self.unread
    }

    fn refer_within(&mut self, digest: Digest) -> Result<Added, DatastoreError> {
        let mut added = Added::default();
        let read = lines::of(&self.objects, digest, |line| {
            if let Some((digest, size)) = manifest::file_of(line) {
                let more = self.referred.add(digest, size);
                added = Added { objects: added.objects + more.objects, bytes: added.bytes.saturating_add(more.bytes) };
            }
            Ok(())
        });
        match read {
            Err(DatastoreError::Missing { .. }) => {
                self.unread.push(digest);
                Ok(Added::default())
            }
            other => other.map(|()| added),
        }
    }

    /// Removes everything that nothing refers to and that was not used for this long when the collection began. With
    /// `pretend` it stays, and all else is the same.
    ///
    /// What could not be read or removed does not keep it from the rest; the first such error is returned besides.
    pub fn sweep(
        self,
        grace: Duration,
        pretend: bool,
        mut tell: impl FnMut(Found<'_>),
    ) -> (Freed, Option<DatastoreError>) {
        let limit = before(self.moment, grace);
        let mut sweep = Sweep { collection: &self, limit, pretend, freed: Freed::default(), failed: None };
        let all = names(&self.objects, ".").unwrap_or_else(|error| {
            sweep.failed = Some(error);
            Vec::new()
        });
        for name in all {
            let swept = match name.to_bytes() {
                [_, _] => sweep.shard(&name, &mut tell),
                name if name == TEMPORARY.as_bytes() || name == DAMAGED.as_bytes() => {
                    sweep.leavings(&String::from_utf8_lossy(name), &mut tell)
                }
                _ => Ok(()),
            };
            if let Err(error) = swept {
                // One who stands still stands in the way everywhere.
                let blocked = matches!(&error, DatastoreError::File { verb: "lock", .. });
                sweep.failed.get_or_insert(error);
                if blocked {
                    break;
                }
            }
        }
        (sweep.freed, sweep.failed)
    }
}

impl Referred {
    fn add(&mut self, digest: Digest, size: u64) -> Added {
        let new = self.objects.insert(key(digest));
        if new { Added { objects: 1, bytes: size } } else { Added::default() }
    }

    fn has(&self, digest: Digest) -> bool {
        self.objects.contains(&key(digest))
    }
}

fn key(digest: Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_add(u64::from(digest.executable))
}

/// A sweep under way.
struct Sweep<'a> {
    collection: &'a Collection,
    limit: Moment,
    pretend: bool,
    freed: Freed,
    /// The first thing that could not be removed.
    failed: Option<DatastoreError>,
}

impl Sweep<'_> {
    fn shard(&mut self, shard: &CStr, tell: &mut impl FnMut(Found<'_>)) -> Result<(), DatastoreError> {
        let objects = &self.collection.objects;
        let shard = shard.to_string_lossy();
        let candidates = names(objects, &shard)?.into_iter().filter_map(|name| {
            let name = name.to_str().ok()?;
            let digest = digest_of(&shard, name)?;
            (!self.collection.referred.has(digest)).then(|| (format!("{shard}/{name}"), digest))
        });
        let candidates: Vec<_> = candidates.collect();
        let mut ahead = candidates.iter();
        while !ahead.as_slice().is_empty() {
            let locked = match self.pretend {
                true => None,
                false => Some(objects.lock(FlockOperation::NonBlockingLockExclusive)?),
            };
            let begun = Instant::now();
            for (name, digest) in ahead.by_ref() {
                let Some(stat) = self.look(name) else { continue };
                let bytes = size_of(&stat);
                if accessed(&stat) >= self.limit {
                    add(&mut self.freed.young, bytes);
                } else if self.end(name) {
                    add(&mut self.freed.objects, bytes);
                    tell(Found::Object(&digest.to_string(), bytes));
                }
                if begun.elapsed() >= AT_ONCE {
                    break;
                }
            }
            drop(locked);
        }
        Ok(())
    }

    /// Files that are being written, or have been moved aside. Writing sets the time of change, whoever's the file was.
    fn leavings(&mut self, folder: &str, tell: &mut impl FnMut(Found<'_>)) -> Result<(), DatastoreError> {
        for name in names(&self.collection.objects, folder)? {
            let Ok(name) = name.to_str() else { continue };
            let digest = name.split_once('.').and_then(|(digest, _)| digest.parse().ok());
            if digest.is_some_and(|digest| self.collection.referred.has(digest)) {
                continue;
            }
            let name = format!("{folder}/{name}");
            let Some(stat) = self.look(&name) else { continue };
            if (stat.st_ctime, stat.st_ctime_nsec as i64) < self.limit && self.end(&name) {
                add(&mut self.freed.leavings, size_of(&stat));
                tell(Found::Leaving(&name, size_of(&stat)));
            }
        }
        Ok(())
    }

    /// What there is, if it is a file.
    fn look(&mut self, name: &str) -> Option<Stat> {
        let objects = &self.collection.objects;
        match fs::statat(&objects.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => is_file(&stat).then_some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => {
                self.failed.get_or_insert_with(|| objects.failed("look at", name, error));
                None
            }
        }
    }

    /// Removes a file; true when it is gone by us.
    fn end(&mut self, name: &str) -> bool {
        if self.pretend {
            return true;
        }
        let objects = &self.collection.objects;
        match fs::unlinkat(&objects.folder, name, AtFlags::empty()) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(error) => {
                self.failed.get_or_insert_with(|| objects.failed("remove", name, error));
                false
            }
        }
    }
}

fn add((count, sum): &mut (u64, u64), bytes: u64) {
    *count += 1;
    *sum = sum.saturating_add(bytes);
}

/// The digest of the object of this name in this shard.
fn digest_of(shard: &str, name: &str) -> Option<Digest> {
    match name.strip_suffix('x') {
        Some(name) => format!("{shard}{name}+x").parse().ok(),
        None => format!("{shard}{name}").parse().ok(),
    }
}

fn names(objects: &Objects, folder: &str) -> Result<Vec<std::ffi::CString>, DatastoreError> {
    let failed = |error: Errno| objects.failed("list", folder, error);
    let opened: OwnedFd = match fs::openat(&objects.folder, folder, FOLDER, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What time it is for the file system, which must keep times of access.
fn now(objects: &Objects) -> Result<Moment, DatastoreError> {
    let file = objects.temporary()?;
    super::objects::touch(&file.file).map_err(|error| file.failed("write to", error))?;
    let stat = fs::fstat(&file.file).map_err(|error| file.failed("look at", error.into()))?;
    let (accessed, modified) = (accessed(&stat), (stat.st_mtime, stat.st_mtime_nsec as i64));
    if accessed.0.abs_diff(modified.0) > TOLERANCE.unsigned_abs() {
        let why = std::io::Error::other("its file system does not keep times of access");
        return Err(DatastoreError::file("collect garbage in", &objects.path, why));
    }
    Ok(accessed.min(modified))
}

/// The moment so long before.
fn before((seconds, nanoseconds): Moment, grace: Duration) -> Moment {
    let whole = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
    (seconds.saturating_sub(i64::try_from(whole).unwrap_or(i64::MAX)), nanoseconds)
}

#[cfg(test)]
#[path = "garbage_tests.rs"]
mod tests;
