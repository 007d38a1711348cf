//! Flows that run: what they leave, in which order, and how they end.

use std::path::Path;

use crate::world;

#[test]
fn the_example_tells_irises_apart() {
    let world = world();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iris/flow.yaml");
    world.run([Path::new("run"), &example]).exits(0);
    let report = world.run(["cat", "Report/report.txt"]).exits(0).stdout;
    assert!(report.contains("right: 43 of 45 (95.6 %)"), "{report}");
    assert!(report.contains("Nearest centroid"), "{report}");
    assert_eq!(world.run(["logs", "Report"]).exits(0).stdout, report, "tee wrote the same to the log");
    assert!(!example.with_file_name(".laminar").exists(), "state lives in the current folder");

    let with = world.run([Path::new("run"), &example, Path::new("--parameter"), Path::new("neighbours=1")]);
    with.exits(0);
    assert!(world.run(["cat", "Report/report.txt"]).stdout.contains("Nearest 1 neighbours"));
    let first = world.run(["list", "--json"]).exits(0).json();
    assert_eq!(first.len(), 2);
    world.is_quiet();
}

#[test]
fn the_example_chooses_among_forty_eight_fits() {
    let world = world();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/selection/flow.yaml");
    world.run([Path::new("run"), &example]).exits(0);
    let report = world.run(["cat", "Report/report.txt"]).exits(0).stdout;
    assert!(report.contains("13\tmanhattan\t0.9750"), "{report}");
    assert!(report.contains("Best: 13 neighbours, manhattan\nOn unseen flowers: 1.0\n"), "{report}");
    assert_eq!(world.run(["artifacts", "Fit", "--json"]).exits(0).json().len(), 48);

    let few = ["--parameter", "neighbours=[2, 4]", "--parameter", "good_enough=0.99"].map(Path::new);
    world.run([&[Path::new("run"), &example], &few[..]].concat()).exits(0);
    let report = world.run(["cat", "Report/report.txt"]).exits(0).stdout;
    assert!(report.ends_with("Not good enough to go on\n"), "{report}");
    world.is_quiet();
}

#[test]
fn a_layer_gets_the_protocol_and_nothing_of_the_callers_laminar() {
    let world = world();
    world.write("flow.yaml", "flow: Protocol\nlayers:\n  A:\n    run: env | sort | grep -e ^LAMINAR_ -e ^MINE; pwd; ls -A \"$LAMINAR_OUTPUTS\" | wc -l\n");
    world
        .command(["run"])
        .env("LAMINAR_LAYER_NAME", "Stranger")
        .env("LAMINAR_X", "1")
        .env("MINE", "kept")
        .status()
        .unwrap();
    let log = world.run(["logs", "A"]).exits(0).stdout;
    let names: Vec<_> = log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "LAMINAR_EXECUTION_ID",
            "LAMINAR_FLOW_NAME",
            "LAMINAR_INPUTS",
            "LAMINAR_LAYER_ATTEMPT",
            "LAMINAR_LAYER_INDEX",
            "LAMINAR_LAYER_NAME",
            "LAMINAR_LAYER_SPLITS",
            "LAMINAR_OUTPUTS",
            "MINE",
        ]
    );
    assert!(log.contains("LAMINAR_LAYER_NAME=A\n") && log.contains("LAMINAR_LAYER_SPLITS=1\n"));
    let tail: Vec<_> = log.lines().rev().take(2).collect();
    assert_eq!(tail[0].trim(), "0", "the outputs folder is empty");
    assert_eq!(Path::new(tail[1]).canonicalize().unwrap(), world.path().canonicalize().unwrap());
}

#[test]
fn a_hostile_parameter_stays_one_word() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Hostile
parameters: { name: x, list: [1, 2] }
layers:
  Script:
    run: |
      printf '<%s>\n' ${{ parameters.name }} "in ${{ parameters.name }} quotes" ${{ parameters.list }}
      cat <<EOF
      here ${{ parameters.name }}
      EOF
  Argv:
    command: [printf, '<%s>\n', "${{ parameters.name }}", "a ${{ parameters.list }} b"]
  Env:
    env: { NAME: "${{ parameters.name }}!" }
    run: printf '<%s>\n' "$NAME"
"#,
    );
    let hostile = "; touch pwned $(touch pwned) `touch pwned` \" ' \\ * -rf é\n$HOME";
    world.run(["run", "--parameter", &format!("name={hostile}")]).exits(0);
    let script = world.run(["logs", "Script"]).stdout;
    assert!(script.contains(&format!("<{hostile}>\n<in {hostile} quotes>\n<[1,2]>\n")), "{script}");
    assert!(script.contains(&format!("here {hostile}\n")), "{script}");
    assert_eq!(world.run(["logs", "Argv"]).stdout, format!("<{hostile}>\n<a [1,2] b>\n"));
    assert_eq!(world.run(["logs", "Env"]).stdout, format!("<{hostile}!>\n"));
    assert!(!world.path().join("pwned").exists());
}

