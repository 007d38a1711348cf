//! The datastore: what layers leave, content-addressed, shared by all executions.
//!
//! It is unaware of flows, layers and executions. [`local`] is the one on this machine's disk, and the only one that
//! knows paths of objects. Its parts: `outputs` lists what a layer left, `links` finds where links lead, `objects` keeps
//! files by digest, `manifest` writes folders down and `lines` reads them, `view` lays them out again, `recall` takes what
//! is there into use again, `remove` removes what is read-only; `holds` and `garbage` see to it that what nobody refers to
//! goes, and nothing else.

use std::fmt;
use std::io::Read;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use serde::{Deserialize, Serialize};

mod bytes;
mod garbage;
mod holds;
#[cfg(test)]
mod hostile_tests;
mod lines;
mod links;
pub mod local;
mod manifest;
mod objects;
mod outputs;
mod recall;
mod remove;
mod view;

pub use garbage::{Added, Collection, Found, Freed};
pub use holds::Hold;
pub use remove::remove;

/// The mode of a folder for outputs. Only the owner may look in: outputs may be secret until they are published.
pub const OUTPUTS_MODE: Mode = Mode::RWXU;

/// Whether a folder for outputs is as it was made: empty, with the mode that it had; one whose mode was changed might not be
/// writable for the next task. Reads no more of it than the first entry.
///
/// # Errors
/// When the folder cannot be read, or is none.
pub fn is_as_made(outputs: &Path) -> Result<bool, DatastoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |verb, error| DatastoreError::file(verb, outputs, error);
    let opened = openat(CWD, outputs, flags, Mode::empty()).map_err(|error| failed("open", error))?;
    let mode = rustix::fs::fstat(&opened).map_err(|error| failed("look at", error))?.st_mode;
    if Mode::from_raw_mode(mode) != OUTPUTS_MODE {
        return Ok(false);
    }
    let mut buffer = [const { MaybeUninit::uninit() }; 1024];
    let mut entries = RawDir::new(opened, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|error| failed("list", error))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Keeps artifacts. All verbs block; the engine calls them away from its loop. All are safe to call concurrently, also
/// from several processes, and idempotent.
pub trait Datastore: Send + Sync {
    /// Keeps what is adopted from now on from being collected as garbage, until the value is dropped. Whoever adopts gets it
    /// first, and drops it when what came of the adoption is on record.
    ///
    /// # Errors
    /// When that cannot be made known.
    fn hold(&self) -> Result<Hold, DatastoreError> {
        Ok(Hold::default())
    }

    /// Takes what is in `outputs` into the store, if it is no more than is allowed. When it returns, every object is on disk
    /// for good (synced), and `outputs` is as it was: whoever has recorded the artifacts removes it. Artifacts come in byte
    /// order of their names.
    ///
    /// # Errors
    /// [`AdoptError::Rejected`] when something in the folder cannot be an artifact, with all such entries, or it is too much.
    fn adopt_within(&self, outputs: &Path, allowed: Allowed) -> Result<Vec<Artifact>, AdoptError>;

    /// The same within the usual limits.
    ///
    /// # Errors
    /// As there.
    fn adopt(&self, outputs: &Path) -> Result<Vec<Artifact>, AdoptError> {
        self.adopt_within(outputs, Allowed::default())
    }

    /// Takes artifacts into use once more that were adopted before: whether every object of them is still there and, as far as
    /// a look at size and time tells, undamaged. Those that are there are spared by collectors as after an adoption, so whoever
    /// calls holds ([`Datastore::hold`]), until it is on record that they are used.
    ///
    /// # Errors
    /// When the objects cannot be looked at or marked. One that is missing or damaged is no error.
    fn recall(&self, artifacts: &[Artifact]) -> Result<bool, DatastoreError>;

    /// Makes `folder`, with each artifact in it under its own name, read-only, as links to the objects where the file
    /// system allows. A name may be `folder/name`: then several that have the same folder are in one. It appears at once and complete; if it exists it is left as it is. [`remove`] removes it, although
    /// its folders are read-only.
    ///
    /// # Errors
    /// When an object is missing or not what its digest says.
    fn view(&self, artifacts: &[Artifact], folder: &Path) -> Result<(), DatastoreError>;

    /// Reads one object.
    ///
    /// # Errors
    /// When it is missing or not what its digest says.
    fn open(&self, digest: Digest, size: u64) -> Result<Box<dyn Read + Send>, DatastoreError>;

    /// The entries of a folder artifact, in byte order of their paths.
    ///
    /// # Errors
    /// When its manifest is missing or damaged.
    fn entries(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError>;

    /// Those at the top, in byte order: each can be a split. What is below them takes no memory.
    ///
    /// # Errors
    /// When its manifest is missing or damaged.
    fn top_level(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        let mut entries = self.entries(manifest)?;
        entries.retain(|entry| !entry.path.contains(&b'/'));
        Ok(entries)
    }
}

/// How much may be adopted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// How many files, folders and links, at any depth.
    pub files: u64,
    /// How many bytes the files may have together, holes included: whoever reads them reads those too.
    pub bytes: u64,
}

