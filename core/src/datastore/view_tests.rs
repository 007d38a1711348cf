//! Views whose artifacts are folders with one entry per split, and what lists and recalls them, tried with real files.
#![allow(clippy::unwrap_used)]

use std::fs as std_fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::datastore::local::LocalDatastore;
use crate::datastore::{Datastore, adopt_files, remove};

struct World {
    folder: tempfile::TempDir,
    store: LocalDatastore,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalDatastore::new(folder.path().join("objects"));
        World { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adopts files with these names and contents.
    fn adopt(&self, files: &[(&str, &str)]) -> Vec<Artifact> {
        adopt_files(&self.store, &self.path("outputs"), files)
    }

    /// One artifact of this content, under whatever name.
    fn file(&self, content: &str) -> Content {
        self.adopt(&[("file", content)])[0].content.clone()
    }

    fn view(&self, artifacts: &[(&str, &Content)]) -> Result<PathBuf, String> {
        let named =
            |(name, content): &(&str, &Content)| Artifact { name: (*name).to_owned(), content: (*content).clone() };
        let artifacts: Vec<Artifact> = artifacts.iter().map(named).collect();
        let view = self.path("view");
        self.store.view(&artifacts, &view).map(|()| view).map_err(|error| error.to_string())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        remove(self.folder.path()).unwrap();
    }
}

fn read(path: &Path) -> String {
    std_fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_splits_left_is_a_folder_with_an_entry_for_each() {
    let world = World::new();
    let (one, two) = (world.file("one"), world.file("two"));
    let outputs = world.path("outputs");
    std_fs::create_dir_all(outputs.join("shards/deep")).unwrap();
    std_fs::write(outputs.join("shards/deep/file"), "deep").unwrap();
    symlink("deep/file", outputs.join("shards/link")).unwrap();
    let folder = world.store.adopt(&outputs).unwrap()[0].content.clone();
    // As they come from the splits: each of them has both, in whatever order.
    let view = world
        .view(&[
            ("model.bin/0", &one),
            ("shards/0", &folder),
            ("whole", &two),
            ("model.bin-x", &two),
            ("model.bin/1", &two),
            ("shards/1", &one),
            ("model.bin/10", &one),
        ])
        .unwrap();
    let names = |name: &str| {
        let entries =
            std_fs::read_dir(view.join(name)).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    };
    assert_eq!(names("."), ["model.bin", "model.bin-x", "shards", "whole"]);
    assert_eq!(
        (names("model.bin"), names("shards")),
        (vec!["0".into(), "1".into(), "10".into()], vec!["0".into(), "1".into()])
    );
    for (name, content) in [
        ("model.bin/0", "one"),
        ("model.bin/1", "two"),
        ("model.bin/10", "one"),
        ("model.bin-x", "two"),
        ("shards/0/deep/file", "deep"),
        ("shards/0/link", "deep"),
        ("shards/1", "one"),
        ("whole", "two"),
    ] {
        assert_eq!(read(&view.join(name)), content, "{name}");
        assert_eq!(mode(&view.join(name)), 0o444, "{name}");
    }
    for folder in [".", "model.bin", "shards", "shards/0", "shards/0/deep"] {
        assert_eq!(mode(&view.join(folder)), 0o555, "{folder}");
    }
    let inode = |name: &str| view.join(name).metadata().unwrap().ino();
    assert_eq!(inode("model.bin/0"), inode("shards/1"), "links, not copies");
    remove(&view).unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused_and_leave_nothing() {
    let world = World::new();
    let content = world.file("x");
    for name in
        ["../x", "x/..", "./x", "x/.", "/x", "x/", "a//b", "a/b/c", "", "/", "a/\0", &format!("a/{}", "n".repeat(256))]
    {
        let refused = world.view(&[("good/0", &content), (name, &content)]).unwrap_err();
        assert!(refused.contains("is no name of an artifact"), "{name}: {refused}");
    }
    // Two that cannot both be: the second is no reason to take the first away, or to write through it.
    let outputs = world.path("outputs");
    std_fs::create_dir_all(outputs.join("folder/0")).unwrap();
    let folder = world.store.adopt(&outputs).unwrap()[0].content.clone();
    std_fs::remove_dir_all(outputs).unwrap();
    for (whole, part) in [(&content, "a/0"), (&folder, "a/0"), (&folder, "a/1"), (&folder, "a")] {
        assert!(world.view(&[("a", whole), (part, &content)]).is_err(), "{part}");
    }
    let left: Vec<_> = std_fs::read_dir(world.folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["objects"]);
}

#[test]
fn a_folder_of_very_many_splits_is_made_and_recalled() {
    const SPLITS: usize = 20_000;
    let world = World::new();
    // As many objects as keep the number of links of each within what file systems allow.
    let contents: Vec<Content> = (0..40).map(|at| world.file(&format!("content {at}"))).collect();
    let artifacts: Vec<Artifact> = (0..SPLITS)
        .map(|at| Artifact { name: format!("part/{at:05}"), content: contents[at % contents.len()].clone() })
        .collect();
    let view = world.path("view");
    world.store.view(&artifacts, &view).unwrap();
    assert_eq!(std_fs::read_dir(view.join("part")).unwrap().count(), SPLITS);
    assert_eq!(read(&view.join("part/19999")), "content 39");
    assert!(world.store.recall(&artifacts).unwrap());
}

#[test]
fn the_top_level_of_a_folder_is_listed_without_the_rest() {
    let world = World::new();
    let outputs = world.path("outputs");
    std_fs::create_dir_all(outputs.join("shards/b/deep/er")).unwrap();
    for name in ["a", "a-b", "b/0", "b/deep/er/x", "b-c", "ä\n"] {
        std_fs::write(outputs.join("shards").join(name), name).unwrap();
    }
    symlink("b/deep", outputs.join("shards/link")).unwrap();
    let Content::Folder { manifest, entries, .. } = world.store.adopt(&outputs).unwrap()[0].content else {
        panic!("it is a folder")
    };
    let all = world.store.entries(manifest).unwrap();
    assert_eq!(all.len() as u64, entries);
    let top = world.store.top_level(manifest).unwrap();
    assert_eq!(top, all.into_iter().filter(|entry| !entry.path.contains(&b'/')).collect::<Vec<_>>());
    let paths: Vec<_> = top.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    assert_eq!(paths, ["a", "a-b", "b", "b-c", "link", "ä\n"]);
    assert!(
        matches!(&top[2].kind, EntryKind::Folder) && matches!(&top[4].kind, EntryKind::Link(to) if to == b"b/deep")
    );

    // What is no manifest, or another than it was, is not believed.
    let Content::File { digest, .. } = world.file("laminar-folder 1\nfolder\t..\n") else { panic!("it is a file") };
    let refused = world.store.top_level(digest).unwrap_err().to_string();
    assert!(refused.contains("line 2 has a path that cannot be within a folder"), "{refused}");
    let Content::File { digest, .. } = world.file("") else { panic!("it is a file") };
    assert!(world.store.top_level(digest).is_err());
    let hex = manifest.to_string();
    let path = world.path("objects").join(&hex[..2]).join(&hex[2..]);
    std_fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    std_fs::write(&path, read(&path).replace("a-b", "a-c")).unwrap();
    assert!(matches!(world.store.top_level(manifest), Err(DatastoreError::Damaged { .. })));
    std_fs::remove_file(&path).unwrap();
    assert!(matches!(world.store.top_level(manifest), Err(DatastoreError::Missing { .. })));
}
