//! Two hundred layers, twenty at once, and a signal at a random moment: nothing of ours is left.
//!
//! A few rounds each by default; `LAMINAR_TEST_STORMS=20` for more. `LAMINAR_TEST_SEED` plays one again that went wrong: its
//! seed is printed.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use laminar_tests::chaos::Dice;
use laminar_tests::world::{eventually, processes_with, signal};
use rustix::process::Signal;

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::World;

on_each_engine!(a_storm_of_cancelled_layers_leaves_nothing);

const LAYERS: usize = 200;
const AT_ONCE: &str = "20";
/// The latest moment; no execution is over by then, since some layers never end.
const LATEST: Duration = Duration::from_secs(10);

/// Some end at once, some last, some do not want to end, some leave others behind.
const SCRIPTS: [&str; 5] = [
    "echo done > $LAMINAR_OUTPUTS/x",
    "exec sleep 1000",
    "trap : TERM; while :; do sleep 1; done",
    "sleep 1000 & setsid sleep 1000 & sleep 0.2",
    "trap 'echo tidy; exit 0' TERM; sleep 1000 & wait",
];

fn a_storm_of_cancelled_layers_leaves_nothing(world: &World) {
    let rounds = std::env::var("LAMINAR_TEST_STORMS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut dice = Dice::new();
    let stage = Stage::new(world);
    let layers: String =
        (0..LAYERS).map(|at| format!("  L{at}: {{ run: \"{}\" }}\n", SCRIPTS[at % SCRIPTS.len()])).collect();
    stage.flow(&format!("defaults: {{ container: {{ image: IMAGE, network: none }} }}\nlayers:\n{layers}"));
    for round in 0..rounds {
        let moment = Duration::from_millis(dice.below(LATEST.as_millis() as u64));
        let signals = [&[Signal::INT][..], &[Signal::TERM], &[Signal::INT, Signal::INT]][dice.below(3) as usize];
        let pause = Duration::from_millis(dice.below(1500));
        let told = format!("{} round {round}: {signals:?} after {moment:?}", world.column);
        let ended = storm(&stage, moment, signals, pause, &told);
        eprintln!("{told}: over in {ended:?}");
    }
}

/// One round. Returns how long it took from the first signal to the end.
fn storm(stage: &Stage<'_>, moment: Duration, signals: &[Signal], pause: Duration, told: &str) -> Duration {
    let world = stage.world;
    let mut child = stage.start(&["run", "--jobs", AT_ONCE, "--grace", "1s"]);
    // From its first word on it listens to signals.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).map(|_| rest)
    });
    std::thread::sleep(moment);
    let begun = Instant::now();
    for (at, it) in signals.iter().enumerate() {
        if at > 0 {
            std::thread::sleep(pause);
        }
        if child.try_wait().unwrap().is_none() {
            signal(&child, *it);
        }
    }
    let code = child.wait().unwrap().code();
    let ended = begun.elapsed();
    said.push_str(&rest.join().unwrap().unwrap());
    assert_eq!(code, Some(130), "{told}: {said}");

    // By label, by name, and by what processes carry.
    assert!(world.containers().is_empty(), "{told}: containers are left: {said}");
    let status: serde_json::Value =
        serde_json::from_str(&stage.program.run(["status", "--json"]).exits(0).stdout).unwrap();
    let execution = status["id"].as_str().unwrap_or_else(|| panic!("{status}"));
    for list in [
        &["ps", "-a", "--format", "{{.Names}}"][..],
        &["network", "ls", "--format", "{{.Name}}"],
        &["volume", "ls", "-q"],
    ] {
        let names = world.engine(list);
        let left: Vec<_> = names.lines().filter(|name| name.contains(execution)).collect();
        assert!(left.is_empty(), "{told}: {list:?}: {left:?}");
    }
    let mut left = Vec::new();
    eventually(&format!("{told}: no process is left: {left:?}"), || {
        left = processes_with(execution.as_bytes());
        left.is_empty().then_some(())
    });
    let tasks = stage.program.path().join(".laminar/executions").join(execution).join(world.dialect.name).join("tasks");
    let records = std::fs::read_dir(&tasks).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(records, 0, "{told}: records are left in {}", tasks.display());

    assert_eq!(status["state"], "cancelled", "{told}: {status}");
    for layer in status["layers"].as_array().unwrap() {
        let state = layer["state"].as_str().unwrap();
        assert!(matches!(state, "finished" | "cancelled"), "{told}: {layer}");
    }
    ended
}
