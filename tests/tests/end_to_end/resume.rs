//! Going on with executions: after a scheduler's death, a failure, a cancel; and from another terminal.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

use laminar_tests::world::{World, eventually, finish, signal};
use rustix::process::Signal;
use serde_json::Value;

use crate::interrupt::interrupted;
use crate::world;

fn events(world: &World, kind: &str) -> Vec<Value> {
    let log = world.run(["status", "-f", "--json"]);
    log.json().into_iter().filter(|event| event["event"] == kind).collect()
}

fn launches(world: &World) -> Vec<String> {
    let of = |event: &Value| format!("{}.{}", event["layer"].as_str().unwrap(), event["attempt"]);
    events(world, "attempt_launched").iter().map(of).collect()
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const CHAIN: &str = "
flow: Chain
layers:
  First: { run: 'echo ran >> first; echo one > $LAMINAR_OUTPUTS/name' }
  Second: { needs: [First], run: 'echo up >> up; echo before; while [ ! -e go ]; do sleep 0.01; done; echo after; cat $LAMINAR_INPUTS/First/name > $LAMINAR_OUTPUTS/name' }
  Third: { needs: [Second], run: 'cat $LAMINAR_INPUTS/Second/name' }
";

#[test]
fn a_running_layer_is_waited_for_and_its_log_is_whole() {
    let world = world();
    world.write("flow.yaml", CHAIN);
    let child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    killed(child);
    let second = world.start(["resume"]);
    eventually("the execution is taken over", || {
        let list = world.run(["list", "--json"]).stdout;
        list.contains("\"running\"").then_some(())
    });
    let refused = world.run(["resume"]).exits(2);
    refused.says(&["is running", &format!("process {}", second.id())]);
    world.write("go", "");
    finish(second).exits(0).says(&["resumed", "finished: 3 layers"]);
    assert_eq!(world.run(["logs", "Second"]).exits(0).stdout, "before\nafter\n");
    assert_eq!(world.run(["logs", "Third"]).exits(0).stdout, "one\n");
    assert_eq!((world.read("first"), world.read("up")), ("ran\n".to_owned(), "up\n".to_owned()));
    assert_eq!(launches(&world), ["First.1", "Second.1", "Third.1"]);
    world.run(["resume"]).exits(0).says(&["has finished"]);
    world.is_quiet();
}

#[test]
fn what_ended_while_nobody_looked_is_taken_as_it_ended() {
    let world = world();
    world.write("flow.yaml", CHAIN);
    let child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    killed(child);
    world.write("go", "");
    world.is_quiet();
    world.run(["resume"]).exits(0);
    assert_eq!(launches(&world), ["First.1", "Second.1", "Third.1"]);
}

#[test]
fn what_died_with_its_supervisor_runs_again_without_a_charge() {
    let (world, supervisor) = interrupted();
    let pid = rustix::process::Pid::from_raw(supervisor.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    world.write("go", "");
    world.run(["resume"]).exits(0);
    assert_eq!(launches(&world), ["Long.1", "Long.2"]);
    let exits = events(&world, "attempt_exited");
    assert_eq!((exits[0]["cause"].as_str(), exits[1]["cause"].as_str()), (Some("lost"), Some("code")));
    world.is_quiet();
}

#[test]
fn failed_and_cancelled_layers_run_again_and_finished_ones_do_not() {
    let world = world();
    let flow = "
flow: Mended
layers:
  Good: { run: echo ran >> good }
  Bad: { needs: [Good], run: 'echo tried >> bad; test -e mended' }
  Next: { needs: [Bad], run: echo ran >> next }
";
    world.write("flow.yaml", flow);
    world.run(["run"]).exits(1);
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains(" resume "), "{status}");
    world.run(["resume"]).exits(1);
    world.write("mended", "");
    let preview = world.run(["resume", "--dry-run"]).exits(0).stdout;
    assert_eq!(preview, "2 layers to run: Bad, Next\n");
    // What was edited counts only once it is asked for.
    world.write("flow.yaml", flow.replace("echo tried", "echo edited"));
    let edited = "note: `flow.yaml` has changed since; `--update` takes it as it is now";
    world.run(["resume", "--dry-run"]).exits(0).says(&[edited]);
    let resumed = world.run(["resume"]).exits(0);
    resumed.says(&[edited, "resumed: 1 of 3 layers is done already"]);
    assert_eq!(world.run(["resume", "--dry-run"]).exits(0).stdout, "nothing to run\n");
    world.write("flow.yaml", flow);
    assert!(!world.run(["resume"]).exits(0).stderr.contains("has changed"));
    assert_eq!(world.read("good"), "ran\n");
    assert_eq!(world.read("bad"), "tried\ntried\ntried\n");
    assert_eq!(world.read("next"), "ran\n");
    world.run(["resume", "--from", "Bad"]).exits(0);
    assert_eq!((world.read("good").len(), world.read("next").len()), (4, 8));
    world.run(["resume", "--from", "Nobody"]).exits(4).says(&["there is no layer `Nobody`", "Good"]);
    let list = world.run(["list", "--json"]).exits(0).json();
    assert_eq!(list.len(), 1, "it is the same execution all along");
}

#[test]
fn from_is_refused_while_what_needs_it_is_under_way() {
    let (world, _) = interrupted();
    world.run(["resume", "--from", "Long"]).exits(2).says(&["`Long` is under way", "resume", "cancel"]);
    world.write("go", "");
    world.run(["resume"]).exits(0);
    world.run(["resume", "--from", "Long"]).exits(0);
    assert_eq!(launches(&world), ["Long.1", "Long.2"]);
}

#[test]
fn a_pause_before_a_retry_survives_the_scheduler() {
    let world = world();
    let flow = "
flow: Rest
layers:
  Retried: { run: 'echo x >> tries; test $(wc -l < tries) -ge 3', retry: { attempts: 3, delay: 500ms, backoff: 1, jitter: 0 } }
";
    world.write("flow.yaml", flow);
    let child = world.start(["run"]);
    let _ = world.wait_for_file("tries");
    eventually("it rests", || world.run(["status", "--json"]).stdout.contains("\"resting\"").then_some(()));
    killed(child);
    world.run(["resume"]).exits(0);
    assert_eq!(world.read("tries"), "x\nx\nx\n", "three attempts in all");
}

#[test]
fn a_detached_execution_goes_on_is_followed_and_cancelled_from_elsewhere() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Away\nlayers:\n  Long: { run: 'echo hello; echo up > up; while [ ! -e go ]; do sleep 0.01; done' }\n",
    );
    let ran = world.run(["run", "--detach"]).exits(0);
    let id = ran.stdout.trim().to_owned();
    assert_eq!(id.len(), 32, "{}", ran.stdout);
    let _ = world.wait_for_file("up");
    let mut logs = world.start(["logs", "-f", "Long"]);
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
    let follow = world.start(["status", "-f"]);
    world.write("go", "");
    finish(follow).exits(0).says(&["finished: 1 layer"]);
    finish(logs).exits(0);
    world.is_quiet();

    std::fs::remove_file(world.path().join("go")).unwrap();
    std::fs::remove_file(world.path().join("up")).unwrap();
    let json = world.run(["run", "--detach", "--json"]).exits(0).json();
    assert_eq!(json[0]["execution"].as_str().unwrap().len(), 32, "{json:?}");
    let _ = world.wait_for_file("up");
    let follow = world.start(["status", "-f"]);
    world.run(["cancel"]).exits(0).says(&["cancelled"]);
    finish(follow).exits(130);
    world.is_quiet();
    world.run(["cancel"]).exits(0).says(&["has ended already"]);
    world.write("go", "");
    let resumed = world.run(["resume", "--detach"]).exits(0).stdout;
    world.run(["status", "-f"]).exits(0);
    assert_ne!(resumed.trim(), id);
    world.is_quiet();
}

