//! Signals to the scheduler, and its sudden death. Whatever happens, nothing of ours stays alive unseen.

use std::io::{BufRead, BufReader};

use laminar_tests::world::{World, eventually, finish, signal};
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

const LONG: &str = "
flow: Long
layers:
  Long: { run: 'echo first; echo $PPID > up; while [ ! -e go ]; do sleep 0.01; done; echo last' }
";

/// A world whose scheduler was killed while its layer runs, and the supervisor's process id.
pub(crate) fn interrupted() -> (World, String) {
    let world = world();
    world.write("flow.yaml", LONG);
    let mut child = world.start(["run"]);
    let supervisor = world.wait_for_file("up").trim().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    (world, supervisor)
}

#[test]
fn what_goes_on_without_a_scheduler_is_told_with_how_to_stop_it() {
    let (world, supervisor) = interrupted();
    let name = std::fs::read_to_string(format!("/proc/{supervisor}/comm")).unwrap();
    assert_eq!(name, "laminar-super\n", "people find it by its name");
    let words = std::fs::read(format!("/proc/{supervisor}/cmdline")).unwrap();
    assert!(words.starts_with(b"laminar\0"), "{words:?}");
    let status = world.run(["status"]).exits(0).stdout;
    for part in ["its scheduler is gone", "1 interrupted", "go on under their supervisor", " resume ", " cancel "] {
        assert!(status.contains(part), "no {part}: {status}");
    }
    assert!(!status.contains("running"), "{status}");
    let json: serde_json::Value = serde_json::from_str(&world.run(["status", "--json"]).exits(0).stdout).unwrap();
    assert_eq!(json["layers"][0]["state"], "running");
    assert_eq!(json["layers"][0]["interrupted"], true);
    assert_eq!(json["supervisor"]["pid"].to_string(), supervisor);

    let pid = rustix::process::Pid::from_raw(supervisor.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    world.is_quiet();
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("no supervisor is at work"), "{status}");
}

#[test]
fn an_interrupted_execution_is_followed_to_the_end_of_what_runs() {
    let (world, _) = interrupted();
    let mut follow = world.start(["logs", "-f", "Long"]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    assert!(follow.try_wait().unwrap().is_none(), "it goes on, as the layer does");
    world.write("go", "");
    assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["last"]);
    let _ = finish(follow).exits(0).says(&["followed to their end", "nothing is followed any more"]);
    world.is_quiet();
}

#[test]
fn a_cancelled_layer_says_which_failure_it_is_due_to() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Due\nlayers:\n  Bad: { run: exit 3 }\n  Next: { needs: [Bad], run: 'true' }\n  Last: { needs: [Next], run: 'true' }\n",
    );
    world.run(["run"]).exits(1);
    let status = world.run(["status"]).exits(0).stdout;
    assert_eq!(status.matches("needs Bad, which failed").count(), 2, "{status}");
}
