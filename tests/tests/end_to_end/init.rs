//! The crate that `laminar init` writes for a backend of one's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use laminar_tests::world::World;
use serde_json::Value;

use crate::world;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn init(world: &World, words: &[&str]) -> laminar_tests::world::Ran {
    let root = root();
    world.run([&["init", "--laminar", root.to_str().unwrap()], words].concat())
}

/// cargo in a folder of the world, without the network, with the versions that this workspace has.
fn cargo(folder: &Path) -> Command {
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR");
    command
}

#[test]
fn what_is_written_is_a_crate_with_all_that_it_needs() {
    let world = world();
    assert_eq!(init(&world, &["--backend", "sand-box"]).exits(0).stdout, "laminar-sand-box\n");
    let folder = world.path().join("laminar-sand-box");
    let ask = |words: &[&str]| {
        let output = cargo(&folder).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let found: Value = serde_json::from_str(&ask(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let targets = found["packages"][0]["targets"].as_array().unwrap();
    let targets = targets.iter().map(|target| target["name"].as_str().unwrap());
    assert_eq!(targets.collect::<Vec<_>>(), ["laminar_sand_box", "laminar-sand-box", "conformance"]);
    // All that they need in turn is resolved, too.
    let tree = ask(&["tree", "--depth", "1", "--prefix", "none", "--edges", "normal,dev"]);
    for (name, folder) in [
        ("laminar", "cli"),
        ("laminar-core", "core"),
        ("laminar-backend-local", "backend-local"),
        ("laminar-tests", "tests"),
    ] {
        let folder = root().join(folder);
        let is_it = |line: &str| line.starts_with(&format!("{name} v")) && line.contains(folder.to_str().unwrap());
        assert!(tree.lines().any(is_it), "no {name} in {tree}");
    }
}

/// What is in it is `examples/template`, which is built and tested with everything else; so this, which builds laminar once
/// more, is for those who change the manifest.
#[test]
#[ignore = "builds laminar once more"]
fn what_is_written_passes_the_kit() {
    let world = world();
    init(&world, &["--backend", "sand-box"]).exits(0);
    let folder = world.path().join("laminar-sand-box");
    let status = cargo(&folder).arg("test").arg("--target-dir").arg(root().join("target")).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_manual_shows_what_is_written() {
    let world = world();
    init(&world, &["--backend", "sandbox", "here"]).exits(0);
    let manual = std::fs::read_to_string(root().join("docs/backends.md")).unwrap();
    for file in ["Cargo.toml", "src/main.rs", "tests/conformance.rs"] {
        let text = world.read(&format!("here/{file}")).replace(root().to_str().unwrap(), "/path/of/laminar");
        assert!(manual.contains(&format!("\n{text}```")), "docs/backends.md does not show this {file}:\n{text}");
    }
}

#[test]
fn what_cannot_be_written_is_told_and_nothing_is_overwritten() {
    let world = world();
    for name in ["Slurm", "logs", "9", "a.b", ""] {
        init(&world, &["--backend", name]).exits(2).says(&[&format!("`{name}` cannot be the name of a backend")]);
    }
    init(&world, &["--backend", "docker"]).exits(2).says(&["there is a backend `docker` already"]);
    world.write("full/file", "kept");
    init(&world, &["--backend", "mine", "full"]).exits(2).says(&["`full` is not empty"]);
    assert_eq!(std::fs::read_dir(world.path().join("full")).unwrap().count(), 1);
    for words in [&["init", "--backend", "mine"][..], &["init", "--backend", "mine", "--laminar", "full"]] {
        world.run(words).exits(2).says(&["--laminar PATH"]);
    }
    assert!(!world.path().join("laminar-mine").exists());
    let git = ["init", "--backend", "mine", "--laminar", "https://example.org/laminar.git", "--json"];
    assert_eq!(world.run(git).exits(0).json()[0]["folder"], "laminar-mine");
    assert!(world.read("laminar-mine/Cargo.toml").contains("git = \"https://example.org/laminar.git\""));
}