#[test]
fn what_is_wrong_is_told_to_who_detaches() {
    let world = world();
    world.run(["run", "--detach"]).exits(2).says(&["there is no flow file"]);
    world.write("flow.yaml", "flow: Wrong\nlayers: { A: { rum: x } }\n");
    world.run(["run", "--detach"]).exits(2).says(&["rum", "did you mean"]);
    world.run(["cancel"]).exits(4).says(&["there are no executions"]);
}

#[test]
fn a_cancel_finds_what_an_interrupted_execution_left_running() {
    let (world, _) = interrupted();
    world.run(["cancel"]).exits(0);
    world.is_quiet();
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("cancelled"), "{status}");
}

#[test]
fn a_forced_cancel_does_not_wait_for_the_grace() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Deaf\nlayers:\n  Deaf: { run: 'trap \"\" TERM; echo up > up; while :; do sleep 1; done' }\n",
    );
    let child = world.start(["run", "--grace", "1h"]);
    let _ = world.wait_for_file("up");
    world.run(["cancel", "--force"]).exits(0).says(&["cancelled"]);
    finish(child).exits(130);
    world.is_quiet();
}

#[test]
fn a_scheduler_that_is_stopped_for_a_while_is_not_taken_for_dead() {
    let world = world();
    world.write("flow.yaml", CHAIN);
    let child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    signal(&child, Signal::STOP);
    world.run(["resume"]).exits(2).says(&["is running"]);
    signal(&child, Signal::CONT);
    world.write("go", "");
    finish(child).exits(0);
}

