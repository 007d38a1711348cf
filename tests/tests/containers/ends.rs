//! How containers end, and what is said of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor};

use laminar_tests::gaps;

use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    every_way_to_exit_is_told_apart,
    out_of_memory_is_said_with_evidence_only,
    a_container_that_is_killed_from_outside_is_neither_out_of_memory_nor_a_success,
    a_container_that_is_removed_from_outside_is_no_success,
    time_runs_out_for_those_who_listen_and_those_who_do_not,
    a_stop_is_total_and_leaves_the_log_whole,
    what_a_layer_leaves_running_does_not_hold_it_up,
);

fn every_way_to_exit_is_told_apart(world: &World) {
    let running = world.executor();
    let cause = |layer: &str, script: &str| running.run(&world.task(layer, script)).cause;
    assert_eq!(cause("Zero", "true"), Cause::Code(0));
    assert_eq!(cause("Three", "exit 3"), Cause::Code(3));
    // The engines' own codes are the layer's when the layer says them.
    assert_eq!(cause("Own125", "exit 125"), Cause::Code(125));
    assert_eq!(cause("Own137", "exit 137"), Cause::Code(137));
    assert_eq!(cause("Signal", "kill -TERM $$"), Cause::Signal(libc::SIGTERM));
    assert_eq!(cause("Kill", "kill -KILL $$"), Cause::Signal(libc::SIGKILL));
    let argv = |layer: &str, program: &str| {
        let task = laminar_core::executor::Task { argv: vec![program.to_owned()], ..world.task(layer, "") };
        running.run(&task)
    };
    let missing = argv("Missing", "no-such-program");
    assert_eq!(missing.cause, Cause::NotFound);
    assert!(missing.evidence.contains("no-such-program"), "{}", missing.evidence);
    assert_eq!(argv("Folder", "/laminar").cause, Cause::NotExecutable);
}

fn out_of_memory_is_said_with_evidence_only(world: &World) {
    let running = world.executor();
    let probe = running.does(running.executor.probe()).unwrap();
    if !probe.enforces.contains(&laminar_core::container::Feature::Memory) {
        gaps::skip(&format!("{}: memory", world.column), "it limits nothing here (see `laminar backends`)");
        return;
    }
    let greedy = "x=aaaaaaaa; while true; do x=$x$x; done";
    let mut task = world.task("Greedy", greedy);
    task.container = Arc::new(Container { memory: Some(24 << 20), ..world.container() });
    let exit = running.run(&task);
    assert_eq!(exit.cause, Cause::OutOfMemory, "{}", exit.evidence);
    assert!(exit.evidence.contains("memory controller"), "{}", exit.evidence);
    // One that loses a child to it and goes on has done its work.
    let mut survivor = world.task("Survivor", &format!("({greedy}) || echo survived > $LAMINAR_OUTPUTS/word"));
    survivor.container = Arc::clone(&task.container);
    let exit = running.run(&survivor);
    assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
    assert_eq!(world.output(&survivor, "word"), "survived\n");
}

fn a_container_that_is_killed_from_outside_is_neither_out_of_memory_nor_a_success(world: &World) {
    let running = world.executor();
    let task = world.task("Killed", "touch $LAMINAR_OUTPUTS/on; sleep 100");
    let handle = running.start(&task);
    running.until(&task, "on");
    world.engine(&["kill", &world.name(&task)]);
    let exit = running.wait(&handle);
    assert_eq!(exit.cause, Cause::Signal(libc::SIGKILL), "{}", exit.evidence);
    assert!(exit.evidence.contains("exit code 137"), "{}", exit.evidence);
}

fn a_container_that_is_removed_from_outside_is_no_success(world: &World) {
    let running = world.executor();
    let task = world.task("Removed", "touch $LAMINAR_OUTPUTS/on; sleep 100");
    let handle = running.start(&task);
    running.until(&task, "on");
    world.engine(&["rm", "-f", &world.name(&task)]);
    // Podman asks before it removes, and then the supervisor inside can tell.
    let cause = running.wait(&handle).cause;
    assert!(matches!(cause, Cause::Lost | Cause::Signal(libc::SIGTERM)), "{cause:?}");
}

fn time_runs_out_for_those_who_listen_and_those_who_do_not(world: &World) {
    let running = world.executor();
    let mut polite = world.task("Polite", "sleep 100");
    polite.timeout = Some(Duration::from_millis(300));
    polite.grace = Duration::from_secs(60);
    let exit = running.run(&polite);
    assert_eq!(exit.cause, Cause::TimedOut);
    let mut stubborn = world.task("Stubborn", "trap '' TERM; while true; do sleep 1; done");
    stubborn.timeout = Some(Duration::from_millis(300));
    stubborn.grace = Duration::from_millis(300);
    let exit = running.run(&stubborn);
    assert_eq!(exit.cause, Cause::TimedOut);
    assert!(exit.evidence.contains("SIGKILL"), "{}", exit.evidence);
}

fn a_stop_is_total_and_leaves_the_log_whole(world: &World) {
    let running = world.executor();
    let script = "trap 'echo heard' TERM; echo on; touch $LAMINAR_OUTPUTS/on; while true; do sleep 0.1; done";
    let task = world.task("Stopped", script);
    let handle = running.start(&task);
    running.until(&task, "on");
    let begun = Instant::now();
    // The second, shorter grace counts.
    running.does(async {
        let (long, short) = tokio::join!(
            running.executor.stop(&task.id, Duration::from_secs(100)),
            running.executor.stop(&task.id, Duration::from_millis(500)),
        );
        long.and(short).unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(world.engine(&["container", "inspect", "--format", "{{.State.Running}}", &world.name(&task)]), "false");
    assert_eq!(running.wait(&handle).cause, Cause::Cancelled);
    // What the shell says of its children stands between.
    let log = std::fs::read_to_string(&task.log).unwrap();
    assert!(log.starts_with("on\n") && log.ends_with("heard\n"), "{log}");
    running.stop(&task, Duration::ZERO);
}

fn what_a_layer_leaves_running_does_not_hold_it_up(world: &World) {
    let running = world.executor();
    let script = "(while true; do echo still; sleep 0.1; done) & setsid sleep 1000 & sleep 0.3; echo over";
    let task = world.task("Parent", script);
    let exit = running.run(&task);
    assert_eq!(exit.cause, Cause::Code(0));
    let log = std::fs::read_to_string(&task.log).unwrap();
    assert!(log.contains("over\n"), "{log}");
}
