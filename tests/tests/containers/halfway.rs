//! Clients of the engine that die at moments that leave a container in a state which says too little, or what is not true.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use laminar_backend_oci::{PROGRAM, Settings};
use laminar_backend_podman::OPTIONS;
use laminar_core::executor::{Cause, Executor, Recovered};
use laminar_core::option::Options;
use rustix::process::{Pid, Signal};

use crate::deaths::{handle, is_ended, start_whatever_dies};
use crate::world::{Running, World, image};
use crate::{on_each_engine, on_engines};

on_each_engine!(one_that_was_half_removed_before_it_ran_has_not_run);
// Docker's clients do nothing themselves.
on_engines!(podman_itself "podman", podman_itself_rootless "podman-rootless"; [
    one_that_is_half_removed_is_in_nobodys_way,
    one_whose_client_died_when_it_had_started_it_runs_once,
    one_whose_client_died_when_it_had_started_it_can_be_stopped_and_killed
]);

fn executor(world: &World, bare: bool, settings: Settings) -> Running {
    world.executor_that(|executor| {
        let executor = executor.with_settings(settings);
        if bare { executor.bare() } else { executor }
    })
}

/// A client that dies when it has created a container, when it is first to start one, and, if so, when it is first to remove
/// one. `shows`: how it shows a container from then on until it is removed.
fn mortal(world: &World, dies_removing: bool, shows: &str) -> PathBuf {
    let removing = if dies_removing { "once rm && kill -9 $$;" } else { "once rm;" };
    world.client(&format!(
        r#"once() {{ [ ! -e "$0.$1" ] && : > "$0.$1"; }}
        case "$1" in
        run) once run && {{ shift 2; "$engine" create "$@"; kill -9 $$; }};;
        start) once start && kill -9 $$;;
        rm) {removing} once gone;;
        container) {shows};;
        esac"#
    ))
}

/// As podman shows one whose `rm` was killed: the exit code of one that has never run is 0.
fn one_that_was_half_removed_before_it_ran_has_not_run(world: &World) {
    let shows = r#"if [ -e "$0.rm" ] && [ ! -e "$0.gone" ]; then
            "$engine" "$@" | sed 's/"Status": "created"/"Status": "removing"/'; exit; fi"#;
    for bare in [false, true] {
        let client = mortal(world, true, shows);
        let running = executor(world, bare, client_is(&client));
        let task = world.task(if bare { "Bare" } else { "A" }, "echo x >> $LAMINAR_OUTPUTS/runs; exit 7");
        start_whatever_dies(&running, &task);
        let exit = running.wait(&handle(&task));
        assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
        assert_eq!(world.output(&task, "runs"), "x\n");
        assert!(client.with_extension("gone").exists(), "it was not removed");
        for mark in ["run", "start", "rm", "gone"] {
            let _ = std::fs::remove_file(client.with_extension(mark)); // without a supervisor nothing runs in one go
        }
    }
}

/// The same when podman's `rm` had come as far as the storage: it cannot even be shown.
fn one_that_is_half_removed_is_in_nobodys_way(world: &World) {
    let task = world.task("A", "echo x >> $LAMINAR_OUTPUTS/runs; exit 7");
    // Of this one alone, by its name and its id: others use the engine, too.
    let ours = format!(
        r#"ours="{} $("$engine" ps --all --quiet --no-trunc --filter label=laminar.execution={})"
            for word in $ours; do case " $* " in *" $word "*)
                if [ -e "$0.run" ] && [ ! -e "$0.rm" ]; then
                    echo 'Error: getting container from store "x": container not known' >&2; exit 125
                fi;;
            esac; done"#,
        world.name(&task),
        world.execution
    );
    let client = mortal(world, false, &ours);
    let running = world.executor_that(|executor| executor.with_settings(client_is(&client)));
    let refused = running.does(running.executor.start(Arc::new(task.clone()))).unwrap_err().to_string();
    assert!(refused.contains("start the container"), "{refused}");
    assert_eq!(world.containers(), [""; 0]);
    // Where it is met by who asks about all there is.
    let id = world.engine(&["create", "--label", &format!("laminar.execution={}", world.execution), &image(), "true"]);
    std::fs::remove_file(client.with_extension("rm")).unwrap();
    running.does(running.executor.leftovers()).unwrap();
    assert!(!world.containers().iter().any(|left| id.starts_with(left)), "it is removed");
    let exit = running.run(&task);
    assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
    assert_eq!(world.output(&task, "runs"), "x\n");
}

/// Podman's runtime, which kills its first client when the program inside has begun.
fn runtime(world: &World, begun: &str) -> Settings {
    let path = world.folder.path().join("runtime");
    let own = world.engine(&["info", "--format", "{{.Host.OCIRuntime.Path}}"]);
    let script = format!(
        r#"#!/bin/sh
        {own} "$@"; code=$?
        case " $* " in *" start "*)
            if [ ! -e "$0.once" ]; then : > "$0.once"; until [ -e {begun} ]; do sleep 0.01; done; kill -9 $PPID; fi;;
        esac
        exit $code
        "#
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_file(path.with_extension("once"));
    laminar_backend_podman::settings(&Options::new(&OPTIONS, [("runtime", path.to_str().unwrap())]))
}

/// Podman shows one as never started then, while it runs and when it is over.
fn one_whose_client_died_when_it_had_started_it_runs_once(world: &World) {
    for bare in [false, true] {
        let task = world.task(
            if bare { "Bare" } else { "A" },
            "echo x >> $LAMINAR_OUTPUTS/runs; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; exit 7",
        );
        let begun = task.outputs.join("runs");
        let settings = runtime(world, begun.to_str().unwrap());
        let running = executor(world, bare, settings);
        start_whatever_dies(&running, &task);
        if bare {
            // Nobody could say how it ends, so it does at once.
            assert_eq!(running.wait(&handle(&task)).cause, Cause::Lost);
            is_ended(world, &task);
            continue;
        }
        assert_eq!(running.recover(&task), Recovered::Running(handle(&task)));
        let shown = world.engine(&["container", "inspect", "--format", "{{.State.Status}}", &world.name(&task)]);
        assert_eq!(shown, "initialized", "this shows nothing");
        std::fs::write(task.outputs.join("go"), "").unwrap();
        let exit = running.wait(&handle(&task));
        assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
        assert_eq!(world.output(&task, "runs"), "x\n");
        running.does(running.executor.remove(&[handle(&task)])).unwrap();
    }
}

fn one_whose_client_died_when_it_had_started_it_can_be_stopped_and_killed(world: &World) {
    for stopped in [true, false] {
        let layer = if stopped { "Stopped" } else { "Killed" };
        let task = world.task(layer, "echo x >> $LAMINAR_OUTPUTS/runs; sleep 600");
        let settings = runtime(world, task.outputs.join("runs").to_str().unwrap());
        let running = executor(world, false, settings);
        start_whatever_dies(&running, &task);
        if stopped {
            running.stop(&task, Duration::ZERO);
            assert_eq!(running.wait(&handle(&task)).cause, Cause::Cancelled);
        } else {
            let pid = world.engine(&["container", "inspect", "--format", "{{.State.Pid}}", &world.name(&task)]);
            rustix::process::kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
            assert_eq!(running.wait(&handle(&task)).cause, Cause::Lost);
        }
        running.does(running.executor.remove(&[handle(&task)])).unwrap();
        is_ended(world, &task);
    }
}

/// Another client than the engine's own.
fn client_is(client: &Path) -> Settings {
    Settings::new(&Options::new(&[PROGRAM], [("program", client.to_str().unwrap())]), &[], &[])
}
