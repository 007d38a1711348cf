//! Outputs of layers that mean harm: what changes while it is looked at, and what is more than anybody wants to keep.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::local::LocalDatastore;
use super::{AdoptError, Allowed, Artifact, Content, Datastore, EntryKind, remove};

/// How often whoever adopts or removes races with whoever swaps.
const RACES: usize = 300;

/// How long it may take until the races are met.
const DEADLINE: Duration = Duration::from_secs(60);

/// What no adoption may ever read, and nothing change.
const SECRET: &[u8] = b"not the layer's to read";

/// Outputs, a folder of somebody else's with a file in it, and where the swaps are got ready.
struct World {
    folder: tempfile::TempDir,
    store: LocalDatastore,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        for name in ["outputs", "theirs", "aside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("theirs/file"), SECRET).unwrap();
        let store = LocalDatastore::new(folder.path().join("objects"));
        World { store, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adopts again and again, until both were met, while `path` and a link to `theirs`, or to the file there, take each other's place.
    fn race(&self, path: &str, target: &str) {
        symlink(self.path(target), self.path("aside/link")).unwrap();
        let before = self.theirs();
        let (mut adopted, mut refused) = (0, 0);
        self.while_swapping(path, || {
            match self.store.adopt(&self.path("outputs")) {
                Ok(artifacts) => {
                    adopted += 1;
                    assert!(!self.tells(&artifacts), "it was followed");
                }
                Err(AdoptError::Rejected(_)) => refused += 1,
                Err(AdoptError::Store(error)) => panic!("the store is not to blame: {error}"),
            }
            adopted > 0 && refused > 0
        });
        assert_eq!(self.theirs(), before, "what is somebody else's is as it was");
        assert!(adopted > 0 && refused > 0, "never met: {adopted} adoptions, {refused} refused");
    }

    /// Does it so often, and on until it says that it has seen enough.
    fn while_swapping(&self, path: &str, mut act: impl FnMut() -> bool) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swap = || {
                while !over.load(Ordering::Relaxed) {
                    // Whoever removes may have it at the moment.
                    let _ = renameat_with(CWD, self.path("aside/link"), CWD, self.path(path), RenameFlags::EXCHANGE);
                }
            };
            scope.spawn(swap);
            let _over = Over(&over);
            let begun = Instant::now();
            let mut races = 0;
            // On a machine that is busy elsewhere the swaps may take a while to begin.
            while !act() && begun.elapsed() < DEADLINE || races < RACES {
                races += 1;
            }
        });
    }

    /// Mode, size, times and text of what is not the layer's.
    fn theirs(&self) -> Vec<(u32, u64, i64, i64, u64)> {
        let looked = [self.path("theirs"), self.path("theirs/file")].map(|path| {
            let it = path.metadata().unwrap();
            (it.mode(), it.size(), it.mtime(), it.mtime_nsec(), it.nlink())
        });
        assert_eq!(fs::read(self.path("theirs/file")).unwrap(), SECRET);
        looked.to_vec()
    }

    /// Whether any artifact has the secret in it.
    fn tells(&self, artifacts: &[Artifact]) -> bool {
        let hash = *blake3::hash(SECRET).as_bytes();
        artifacts.iter().any(|artifact| match &artifact.content {
            Content::File { digest, .. } => digest.hash == hash,
            Content::Folder { manifest, .. } => {
                let entries = self.store.entries(*manifest).unwrap();
                entries.iter().any(|it| matches!(it.kind, EntryKind::File { digest, .. } if digest.hash == hash))
            }
        })
    }

    fn refused(&self, allowed: Allowed) -> String {
        match self.store.adopt_within(&self.path("outputs"), allowed) {
            Err(AdoptError::Rejected(list)) => AdoptError::Rejected(list).to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// Also when the one who acts panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_that_becomes_a_link_while_it_is_adopted_is_not_followed() {
    let world = World::new();
    fs::write(world.path("outputs/file"), "mine").unwrap();
    world.race("outputs/file", "theirs/file");
}

#[test]
fn a_folder_that_becomes_a_link_while_it_is_adopted_is_not_followed() {
    let world = World::new();
    fs::create_dir_all(world.path("outputs/deep/folder/more")).unwrap();
    fs::write(world.path("outputs/deep/folder/file"), "mine").unwrap();
    world.race("outputs/deep/folder", "theirs");
}

#[test]
fn outputs_that_become_a_link_while_they_are_adopted_are_not_followed() {
    let world = World::new();
    fs::write(world.path("outputs/file"), "mine").unwrap();
    world.race("outputs", "theirs");
}

#[test]
fn what_cannot_be_read_and_becomes_a_link_gives_no_rights_away() {
    let world = World::new();
    fs::write(world.path("outputs/file"), "mine").unwrap();
    fs::set_permissions(world.path("outputs/file"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(world.path("theirs/file"), Permissions::from_mode(0o400)).unwrap();
    world.race("outputs/file", "theirs/file");
}

/// The one who swaps has the folder open, wherever it is moved to before it is emptied.
#[test]
fn what_is_removed_while_a_link_takes_its_place_takes_nothing_else_along() {
    let world = World::new();
    let before = world.theirs();
    for _ in 0..RACES {
        let aside = File::open(world.path("aside")).unwrap();
        fs::create_dir_all(world.path("outputs/deep/folder/more")).unwrap();
        fs::write(world.path("outputs/deep/folder/file"), "mine").unwrap();
        symlink(world.path("theirs"), world.path("aside/link")).unwrap();
        let deep = File::open(world.path("outputs/deep")).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = renameat_with(&aside, "link", &deep, "folder", RenameFlags::EXCHANGE);
                }
            });
            let _over = Over(&over);
            // What is put there meanwhile may keep it from being removed: an error, and no harm.
            let _ = remove(&world.path("outputs/deep"));
        });
        remove(&world.path("outputs")).unwrap();
        remove(&world.path("aside")).unwrap();
        for name in ["outputs", "aside"] {
            fs::create_dir(world.path(name)).unwrap();
        }
    }
    assert_eq!(world.theirs(), before);
}

