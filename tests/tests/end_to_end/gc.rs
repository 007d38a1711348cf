//! What is of no use goes, and nothing else, whoever works beside and whenever the collector dies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use laminar_tests::world::{DEADLINE, World, eventually, finish};
use serde_json::Value;

use crate::world;

/// Two layers that leave a file of their own, a folder and a file that all executions share.
const FLOW: &str = "
flow: Left
layers:
  A: { run: 'echo $LAMINAR_EXECUTION_ID > \"$LAMINAR_OUTPUTS/own\"; echo same > \"$LAMINAR_OUTPUTS/same\"; mkdir \"$LAMINAR_OUTPUTS/folder\"; echo $LAMINAR_EXECUTION_ID x > \"$LAMINAR_OUTPUTS/folder/x\"' }
  B: { needs: [A], run: 'cat \"$LAMINAR_INPUTS/A/own\" \"$LAMINAR_INPUTS/A/same\" \"$LAMINAR_INPUTS/A/folder/x\"' }
";

fn ids(world: &World) -> Vec<String> {
    let list = world.run(["list", "--json"]).exits(0).json();
    list.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// A world in which the flow has run so often.
fn with_executions(count: usize) -> World {
    let world = world();
    world.write("flow.yaml", FLOW);
    for _ in 0..count {
        world.run(["run", "-q"]).exits(0);
    }
    tick(&world);
    world
}

fn folder(world: &World, id: &str) -> PathBuf {
    world.path().join(".laminar/executions").join(id)
}

/// How many objects there are.
fn objects(world: &World) -> usize {
    let shards = std::fs::read_dir(world.path().join(".laminar/objects")).unwrap().map(|entry| entry.unwrap().path());
    let shards = shards.filter(|path| path.file_name().unwrap().len() == 2);
    shards.map(|shard| std::fs::read_dir(shard).unwrap().count()).sum()
}

/// Everything of an execution can be read.
fn is_whole(world: &World, id: &str) {
    assert_eq!(world.run(["cat", id, "A/own"]).exits(0).stdout.trim(), id);
    assert_eq!(world.run(["cat", id, "A/folder/x"]).exits(0).stdout.trim(), format!("{id} x"));
    assert_eq!(world.run(["cat", id, "A/same"]).exits(0).stdout, "same\n");
    tick(world);
}

/// What was used until now is in the past, by the file system's coarse clock.
fn tick(world: &World) {
    let stamp = || world.write("stamp", "").metadata().unwrap().modified().unwrap();
    let before = stamp();
    eventually("the clock ticks", || (stamp() > before).then_some(()));
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|value| value["kind"] == kind).collect()
}

#[test]
fn without_a_rule_every_execution_stays_and_with_one_the_newest() {
    let world = with_executions(3);
    let all = ids(&world);
    assert_eq!(objects(&world), 3 * 3 + 1);
    world.run(["gc", "--grace", "0s"]).exits(0);
    assert_eq!((ids(&world), objects(&world)), (all.clone(), 10));
    world.run(["gc", "--keep", "5", "--older-than", "0s"]).exits(0);
    assert_eq!(ids(&world), all, "protected from the other rule");

    let ran = world.run(["gc", "--keep", "1", "--grace", "1h"]).exits(0).says(&["2 executions", "6 unused objects"]);
    assert!(ran.stderr.contains("freed") && ran.stdout.is_empty(), "{}", ran.stderr);
    assert_eq!((ids(&world), objects(&world)), (all[..1].to_vec(), 10), "objects have a grace of their own");
    world.run(["gc", "--grace", "0s"]).exits(0).says(&["6 objects"]);
    assert_eq!(objects(&world), 4);
    is_whole(&world, &all[0]);
    world.run(["gc", "-q", "--older-than", "0s", "--grace", "0s"]).exits(0);
    assert_eq!((ids(&world).len(), objects(&world)), (0, 0));
    world.run(["gc"]).exits(0).says(&["nothing to remove"]);
}

#[test]
fn there_is_nothing_to_collect_where_nothing_was_ever_run() {
    let world = world();
    world.run(["gc", "--keep", "0"]).exits(0);
    assert!(!world.path().join(".laminar").exists());
    world.run(["gc", "--max-size", "many"]).exits(2);
    world.run(["rm", "latest"]).exits(4);
}