#[test]
fn a_failure_is_told_with_its_cause_and_the_end_of_its_log() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Fails
layers:
  Good: { run: echo fine }
  Bad: { needs: [Good], run: 'echo this is why; printf \"\\033[31mred\"; exit 7' }
  After: { needs: [Bad], run: touch after }
",
    );
    let ran = world.run(["run"]).exits(1).says(&["Bad", "exit code 7", "this is why"]);
    assert!(!ran.stderr.contains('\u{1b}'), "escape sequences of a log are neutralised: {}", ran.stderr);
    assert!(!world.path().join("after").exists());
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("Bad") && status.contains("failed") && status.contains("cancelled"), "{status}");
    assert_eq!(world.run(["logs", "Bad"]).stdout, "this is why\n\u{1b}[31mred");
}

#[test]
fn on_failure_continue_runs_what_does_not_need_the_failed_layer() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Goes
on_failure: continue
layers:
  Bad: { run: exit 1 }
  Needs: { needs: [Bad], run: touch needs }
  First: { run: 'true' }
  Other: { needs: [First], run: touch other }
",
    );
    world.run(["run", "--jobs", "1"]).exits(1);
    assert!(world.path().join("other").exists() && !world.path().join("needs").exists());
}

#[test]
fn a_retry_counts_and_a_caught_code_finishes() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Retries
layers:
  Third:
    retry: { attempts: 3, delay: 1ms }
    run: |
      echo attempt ${{ attempt }}
      echo \"$LAMINAR_LAYER_ATTEMPT\" > \"$LAMINAR_OUTPUTS/attempt\"
      [ ${{ attempt }} = 3 ]
  Caught: { catch: [3, 4], run: 'echo partial > \"$LAMINAR_OUTPUTS/note\"; exit 4' }
  After: { needs: [Third, Caught], run: 'cat \"$LAMINAR_INPUTS\"/*/*' }
",
    );
    world.run(["run"]).exits(0);
    assert_eq!(world.run(["logs", "After"]).stdout, "partial\n3\n");
    assert_eq!(world.run(["logs", "Third"]).stdout, "attempt 3\n");
    assert_eq!(world.run(["logs", "Third", "--attempt", "1"]).stdout, "attempt 1\n");
    assert!(world.run(["status"]).stdout.contains("caught"));
}

#[test]
fn a_timeout_ends_the_whole_tree() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Slow
layers:
  Slow: { timeout: 200ms, run: 'setsid sleep 1000 & sleep 1000' }
",
    );
    world.run(["run"]).exits(1).says(&["timed out"]);
    world.is_quiet();
}

#[test]
fn hostile_outputs_are_refused_with_a_reason_and_kept() {
    let world = world();
    world.write("flow.yaml", "
flow: Hostile
on_failure: continue
layers:
  Fifo: { run: 'mkfifo \"$LAMINAR_OUTPUTS/pipe\"' }
  Link: { run: 'ln -s /etc/passwd \"$LAMINAR_OUTPUTS/passwd\"' }
  Newline: { run: 'touch \"$LAMINAR_OUTPUTS/$(printf \"a\\nb\")\"' }
  Fine: { run: 'mkdir \"$LAMINAR_OUTPUTS/empty\"; echo x > \"$LAMINAR_OUTPUTS/ü –\"; truncate -s 1G \"$LAMINAR_OUTPUTS/sparse\"' }
  Promised: { outputs: [model.bin], run: 'true' }
");
    let ran = world.run(["run"]).exits(1);
    let ran = ran.says(&["pipe", "fifo", "passwd", "a\\nb", "model.bin"]);
    assert!(!ran.stderr.contains("root:"), "nothing of the linked file shows");
    let names: Vec<_> = world
        .run(["artifacts", "Fine", "--json"])
        .exits(0)
        .json()
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["empty", "sparse", "ü –"]);
}

#[test]
fn a_folder_artifact_is_handed_on_whole() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Folders
layers:
  Make:
    run: |
      mkdir -p \"$LAMINAR_OUTPUTS/set/deep\"
      printf 'raw \\377 bytes' > \"$LAMINAR_OUTPUTS/set/deep/file\"
      printf '#!/bin/sh\\necho ran\\n' > \"$LAMINAR_OUTPUTS/set/tool\"
      chmod +x \"$LAMINAR_OUTPUTS/set/tool\"
      ln -s deep/file \"$LAMINAR_OUTPUTS/set/link\"
  Use: { needs: [Make], run: 'cd \"$LAMINAR_INPUTS/Make/set\"; ./tool; cmp link deep/file; ls' }
",
    );
    world.run(["run"]).exits(0);
    assert_eq!(world.run(["logs", "Use"]).stdout, "ran\ndeep\nlink\ntool\n");
    assert_eq!(world.run(["cat", "Make/set/deep/file"]).exits(0).bytes, b"raw \xff bytes");
}

