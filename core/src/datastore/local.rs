//! The datastore on this machine's disk.
//!
//! It is unaware of flows, layers and executions, and knows nothing between two calls but where the objects are, and what
//! it has been asked to hold: any number of values in any number of processes can work on one folder.
//!
//! How outputs are adopted: everything in the folder is listed; what cannot be an artifact is reported, all at once,
//! before anything is read; then each file is hashed and becomes an object, by a link where nobody else has a name for
//! it, by copying otherwise; each folder's manifest becomes an object; and all objects are synced. It is repeatable from
//! any point: what is an object already is found to be one, and the outputs keep names and contents throughout.
//!
//! Symbolic links are kept within a folder artifact, as links, when they are relative and end within it. At the top
//! level one that ends within the outputs stands for what it leads to.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use rustix::fs::{self, Mode, Stat};
use rustix::io::Errno;

use super::bytes;
use super::garbage::Collection;
use super::holds::{Hold, Holds};
use super::links::{self, Astray};
use super::manifest::{self, escaped};
use super::objects::{self, Objects, Stored, Unsynced, WARY};
use super::outputs::{self, CHANGED, Node, NodeKind, Outputs, Rejections, Tree, Unopened};
use super::{
    AdoptError, Allowed, Artifact, Content, Datastore, DatastoreError, Digest, Entry, EntryKind, Rejection, recall,
    view,
};

/// Objects in a folder on this machine.
#[derive(Clone, Debug)]
pub struct LocalDatastore {
    objects: PathBuf,
    holds: Arc<Holds>,
}

impl LocalDatastore {
    /// The datastore with its objects in this folder, which is made when it is first needed.
    #[must_use]
    pub fn new(objects: PathBuf) -> LocalDatastore {
        LocalDatastore { objects, holds: Arc::default() }
    }

    /// Begins to look for objects that nobody refers to; `None` where there are no objects. What is adopted from now on,
    /// or held by now, will be spared.
    ///
    /// # Errors
    /// When the folder cannot be read, or must not be swept: see [`Collection`].
    pub fn collect(&self) -> Result<Option<Collection>, DatastoreError> {
        Collection::begin(&self.objects)
    }
}

impl Datastore for LocalDatastore {
    fn hold(&self) -> Result<Hold, DatastoreError> {
        self.holds.hold(&self.objects)
    }

    fn adopt_within(&self, outputs: &Path, allowed: Allowed) -> Result<Vec<Artifact>, AdoptError> {
        let outputs = match Outputs::open(outputs) {
            Ok(outputs) => outputs,
            Err(Unopened::Failed(error)) => return Err(error.into()),
            Err(Unopened::Rejected(reason)) => {
                return Err(AdoptError::Rejected(vec![Rejection { path: ".".to_owned(), reason }]));
            }
        };
        let mut rejected = Rejections::default();
        let mut tree = outputs.walk(allowed.files, &mut rejected)?;
        let top = top_level(&tree, &mut rejected);
        if !rejected.is_empty() {
            return Err(AdoptError::Rejected(rejected.into_list()));
        }
        if top.is_empty() {
            return Ok(Vec::new());
        }
        let mut adoption = Adoption {
            objects: Objects::open(&self.objects)?,
            outputs,
            allowed,
            rejected,
            unsynced: Unsynced::default(),
        };
        adoption.store_files(&mut tree)?;
        if !adoption.rejected.is_empty() {
            return Err(AdoptError::Rejected(adoption.rejected.into_list()));
        }
        let mut artifacts = Vec::with_capacity(top.len());
        for top in &top {
            artifacts.push(adoption.artifact(&tree, top)?);
        }
        adoption.objects.sync(&adoption.unsynced)?;
        Ok(artifacts)
    }

    fn view(&self, artifacts: &[Artifact], folder: &Path) -> Result<(), DatastoreError> {
        view::build(&Objects::open(&self.objects)?, artifacts, folder)
    }

    fn recall(&self, artifacts: &[Artifact]) -> Result<bool, DatastoreError> {
        recall::recall(&Objects::open(&self.objects)?, artifacts)
    }

    fn open(&self, digest: Digest, size: u64) -> Result<Box<dyn Read + Send>, DatastoreError> {
        Ok(Box::new(Objects::open(&self.objects)?.read(digest, size)?))
    }

    fn entries(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        view::entries(&Objects::open(&self.objects)?, manifest)
    }

    fn top_level(&self, manifest: Digest) -> Result<Vec<Entry>, DatastoreError> {
        view::top_level(&Objects::open(&self.objects)?, manifest)
    }
}

