//! Engines that fall silent or begin to fail while layers run, containers that somebody freezes, names that somebody takes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use laminar_backend_oci::{PROGRAM, Settings};
use laminar_core::executor::{Cause, Executor, ExecutorError, Handle, Recovered, Task};
use laminar_core::option::Options;

use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    an_engine_that_falls_silent_is_an_error_until_it_speaks_again,
    an_engine_that_begins_to_fail_is_an_error_until_it_recovers,
    a_container_that_somebody_froze_can_be_stopped,
    time_is_up_for_a_container_that_somebody_froze,
    a_container_of_somebody_else_is_left_alone,
    one_container_that_cannot_be_shown_hides_no_others,
);

fn an_engine_that_falls_silent_is_an_error_until_it_speaks_again(world: &World) {
    falls_out(world, "exec sleep 1000");
}

fn an_engine_that_begins_to_fail_is_an_error_until_it_recovers(world: &World) {
    falls_out(world, "echo something broke >&2; exit 1");
}

/// A client that is the engine's own until the file `out` is there, and then does this.
fn client(world: &World, then: &str) -> (PathBuf, PathBuf) {
    let out = world.folder.path().join("out");
    let client = world.client(&format!("[ ! -e '{}' ] || {{ {then}; }}", out.display()));
    (client, out)
}

fn falls_out(world: &World, then: &str) {
    let (client, out) = client(world, then);
    let running =
        world.executor_that(|executor| executor.with_settings(program(&client)).with_patience(Duration::from_secs(30)));
    let script = "touch $LAMINAR_OUTPUTS/on; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; exit 7";
    let (known, unknown) = (world.task("Known", script), world.task("Unknown", script));
    let handle = running.start(&known);
    world.executor().start(&unknown);
    running.until(&known, "on");
    running.until(&unknown, "on");
    std::fs::write(&out, "").unwrap();
    // Another executor, with less patience: what a scheduler is that comes while the engine is out.
    let hasty = {
        let _speaks = std::fs::rename(&out, out.with_extension("kept"));
        let client = world.folder.path().join("client");
        let hasty = world
            .executor_that(|executor| executor.with_settings(program(&client)).with_patience(Duration::from_secs(15)));
        std::fs::rename(out.with_extension("kept"), &out).unwrap();
        hasty
    };
    let never = world.task("Never", "true");
    let asked = &hasty.executor;
    let said = hasty.does(async {
        let one = async |task: &Task| {
            let recovered = asked.recover(Arc::new(task.clone())).await.map(|it| format!("{it:?}"));
            [recovered, asked.stop(&task.id, Duration::ZERO).await.map(|()| "stopped".to_owned())]
        };
        let handles = std::slice::from_ref(&handle);
        let (known, unknown, started, listed, removed) = tokio::join!(
            one(&known),
            one(&unknown),
            asked.start(Arc::new(never.clone())),
            asked.list(world.execution),
            asked.remove(handles)
        );
        let rest = [
            started.map(|it| format!("{it:?}")),
            listed.map(|it| format!("{it:?}")),
            removed.map(|()| "removed".to_owned()),
        ];
        known.into_iter().chain(unknown).chain(rest).filter_map(Result::ok).collect::<Vec<String>>()
    });
    assert_eq!(said, Vec::<String>::new());
    // A layer that ends meanwhile is known to have done so all the same.
    std::fs::write(known.outputs.join("go"), "").unwrap();
    let exit = running.wait(&handle);
    assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
    std::fs::remove_file(&out).unwrap();
    let Recovered::Running(handle) = hasty.recover(&unknown) else { panic!("it runs") };
    assert_eq!(hasty.recover(&never), Recovered::NeverStarted);
    std::fs::write(unknown.outputs.join("go"), "").unwrap();
    assert_eq!(hasty.wait(&handle).cause, Cause::Code(7));
}

