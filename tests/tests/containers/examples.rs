//! The example flows on real engines: what they leave is the same as on the local backend, byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use laminar_tests::gaps;
use laminar_tests::world::World as Program;
use serde_json::{Value, json};

use crate::on_engines;
use crate::world::{World, image, program};

// Rootless podman need not be able to reach this folder.
on_engines!(docker "docker", podman "podman"; [every_example_leaves_the_same_bytes_as_on_local]);

fn every_example_leaves_the_same_bytes_as_on_local(world: &World) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders = std::fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|folder| folder.join("flow.yaml").exists()).collect();
    assert!(!folders.is_empty());
    let mut compared = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let flow = std::fs::read_to_string(folder.join("flow.yaml")).unwrap();
        let mut flow: Value = serde_yaml::from_str(&flow).unwrap();
        if let Some(why) = cannot(&flow) {
            gaps::skip(&format!("{}: example {name}", world.column), &why);
            continue;
        }
        let program = Program::new(program());
        copy(&folder, program.path());
        put_in_a_container(&mut flow);
        flow["flow"] = json!(world.flow());
        program.write("flow.json", flow.to_string());
        let there = artifacts(&program, world.dialect.name);
        let here = artifacts(&program, "local");
        assert!(!here.is_empty(), "{name} leaves nothing");
        let differ: Vec<_> = here.keys().filter(|path| there.get(*path) != here.get(*path)).collect();
        assert!(differ.is_empty() && there.len() == here.len(), "{name}: {differ:?}, {:?}", there.keys());
        compared += 1;
    }
    assert!(compared > 0, "none of the examples could run");
}

/// Why an example cannot be compared: it brings an image of its own, or runs layers elsewhere.
fn cannot(flow: &Value) -> Option<String> {
    let layers = flow["layers"].as_object().into_iter().flat_map(|layers| layers.values());
    for part in layers.chain([&flow["defaults"], flow]) {
        if let Some(image) = part["container"]["image"].as_str() {
            return Some(format!("it wants the image {image}, which is not made here"));
        }
        if let Some(backend) = part["backend"].as_str() {
            return Some(format!("it has a layer of its own on {backend}"));
        }
    }
    None
}

/// Gives all layers the image of the tests, the flow's folder, and the machine's own tools, so that both compute with the
/// same ones.
fn put_in_a_container(flow: &mut Value) {
    let tools = ["/usr", "/lib", "/lib64", "/etc/alternatives"].into_iter().filter(|it| Path::new(it).exists());
    let mounts: Vec<String> = tools.map(|it| format!("{it}:{it}:ro")).chain([".:/flow:ro".to_owned()]).collect();
    let ours = json!({
        "env": { "PATH": "/usr/bin:/bin" },
        "shell": ["/usr/bin/sh", "-e", "-c"],
        "container": { "image": image(), "network": "none", "workdir": "/flow", "mounts": mounts },
    });
    merge(&mut flow["defaults"], ours);
}

/// Adds what is not said yet.
fn merge(said: &mut Value, more: Value) {
    match (said, more) {
        (Value::Object(said), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(said.entry(key).or_insert(Value::Null), value));
        }
        (said @ Value::Null, more) => *said = more,
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            // What somebody's runs of the example have left is no part of it.
            true if entry.file_name() == ".laminar" => {}
            true => {
                std::fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            }
            false => drop(std::fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

/// Everything that a run on this backend leaves.
fn artifacts(program: &Program, backend: &str) -> BTreeMap<String, Vec<u8>> {
    program.run(["run", "flow.json", "--backend", backend]).exits(0);
    let listed = program.run(["artifacts", "--json"]).exits(0).json();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let path = |it: &Value| format!("{}[{}]/{}", text(it, "layer"), it["index"], text(it, "name"));
    listed.iter().map(path).map(|path| (path.clone(), program.run(["cat", &path]).exits(0).bytes)).collect()
}
