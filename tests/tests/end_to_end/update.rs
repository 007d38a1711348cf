//! Going on with an execution and another flow: `resume --update`.

use std::process::Stdio;

use laminar_tests::world::{Ran, World, eventually, finish};
use serde_json::{Value, json};

use crate::world;

/// What each layer has run so far, one word a run.
const FLOW: &str = "
flow: Grown
parameters: { x: one }
layers:
  First: { run: 'echo first >> ran; echo 1 > $LAMINAR_OUTPUTS/name' }
  Second: { needs: [First], run: 'echo second >> ran', env: { X: '${{ parameters.x }}' } }
  Third: { needs: [Second], run: 'echo third >> ran' }
  Aside: { run: 'echo aside >> ran; echo left > $LAMINAR_OUTPUTS/name' }
";

fn ran(world: &World) -> Vec<String> {
    let text = world.read("ran");
    std::fs::remove_file(world.path().join("ran")).unwrap();
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.sort();
    words
}

fn states(world: &World) -> Vec<(String, String)> {
    let status: Value = serde_json::from_str(&world.run(["status", "--json"]).exits(0).stdout).unwrap();
    let of = |layer: &Value| (layer["layer"].as_str().unwrap().to_owned(), layer["state"].as_str().unwrap().to_owned());
    let mut all: Vec<_> = status["layers"].as_array().unwrap().iter().map(of).collect();
    all.sort();
    all
}

fn preview(world: &World, words: &[&str]) -> Value {
    let words = [&["resume", "--update", "--dry-run", "--json"], words].concat();
    serde_json::from_str(&world.run(words).exits(0).stdout).unwrap()
}

#[test]
fn a_parameter_that_no_expression_names_is_there_for_who_runs_again() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Go\nparameters: { go: 1 }\nlayers:\n  A: { run: 'cat \"$LAMINAR_INPUTS/Parameters/go.json\"' }\n",
    );
    world.run(["run"]).exits(0);
    world.run(["resume", "--update", "--parameter", "go=9", "--from", "A"]).exits(0);
    assert_eq!(world.run(["logs", "A"]).exits(0).stdout, "9");
}

#[test]
fn what_changed_runs_again_with_all_that_need_it_and_nothing_else_does() {
    let world = world();
    world.write("flow.yaml", FLOW);
    world.run(["run"]).exits(0);
    assert_eq!(ran(&world), ["aside", "first", "second", "third"]);
    world.run(["resume", "--update"]).exits(0).says(&["has finished"]);
    world.run(["resume", "--update", "flow.yaml"]).exits(4).says(&["write `--update=flow.yaml`"]);
    // How it is tried is not what it is; and there is nothing to run.
    world.write("flow.yaml", FLOW.replace("third >> ran'", "third >> ran', retry: { attempts: 3 }, timeout: 1m"));
    world.run(["resume", "--update"]).exits(0).says(&["has finished"]);

    let changed = FLOW
        .replace("echo second", "echo zweit")
        .replace("  Aside:", "  New: { needs: [First], run: 'cat $LAMINAR_INPUTS/First/name >> ran' }\n  Aside:");
    world.write("flow.yaml", &changed);
    let told = preview(&world, &[]);
    assert_eq!(told["update"]["changed"], json!([{"layer": "Second", "parts": ["run"]}]));
    assert_eq!((&told["update"]["new"], &told["to_run"]), (&json!(["New"]), &json!(["Second", "Third", "New"])));
    assert!(!world.path().join("ran").exists(), "a dry run runs nothing");
    let resumed = world.run(["resume", "--update"]).exits(0);
    resumed.says(&[
        "changed layers: Second (run)",
        "new layers: New",
        "3 layers to run: Second, Third, New",
        "5 layers",
    ]);
    assert_eq!(ran(&world), ["1", "third", "zweit"]);
    world.run(["resume", "--update"]).exits(0).says(&["has finished"]);
    world.is_quiet();
}