fn a_container_that_somebody_froze_can_be_stopped(world: &World) {
    let running = world.executor();
    let task = world.task("Frozen", "touch $LAMINAR_OUTPUTS/on; exec sleep 1000");
    let handle = running.start(&task);
    running.until(&task, "on");
    if !world.can_freeze(&task) {
        return;
    }
    running.stop(&task, Duration::from_millis(200));
    assert_eq!(running.wait(&handle).cause, Cause::Cancelled);
}

/// Its supervisor is frozen with it, so this is for the scheduler to see to.
fn time_is_up_for_a_container_that_somebody_froze(world: &World) {
    let running = world.executor();
    let mut task = world.task("Frozen", "touch $LAMINAR_OUTPUTS/on; exec sleep 1000");
    (task.timeout, task.grace) = (Some(Duration::from_secs(2)), Duration::from_millis(100));
    let handle = running.start(&task);
    running.until(&task, "on");
    if !world.can_freeze(&task) {
        return;
    }
    let exit = running.wait(&handle);
    assert_eq!(exit.cause, Cause::TimedOut, "{}", exit.evidence);
}

fn a_container_of_somebody_else_is_left_alone(world: &World) {
    let task = world.task("Theirs", "true");
    let name = world.name(&task);
    world.engine(&[
        "run",
        "--detach",
        "--name",
        &name,
        "--label",
        &format!("laminar.execution={}", world.execution),
        &crate::world::image(),
        "sleep",
        "1000",
    ]);
    let running = world.executor();
    let handle = Handle { task: task.id.clone(), token: String::new() };
    let conflict = |result: Result<String, ExecutorError>| match result {
        Err(ExecutorError::Conflict { owner, .. }) => assert!(owner.contains("did not make"), "{owner}"),
        other => panic!("{other:?}"),
    };
    let said = |it: &dyn std::fmt::Debug| format!("{it:?}");
    conflict(running.does(running.executor.start(Arc::new(task.clone()))).map(|it| said(&it)));
    conflict(running.does(running.executor.recover(Arc::new(task.clone()))).map(|it| said(&it)));
    conflict(running.does(running.executor.wait(&handle)).map(|it| said(&it)));
    conflict(running.does(running.executor.stop(&task.id, Duration::ZERO)).map(|it| said(&it)));
    assert_eq!(running.does(running.executor.list(world.execution)).unwrap(), []);
    running.does(running.executor.remove(&[handle])).unwrap();
    let state = world.engine(&["container", "inspect", "--format", "{{.State.Running}}", &name]);
    world.engine(&["rm", "--force", &name]);
    assert_eq!(state, "true");
}

/// As podman does where the client that removed one was killed half-way.
fn one_container_that_cannot_be_shown_hides_no_others(world: &World) {
    let gone = world.dialect.texts.gone.last().unwrap();
    let client = world.client(&format!(
        r#"if [ "$1 $2" = "container inspect" ] && [ $# -gt 3 ]; then echo "Error: {gone}" >&2; exit 125; fi"#
    ));
    let running = world.executor_that(|executor| executor.with_settings(program(&client)));
    let tasks = [world.task("A", "true"), world.task("B", "true")];
    let handles = tasks.each_ref().map(|task| running.start(task));
    for handle in &handles {
        assert_eq!(running.wait(handle).cause, Cause::Code(0));
    }
    let mut listed = running.does(running.executor.list(world.execution)).unwrap();
    listed.sort_by(|one, other| one.task.cmp(&other.task));
    assert_eq!(listed, handles);
    let left = running.does(running.executor.leftovers()).unwrap();
    assert_eq!(left.iter().filter(|left| left.execution == world.execution).count(), 2);
}

/// Another client than the engine's own.
fn program(client: &std::path::Path) -> Settings {
    let options = Options::new(&[PROGRAM], [("program", client.to_str().unwrap())]);
    Settings::new(&options, &[], &[])
}