/// What will be an artifact, as places in the list of nodes: what has its name, and what it is made of. They differ for
/// a link.
struct Top {
    named: usize,
    made_of: usize,
}

/// The artifacts-to-be. Every link that cannot be kept, at the top or within one of them, is rejected.
fn top_level(tree: &Tree, rejected: &mut Rejections) -> Vec<Top> {
    let mut top = Vec::new();
    for (named, node) in tree.nodes.iter().enumerate() {
        if node.path.contains(&b'/') {
            continue;
        }
        match made_of(tree, named) {
            Ok(made_of) => {
                check_links(tree, &node.path, &tree.nodes[made_of].path, rejected);
                top.push(Top { named, made_of });
            }
            Err(reason) => rejected.add(node.path.to_vec(), reason),
        }
    }
    top
}

/// What a node at the top stands for: itself, or what it leads to.
fn made_of(tree: &Tree, named: usize) -> Result<usize, String> {
    let NodeKind::Link(target) = &tree.nodes[named].kind else { return Ok(named) };
    let path = tree.resolve(b"", b"", target).map_err(|astray| reason_of(astray, target, "the outputs folder"))?;
    tree.find(&path).ok_or_else(|| format!("is a link to `{}`, the outputs folder itself", escaped(target)))
}

/// Rejects the links of one folder artifact that cannot be kept.
fn check_links(tree: &Tree, name: &[u8], root: &[u8], rejected: &mut Rejections) {
    for node in tree.within(root) {
        let NodeKind::Link(target) = &node.kind else { continue };
        let path = &node.path[root.len() + 1..];
        if let Err(astray) = tree.resolve(root, links::parent(path), target) {
            let place = format!("the artifact `{}`", escaped(name));
            rejected.add(links::join(name, path), reason_of(astray, target, &place));
        }
    }
}

fn reason_of(astray: Astray, target: &[u8], root: &str) -> String {
    let target = escaped(target);
    match astray {
        Astray::Absolute => format!(
            "is a link to `{target}`, by way of an absolute path; copy the file, or make the link relative, within {root}"
        ),
        Astray::Outside => format!("is a link to `{target}`, which leads out of {root}; copy the file instead"),
        Astray::Dangling => format!("is a link to `{target}`, which does not exist; copy the file, or remove the link"),
        Astray::Cyclic => format!("is a link to `{target}`, which never ends; copy the file, or remove the link"),
    }
}

/// One adoption under way.
struct Adoption {
    objects: Objects,
    outputs: Outputs,
    allowed: Allowed,
    rejected: Rejections,
    unsynced: Unsynced,
}