#[test]
fn a_dry_run_names_exactly_what_then_goes() {
    let world = with_executions(3);
    let all = ids(&world);
    let leftover = world.path().join(".laminar/objects/temporary/left");
    std::fs::write(&leftover, "half").unwrap();
    tick(&world);
    let before = objects(&world);
    let run = |more: &[&str]| {
        let words = [&["gc", "--keep", "1", "--grace", "0s", "--json", "-v"], more].concat();
        let mut told = world.run(&words).exits(0).json();
        told.retain(|object| object["kind"] != "note");
        told.iter_mut().for_each(|object| drop(object.as_object_mut().unwrap().remove("dry_run")));
        told.sort_by_key(ToString::to_string);
        told
    };
    let pretended = run(&["--dry-run"]);
    assert_eq!((ids(&world), objects(&world), leftover.exists()), (all.clone(), before, true));
    assert_eq!(pretended, run(&[]));
    assert_eq!(ids(&world), all[..1]);
    assert_eq!(of_kind(&pretended, "object").len(), before - objects(&world));
    let summary = of_kind(&pretended, "summary")[0];
    assert_eq!(summary["executions"]["count"], 2);
    assert_eq!(summary["litter"], serde_json::json!({"count": 1, "bytes": 4}));
    let told: u64 = pretended.iter().filter(|it| it["kind"] != "summary").map(|it| it["bytes"].as_u64().unwrap()).sum();
    assert_eq!(summary["bytes"], told);
}

#[test]
fn the_oldest_go_until_the_rest_is_small_enough() {
    let world = world();
    world.write("flow.yaml", "flow: Big\nlayers:\n  A: { run: 'echo $LAMINAR_EXECUTION_ID > \"$LAMINAR_OUTPUTS/a\"; head -c 1000000 /dev/zero >> \"$LAMINAR_OUTPUTS/a\"; head -c 3000000 /dev/zero > \"$LAMINAR_OUTPUTS/same\"' }\n");
    (0..4).for_each(|_| drop(world.run(["run", "-q"]).exits(0)));
    let all = ids(&world);
    world.run(["gc", "--max-size", "5.5MB"]).exits(0).says(&["2 executions"]);
    assert_eq!(ids(&world), all[..2], "what is shared counts once");
    world.run(["gc", "--max-size", "5.5MB"]).exits(0);
    assert_eq!(ids(&world).len(), 2);
}

#[test]
fn executions_are_removed_by_name_and_a_wrong_name_removes_none() {
    let world = with_executions(3);
    let all = ids(&world);
    world.run(["rm", &all[0], "ffffffff"]).exits(4);
    assert_eq!(ids(&world), all);
    world.run(["rm", &all[0], "--dry-run"]).exits(0).says(&["1 execution"]);
    world.run(["rm", &all[0], &all[2], &all[0]]).exits(0).says(&["2 executions"]);
    assert_eq!(ids(&world), all[1..2]);
    is_whole(&world, &all[1]);
    assert!(!folder(&world, &all[0]).exists());
}

const WAITS: &str = "
flow: Waits
layers:
  Waits: { run: '(trap \"\" TERM; while :; do sleep 0.1; done) & echo up > up; while [ ! -e go ]; do sleep 0.01; done; echo done > \"$LAMINAR_OUTPUTS/done\"' }
";

/// A world whose scheduler was killed while its layer runs.
fn interrupted() -> World {
    let world = world();
    world.write("flow.yaml", WAITS);
    let mut child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    child.kill().unwrap();
    child.wait().unwrap();
    world
}

#[test]
fn what_runs_and_what_can_be_resumed_stays() {
    let world = world();
    world.write("flow.yaml", WAITS);
    let run = world.start(["run"]);
    let _ = world.wait_for_file("up");
    let strict = ["gc", "--keep", "0", "--older-than", "0s", "--max-size", "1", "--grace", "0s"];
    world.run(strict).exits(0);
    world.run([&strict[..], &["--interrupted"]].concat()).exits(0);
    world.run(["rm", "latest", "--interrupted"]).exits(2).says(&["is running", "cancel"]);
    world.write("go", "");
    finish(run).exits(0);
    assert_eq!(world.run(["cat", "Waits/done"]).exits(0).stdout, "done\n");

    let world = interrupted();
    world.run(strict).exits(0);
    let refused = world.run(["rm", "latest"]).exits(2).says(&["is interrupted", "resume"]);
    assert!(!refused.stderr.contains("nothing"), "only the error: {}", refused.stderr);
    assert!(!world.processes().is_empty(), "what runs goes on");
    world.write("go", "");
    world.run(["resume"]).exits(0);
    assert_eq!(world.run(["cat", "Waits/done"]).exits(0).stdout, "done\n");
}

#[test]
fn what_is_given_up_is_ended() {
    for words in [&["rm", "latest", "--interrupted"][..], &["gc", "--keep", "0", "--interrupted"]] {
        let world = interrupted();
        world.run([words, &["--dry-run"]].concat()).exits(0);
        assert!(!world.processes().is_empty());
        world.run(words).exits(0).says(&["1 execution", "1 leftover"]);
        assert_eq!(world.processes(), [""; 0], "nothing is alive when it returns");
        assert_eq!(ids(&world).len(), 0);
    }
}

