//! Signals to the scheduler, and its sudden death. Whatever happens, nothing of ours stays alive unseen.

use laminar_tests::world::{eventually, finish, signal};
use rustix::process::Signal;

use crate::world;

const STUBBORN: &str = "
flow: Stubborn
layers:
  Polite: { run: 'echo $$ > polite; exec sleep 1000' }
  Deaf: { run: 'trap \"\" TERM; (trap \"\" TERM; setsid sh -c \"trap \\\"\\\" TERM; echo up > deaf; while :; do sleep 1; done\") & wait; while :; do sleep 1; done' }
  Never: { needs: [Polite], run: touch never }
";

#[test]
fn ctrl_c_stops_gently_records_and_leaves_nothing() {
    let world = world();
    world.write("flow.yaml", STUBBORN);
    let child = world.start(["run", "--grace", "300ms", "--jobs", "2"]);
    let _ = world.wait_for_file("polite");
    let _ = world.wait_for_file("deaf");
    signal(&child, Signal::INT);
    finish(child).exits(130);
    world.is_quiet();
    assert!(!world.path().join("never").exists());
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("cancelled"), "{status}");
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_grace() {
    let world = world();
    world.write("flow.yaml", STUBBORN);
    let mut child = world.start(["run", "--grace", "1h", "--jobs", "2"]);
    let _ = world.wait_for_file("deaf");
    signal(&child, Signal::INT);
    // The gentle stop is recorded before the second signal, or both would be the first.
    eventually("the first signal is taken", || {
        let events = world.run(["status", "--json"]);
        events.stdout.contains("cancelled").then_some(())
    });
    assert!(child.try_wait().unwrap().is_none(), "the deaf one holds it up");
    signal(&child, Signal::INT);
    finish(child).exits(130);
    world.is_quiet();
}

#[test]
fn a_scheduler_that_is_killed_leaves_an_interrupted_execution_and_a_supervisor_that_finishes_its_work() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Killed
layers:
  Long: { run: 'echo up > up; while [ ! -e go ]; do sleep 0.01; done; echo said; echo done > done' }
",
    );
    let mut child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    child.kill().unwrap();
    child.wait().unwrap();
    let list = world.run(["list"]).exits(0).stdout;
    assert!(list.contains("interrupted"), "{list}");
    world.write("go", "");
    let _ = world.wait_for_file("done");
    world.is_quiet();
    assert_eq!(world.run(["logs", "Long"]).exits(0).stdout, "said\n", "output goes on without a scheduler");
    let ran = world.run(["run"]).exits(0);
    assert!(ran.stderr.contains("interrupted") || ran.stderr.contains("unfinished"), "{}", ran.stderr);
}
