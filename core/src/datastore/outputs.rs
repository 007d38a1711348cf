//! What is in a folder of outputs: every file, folder and link at any depth, by name only.
//!
//! It is unaware of objects. The folder was written by a layer that may have meant harm: it is walked with descriptors,
//! component by component, and no link in it is ever followed on disk; where links lead is found in the list that the
//! walk has made. Nothing but folders is opened.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::links::{self, Astray, Place};
use super::manifest::{self, escaped};
use super::objects::{FOLDER, descriptor_path};
use super::{DatastoreError, Digest, Rejection};

/// How many rejections are told one by one.
const MOST_TOLD: usize = 20;

/// How many bytes all paths may have together: so many for each entry that is allowed, and never fewer than that.
const PATHS: (u64, u64) = (256, 16 << 20);

/// Everything in a folder of outputs, in byte order of the paths.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

/// One file, folder or link.
pub(super) struct Node {
    /// Its path within the outputs.
    pub(super) path: Box<[u8]>,
    /// What it is.
    pub(super) kind: NodeKind,
}

/// What a node is.
pub(super) enum NodeKind {
    /// A file, and the object that it became once it is stored, with its size.
    File(Option<(Digest, u64)>),
    /// A folder.
    Folder,
    /// A link with this target.
    Link(Box<[u8]>),
}

impl Tree {
    /// The nodes that are in a folder, at any depth.
    pub(super) fn within(&self, folder: &[u8]) -> &[Node] {
        let prefix = links::join(folder, b"");
        let start = self.nodes.partition_point(|node| *node.path < *prefix);
        let count = self.nodes[start..].partition_point(|node| node.path.starts_with(&prefix));
        &self.nodes[start..start + count]
    }

    /// The place of the node with this path.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.nodes.binary_search_by(|node| (*node.path).cmp(path)).ok()
    }

    /// Follows a link within `root`, to a path relative to it. `folder`, which holds the link, is relative to it as well.
    pub(super) fn resolve(&self, root: &[u8], folder: &[u8], target: &[u8]) -> Result<Vec<u8>, Astray> {
        let mut path = root.to_vec();
        if !root.is_empty() {
            path.push(b'/');
        }
        let length = path.len();
        let path = std::cell::RefCell::new(path);
        links::resolve(folder, target, |place| {
            let mut path = path.borrow_mut();
            path.truncate(length);
            path.extend_from_slice(place);
            Some(match &self.nodes[self.find(&path)?].kind {
                NodeKind::File(_) => Place::File,
                NodeKind::Folder => Place::Folder,
                NodeKind::Link(target) => Place::Link(target),
            })
        })
    }
}

/// What cannot be an artifact, and why: the first few in byte order of their paths, and how many more.
#[derive(Default)]
pub(super) struct Rejections {
    told: BTreeMap<Vec<u8>, String>,
    untold: usize,
}

impl Rejections {
    pub(super) fn add(&mut self, path: Vec<u8>, reason: String) {
        if self.told.insert(path, reason).is_none() && self.told.len() > MOST_TOLD {
            self.told.pop_last();
            self.untold += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<Rejection> {
        let told = self.told.into_iter();
        let mut list: Vec<Rejection> = told.map(|(path, reason)| Rejection { path: escaped(&path), reason }).collect();
        if let (Some(last), 1..) = (list.last_mut(), self.untold) {
            last.reason.push_str(&format!("; and {} more", self.untold));
        }
        list
    }
}

/// How much more may be listed.
struct Room {
    entries: u64,
    paths: u64,
}

impl Room {
    /// Takes what one entry needs. Whether there was as much.
    fn take(&mut self, path: usize) -> bool {
        let left = (self.entries.checked_sub(1), self.paths.checked_sub(path as u64));
        let (Some(entries), Some(paths)) = left else { return false };
        (self.entries, self.paths) = (entries, paths);
        true
    }
}

/// A folder of outputs, open.
pub(super) struct Outputs {
    pub(super) path: PathBuf,
    folder: OwnedFd,
}

/// Why a file or folder in the outputs could not be opened.
pub(super) enum Unopened {
    /// The layer is at fault, for this reason.
    Rejected(String),
    /// We are.
    Failed(DatastoreError),
}

impl Outputs {
    /// Opens the folder, which must not have become something else.
    pub(super) fn open(path: &Path) -> Result<Outputs, Unopened> {
        let folder = open_folder(rustix::fs::CWD, path.as_os_str().as_bytes(), path).map_err(|error| match error {
            Unopened::Rejected(_) => {
                Unopened::Rejected("is the outputs folder, and the layer has removed or replaced it".to_owned())
            }
            failed @ Unopened::Failed(_) => failed,
        })?;
        Ok(Outputs { path: path.to_owned(), folder })
    }

    /// Lists everything in it, up to so many entries. What cannot be an artifact is added to `rejected` instead.
    pub(super) fn walk(&self, most: u64, rejected: &mut Rejections) -> Result<Tree, DatastoreError> {
        let mut nodes = Vec::new();
        let mut room = Room { entries: most, paths: most.saturating_mul(PATHS.0).max(PATHS.1) };
        let mut ahead: Vec<Box<[u8]>> = vec![Box::default()];
        while let Some(folder) = ahead.pop() {
            let opened = match self.folder(&folder) {
                Ok(opened) => opened,
                Err(Unopened::Failed(error)) => return Err(error),
                Err(Unopened::Rejected(reason)) => {
                    rejected.add(folder.into_vec(), reason);
                    continue;
                }
            };
            let first = nodes.len();
            if !self.list(&opened, &folder, &mut nodes, &mut room, rejected)? {
                let reason = format!(
                    "is the outputs folder, and has more than {most} files, folders and links in it, or names that are too \
                     long together; leave one archive instead, or allow more (`limits: {{ files: … }}`)"
                );
                rejected.add(b".".to_vec(), reason);
                return Ok(Tree { nodes: Vec::new() });
            }
            let folders = nodes[first..].iter().filter(|node| matches!(node.kind, NodeKind::Folder));
            ahead.extend(folders.map(|node| node.path.clone()));
        }
        nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { nodes })
    }

    /// Adds what is directly in one folder. Whether there was room for all of it.
    fn list(
        &self,
        opened: &OwnedFd,
        folder: &[u8],
        nodes: &mut Vec<Node>,
        room: &mut Room,
        rejected: &mut Rejections,
    ) -> Result<bool, DatastoreError> {
        let failed = |error: Errno| DatastoreError::file("list", self.at(folder), error);
        for entry in Dir::read_from(opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = links::join(folder, name);
            if !room.take(path.len()) {
                return Ok(false);
            }
            if let Some(reason) = unkept(&path) {
                rejected.add(path, reason);
                continue;
            }
            match kind(opened, name, entry.file_type()) {
                Ok(Ok(kind)) => nodes.push(Node { path: path.into_boxed_slice(), kind }),
                Ok(Err(reason)) => rejected.add(path, reason),
                Err(Errno::INVAL) => rejected.add(path, CHANGED.to_owned()),
                Err(error) => match unopened(error, &self.at(&path)) {
                    Unopened::Rejected(reason) => rejected.add(path, reason),
                    Unopened::Failed(error) => return Err(error),
                },
            }
        }
        Ok(true)
    }

    /// Opens a folder within the outputs, one component after the other.
    pub(super) fn folder(&self, path: &[u8]) -> Result<OwnedFd, Unopened> {
        let mut folder = open_folder(self.folder.as_fd(), b".", &self.path)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            folder = open_folder(folder.as_fd(), name, &self.at(path))?;
        }
        Ok(folder)
    }

