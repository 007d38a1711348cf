//! Programs that are started wrongly, fail, are killed, start each other, or are looked at by the stock command line.

use std::process::Command;

use laminar_tests::world::{Ran, World, finish};
use serde_json::{Value, json};

use crate::place::Place;

fn odd() -> World {
    World::new(env!("CARGO_BIN_EXE_odd"))
}

/// The program as a scheduler starts it, with everything in order but for some variables.
fn layer(world: &World, names: [&str; 2], variables: &[(&str, &str)]) -> Ran {
    let mut command = world.command(["@layer", names[0], names[1]]);
    for folder in ["inputs/Slow/value.json", "outputs"] {
        std::fs::create_dir_all(world.path().join(folder)).unwrap();
    }
    command.env("LAMINAR_INPUTS", world.path().join("inputs")).env("LAMINAR_OUTPUTS", world.path().join("outputs"));
    command.envs([("LAMINAR_FLOW_NAME", names[0]), ("LAMINAR_LAYER_NAME", names[1])]);
    command.envs([("LAMINAR_EXECUTION_ID", "x"), ("LAMINAR_LAYER_INDEX", "0"), ("LAMINAR_LAYER_SPLITS", "1")]);
    command.env("LAMINAR_LAYER_ATTEMPT", "1");
    command.envs(variables.iter().copied());
    finish(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_program_that_is_started_wrongly_says_so() {
    let world = odd();
    let cannot = "this process cannot evaluate a layer";
    world.run(["@layer"]).exits(2).says(&[cannot, "followed by a flow and a layer", "hint"]);
    world.run(["@layer", "Odd", "Sum"]).exits(2).says(&[cannot, "`LAMINAR_EXECUTION_ID` is not set"]);
    layer(&world, ["Odd", "Sum"], &[("LAMINAR_LAYER_INDEX", "first")]).exits(2).says(&[cannot, "`first`", "no number"]);
    layer(&world, ["Odd", "Sum"], &[("LAMINAR_OUTPUTS", "/nowhere")]).exits(2).says(&[cannot, "/nowhere", "no folder"]);
    // Variables that were inherited, and arguments that somebody made up.
    let other = layer(&world, ["Odd", "Sum"], &[("LAMINAR_LAYER_NAME", "Chain")]);
    other.exits(2).says(&[cannot, "the arguments say `Odd` and `Sum`, the variables `Odd` and `Chain`"]);
    layer(&world, ["Even", "Sum"], &[]).exits(2).says(&[cannot, "its flow is `Odd`, and not `Even`"]);
    let unknown = layer(&world, ["Odd", "Product"], &[]);
    unknown.exits(2).says(&[cannot, "no layer `Product`", "`Chain`", "another version", "old image"]);
    // All in order; and then without its input.
    layer(&world, ["Odd", "Sum"], &[]).exits(0);
    assert_eq!(world.read("outputs/value.json"), "0\n");
    let decide = World::new(env!("CARGO_BIN_EXE_decide"));
    let missing = layer(&decide, ["Decide", "Polish"], &[]);
    missing.exits(1).says(&["cannot read what `Large` has left", "no `value.json`", "`.maybe()`"]);
}

#[test]
fn what_is_wrong_with_a_flow_is_told_with_its_place() {
    let world = odd();
    let mut command = world.command(["run"]);
    let twice = command.env("ODD_TWICE", "1").stderr(std::process::Stdio::piped()).spawn().unwrap();
    finish(twice).exits(2).says(&["there are two layers `Chain`, at examples/programs/tests/programs/odd.rs:"]);
    world.run(["run", "flow.yaml"]).exits(2).says(&["has its flow in it"]);
    assert!(!world.path().join(".laminar").exists(), "nothing was begun");
}

#[test]
fn failures_and_panics_reach_the_log_and_the_status() {
    let world = odd();
    world.run(["run"]).exits(1).says(&["cannot train", "caused by: cannot read the folds", "odd.rs:"]);
    let chain = "error: cannot train\n  caused by: cannot read the folds\n  caused by: No such file or directory (os error 2)\n";
    assert_eq!(world.run(["logs", "latest", "Chain"]).exits(0).stdout, chain);
    let panicked = world.run(["logs", "latest", "Panic"]).exits(0).stdout;
    assert!(panicked.contains("panicked at examples/programs/tests/programs/odd.rs:"), "{panicked}");
    assert!(panicked.contains("it was too much"), "{panicked}");
    let shown = world.run(["status"]).exits(0).stdout;
    for part in ["Chain said last:", "|   caused by: cannot read the folds", "it was too much", "odd.rs:"] {
        assert!(shown.contains(part), "no `{part}` in:\n{shown}");
    }
    let status = world.run(["status", "--json"]).exits(0).document();
    let exit = |layer: &str| of(&status, layer, 0)["exit"]["code"].clone();
    assert_eq!((exit("Chain"), exit("Panic")), (json!(1), json!(101)));
    // A program that a layer starts has its variables, but was not asked for a layer: it schedules.
    assert_eq!(world.run(["cat", "Nested/value.json"]).exits(0).stdout, "0\n");
    let nested = world.run(["cat", "--root", "nested", "Square[1]/value.json"]).exits(0);
    assert_eq!(nested.stdout, "4\n");
}

fn of(status: &Value, layer: &str, index: u32) -> Value {
    let mut lines = status["layers"].as_array().unwrap().iter();
    lines.find(|line| line["layer"] == layer && line["index"] == index).unwrap().clone()
}

#[test]
fn the_stock_command_line_looks_at_a_programs_executions_and_leaves_what_only_the_program_can_do() {
    let place = Place::local();
    let stage = place.stage("decide");
    stage.run(&["run"]).exits(0);
    let stock = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stock"));
        command.args(words).current_dir(stage.world.path());
        finish(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap())
    };
    assert!(stock(&["status"]).exits(0).stdout.contains("Decide: finished"));
    assert!(stock(&["logs", "latest", "Probe"]).exits(0).stdout.contains("the device is busy"));
    assert_eq!(stock(&["cat", "Report/value.json"]).exits(0).stdout, stage.text("Report/value.json"));
    assert_eq!(stock(&["list", "--json"]).exits(0).json()[0]["flow"], "Decide");
    let refused = stock(&["resume", "--from", "Large"]).exits(2);
    refused.says(&["only the program that the flow `Decide` belongs to can run it", "hint: say `run` or `resume`"]);
    // The program itself does.
    stage.run(&["resume", "--from", "Measure"]).exits(0);
    // Of a flow file these options say nothing.
    stage.world.write("flow.yaml", "flow: Plain\nlayers: { One: { run: 'true' } }\n");
    stock(&["run", "--image", "x"]).exits(2).says(&["`--image` is for flow programs"]);
    stock(&["run", "--program", "/x"]).exits(2).says(&["`--program` is for flow programs", "entrypoint"]);
}
