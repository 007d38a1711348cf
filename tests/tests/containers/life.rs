//! Tasks and their schedulers: who dies first, who comes after, and who was there before.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::executor::{Cause, Executor, ExecutorError, Recovered};

use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    a_task_outlives_its_scheduler_and_its_successor_knows_all,
    what_ended_while_nobody_looked_is_known,
    a_container_that_was_created_and_never_started_is_no_success,
    what_was_started_never_runs_twice,
    a_timeout_counts_from_the_start_whoever_watches,
    a_name_of_ours_that_is_somebody_elses_is_a_conflict,
    a_container_that_cannot_be_started_is_an_error_and_leaves_nothing,
    removing_is_idempotent_and_keeps_the_log,
);

fn a_task_outlives_its_scheduler_and_its_successor_knows_all(world: &World) {
    let script = "echo one; touch $LAMINAR_OUTPUTS/on; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; echo two; exit 7";
    let task = world.task("Orphan", script);
    let first = world.executor();
    first.start(&task);
    first.until(&task, "on");
    drop(first);
    let second = world.executor();
    let found = second.recover(&task);
    let Recovered::Running(handle) = found else { panic!("{found:?}") };
    std::fs::write(task.outputs.join("go"), "").unwrap();
    assert_eq!(second.wait(&handle).cause, Cause::Code(7));
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "one\ntwo\n");
}

fn what_ended_while_nobody_looked_is_known(world: &World) {
    let task = world.task("Quiet", "while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; echo over; exit 3");
    let first = world.executor();
    let handle = first.start(&task);
    drop(first);
    std::fs::write(task.outputs.join("go"), "").unwrap();
    world.engine(&["wait", &world.name(&task)]);
    let second = world.executor();
    assert_eq!(second.recover(&task), Recovered::Exited(handle.clone()));
    assert_eq!(second.wait(&handle).cause, Cause::Code(3));
    // And once more without having asked first, and by two at once.
    let third = world.executor();
    let (one, other) = third.does(async { tokio::join!(third.executor.wait(&handle), third.executor.wait(&handle)) });
    assert_eq!((one.unwrap().cause, other.unwrap().cause), (Cause::Code(3), Cause::Code(3)));
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "over\n");
}

fn a_container_that_was_created_and_never_started_is_no_success(world: &World) {
    let task = world.task("Created", "echo ran");
    let label = format!("laminar.root={}", world.folder.path().display());
    let execution = format!("laminar.execution={}", world.execution);
    let name = world.name(&task);
    world.engine(&[
        "create",
        "--name",
        &name,
        "--label",
        &label,
        "--label",
        &execution,
        &crate::world::image(),
        "true",
    ]);
    let running = world.executor();
    assert_eq!(running.recover(&task), Recovered::NeverStarted);
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "ran\n");
}

fn what_was_started_never_runs_twice(world: &World) {
    let task = world.task("Once", "echo ran; echo x >> $LAMINAR_OUTPUTS/runs");
    let first = world.executor();
    let handle = first.start(&task);
    assert_eq!(first.start(&task), handle);
    assert_eq!(first.wait(&handle).cause, Cause::Code(0));
    drop(first);
    let second = world.executor();
    assert_eq!(second.start(&task), handle);
    assert_eq!(second.wait(&handle).cause, Cause::Code(0));
    // Not even when someone starts the container by hand.
    world.engine(&["start", &world.name(&task)]);
    world.engine(&["wait", &world.name(&task)]);
    assert_eq!(world.output(&task, "runs"), "x\n");
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "ran\n");
}

fn a_timeout_counts_from_the_start_whoever_watches(world: &World) {
    let mut task = world.task("Late", "touch $LAMINAR_OUTPUTS/on; sleep 100");
    task.timeout = Some(Duration::from_secs(2));
    let first = world.executor();
    first.start(&task);
    first.until(&task, "on");
    drop(first);
    let second = world.executor();
    // On a machine that is busy its time may be up already.
    let (Recovered::Running(handle) | Recovered::Exited(handle)) = second.recover(&task) else { panic!("it began") };
    assert_eq!(second.wait(&handle).cause, Cause::TimedOut);
}

fn a_name_of_ours_that_is_somebody_elses_is_a_conflict(world: &World) {
    let task = world.task("Taken", "true");
    let execution = format!("laminar.execution={}", world.execution);
    let name = world.name(&task);
    let theirs = ["create", "--name", &name, "--label", &execution, "--label", "laminar.root=/elsewhere"];
    world.engine(&[&theirs[..], &[&crate::world::image(), "true"]].concat());
    let running = world.executor();
    match running.does(running.executor.start(Arc::new(task.clone()))) {
        Err(ExecutorError::Conflict { owner, .. }) => assert!(owner.contains("/elsewhere"), "{owner}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.engine(&["container", "inspect", "--format", "{{.State.Status}}", &name]), "created");
}

fn removing_is_idempotent_and_keeps_the_log(world: &World) {
    let running = world.executor();
    let tasks = ["One", "Two"].map(|layer| world.task(layer, "echo $LAMINAR_LAYER_NAME"));
    let handles = tasks.each_ref().map(|task| running.start(task));
    handles.iter().for_each(|handle| drop(running.wait(handle)));
    let listed = || {
        let mut listed = running.does(running.executor.list(world.execution)).unwrap();
        listed.sort_by(|one, other| one.task.cmp(&other.task));
        listed
    };
    assert_eq!(listed(), handles);
    running.does(running.executor.remove(&handles[..1])).unwrap();
    running.does(running.executor.remove(&handles)).unwrap();
    assert_eq!(listed(), []);
    assert_eq!(std::fs::read_to_string(&tasks[1].log).unwrap(), "Two\n");
}

fn a_container_that_cannot_be_started_is_an_error_and_leaves_nothing(world: &World) {
    let mut task = world.task("Refused", "true");
    let options = vec!["--device".to_owned(), "/dev/no-such-device".to_owned()];
    task.container = Arc::new(laminar_core::container::Container { options, ..world.container() });
    let running = world.executor();
    match running.does(running.executor.start(Arc::new(task.clone()))) {
        Err(ExecutorError::Refused { reason, .. }) => assert!(reason.contains("no-such-device"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(running.recover(&task), Recovered::NeverStarted);
    assert_eq!(running.does(running.executor.list(world.execution)).unwrap(), []);
}
