//! Wrong input of every kind: a clear message with its place, exit code 2, and nothing made or run.

use laminar_tests::world::finish;

use crate::world;

/// A wrong flow file, and what the message must have: the place, and words.
const WRONG: &[(&str, &[&str])] = &[
    ("", &["empty"]),
    ("# only a comment\n", &["nothing but comments"]),
    ("flow: A\nlayers:\n\tA: { run: x }\n", &["flow.yaml:3:", "tab"]),
    ("flow: A\nlayers:\n  A: { run: 'x }\n", &["flow.yaml:3:"]),
    ("flow: A\nlayers:\n  A: { runs: x }\n", &["flow.yaml:3:8", "runs", "did you mean `run`"]),
    ("flow: A\nlayer:\n  A: { run: x }\n", &["flow.yaml:2:1", "did you mean `layers`"]),
    ("flow: A\nlayers:\n  A: { run: [x] }\n", &["flow.yaml:3:13", "run"]),
    (
        "flow: A\nlayers:\n  A: { run: x, needs: [Bee] }\n  Bea: { run: x }\n",
        &["flow.yaml:3:24", "Bee", "did you mean `Bea`"],
    ),
    (
        "flow: A\nlayers:\n  A: { run: x, needs: [C] }\n  B: { run: x, needs: [A] }\n  C: { run: x, needs: [B] }\n",
        &["cycle", "A", "B", "C"],
    ),
    ("flow: A\nlayers:\n  A: { run: x }\n  A: { run: y }\n", &["flow.yaml:4:3", "A"]),
    ("flow: A\nlayers:\n  A: { needs: [] }\n", &["flow.yaml:3:", "run"]),
    ("flow: A\nlayers:\n  A: { run: x, command: [y] }\n", &["flow.yaml:3:", "command"]),
    ("flow: A\nlayers:\n  my layer: { run: x }\n", &["flow.yaml:3:3", "my layer"]),
    ("flow: A\nlayers:\n  Parameters: { run: x }\n", &["flow.yaml:3:3", "Parameters"]),
    ("flow: A\nlayers:\n  A: { run: x, timeout: soon }\n", &["flow.yaml:3:25", "soon"]),
    ("flow: A\nlayers:\n  A: { run: x, timeout: 10 }\n", &["flow.yaml:3:25", "10s"]),
    ("flow: A\nlayers:\n  A: { run: x, container: { memory: lots } }\n", &["flow.yaml:3:37", "lots"]),
    (
        "flow: A\nlayers:\n  A: { run: 'echo ${{ parameters.sede }}' }\nparameters: { seed: 1 }\n",
        &["flow.yaml:3:", "sede", "seed"],
    ),
    ("flow: A\nlayers:\n  A: { run: \"echo '${{ attempt }}'\" }\n", &["flow.yaml:3:", "single quotes"]),
    ("flow: A\nlayers:\n  A: { run: 'echo ${{ attempt + }}' }\n", &["flow.yaml:3:"]),
    ("flow: A\nlayers:\n  A: { run: x, secrets: { a: x } }\n", &["flow.yaml:3:25", "expected a list"]),
    ("flow: A\nlayers:\n  A: { run: x, secrets: [../a] }\n", &["flow.yaml:3:26", "a secret's name cannot be `../a`"]),
    ("flow: A\nlayers:\n  A: { run: 'echo ${{ env.NO_SUCH_VARIABLE }}' }\n", &["flow.yaml:3:", "NO_SUCH_VARIABLE"]),
    ("flow: A\nparameters: { l: [1] }\nlayers:\n  A: { run: 'echo ${{ parameters.l[5] }}' }\n", &["flow.yaml:4:"]),
    ("flow: A\nlayers: {}\n", &["layer"]),
    ("flow: A\nlayers:\n  A: { run: x, backend: dockr }\n", &["flow.yaml:3:25", "`dockr`", "did you mean `docker`"]),
    ("flow: A\ndefaults: { backend: slurm }\nlayers: { A: { run: x } }\n", &["flow.yaml:2:22", "`slurm`", "`local`"]),
    ("flow: A\nbackends: { podmann: {} }\nlayers: { A: { run: x } }\n", &["flow.yaml:2:13", "did you mean `podman`"]),
    (
        "flow: A\nbackends: { docker: { netwrk: none } }\nlayers: { A: { run: x } }\n",
        &["flow.yaml:2:23", "`netwrk`", "did you mean `network`"],
    ),
    ("flow: A\nbackends: { local: { nice: 20 } }\nlayers: { A: { run: x } }\n", &["flow.yaml:2:28", "from 0 to 19"]),
    ("flow: A\n---\nflow: B\n", &["document"]),
    ("flow: A\nlayers:\n  A: { run: \"a\\0b\" }\n", &["flow.yaml:3:", "NUL"]),
];