#[test]
fn what_runs_of_an_execution_that_somebody_removed_is_ended() {
    let world = interrupted();
    let id = ids(&world).remove(0);
    std::fs::remove_dir_all(folder(&world, &id)).unwrap();
    world.run(["gc"]).exits(0);
    assert!(!world.processes().is_empty(), "it is too young");
    world.run(["gc", "--grace", "0s"]).exits(0).says(&["1 leftover"]);
    assert_eq!(world.processes(), [""; 0]);
}

#[test]
fn of_a_damaged_execution_nothing_goes_and_no_object_either() {
    let world = with_executions(3);
    let all = ids(&world);
    let store = folder(&world, &all[1]).join("store.db");
    let sound = std::fs::read(&store).unwrap();
    let mut broken = sound.clone();
    broken[1024..].fill(0x5a);
    std::fs::write(&store, broken).unwrap();
    std::fs::remove_file(world.path().join(".laminar/index.db")).unwrap();
    world.run(["rm", &all[2]]).exits(0);
    let before = objects(&world);
    let ran =
        world.run(["gc", "--keep", "0", "--grace", "0s"]).exits(3).says(&[&all[1], "all objects", "rm --damaged"]);
    assert!(ran.stderr.contains("1 execution"), "the others went: {}", ran.stderr);
    assert_eq!((ids(&world), objects(&world)), (vec![all[1].clone()], before));
    world.run(["rm", &all[1]]).exits(3).says(&["is damaged"]);
    std::fs::write(&store, sound).unwrap();
    world.run(["gc", "--grace", "0s"]).exits(0).says(&["6 objects"]);
    is_whole(&world, &all[1]);
    std::fs::write(&store, "no database").unwrap();
    world.run(["rm", "--damaged", &all[1]]).exits(0);
    world.run(["gc", "--grace", "0s"]).exits(0);
    assert_eq!(objects(&world), 0);
}

#[test]
fn one_that_cannot_be_removed_does_not_keep_the_others() {
    let world = with_executions(3);
    let all = ids(&world);
    // A mount in the way: nobody, not even root, can rename it.
    let busy = folder(&world, &all[1]);
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(busy.join("logs")).status();
    if !mounted.is_ok_and(|status| status.success()) {
        laminar_tests::gaps::skip("an execution that cannot be removed", "nothing can be mounted here");
        return;
    }
    let ran = world.run(["gc", "--keep", "0", "--grace", "0s"]);
    assert!(std::process::Command::new("umount").arg(find(&world, "logs")).status().unwrap().success());
    let ran = ran.exits(3).says(&["cannot remove", "2 executions"]);
    assert_eq!(ids(&world).len(), 0, "it is half gone, and seen no more: {}", ran.stderr);
    age(&world);
    world.run(["gc", "--grace", "0s"]).exits(0);
    assert_eq!(hidden(&world), [] as [String; 0]);
}

/// The folder of this name in what is half removed.
fn find(world: &World, name: &str) -> PathBuf {
    let all = hidden(world);
    let found = all.iter().map(|hidden| folder(world, hidden)).flat_map(|folder| {
        let inner = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        inner.collect::<Vec<PathBuf>>()
    });
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    found
        .into_iter()
        .find(|path| mounts.contains(path.to_str().unwrap()))
        .unwrap_or_else(|| panic!("no {name}: {all:?}"))
}

/// What is half made or half removed.
fn hidden(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path().join(".laminar/executions")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// What is half made or half removed was so long ago.
fn age(world: &World) {
    for name in hidden(world) {
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::open(folder(world, &name)).unwrap().set_modified(old).unwrap();
    }
}

#[test]
fn a_collector_that_is_killed_at_any_point_leaves_what_the_next_one_finishes() {
    let world = with_executions(12);
    let all = ids(&world);
    let mut killed = 0;
    for delay in (0..).map(|round| Duration::from_millis(round * 3 % 80)) {
        let mut collector = world.start(["gc", "--keep", "2", "--grace", "0s"]);
        std::thread::sleep(delay);
        collector.kill().unwrap();
        killed += u32::from(!collector.wait().unwrap().success());
        let left = ids(&world);
        assert_eq!(left[..2], all[..2]);
        left.iter().for_each(|id| drop(world.run(["status", id]).exits(0)));
        is_whole(&world, &left[left.len() - 1]);
        if left.len() == 2 || killed > 200 {
            break;
        }
    }
    age(&world);
    world.run(["gc", "--keep", "2", "--grace", "0s"]).exits(0);
    assert_eq!((ids(&world), hidden(&world)), (all[..2].to_vec(), Vec::new()));
    assert_eq!(objects(&world), 2 * 3 + 1);
    all[..2].iter().for_each(|id| is_whole(&world, id));
}

#[test]
fn what_a_crash_has_left_half_made_goes_and_what_is_being_made_stays() {
    let world = with_executions(1);
    let half = folder(&world, &format!(".{}.new", "0".repeat(32)));
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("store.db"), "half").unwrap();
    let draft = folder(&world, &ids(&world)[0]).join("views/.view-1");
    std::fs::create_dir(&draft).unwrap();
    std::fs::write(draft.join("x"), "x").unwrap();
    world.run(["gc", "--grace", "0s"]).exits(0);
    assert!(half.exists(), "it was made a moment ago");
    assert!(!draft.exists(), "its execution has ended");
    age(&world);
    world.run(["gc"]).exits(0);
    assert!(!half.exists());
}