#[test]
fn a_layer_that_is_gone_is_left_as_it_was_and_may_come_back() {
    let world = world();
    world.write("flow.yaml", FLOW);
    world.run(["run"]).exits(0);
    let _ = ran(&world);
    let without: String = FLOW.lines().filter(|line| !line.contains("Aside")).map(|line| format!("{line}\n")).collect();
    world.write("flow.yaml", &without);
    world.run(["resume", "--update"]).exits(0).says(&["no longer part of the flow: Aside", "3 layers"]);
    assert!(states(&world).contains(&("Aside".into(), "skipped".into())));
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("no longer part of the flow"), "{status}");
    assert_eq!(world.run(["cat", "Aside/name"]).exits(0).stdout, "left\n");
    world.run(["resume", "--from", "Aside"]).exits(4).says(&["there is no layer `Aside`", "First"]);
    assert!(!world.path().join("ran").exists());

    world.write("flow.yaml", FLOW);
    world.run(["resume", "--update"]).exits(0).says(&["new layers: Aside"]);
    assert_eq!(ran(&world), ["aside"]);
    let log = world.run(["status", "-f", "--json"]).exits(0).json();
    let updates: Vec<_> = log.iter().filter_map(|event| event.get("update")).cloned().collect();
    assert_eq!(updates, [1, 2], "the whole log is read, flow after flow");
    assert_eq!(world.run(["list", "--json"]).exits(0).json().len(), 1);
    world.is_quiet();
}

#[test]
fn a_parameter_is_set_anew_and_the_others_keep_their_values() {
    let world = world();
    world
        .write("flow.yaml", FLOW.replace("x: one", "x: one, y: 1").replace("'echo third", "'echo ${{ parameters.y }}"));
    world.run(["run", "-p", "y=7"]).exits(0);
    assert_eq!(ran(&world), ["7", "aside", "first", "second"]);
    world.run(["resume", "-p", "x=two"]).exits(2).says(&["--update"]);
    let resumed = world.run(["resume", "--update", "-p", "x=two"]).exits(0);
    resumed.says(&["parameters that changed: x", "changed layers: Second (env)", "2 layers to run: Second, Third"]);
    assert_eq!(ran(&world), ["7", "second"]);
    assert_eq!(preview(&world, &["-p", "x=two"])["update"], Value::Null, "it is two already");
    assert_eq!(preview(&world, &["-p", "y=8"])["to_run"], json!(["Third"]));
    world.run(["resume", "--update", "-p", "z=1"]).exits(2).says(&["z"]);
    world.is_quiet();
}

const CHAIN: &str = "
flow: Chain
layers:
  First: { run: 'echo first >> ran' }
  Second: { needs: [First], run: 'echo second >> ran; echo up > up; while [ ! -e go ]; do sleep 0.01; done' }
  Third: { needs: [Second], run: 'echo third >> ran' }
";

/// An execution whose scheduler was killed while `Second` ran, which still does.
fn interrupted() -> World {
    let world = world();
    world.write("flow.yaml", CHAIN);
    let mut child = world.start(["run"]);
    let _ = world.wait_for_file("up");
    child.kill().unwrap();
    child.wait().unwrap();
    world
}

#[test]
fn what_is_in_flight_goes_on_and_what_follows_is_the_new_flow() {
    let world = interrupted();
    // It may not change under its own feet, nor may what it reads, nor may it go.
    for (from, to) in [("echo second", "echo zweit"), ("echo first", "echo erst"), ("needs: [First], ", "")] {
        world.write("flow.yaml", CHAIN.replacen(from, to, 1));
        for words in [&["resume", "--update"][..], &["resume", "--update", "--dry-run"]] {
            world.run(words.iter().copied()).exits(2).says(&["`Second` is under way", "cancel"]);
        }
    }
    world.write("flow.yaml", CHAIN);
    world.run(["resume", "--update", "--backend", "docker"]).exits(2).says(&["`Second` is under way"]);
    let refused = world.run(["resume", "--update", "-o", "nice=3"]).exits(2);
    refused.says(&["`Second` is under way, and runs on `local`, whose options would change"]);
    world.write("flow.yaml", "flow: Chain\nlayers:\n  First: { run: 'echo first >> ran' }\n");
    world.run(["resume", "--update"]).exits(2).says(&["`Second` is under way, and would be taken out"]);

    world.write(
        "flow.yaml",
        &(CHAIN.replace("echo third", "echo dritt") + "  Fourth: { needs: [Third], run: 'echo fourth >> ran' }\n"),
    );
    let id =
        world.run(["resume", "--update", "--detach"]).exits(0).says(&["changed layers: Third (run)"]).stdout.clone();
    assert_eq!(id.trim().len(), 32, "{id}");
    world.write("go", "");
    world.run(["status", "-f"]).exits(0);
    assert_eq!(ran(&world), ["dritt", "first", "fourth", "second"]);
    assert_eq!(states(&world).len(), 4);
    world.is_quiet();
}