#[test]
fn each_kind_is_told_with_its_place_and_nothing_is_made() {
    for (text, parts) in WRONG {
        let world = world();
        world.write("flow.yaml", text);
        for command in ["check", "run", "plan"] {
            let ran = world.run([command]).exits(2).says(parts);
            assert_eq!(ran.stdout, "", "{command} of {text:?}");
            assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        }
        assert!(!world.path().join(".laminar").exists(), "{text:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: A\nlayers:\n  A: { runs: x }\n  B: { run: x, needs: [Z], timeout: soon }\n  'C C': { run: x }\n",
    );
    let ran = world.run(["check"]).exits(2);
    ran.says(&["runs", "`Z`", "soon", "C C"]);
}

#[test]
fn files_that_are_none_are_told_as_such() {
    let world = world();
    std::fs::create_dir(world.path().join("folder.yaml")).unwrap();
    world.write("latin1.yaml", b"flow: A\nlayers: # \xe9\n");
    world.write("nul.yaml", b"flow: A\0\n");
    world.write("flow.json", "{\"flow\": \"A\",\n \"layers\": {\"A\": {\"run\": \"x\"},}}");
    for (file, parts) in [
        ("folder.yaml", &["folder.yaml", "folder"][..]),
        ("nothing.yaml", &["nothing.yaml"]),
        ("latin1.yaml", &["latin1.yaml:2:", "UTF-8"]),
        ("nul.yaml", &["nul.yaml:1:8", "NUL"]),
        ("flow.json", &["flow.json:2:"]),
        ("/dev/zero", &["/dev/zero"]),
    ] {
        world.run(["check", file]).exits(2).says(parts);
    }
}

#[test]
fn bombs_are_defused() {
    let world = world();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    }
    world.write("bomb.yaml", format!("{bomb}flow: A\nlayers: {{ A: {{ run: x }} }}\n"));
    world.write("deep.yaml", format!("flow: {}", "[".repeat(100_000)));
    world.write("deep.json", format!("{{\"flow\": {}", "[".repeat(100_000)));
    for file in ["bomb.yaml", "deep.yaml", "deep.json"] {
        let ran = world.run(["check", file]).exits(2);
        assert!(ran.stderr.len() < 10_000, "{} bytes of messages", ran.stderr.len());
    }
}

#[test]
fn the_command_line_itself_is_checked() {
    let world = world();
    world.write("flow.yaml", "flow: A\nparameters: { seed: 7 }\nlayers:\n  A: { run: 'true' }\n");
    world.run(["run", "--parameter", "sed=1"]).exits(2).says(&["sed", "seed"]);
    world.run(["run", "--parameter", "seed=x"]).exits(2).says(&["seed"]);
    world.run(["run", "--parameter", "seed"]).exits(2);
    world.run(["run", "--backend", "lokal"]).exits(2).says(&["lokal", "local"]);
    world.run(["run", "--jobs", "0"]).exits(2);
    world.run(["run", "--memory", "much"]).exits(2);
    world.run(["rnu"]).exits(2);
    assert!(!world.path().join(".laminar").exists());
}

#[test]
fn many_problems_are_all_told_when_asked_for() {
    let world = world();
    let layers: String = (0..25).map(|n| format!("  L{n}: {{ rum: x }}\n")).collect();
    world.write("flow.yaml", format!("flow: A\nlayers:\n{layers}"));
    let some = world.run(["check"]).exits(2).says(&["`-v`", "`--json`"]);
    assert!(!some.stderr.contains("L24"), "{}", some.stderr);
    world.run(["check", "-v"]).exits(2).says(&["L24"]);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let world = world();
    world.write("flow.yaml", "flow: A\nlayers: { A: { run: 'true' } }\n");
    let mut command = world.command(["run"]);
    let child = command.env("LAMINAR_ROOT", "").env("LAMINAR_BACKEND", "").stderr(std::process::Stdio::piped()).spawn();
    let _ = finish(child.unwrap()).exits(0);
    assert!(world.path().join(".laminar").exists());
}

#[test]
fn wrong_options_get_no_misleading_tip() {
    let world = world();
    for (args, said) in [
        (&["run", "--jobs", "-1"][..], "-1 is not in 1"),
        (&["run", "--cpu", "-1"], "not a number of cores"),
        (&["logs", "-n", "5"], "unexpected argument '-n'"),
    ] {
        let ran = world.run(args).exits(2).says(&[said]);
        assert!(!ran.stderr.contains("tip:"), "{}", ran.stderr);
    }
    world.run(["run", "--job", "1"]).exits(2).says(&["--jobs"]);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told_with_a_way_out() {
    let world = world();
    world.write("flow.yaml", "flow: A\nlayers: { A: { run: 'true' } }\n");
    world.run(["run", "--root", "/sys/laminar"]).exits(3).says(&["cannot", "`--root DIR`"]);
}

#[test]
fn what_no_engine_could_run_is_told_before_there_is_an_execution() {
    let world = world();
    // No engine is asked for it, but one must be there.
    if world.run(["backends", "--json"]).json().iter().all(|it| it["name"] != "docker" || it["available"] != true) {
        laminar_tests::gaps::skip("docker", "what is told before an execution needs one");
        return;
    }
    world.write(
        "flow.yaml",
        "flow: Wrong\nlayers:\n  A: { run: 'true' }\n  B: { run: 'true', container: { image: 'laminar-test:none', pull: never, mounts: ['nodir:/x'] } }\n",
    );
    let ran = world.run(["run", "--backend", "docker"]).exits(2);
    ran.says(&["`container.image`", "`A`", "mount `nodir`", "laminar-test:none"]);
    assert!(!world.path().join(".laminar").exists(), "nothing was made");
}
