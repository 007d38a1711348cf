//! The program as its users meet it: flows on sandboxes and plain processes, and what is left when something dies.
#![allow(clippy::unwrap_used)]

use std::process::Child;

use laminar_tests::gaps;
use laminar_tests::world::{World, eventually, finish};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A world with the program, where there is bubblewrap.
fn world() -> Option<World> {
    if std::process::Command::new("bwrap").arg("--version").output().is_ok() {
        return Some(World::new(env!("CARGO_BIN_EXE_laminar-bubblewrap")));
    }
    assert!(!gaps::is_required("bubblewrap"), "bubblewrap is required, and not installed");
    gaps::skip("sandboxes of bubblewrap", "bubblewrap is not installed");
    None
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn launches(world: &World) -> Vec<String> {
    let log = world.run(["status", "-f", "--json"]).json();
    let launched = log.iter().filter(|event| event["event"] == "attempt_launched");
    launched.map(|event| format!("{}.{}", event["layer"].as_str().unwrap(), event["attempt"])).collect()
}

/// The supervisor of the latest execution for this backend.
fn supervisor(world: &World, backend: &str) -> i32 {
    let marker = format!("{}/.laminar/executions/", world.path().canonicalize().unwrap().display());
    let of = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        words.get(1) == Some(&"__laminar_supervise")
            && words[2].starts_with(&marker)
            && words[2].ends_with(&format!("/{backend}"))
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(of).unwrap()
}

const MIXED: &str = r#"
flow: Mixed
layers:
  Here:   { run: 'echo here > $LAMINAR_OUTPUTS/chain' }
  Inside: { needs: [Here], backend: bubblewrap, foreach: { n: [1, 2] }, secrets: [TOKEN], run: 'cat $LAMINAR_SECRETS/TOKEN > /tmp/x; { cat $LAMINAR_INPUTS/Here/chain; echo ${{ each.n }} $(wc -c < /tmp/x); cat $LAMINAR_EACH; } > $LAMINAR_OUTPUTS/chain' }
  Back:   { needs: [Inside], run: 'cat $LAMINAR_INPUTS/Inside/chain/*' }
"#;

#[test]
fn one_flow_runs_on_plain_processes_and_in_sandboxes_and_artifacts_pass_between_them() {
    let Some(world) = world() else { return };
    world.write("flow.yaml", MIXED);
    let ran = world.command(["run"]).env("TOKEN", "secret").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = world.run(["logs", "Back"]).exits(0).stdout;
    assert_eq!(said.split_whitespace().collect::<String>(), "here16{\"n\":1}here26{\"n\":2}");
    world.is_quiet();
}

#[test]
fn a_layer_sees_what_it_needs_and_changes_nothing_else() {
    let Some(world) = world() else { return };
    world.write("outside/file", "kept");
    world.write("data/file", "data\n");
    world.write("script", "ran\n");
    let script =
        "cat script /mnt/file; ls -d /root /home || true; set -- /proc/[0-9]*; echo $#; ls .laminar/executions/*
      for file in script /etc/new /new /mnt/new; do ! touch $file || echo changed $file; done
      grep CapEff /proc/self/status; pwd; touch /tmp/fine";
    world.write(
        "flow.yaml",
        format!(
            "flow: Apart\nlayers:\n  A:\n    container: {{ mounts: ['data:/mnt:ro', 'outside:/out'] }}\n    run: |\n      {script}\n      echo more >> /out/file\n"
        ),
    );
    world.run(["run", "--backend", "bubblewrap", "--strict"]).exits(0);
    let said = world.run(["logs", "A"]).exits(0).stdout;
    let told = said.lines().filter(|line| !line.contains("cannot access") && !line.contains("cannot touch"));
    let here = world.path().canonicalize().unwrap();
    let expected =
        ["ran", "data", "2", "inputs", "outputs", "views", "CapEff:\t0000000000000000", here.to_str().unwrap()];
    assert_eq!(told.collect::<Vec<_>>(), expected, "{said}");
    assert_eq!(world.read("outside/file"), "keptmore\n");
}

#[test]
fn the_network_is_none_unless_a_layer_or_an_option_says_otherwise() {
    let Some(world) = world() else { return };
    let layer = |name: &str, keys: &str| format!("  {name}: {{ {keys}run: 'readlink /proc/self/ns/net' }}\n");
    let layers = [
        layer("Quiet", ""),
        layer("Host", "container: { network: host }, "),
        layer("Off", "container: { network: none }, "),
        layer("Plain", "backend: local, "),
    ];
    world.write("flow.yaml", format!("flow: Net\nlayers:\n{}", layers.concat()));
    let said = |layer: &str| world.run(["logs", layer]).exits(0).stdout;
    world.run(["run", "--backend", "bubblewrap"]).exits(0);
    let host = said("Plain");
    assert_eq!(["Quiet", "Host", "Off"].map(|layer| said(layer) == host), [false, true, false]);
    world.run(["run", "--backend", "bubblewrap", "-o", "network=host"]).exits(0);
    assert_eq!(["Quiet", "Host", "Off"].map(|layer| said(layer) == host), [true, true, false]);
}

#[test]
fn what_cannot_be_is_told_before_anything_runs() {
    let Some(world) = world() else { return };
    let flow = |container: &str| {
        world
            .write("flow.yaml", format!("flow: A\nlayers: {{ A: {{ container: {{ {container} }}, run: 'true' }} }}\n"));
    };
    flow("network: mine");
    world.run(["run", "--backend", "bubblewrap"]).exits(2).says(&["`A`", "`mine`", "`none` or `host`"]);
    flow("mounts: ['nowhere:/x']");
    world.run(["run", "--backend", "bubblewrap"]).exits(2).says(&["`A`", "nowhere"]);
    flow("memory: 1GiB, image: some");
    let ran = world.run(["run", "--backend", "bubblewrap"]).exits(0);
    ran.says(&["the backend `bubblewrap` does not enforce `memory`", "does not enforce `image`"]);
    world.run(["run", "--backend", "bubblewrap", "--strict"]).exits(2);
    let ran = world.run(["run", "--backend", "bubblewrap", "-o", "program=/no/such/bwrap"]);
    ran.exits(3).says(&["cannot use the backend `bubblewrap`", "/no/such/bwrap", "apt-get install bubblewrap"]);
}

#[test]
fn the_command_line_knows_it() {
    let Some(world) = world() else { return };
    let all = world.run(["backends", "--json"]).exits(0).json();
    let own = all.iter().find(|backend| backend["name"] == "bubblewrap").unwrap();
    assert_eq!(own["available"], true, "{own}");
    assert!(own["version"].as_str().unwrap().starts_with("0."), "{own}");
    assert!(own["enforces"].as_array().unwrap().contains(&"network".into()), "{own}");
    let text = world.run(["backends"]).exits(0).stdout;
    assert!(text.contains("-o network") && text.contains("[default: bwrap]"), "{text}");
    let script = world.run(["completions", "bash"]).exits(0).stdout;
    assert!(script.contains("laminar-bubblewrap"), "{script}");
}

const LONG: &str = "
flow: Long
layers:
  Inside: { backend: bubblewrap, container: { mounts: ['.:/work'] }, run: 'echo up >> /work/up; echo before; while [ ! -e go ]; do sleep 0.01; done; echo after' }
  Plain: { run: 'echo up >> plain; while [ ! -e go ]; do sleep 0.01; done' }
  Next: { needs: [Inside, Plain], backend: bubblewrap, run: 'true' }
";

fn started(world: &World) -> Child {
    world.write("flow.yaml", LONG);
    let child = world.start(["run", "--jobs", "2", "--grace", "100ms"]);
    let _ = (world.wait_for_file("up"), world.wait_for_file("plain"));
    child
}

#[test]
fn a_killed_scheduler_loses_nothing() {
    let Some(world) = world() else { return };
    killed(started(&world));
    let second = world.start(["resume"]);
    eventually("the execution is taken over", || {
        world.run(["list", "--json"]).stdout.contains("\"running\"").then_some(())
    });
    world.write("go", "");
    finish(second).exits(0);
    assert_eq!(world.run(["logs", "Inside"]).exits(0).stdout, "before\nafter\n");
    assert_eq!(launches(&world), ["Inside.1", "Plain.1", "Next.1"]);
    world.is_quiet();
}

#[test]
fn the_death_of_one_supervisor_is_no_matter_of_the_others_layers() {
    let Some(world) = world() else { return };
    for (backend, lost) in [("local", "plain"), ("bubblewrap", "up")] {
        let _ = ["up", "plain", "go"].map(|name| std::fs::remove_file(world.path().join(name)));
        let child = started(&world);
        kill_process(Pid::from_raw(supervisor(&world, backend)).unwrap(), Signal::KILL).unwrap();
        eventually("what was lost runs again", || (world.read(lost).lines().count() == 2).then_some(()));
        world.write("go", "");
        finish(child).exits(0);
        assert_eq!(launches(&world).len(), 4, "{:?}", launches(&world));
        assert_eq!(world.read("up").lines().count() + world.read("plain").lines().count(), 3);
        world.is_quiet();
    }
}

#[test]
fn a_cancel_ends_both_and_nothing_stays() {
    let Some(world) = world() else { return };
    let child = started(&world);
    world.run(["cancel"]).exits(0);
    finish(child).exits(130);
    world.is_quiet();
    let status: Value = world.run(["status", "--json"]).exits(0).document();
    assert_eq!(status["layers"][0]["state"], "cancelled", "{status}");
}

#[test]
fn what_runs_of_an_execution_that_is_gone_is_ended() {
    let Some(world) = world() else { return };
    killed(started(&world));
    let status: Value = world.run(["status", "--json"]).exits(0).document();
    assert_ne!(world.processes(), Vec::<String>::new(), "{status}");
    std::fs::remove_dir_all(world.path().join(".laminar/executions").join(status["id"].as_str().unwrap())).unwrap();
    world.run(["gc", "--grace", "0s"]).exits(0).says(&["2 leftovers"]);
    world.is_quiet();
}