#[test]
fn a_file_of_somebody_else_that_has_a_name_in_the_outputs_stays_theirs() {
    let world = World::new();
    fs::hard_link(world.path("theirs/file"), world.path("outputs/file")).unwrap();
    let before = world.theirs();
    world.store.adopt(&world.path("outputs")).unwrap();
    assert_eq!(world.theirs(), before, "it was copied, not taken");
}

#[test]
fn a_program_in_the_store_gives_nobody_the_rights_of_another() {
    let world = World::new();
    let program = world.path("outputs/program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o6755)).unwrap();
    // `cap_setuid+ep`, as the kernel keeps it; only root can say so.
    let capability = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let name = "security.capability";
    let _ = rustix::fs::setxattr(&program, name, &capability, rustix::fs::XattrFlags::empty());
    world.store.adopt(&world.path("outputs")).unwrap();
    // It is the object itself by now.
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::metadata(&program).unwrap().nlink(), 2);
    assert!(rustix::fs::getxattr(&program, name, &mut [0; 64]).is_err(), "its capabilities are gone");
}

#[test]
fn more_files_than_are_allowed_are_refused_before_any_is_read() {
    let world = World::new();
    let allowed = Allowed { files: 5, ..Allowed::default() };
    for name in ["a", "b", "c"] {
        fs::create_dir_all(world.path("outputs").join(name).join("d")).unwrap();
    }
    assert_eq!(
        world.refused(allowed),
        "`.` is the outputs folder, and has more than 5 files, folders and links in it, or names that are too long \
         together; leave one archive instead, or allow more (`limits: { files: … }`)"
    );
    assert!(!world.path("objects").exists(), "nothing was stored");
    let allowed = Allowed { files: 6, ..allowed };
    assert_eq!(world.store.adopt_within(&world.path("outputs"), allowed).unwrap().len(), 3);
}

