//! The program on a real engine.

use laminar_tests::world::World as Program;

use crate::on_each_engine;
use crate::world::{PROGRAM, World, image};

on_each_engine!(the_iris_example_leaves_the_same_bytes_as_on_local, a_layer_that_was_out_of_memory_is_given_more,);

fn the_iris_example_leaves_the_same_bytes_as_on_local(world: &World) {
    let program = Program::new(PROGRAM);
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

/// A layer that needs more than 32 MiB and fewer than 64, and says what it had.
fn a_layer_that_was_out_of_memory_is_given_more(world: &World) {
    let executor = world.executor();
    let probe = executor.does(laminar_core::executor::Executor::probe(&executor.executor)).unwrap();
    if !probe.enforces.contains(&laminar_core::container::Feature::Memory) {
        eprintln!("SKIPPED: {} enforces no memory limit here", world.dialect.name);
        return;
    }
    let program = Program::new(PROGRAM);
    let flow = format!(
        r#"
flow: Greedy
defaults:
  container: {{ image: "{}", network: none, memory: 32MiB }}
layers:
  Greedy:
    retry: {{ attempts: 3, only: [oom], memory: x2, delay: 0s }}
    run: |
      awk 'BEGIN {{ s = sprintf("%1000s", ""); for (i = 0; i < 40000; i++) a[i] = s i }}'
      cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null > $LAMINAR_OUTPUTS/limit || true
"#,
        image()
    );
    program.write("flow.yaml", flow);
    let ran = program.run(["run", "--backend", world.dialect.name, "--json"]).exits(0);
    let events = ran.json();
    let of = |event: &str| events.iter().filter(|it| it["event"] == event).cloned().collect::<Vec<_>>();
    let causes: Vec<_> = of("attempt_exited").iter().map(|it| it["cause"].as_str().unwrap().to_owned()).collect();
    assert_eq!(causes, ["out_of_memory", "code"]);
    assert_eq!(of("retry_scheduled")[0]["memory"], 64 << 20);
    assert_eq!(program.run(["cat", "Greedy/limit"]).exits(0).stdout.trim(), (64 << 20).to_string());
}