    /// A path within the outputs, for messages.
    pub(super) fn at(&self, path: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }
}

/// The reason for which something that was there is not there any more, or is something else.
pub(super) const CHANGED: &str =
    "changed while it was being read; a layer must be done with its outputs when its first process exits";

/// Opens a folder, if need be after giving ourselves the right to.
fn open_folder(parent: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<OwnedFd, Unopened> {
    let open = || fs::openat(parent, name, FOLDER, Mode::empty());
    let opened = match open() {
        Err(Errno::ACCESS) => {
            permit(parent, name, Mode::RWXU);
            open()
        }
        other => other,
    };
    let folder = opened.map_err(|error| unopened(error, path))?;
    let stat = fs::fstat(&folder).map_err(|error| unopened(error, path))?;
    if stat.st_mode & 0o500 != 0o500 && stat.st_uid == rustix::process::geteuid().as_raw() {
        // If this fails, so will the opening of what is inside, and that is told.
        let _ = fs::fchmod(&folder, Mode::from_raw_mode(stat.st_mode & 0o7777) | Mode::RWXU);
    }
    Ok(folder)
}

/// Adds permissions to a file or folder of ours that has no other name. Best effort: the next attempt to open it tells.
pub(super) fn permit(parent: BorrowedFd<'_>, name: &[u8], more: Mode) {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(found) = fs::openat(parent, name, flags, Mode::empty()) else { return };
    let Ok(stat) = fs::fstat(&found) else { return };
    let alone = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => stat.st_nlink == 1,
        FileType::Directory => true,
        _ => false,
    };
    if alone && stat.st_uid == rustix::process::geteuid().as_raw() {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777) | more;
        let _ = fs::chmod(descriptor_path(found.as_fd()), mode);
    }
}

/// Who is at fault when something could not be opened.
pub(super) fn unopened(error: Errno, path: &Path) -> Unopened {
    match error {
        Errno::ACCESS | Errno::PERM => {
            Unopened::Rejected("cannot be read, and its permissions cannot be changed".to_owned())
        }
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR => {
            Unopened::Rejected(CHANGED.to_owned())
        }
        error => Unopened::Failed(DatastoreError::file("open", path, error)),
    }
}

/// Why a path cannot be kept, if so.
fn unkept(path: &[u8]) -> Option<String> {
    let top = !path.contains(&b'/');
    let rule = "an artifact's name must be UTF-8 without control characters";
    match str::from_utf8(path) {
        Err(_) if top => return Some(format!("has a name that is not UTF-8; {rule}")),
        Ok(name) if top && name.chars().any(char::is_control) => {
            return Some(format!("has a control character in its name; {rule}"));
        }
        _ => {}
    }
    let (components, bytes) = (manifest::MOST_COMPONENTS, manifest::LONGEST_PATH);
    let reason = format!("is nested too deeply; a path can have {components} components and {bytes} bytes");
    (!manifest::is_kept(path)).then_some(reason)
}

/// What an entry is, or why it cannot be an artifact.
fn kind(folder: &OwnedFd, name: &[u8], told: FileType) -> Result<Result<NodeKind, String>, Errno> {
    let kind = match told {
        FileType::Unknown => FileType::from_raw_mode(fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
        known => known,
    };
    let what = match kind {
        FileType::RegularFile => return Ok(Ok(NodeKind::File(None))),
        FileType::Directory => return Ok(Ok(NodeKind::Folder)),
        FileType::Symlink => {
            let target = fs::readlinkat(folder, name, Vec::new())?;
            return Ok(Ok(NodeKind::Link(target.into_bytes().into_boxed_slice())));
        }
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    };
    Ok(Err(format!("is {what}; only files, folders and links can be artifacts")))
}