#[test]
fn names_that_would_fill_the_memory_are_refused() {
    let world = World::new();
    let mut folder = rustix::fs::open(world.path("outputs"), super::objects::FOLDER, 0o700.into()).unwrap();
    let name = "n".repeat(250);
    // Thirteen folders deep, and then each name costs three and a half thousand bytes.
    for _ in 0..13 {
        rustix::fs::mkdirat(&folder, &name, 0o700.into()).unwrap();
        folder = rustix::fs::openat(&folder, &name, super::objects::FOLDER, 0o700.into()).unwrap();
    }
    for number in 0..6000 {
        let name = format!("{number:0200}");
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        rustix::fs::openat(&folder, name, flags, 0o600.into()).unwrap();
    }
    let refused = world.refused(Allowed { files: 10_000, ..Allowed::default() });
    assert!(refused.contains("names that are too long together"), "{refused}");
    remove(&world.path("outputs")).unwrap();
}

#[test]
fn a_terabyte_of_holes_is_refused_at_once_and_told_as_such() {
    let world = World::new();
    let sparse = File::create(world.path("outputs/sparse")).unwrap();
    sparse.set_len((2 << 40) + 1).unwrap();
    sparse.write_all_at(b"island", 1 << 39).unwrap();
    fs::write(world.path("outputs/a"), "small").unwrap();
    let begun = Instant::now();
    let refused = world.refused(Allowed::default());
    assert!(begun.elapsed().as_secs() < 10, "it was read");
    assert!(refused.starts_with("`sparse` is too big: it has 2.0 TiB, of which "), "{refused}");
    let rest = "are on the disk (the rest are holes), and all files together may have 1.0 TiB; leave less, or allow more \
                (`limits: { outputs: … }`)";
    assert!(refused.ends_with(rest), "{refused}");
}

#[test]
fn files_together_have_as_many_bytes_as_are_allowed() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        fs::write(world.path("outputs").join(name), name.repeat(10)).unwrap();
    }
    let allowed = Allowed { bytes: 30, ..Allowed::default() };
    assert_eq!(world.store.adopt_within(&world.path("outputs"), allowed).unwrap().len(), 3);
    let refused = world.refused(Allowed { bytes: 29, ..allowed });
    assert!(refused.starts_with("`c` is too big: it has 10 B, and all files together may have 29 B"), "{refused}");
}

#[test]
fn holes_are_hashed_without_being_read_or_written() {
    let world = World::new();
    let sparse = File::create(world.path("outputs/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"island", 40 << 20).unwrap();
    let artifacts = world.store.adopt(&world.path("outputs")).unwrap();
    let Content::File { digest, size } = artifacts[0].content else { panic!("a file") };
    let whole = fs::read(world.path("outputs/sparse")).unwrap();
    assert_eq!((digest.hash, size), (*blake3::hash(&whole).as_bytes(), 64 << 20));
}

/// A tree as deep as a layer can make it by going down step by step goes all the same, and refuses to be kept.
#[test]
fn a_tree_without_end_is_refused_and_can_be_removed() {
    let world = World::new();
    let mut folder = rustix::fs::open(world.path("outputs"), super::objects::FOLDER, 0o700.into()).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&folder, "d", 0o700.into()).unwrap();
        folder = rustix::fs::openat(&folder, "d", super::objects::FOLDER, 0o700.into()).unwrap();
    }
    drop(folder);
    let refused = world.refused(Allowed::default());
    assert!(refused.contains("is nested too deeply"), "{refused}");
    remove(&world.path("outputs")).unwrap();
    assert!(!world.path("outputs").exists());
}

#[test]
fn more_names_than_are_read_at_once_are_removed_all() {
    let world = World::new();
    let folder = world.path("outputs/many");
    fs::create_dir(&folder).unwrap();
    for number in 0..10_000 {
        let path = folder.join(number.to_string());
        if number % 3 == 0 { fs::create_dir(path).unwrap() } else { fs::write(path, "").unwrap() }
    }
    remove(&world.path("outputs")).unwrap();
    assert_eq!(entries(&world.path("")), ["aside", "theirs"]);
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
