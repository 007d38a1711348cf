//! What can be asked about executions, while they run and afterwards.

use std::process::Stdio;

use laminar_tests::world::{eventually, finish, within};

use crate::world;

const FLOW: &str = "flow: Look\nlayers:\n  A: { run: 'echo out; echo x > \"$LAMINAR_OUTPUTS/x.txt\"' }\n  B: { needs: [A], run: 'echo more' }\n";

#[test]
fn an_execution_is_named_by_its_id_by_a_beginning_of_it_or_as_the_latest() {
    let world = world();
    world.write("flow.yaml", FLOW);
    for _ in 0..2 {
        world.run(["run"]).exits(0);
    }
    let list = world.run(["list", "--json"]).exits(0).json();
    let ids: Vec<_> = list.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids[0] > ids[1], "newest first, and ids sort by time");
    for id in [ids[1], "latest", &ids[0][..31]] {
        world.run(["status", id]).exits(0);
    }
    world.run(["status", &ids[0][..4]]).exits(2).says(&["2 executions", ids[0], ids[1]]);
    world.run(["status", "ffff"]).exits(4);
    world.run(["logs", "latest", "Nope"]).exits(4).says(&["Nope"]);
    world.run(["cat", "A/nope.txt"]).exits(4).says(&["nope.txt"]);
    assert_eq!(world.run(["cat", ids[1], "A/x.txt"]).exits(0).stdout, "x\n");
}

#[test]
fn nothing_has_run_yet_is_no_error_for_a_list_and_one_for_the_rest() {
    let world = world();
    assert_eq!(world.run(["list"]).exits(0).stdout, "");
    world.run(["status"]).exits(4);
    world.run(["logs"]).exits(4);
    assert!(!world.path().join(".laminar").exists(), "looking makes nothing");
}

#[test]
fn logs_follow_a_running_execution_to_its_end() {
    let world = world();
    world.write("flow.yaml", "flow: Follow\nlayers:\n  A: { run: 'echo first; echo up > up; while [ ! -e go ]; do sleep 0.01; done; printf last' }\n");
    let run = world.start(["run"]);
    let _ = world.wait_for_file("up");
    let follow = world.start(["logs", "-f", "A"]);
    assert!(world.run(["list"]).stdout.contains("running"));
    assert!(world.run(["status"]).stdout.contains("running"));
    world.write("go", "");
    finish(run).exits(0);
    assert_eq!(finish(follow).exits(0).stdout, "first\nlast");
}

#[test]
fn json_has_one_event_a_line_with_the_names_of_layers() {
    let world = world();
    world.write("flow.yaml", FLOW);
    let events = world.run(["run", "--json"]).exits(0).json();
    assert!(events.iter().all(serde_json::Value::is_object));
    let text = events.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("\"A\"") && text.contains("\"B\"") && text.contains("x.txt"), "{text}");
}

#[test]
fn a_pipe_that_is_closed_early_is_no_noise() {
    let world = world();
    world.write("flow.yaml", "flow: Pipe\nlayers:\n  A: { run: 'seq 1 200000' }\n");
    world.run(["run"]).exits(0);
    let program = env!("CARGO_BIN_EXE_laminar-under-test");
    let script = format!("'{program}' logs A | head -n 1");
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(world.path()).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"1\n"[..], &b""[..]));
}

#[test]
fn the_schema_accepts_what_the_program_accepts_and_is_json() {
    let world = world();
    let schema: serde_json::Value = serde_json::from_str(&world.run(["schema"]).exits(0).stdout).unwrap();
    assert!(schema["properties"]["layers"].is_object(), "{schema}");
}

#[test]
fn completions_and_backends_and_versions_are_there() {
    let world = world();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(["completions", shell]).exits(0).stdout.contains("laminar"));
    }
    assert!(world.run(["backends"]).exits(0).stdout.contains("local"));
    assert!(world.run(["--version"]).exits(0).stdout.starts_with("laminar "));
    let help = world.run(["run", "--help"]).exits(0).stdout;
    assert!(help.contains("--backend") && help.contains("Examples"), "{help}");
}

#[test]
fn a_thousand_layers_leave_one_small_store_and_no_logs_of_the_silent() {
    let world = world();
    let layers: Vec<_> = (0..1000).map(|n| format!("\"s{n}\":{{\"command\":[\"true\"]}}")).collect();
    world.write("flow.json", format!("{{\"flow\":\"Many\",\"layers\":{{{}}}}}", layers.join(",")));
    world.run(["run", "flow.json", "-q"]).exits(0);
    let find = |pattern: &str| {
        let output = std::process::Command::new("sh").args(["-c", pattern]).current_dir(world.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(find("find .laminar -name '*.log'"), "");
    let size: u64 =
        eventually("the store is closed", || find("cat .laminar/executions/*/store.db* | wc -c").trim().parse().ok());
    assert!(size < 1_000_000, "{size} bytes for 1000 layers");
}

#[test]
fn events_that_cannot_be_written_are_told() {
    let world = world();
    world.write("flow.yaml", FLOW);
    for (command, at_least) in [("run", "status"), ("list", "No space left"), ("status", "No space left")] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = world.command([command, "--json"]).stdout(full).stderr(std::process::Stdio::piped()).spawn();
        finish(child.unwrap()).exits(3).says(&["cannot write to standard output", "No space left", at_least]);
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let help = world.command(["--help"]).stdout(full).stderr(std::process::Stdio::piped()).spawn();
    let _ = finish(help.unwrap()).exits(3).says(&["No space left"]);
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("2 finished"), "the execution went on: {status}");
}

/// As they are written, layers take several times the memory of what is made of them, so they are never all there at once.
#[test]
fn a_flow_of_many_layers_is_checked_in_little_memory() {
    const LAYERS: usize = 25_000;
    let world = world();
    let needs = |layer: usize| (layer.saturating_sub(3)..layer).map(|need| format!("\"L{need}\"")).collect::<Vec<_>>();
    let layer = |at| format!("\"L{at}\": {{\"needs\": [{}], \"command\": [\"/bin/true\"]}}", needs(at).join(", "));
    let layers: Vec<String> = (0..LAYERS).map(layer).collect();
    world.write("flow.json", format!("{{\"flow\": \"Many\", \"layers\": {{{}}}}}", layers.join(",\n")));
    world.write("flow.yaml", format!("flow: Many\nlayers:\n  {}\n", layers.join("\n  ")));
    for (file, bytes_a_layer) in [("flow.json", 1100), ("flow.yaml", 2000)] {
        let mut check = within(LAYERS as u64 * bytes_a_layer, world.command(["check", file]));
        finish(check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).exits(0);
    }
}