impl Default for Allowed {
    fn default() -> Allowed {
        Allowed { files: 1_000_000, bytes: 1 << 40 }
    }
}

/// One thing that a layer left: a top-level entry of its outputs folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The entry's name: UTF-8, without control characters.
    pub name: String,
    /// What it is.
    pub content: Content,
}

/// What an artifact is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// One file.
    File {
        /// The object that holds it.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A folder, sharded: each of its top-level entries can be a split.
    Folder {
        /// The object that lists its entries.
        manifest: Digest,
        /// How many files, links and folders are in it, at any depth.
        entries: u64,
        /// The sum of its files' sizes in bytes.
        size: u64,
    },
}

impl Content {
    /// The size of all files in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Content::File { size, .. } | Content::Folder { size, .. } => *size,
        }
    }
}

/// One entry of a folder artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path within the artifact: bytes without NUL, components separated by `/`, none of them `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a folder artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File {
        /// The object that holds it.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A folder; what is in it follows in the list.
    Folder,
    /// A symbolic link to somewhere within the same artifact: its target, relative.
    Link(Vec<u8>),
}

/// The address of an object: the BLAKE3 hash of its bytes, and whether it may be executed, which belongs to it.
/// Written as 64 hexadecimal digits, what `b3sum` prints, followed by `+x` when executable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    /// The BLAKE3 hash of the bytes.
    pub hash: [u8; 32],
    /// Whether the file is executable by its owner.
    pub executable: bool,
}

impl Digest {
    /// Of these bytes, as a file that is not executable.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest { hash: *blake3::hash(bytes).as_bytes(), executable: false }
    }

    /// The digits of the hash.
    fn hex(&self) -> impl Deref<Target = str> + use<> {
        blake3::Hash::from_bytes(self.hash).to_hex()
    }

    /// Of what is at a path: a file's bytes; of a folder the names in it with their digests; of a link where it leads.
    ///
    /// # Errors
    /// When something there cannot be read, or is neither.
    pub fn of_path(path: &Path) -> std::io::Result<Digest> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        let metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            return Ok(Digest::of(&[b"link ", path.read_link()?.as_os_str().as_bytes()].concat()));
        }
        if metadata.is_file() {
            let mut hasher = blake3::Hasher::new();
            std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            return Ok(Digest { hash: *hasher.finalize().as_bytes(), executable });
        }
        if !metadata.is_dir() {
            return Err(std::io::Error::other("it is neither a file, a folder nor a link"));
        }
        let entries = path.read_dir()?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = entries.collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        let mut listed = b"folder ".to_vec();
        for name in names {
            let digest = Digest::of_path(&path.join(&name))?.to_string();
            listed.extend((name.len() as u64).to_le_bytes());
            listed.extend(name.as_bytes());
            listed.extend(digest.as_bytes());
        }
        Ok(Digest::of(&listed))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())?;
        if self.executable { f.write_str("+x") } else { Ok(()) }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest (64 hexadecimal digits, then perhaps `+x`)")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let (hex, executable) = text.strip_suffix("+x").map_or((text, false), |hex| (hex, true));
        let hash = blake3::Hash::from_hex(hex).map_err(|_| InvalidDigest(text.to_owned()))?;
        Ok(Digest { hash: *hash.as_bytes(), executable })
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.executable { serializer.collect_str(self) } else { serializer.serialize_str(&self.hex()) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why outputs could not be taken into the store.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Entries that cannot be artifacts. The layer is at fault.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Rejected(Vec<Rejection>),
    /// The store is at fault.
    #[error(transparent)]
    Store(#[from] DatastoreError),
}

/// One entry that cannot be an artifact, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {reason}")]
pub struct Rejection {
    /// Its path within the outputs folder, with everything that is not plain text escaped.
    pub path: String,
    /// Why, as a fragment that follows the path: "is a socket; only files, folders and links can be artifacts".
    pub reason: String,
}

/// What the datastore itself could not do.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// A file or folder could not be used.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    File {
        /// What was tried, an imperative: "open".
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An object is not there.
    #[error("object {digest} is missing from the datastore")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// An object's bytes are not those its name promises.
    #[error("object {digest} was changed after it was stored ({found})")]
    Damaged {
        /// Which.
        digest: Digest,
        /// What was found instead.
        found: String,
    },
}

impl DatastoreError {
    fn file(verb: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> DatastoreError {
        DatastoreError::File { verb, path: path.into(), source: source.into() }
    }
}

/// Adopts files with these names and contents, written to a folder that is gone afterwards.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
fn adopt_files(store: &dyn Datastore, outputs: &Path, files: &[(&str, &str)]) -> Vec<Artifact> {
    for (name, content) in files {
        let path = outputs.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let adopted = store.adopt(outputs).unwrap();
    std::fs::remove_dir_all(outputs).unwrap();
    adopted
}
