//! The options of an engine, each with what it changes on a real one.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use laminar_backend_oci::Settings;
use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor, Task};
use laminar_core::option::Options;
use laminar_tests::gaps;

use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    another_program_that_takes_the_same_words_is_used_for_everything,
    a_network_holds_for_layers_that_say_none,
    a_pull_policy_holds_for_layers_that_say_none,
    a_runtime_is_the_one_that_runs_them,
    outputs_are_ours_whatever_the_user_namespace,
);

/// Settings of the world's engine.
pub(crate) fn settings(world: &World, said: &[(&str, &str)]) -> Settings {
    let said = said.iter().copied();
    match world.dialect.name {
        "docker" => laminar_backend_docker::settings(&Options::new(&laminar_backend_docker::OPTIONS, said)),
        _ => laminar_backend_podman::settings(&Options::new(&laminar_backend_podman::OPTIONS, said)),
    }
}

/// A task whose container says nothing but its image.
fn plain(world: &World, layer: &str, script: &str) -> Task {
    Task { container: Arc::new(Container { network: None, ..world.container() }), ..world.task(layer, script) }
}

fn another_program_that_takes_the_same_words_is_used_for_everything(world: &World) {
    let (program, asked) = (world.folder.path().join("other"), world.folder.path().join("asked"));
    let engine = world.dialect.program;
    let script = format!("#!/bin/sh\necho \"$1\" >> '{}'\nexec {engine} \"$@\"\n", asked.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let settings = settings(world, &[("program", program.to_str().unwrap())]);
    let running = world.try_executor_with(settings, world.session(Vec::new())).unwrap();
    let handle = running.start(&plain(world, "Other", "true"));
    assert_eq!(running.wait(&handle).cause, Cause::Code(0));
    running.does(running.executor.remove(&[handle])).unwrap();
    let asked = std::fs::read_to_string(&asked).unwrap();
    for verb in ["info", "image", "run", "rm"] {
        assert!(asked.lines().any(|line| line == verb), "no {verb} in {asked}");
    }
}

fn a_network_holds_for_layers_that_say_none(world: &World) {
    let running = world.try_executor_with(settings(world, &[("network", "none")]), world.session(Vec::new())).unwrap();
    let script = "ls /sys/class/net | tr '\n' ' ' > $LAMINAR_OUTPUTS/net";
    let silent = plain(world, "Silent", script);
    assert_eq!(running.run(&silent).cause, Cause::Code(0));
    assert_eq!(world.output(&silent, "net").trim(), "lo");
    let mut says = world.task("Says", script);
    says.container = Arc::new(Container { network: Some("host".to_owned()), ..world.container() });
    assert_eq!(running.run(&says).cause, Cause::Code(0));
    assert!(world.output(&says, "net").split_whitespace().count() > 1, "what a layer says counts more");
}

fn a_pull_policy_holds_for_layers_that_say_none(world: &World) {
    let image = Some("laminar-test:no-such-image".to_owned());
    let session = world.session(vec![("A".into(), Arc::new(Container { image, ..Container::default() }))]);
    let refused = match world.try_executor_with(settings(world, &[("pull", "never")]), session) {
        Ok(_) => panic!("it is prepared"),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("never"), "{refused}");
}

fn a_runtime_is_the_one_that_runs_them(world: &World) {
    let (name, field) = match world.dialect.name {
        "docker" => ("io.containerd.runc.v2", "{{.HostConfig.Runtime}}"),
        _ => ("runc", "{{.OCIRuntime}}"),
    };
    let running = world.try_executor_with(settings(world, &[("runtime", name)]), world.session(Vec::new())).unwrap();
    let task = plain(world, "Run", "true");
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    assert_eq!(world.engine(&["container", "inspect", "--format", field, &world.name(&task)]), name);
    let missing = settings(world, &[("runtime", "no-such-runtime")]);
    let error = match world.try_executor_with(missing, world.session(Vec::new())) {
        Err(error) => error,
        Ok(running) => running.does(running.executor.start(Arc::new(plain(world, "Missing", "true")))).unwrap_err(),
    };
    assert!(error.to_string().contains("no-such-runtime"), "{error}");
}

fn outputs_are_ours_whatever_the_user_namespace(world: &World) {
    match world.column {
        "docker" => outputs_are_ours_in(world, "host", "0", &["0", "1234"]),
        "podman-rootless" => {
            let own = rustix::process::geteuid().as_raw().to_string();
            outputs_are_ours_in(world, "keep-id", &own, &["0", "1234"]);
            outputs_are_ours_in(world, "auto", "0", &["0"]);
        }
        other => gaps::skip(&format!("{other}: userns"), "root may have no subordinate ids of its own"),
    }
}

/// `silent` is who runs a layer that names no user.
fn outputs_are_ours_in(world: &World, value: &str, silent: &str, users: &[&str]) {
    let settings = settings(world, &[("userns", value)]);
    let running = world.try_executor_with(settings, world.session(Vec::new())).unwrap();
    let own = rustix::process::geteuid().as_raw();
    for (at, user) in [None].into_iter().chain(users.iter().map(|user| Some(*user))).enumerate() {
        let layer = &format!("{}{at}", value.replace('-', "_"));
        let mut task = plain(world, layer, "id -u > $LAMINAR_OUTPUTS/id; mkdir -m 700 $LAMINAR_OUTPUTS/d");
        let container = Container { user: user.map(str::to_owned), ..(*task.container).clone() };
        task.container = Arc::new(container);
        let handle = running.start(&task);
        let exit = running.wait(&handle);
        assert_eq!(exit.cause, Cause::Code(0), "{layer}: {} {:?}", exit.evidence, std::fs::read_to_string(&task.log));
        assert_eq!(world.output(&task, "id").trim(), user.unwrap_or(silent), "{layer}");
        for path in ["", "d", "id"] {
            assert_eq!(task.outputs.join(path).metadata().unwrap().uid(), own, "{layer} `{path}`");
        }
        let mode = ["container", "inspect", "--format", "{{.HostConfig.UsernsMode}}", &world.name(&task)];
        assert!(!world.engine(&mode).is_empty());
        // As long as it is there it has its numbers, and there are not many.
        running.does(running.executor.remove(&[handle])).unwrap();
    }
}