/// A folder with a file system of its own of this size; none where this user may not mount one.
fn small_disk(world: &World, size: &str) -> Option<std::path::PathBuf> {
    let disk = world.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&disk).output();
    match mounted {
        Ok(mounted) if mounted.status.success() => Some(disk),
        _ => {
            laminar_tests::gaps::skip("a full disk under an execution", "no small disk can be mounted here");
            None
        }
    }
}

/// Unmounts, whatever becomes of the test.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a layer of a test that failed may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const MANY: &str = "
flow: Many
on_failure: continue
layers:
  Big: { run: 'head -c 300000 /dev/urandom > $LAMINAR_OUTPUTS/big' }
  Next: { needs: [Big], run: 'wc -c < $LAMINAR_INPUTS/Big/big; head -c 600000 /dev/urandom > $LAMINAR_OUTPUTS/big' }
  Last: { needs: [Next], run: 'wc -c < $LAMINAR_INPUTS/Next/big' }
";

#[test]
fn a_full_disk_loses_nothing_and_is_gone_on_from() {
    let world = world();
    let Some(disk) = small_disk(&world, "700k") else { return };
    let _mounted = Mounted(disk.clone());
    world.write("flow.yaml", MANY);
    let root = disk.join("state");
    let on = |words: &[&str]| world.run(words.iter().copied().chain(["--root", root.to_str().unwrap()]));
    let ran = on(&["run"]);
    assert!(matches!(ran.code, 1 | 3), "{}: {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("No space left") || ran.stderr.contains("full"), "{}", ran.stderr);
    world.is_quiet();
    let enlarged = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&disk).status().unwrap();
    assert!(enlarged.success());
    // The layer that found the disk full has failed by itself: that is taken as it ended, and tried again by the next.
    if on(&["resume"]).code == 1 {
        on(&["resume"]).exits(0);
    }
    assert_eq!(on(&["logs", "latest", "Last"]).exits(0).stdout.trim(), "600000");
    let launches = on(&["status", "-f", "--json"]).exits(0).json();
    let of =
        |layer: &str| launches.iter().filter(|it| it["event"] == "attempt_published" && it["layer"] == layer).count();
    assert_eq!((of("Big"), of("Next"), of("Last")), (1, 1, 1));
}

/// Each layer starts the moment that the one before it is over, also when nobody is there just then who knows.
#[test]
fn a_chain_of_short_layers_runs_once_and_in_order_whenever_its_scheduler_dies() {
    let world = world();
    let layer = |at: usize| {
        let needs = at.checked_sub(1).map_or(String::new(), |before| format!("needs: [L{before}], "));
        format!("  L{at}: {{ {needs}run: 'echo {at} >> ledger' }}\n")
    };
    let layers = 600;
    world.write("flow.yaml", format!("flow: Chain\nlayers:\n{}", (0..layers).map(layer).collect::<String>()));
    let ran = || std::fs::read_to_string(world.path().join("ledger")).unwrap_or_default().lines().count();
    for (kill, command) in ["run", "resume", "resume", "resume", "resume"].into_iter().enumerate() {
        let child = world.start([command]);
        eventually("the chain has come so far", || (ran() >= 90 * (kill + 1)).then_some(()));
        killed(child);
    }
    world.run(["resume"]).exits(0).says(&["finished: 600 layers"]);
    let expected: String = (0..layers).map(|at| format!("{at}\n")).collect();
    assert_eq!(world.read("ledger"), expected);
    let first: Vec<String> = (0..layers).map(|at| format!("L{at}.1")).collect();
    assert_eq!(launches(&world), first);
    assert!(events(&world, "attempt_offered").len() > 100);
    world.is_quiet();
}
