//! The program on a real engine.

use laminar_tests::world::World as Program;

use crate::on_engines;
use crate::world::{World, image, program};

on_engines!(docker "docker", podman "podman"; [the_iris_example_leaves_the_same_bytes_as_on_local]);

fn the_iris_example_leaves_the_same_bytes_as_on_local(world: &World) {
    let program = Program::new(program());
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iris");
    for entry in std::fs::read_dir(&example).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            program.write(entry.file_name().to_str().unwrap(), std::fs::read(entry.path()).unwrap());
        }
    }
    let flow = std::fs::read_dir(program.path()).unwrap().map(|entry| entry.unwrap().path());
    let flow = flow.into_iter().find(|path| path.extension().is_some_and(|it| it == "yaml")).unwrap();
    // The host's own tools, so that both compute with the same awk.
    let tools =
        ["/usr", "/lib", "/lib64", "/etc/alternatives"].iter().filter(|folder| std::path::Path::new(folder).exists());
    let mounts: Vec<_> = tools.map(|folder| format!("{folder}:{folder}:ro")).chain([".:/iris:ro".to_owned()]).collect();
    let mounts = serde_json::to_string(&mounts).unwrap();
    let container = format!(
        "defaults:\n  env: {{ PATH: /usr/bin:/bin }}\n  shell: [/usr/bin/sh, -e, -c]\n  container: {{ image: '{}', network: none, workdir: /iris, mounts: {mounts} }}\n\nlayers:\n",
        image()
    );
    let text = std::fs::read_to_string(&flow).unwrap();
    std::fs::write(&flow, text.replacen("layers:\n", &container, 1)).unwrap();
    let flow = flow.file_name().unwrap().to_str().unwrap();
    let artifacts = |backend: &str| {
        program.run(["run", flow, "--backend", backend]).exits(0);
        let listed = program.run(["artifacts", "--json"]).exits(0);
        let path =
            |it: &serde_json::Value| format!("{}/{}", it["layer"].as_str().unwrap(), it["name"].as_str().unwrap());
        let mut all: Vec<_> = listed
            .json()
            .iter()
            .map(path)
            .map(|path| {
                let bytes = program.run(["cat", &path]).exits(0).bytes;
                (path, bytes)
            })
            .collect();
        all.sort();
        assert!(all.len() >= 6, "{all:?}");
        all
    };
    let there = artifacts(world.dialect.name);
    assert!(there == artifacts("local"));
}