impl Adoption {
    /// Makes an object of every file.
    fn store_files(&mut self, tree: &mut Tree) -> Result<(), DatastoreError> {
        let mut open: Option<(Vec<u8>, OwnedFd)> = None;
        let mut left = self.allowed.bytes;
        for Node { path, kind } in &mut tree.nodes {
            let NodeKind::File(object) = kind else { continue };
            let parent = links::parent(path);
            if open.as_ref().is_none_or(|(path, _)| path != parent) {
                open = self.outputs.folder(parent).map(|folder| Some((parent.to_vec(), folder))).or_else(|error| {
                    match error {
                        Unopened::Rejected(_) => Ok(None),
                        Unopened::Failed(error) => Err(error),
                    }
                })?;
            }
            let stored = match &open {
                Some((_, folder)) => self.store_file(folder, path, left),
                None => Err(Unopened::Rejected(CHANGED.to_owned())),
            };
            match stored {
                Ok(stored) => {
                    left = left.saturating_sub(stored.1);
                    *object = Some(stored);
                }
                // What comes after it would only be read in vain.
                Err(Unopened::Rejected(reason)) if reason.starts_with(TOO_BIG) => {
                    self.rejected.add(path.to_vec(), reason);
                    return Ok(());
                }
                Err(Unopened::Rejected(reason)) => self.rejected.add(path.to_vec(), reason),
                Err(Unopened::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes an object of one file, if it has no more bytes than are left.
    fn store_file(&mut self, folder: &OwnedFd, path: &[u8], left: u64) -> Result<(Digest, u64), Unopened> {
        let failed =
            |verb, error: io::Error| Unopened::Failed(DatastoreError::file(verb, self.outputs.at(path), error));
        let look = |file: &File| fs::fstat(file).map_err(|error| failed("look at", error.into()));
        let file =
            open_file(folder, links::last(path)).map_err(|error| outputs::unopened(error, &self.outputs.at(path)))?;
        let stat = look(&file)?;
        if !objects::is_file(&stat) {
            return Err(Unopened::Rejected(CHANGED.to_owned()));
        }
        if objects::size_of(&stat) > left {
            return Err(Unopened::Rejected(too_big(&stat, self.allowed.bytes)));
        }
        let executable = stat.st_mode & 0o100 != 0;
        let ours = stat.st_nlink == 1
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_dev == self.objects.device();
        for _ in 0..2 {
            // Sealed before it is read: a write at any time after this shows, now or when the object is used.
            let linked =
                ours && (!executable || objects::demote(&file).is_ok()) && objects::seal(&file, executable).is_ok();
            let before = look(&file)?;
            let length = objects::size_of(&before).min(left);
            // Of what must be copied it is the copy that is brought to disk.
            let hash = if linked { bytes::hash_and_write } else { bytes::hash };
            let (hash, size) = hash(&file, length).map_err(|error| failed("read or sync", error))?;
            if !objects::is_same(&before, &look(&file)?) || size != objects::size_of(&before) {
                continue;
            }
            let digest = Digest { hash, executable };
            match self.objects.store(&file, digest, size, linked).map_err(Unopened::Failed)? {
                Stored::There => {
                    self.unsynced.add(digest);
                    return Ok((digest, size));
                }
                Stored::Changed => {}
            }
        }
        Err(Unopened::Rejected(CHANGED.to_owned()))
    }

    /// The artifact, once its files are objects.
    fn artifact(&mut self, tree: &Tree, top: &Top) -> Result<Artifact, DatastoreError> {
        let made_of = &tree.nodes[top.made_of];
        let content = match made_of.kind {
            NodeKind::File(Some((digest, size))) => Content::File { digest, size },
            _ => self.store_manifest(tree, &made_of.path)?,
        };
        // The walk has rejected names that are not UTF-8.
        Ok(Artifact { name: String::from_utf8_lossy(&tree.nodes[top.named].path).into_owned(), content })
    }

    /// Writes the manifest of a folder, line by line, so that it need not fit in memory.
    fn store_manifest(&mut self, tree: &Tree, root: &[u8]) -> Result<Content, DatastoreError> {
        let temporary = self.objects.temporary()?;
        let mut file = BufWriter::new(&temporary.file);
        let mut hasher = blake3::Hasher::new();
        let mut line = manifest::HEADER.to_owned();
        let mut write = |line: &mut String| {
            hasher.update(line.as_bytes());
            let written = file.write_all(line.as_bytes());
            line.clear();
            written.map_err(|error| temporary.failed("write", error))
        };
        let (mut entries, mut total) = (0, 0_u64);
        for node in tree.within(root) {
            write(&mut line)?;
            let kind = match &node.kind {
                NodeKind::File(Some((digest, size))) => {
                    total = total.saturating_add(*size);
                    EntryKind::File { digest: *digest, size: *size }
                }
                NodeKind::Link(target) => EntryKind::Link(target.to_vec()),
                // A file that is no object has ended the adoption before.
                NodeKind::Folder | NodeKind::File(None) => EntryKind::Folder,
            };
            manifest::write_line(&Entry { path: node.path[root.len() + 1..].to_vec(), kind }, &mut line);
            entries += 1;
        }
        write(&mut line)?;
        file.flush().map_err(|error| temporary.failed("write", error))?;
        drop(file);
        let digest = Digest { hash: *hasher.finalize().as_bytes(), executable: false };
        self.objects.store_temporary(&temporary, digest)?;
        self.unsynced.add(digest);
        Ok(Content::Folder { manifest: digest, entries, size: total })
    }
}

/// How the reason begins for which a file is too big.
const TOO_BIG: &str = "is too big: ";

/// Why a file does not fit into what is allowed.
fn too_big(stat: &Stat, allowed: u64) -> String {
    let (size, stored) = (objects::size_of(stat), u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
    let (shown, allowed) = (ByteSize(size).display().iec(), ByteSize(allowed).display().iec());
    let holes = match stored < size {
        true => format!(", of which {} are on the disk (the rest are holes)", ByteSize(stored).display().iec()),
        false => String::new(),
    };
    format!(
        "{TOO_BIG}it has {shown}{holes}, and all files together may have {allowed}; leave less, or allow more \
         (`limits: {{ outputs: … }}`)"
    )
}

/// Opens a file of the outputs, if need be after giving ourselves the right to.
fn open_file(folder: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let open = || fs::openat(folder, name, WARY, Mode::empty()).map(File::from);
    match open() {
        Err(Errno::ACCESS) => {
            outputs::permit(folder.as_fd(), name, Mode::RUSR);
            open()
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