#[test]
fn never_more_than_jobs_at_once() {
    let world = world();
    let layers: String = (0..12).map(|n| format!(
        "  L{n}: {{ run: 'mkdir busy.$LAMINAR_LAYER_NAME; ls -d busy.* | wc -l >> counts; sleep 0.02; rmdir busy.$LAMINAR_LAYER_NAME' }}\n"
    )).collect();
    world.write("flow.yaml", format!("flow: Jobs\nlayers:\n{layers}"));
    world.run(["run", "--jobs", "3"]).exits(0);
    let counts: Vec<u32> = world.read("counts").lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), 12);
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
}

#[test]
fn a_layer_that_asks_for_more_than_there_is_is_told_before_anything_runs() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Big
layers:
  Small: { run: touch ran }
  Big: { container: { cpu: 64, memory: 4TiB }, run: 'true' }
",
    );
    world.run(["run", "--cpu", "2", "--memory", "1GiB"]).exits(2).says(&["Big", "cpu", "64", "memory"]);
    assert!(!world.path().join("ran").exists());
}

#[test]
fn what_local_cannot_enforce_is_said_once_and_strict_makes_it_an_error() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Containers
defaults: { container: { image: 'debian:12', network: none } }
layers:
  A: { run: touch ran }
  B: { run: 'true' }
",
    );
    world.run(["run", "--strict"]).exits(2).says(&["image", "network"]);
    assert!(!world.path().join("ran").exists());
    let ran = world.run(["run"]).exits(0).says(&["image", "network"]);
    assert_eq!(ran.stderr.matches("network").count(), 1, "{}", ran.stderr);
}

#[test]
fn a_dry_run_leaves_nothing() {
    let world = world();
    world.write("flow.yaml", "flow: Dry\nlayers:\n  A: { run: touch ran }\n");
    world.run(["run", "--dry-run"]).exits(0);
    assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 1);
}

#[test]
fn a_big_output_arrives_whole_and_in_order() {
    let world = world();
    world.write("flow.yaml", "
flow: Loud
layers:
  Loud: { run: 'seq 1 400000; echo to stderr >&2; echo reopened > /dev/stderr; head -c 5000000 /dev/zero | tr \"\\0\" x; printf end' }
");
    world.run(["run"]).exits(0);
    let log = world.run(["logs", "Loud"]).exits(0).stdout;
    let mut expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    expected.push_str("to stderr\nreopened\n");
    expected.push_str(&"x".repeat(5_000_000));
    expected.push_str("end");
    assert!(log == expected, "{} bytes instead of {}", log.len(), expected.len());
}

#[test]
fn a_program_that_is_not_there_is_told_as_such() {
    let world = world();
    world.write(
        "flow.yaml",
        "
flow: Missing
on_failure: continue
layers:
  NoSuch: { command: [no-such-program-here] }
  NotExec: { command: [./flow.yaml] }
",
    );
    world.run(["run"]).exits(1).says(&["no-such-program-here", "not found", "not executable"]);
}

/// Short layers are handed to the supervisor before there is a place for them; a failure must end that, too.
#[test]
fn after_a_failure_nothing_starts_that_had_no_place_yet() {
    let world = world();
    for failed in [60, 61, 99] {
        let layer = |number: u32| {
            let then = if number == failed { "exit 3" } else { "true" };
            format!("  L{number}:\n    run: echo {number} >> ran; {then}\n")
        };
        world.write("flow.yaml", format!("flow: Line\nlayers:\n{}", (0..120).map(layer).collect::<String>()));
        world.run(["run", "--jobs", "1", "-q"]).exits(1);
        let ran = world.read("ran");
        let ran: Vec<u32> = ran.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(ran, (0..=failed).collect::<Vec<_>>());
        let states = world.run(["status", "--json"]).exits(0).stdout;
        assert!(states.contains("cancelled"), "{states}");
        std::fs::remove_file(world.path().join("ran")).unwrap();
    }
    world.is_quiet();
}

#[test]
fn a_script_that_is_one_plain_command_ends_as_a_shell_would_tell() {
    let world = world();
    let program = |name: &str, text: &str| {
        let path = world.write(name, text);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    program("parent", "#!/bin/sh\ncat /proc/$PPID/comm; printf '%s|' \"$@\"; echo\n");
    program("die", "#!/bin/sh\nkill -SEGV $$\n");
    program("odd", "echo no interpreter named\n");
    world.write(
        "flow.yaml",
        "flow: Plain\non_failure: continue\nlayers:\n  Alone: {run: './parent --a=1  b'}\n  Shell: {run: './parent x; true'}\n  \
         Die: {run: ./die}\n  Odd: {run: ./odd}\n  Absent: {run: ./no-such-program}\n",
    );
    world.run(["run", "flow.yaml"]).exits(1);
    let log = |layer: &str| world.run(["logs", layer]).exits(0).stdout;
    assert_eq!(log("Alone"), "laminar-super\n--a=1|b|\n");
    assert_eq!(log("Shell"), "sh\nx|\n");
    assert_eq!(log("Odd"), "no interpreter named\n");
    assert!(log("Absent").contains("not found"), "in the shell's words");
    let status = world.run(["status"]).stdout;
    for said in ["exit code 139 (SIGSEGV)", "exit code 127"] {
        assert!(status.contains(said), "{said} in {status}");
    }
    world.is_quiet();
}