#[test]
fn a_second_death_finds_the_new_flow_and_a_second_update_follows() {
    let world = interrupted();
    let second =
        CHAIN.replace("echo third >> ran", "echo three >> ran; echo up > up3; while [ ! -e go3 ]; do sleep 0.01; done");
    world.write("flow.yaml", &second);
    let mut child = world.start(["resume", "--update"]);
    world.write("go", "");
    let _ = world.wait_for_file("up3");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(world.path().join("flow.yaml")).unwrap();
    world.run(["resume", "--update"]).exits(2).says(&["there is no flow file", "--update=FILE"]);
    std::fs::create_dir(world.path().join("other")).unwrap();
    world.write("other/flow.yaml", &(second.clone() + "  Last: { needs: [Third], run: 'echo last >> ran' }\n"));
    let child = world.start(["resume", "--update=other"]);
    eventually("it is taken over", || world.run(["list", "--json"]).stdout.contains("\"running\"").then_some(()));
    world.write("go3", "");
    finish(child).exits(0);
    assert_eq!(ran(&world), ["first", "last", "second", "three"]);
    // It is found again where it was.
    world.write("other/flow.yaml", &second);
    world.run(["resume", "--update"]).exits(0).says(&["no longer part of the flow: Last"]);
    world.is_quiet();
}

#[test]
fn what_was_cancelled_goes_on_with_the_new_flow() {
    let world = interrupted();
    world.run(["cancel"]).exits(0);
    world.write("flow.yaml", CHAIN.replace("while [ ! -e go ]; do sleep 0.01; done", "true"));
    world
        .run(["resume", "--update"])
        .exits(0)
        .says(&["changed layers: Second (run)", "2 layers to run: Second, Third"]);
    assert_eq!(ran(&world), ["first", "second", "second", "third"]);
    world.is_quiet();
}

#[test]
fn a_wrong_file_leaves_everything_as_it_was() {
    let world = interrupted();
    let before = (world.run(["status", "--json"]).stdout, world.run(["resume", "--dry-run"]).exits(0).stdout);
    world.write("flow.yaml", "flow: Chain\nlayers: { First: { rum: x } }\n");
    world.run(["resume", "--update"]).exits(2).says(&["rum", "did you mean"]);
    world.run(["resume", "--update", "--detach"]).exits(2).says(&["rum"]);
    world.write("flow.yaml", "flow: Chain\nlayers: { A: { needs: [B], run: x }, B: { needs: [A], run: x } }\n");
    world.run(["resume", "--update"]).exits(2).says(&["cycle"]);
    world.write("flow.yaml", CHAIN.replace("echo third", "echo ${{ env.NOBODY_HAS_SET_THIS }}"));
    world.run(["resume", "--update"]).exits(2).says(&["NOBODY_HAS_SET_THIS"]);
    world.write("flow.yaml", CHAIN);
    world.run(["resume", "--update", "--backend", "nowhere"]).exits(2).says(&["nowhere"]);
    world.run(["resume", "--update=missing.yaml"]).exits(2).says(&["missing.yaml"]);
    let after = (world.run(["status", "--json"]).stdout, world.run(["resume", "--dry-run"]).exits(0).stdout);
    assert_eq!(before, after);
    world.write("go", "");
    world.run(["resume"]).exits(0);
    assert_eq!(ran(&world), ["first", "second", "third"]);
    world.is_quiet();
}

fn with_input(world: &World, words: &[&str], input: &str) -> Ran {
    let input = std::fs::File::open(world.write("input", input)).unwrap();
    let mut command = world.command(words.iter().copied());
    finish(command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn what_came_from_standard_input_needs_a_file() {
    let world = world();
    with_input(&world, &["run", "-"], FLOW).exits(0);
    let _ = ran(&world);
    world.run(["resume", "--update"]).exits(2).says(&["standard input", "--update=FILE"]);
    let changed = FLOW.replace("echo third", "echo dritt");
    with_input(&world, &["resume", "--update=-"], &changed).exits(0).says(&["changed layers: Third (run)"]);
    assert_eq!(ran(&world), ["dritt"]);
    world.run(["resume", "--update=-", "--detach"]).exits(2).says(&["--detach"]);
    world.is_quiet();
}