/// Schedulers and collectors in processes of their own: each execution adopts what others have just left or are about to
/// lose, and reads it.
#[test]
fn collectors_and_schedulers_work_side_by_side() {
    let world = with_executions(1);
    let over = world.path().join("over");
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut freed = 0;
            while !over.exists() {
                let told = world.run(["gc", "--keep", "1", "--grace", "0s", "--json", "-q"]).exits(0).json();
                freed += of_kind(&told, "summary")[0]["objects"]["count"].as_u64().unwrap();
            }
            freed
        });
        let schedulers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..15 {
                        world.run(["run", "-q"]).exits(0);
                    }
                })
            })
            .collect();
        let ran: Vec<_> = schedulers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        std::fs::write(&over, "").unwrap();
        let freed = collector.join().unwrap();
        ran.into_iter().for_each(|ran| ran.unwrap());
        assert!(freed > 0, "it was put to the test");
    });
    let newest = ids(&world).remove(0);
    is_whole(&world, &newest);
}

/// Between the adoption and its record, with the scheduler stopped there for as long as it takes.
#[test]
fn a_scheduler_that_stands_still_loses_nothing() {
    let world = world();
    let layers: Vec<String> = (0..30)
        .map(|n| format!("  L{n}: {{ run: 'head -c 200000 /dev/urandom > \"$LAMINAR_OUTPUTS/x\"; echo {n} > \"$LAMINAR_OUTPUTS/n\"' }}\n  R{n}: {{ needs: [L{n}], run: 'test $(wc -c < \"$LAMINAR_INPUTS/L{n}/x\") = 200000; test $(cat \"$LAMINAR_INPUTS/L{n}/n\") = {n}' }}\n"))
        .collect();
    world.write("flow.yaml", format!("flow: Still\nlayers:\n{}", layers.concat()));
    let run = world.start(["run"]);
    let objects_there = || world.path().join(".laminar/objects").exists().then_some(());
    eventually("something is adopted", objects_there);
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut rounds = 0;
    while is_running(&run) && std::time::Instant::now() < deadline {
        laminar_tests::world::signal(&run, rustix::process::Signal::STOP);
        let mut collector = world.start(["gc", "--grace", "0s"]);
        // Stopped with a lock in its hand, it is waited for.
        let patience = std::time::Instant::now() + Duration::from_millis(500);
        while is_running(&collector) && std::time::Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        laminar_tests::world::signal(&run, rustix::process::Signal::CONT);
        assert!(collector.wait().unwrap().success());
        rounds += 1;
        std::thread::sleep(Duration::from_millis(3));
    }
    finish(run).exits(0);
    assert!(rounds > 0, "it was put to the test");
    for n in 0..30 {
        assert_eq!(world.run(["cat", &format!("L{n}/n")]).exits(0).stdout, format!("{n}\n"));
    }
}

/// Whether a program is no zombie.
fn is_running(child: &std::process::Child) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn a_damaged_execution_is_told_whatever_else_there_is() {
    let world = world();
    world.write("flow.yaml", "flow: Bare\nlayers:\n  A: { run: 'true' }\n");
    world.run(["run", "-q"]).exits(0);
    let id = ids(&world).remove(0);
    let _ = std::fs::remove_dir_all(world.path().join(".laminar/objects"));
    std::fs::write(folder(&world, &id).join("store.db"), "no database").unwrap();
    for words in [&["gc"][..], &["gc", "--keep", "0", "-n"], &["gc", "--keep", "0"]] {
        let ran = world.run(words).exits(3).says(&[&id, "cannot be read", "rm --damaged"]);
        assert!(!ran.stderr.contains("in use") && !ran.stderr.contains("nothing"), "{words:?}: {}", ran.stderr);
    }
    world.run(["rm", "--damaged", &id]).exits(0);
    world.run(["gc"]).exits(0);
}
