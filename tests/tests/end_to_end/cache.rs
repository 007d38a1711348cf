//! Layers that do not run again when they would do the same.

use crate::world;
use laminar_tests::world::World;

fn states(world: &World) -> Vec<(String, u64, String)> {
    let status = world.run(["status", "--json"]).exits(0).document();
    let all = status["layers"].as_array().unwrap().iter().map(|it| {
        let text = |key: &str| it[key].as_str().unwrap().to_owned();
        (text("layer"), it["index"].as_u64().unwrap(), text("state"))
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

fn state(world: &World, layer: &str) -> String {
    states(world).into_iter().find(|(name, ..)| name == layer).unwrap().2
}

const FLOW: &str = r#"
flow: Cached
parameters: { seed: 1 }
defaults: { cache: true }
layers:
  Data: { cache: { sources: [data, lib] }, run: 'cat data lib/* > "$LAMINAR_OUTPUTS/data"; echo Data >> ran' }
  Fit: { run: 'cat "$LAMINAR_INPUTS/Data/data" > "$LAMINAR_OUTPUTS/model"; echo ${{ parameters.seed }} >> "$LAMINAR_OUTPUTS/model"; echo Fit >> ran', needs: [Data], env: { X: "${{ env.WORD | default('') }}" } }
  Note: { cache: false, needs: [Fit], run: 'cat "$LAMINAR_INPUTS/Fit/model"; echo Note >> ran' }
"#;

#[test]
fn what_did_the_same_before_does_not_run_again() {
    let world = world();
    world.write("flow.yaml", FLOW);
    world.write("data", "data\n");
    world.write("lib/a", "a\n");
    let run = |arguments: &[&str]| {
        world.write("ran", "");
        world.command([&["run"], arguments].concat()).env("WORD", "w").status().unwrap();
        world.read("ran").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(run(&[]), ["Data", "Fit", "Note"]);
    assert_eq!(run(&[]), ["Note"]);
    assert_eq!(world.run(["logs", "Note"]).exits(0).stdout, "data\na\n1\n");
    assert_eq!((state(&world, "Data").as_str(), state(&world, "Note").as_str()), ("cached", "finished"));
    assert_eq!(world.run(["cat", "Fit/model"]).exits(0).stdout, "data\na\n1\n");
    assert_eq!(run(&["--parameter", "seed=2"]), ["Data", "Fit", "Note"], "a layer can see all parameters");
    assert_eq!(run(&["--parameter", "seed=2"]), ["Note"]);
    assert_eq!(run(&[]), ["Note"], "the first run is still known");
    world.write("lib/b", "b\n");
    assert_eq!(run(&[]), ["Data", "Fit", "Note"], "a source");
    std::fs::remove_file(world.path().join("lib/b")).unwrap();
    assert_eq!(run(&[]), ["Note"]);
    world.write("lib/a", "a\n");
    assert_eq!(run(&[]), ["Note"], "the same again");
    world.write("flow.yaml", FLOW.replace("cat data lib/*", "cat  data lib/*"));
    assert_eq!(run(&[]), ["Data", "Note"], "another command that leaves the same: what follows is found");
    world.write("flow.yaml", FLOW);
    world.write("ran", "");
    world.command(["run"]).env("WORD", "other").status().unwrap();
    assert_eq!(world.read("ran"), "Fit\nNote\n", "a variable");
    world.is_quiet();
}

#[test]
fn nothing_is_taken_from_what_failed_was_caught_or_is_damaged() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Bad
on_failure: continue
defaults: { cache: true }
layers:
  Fails: { run: 'echo x > "$LAMINAR_OUTPUTS/x"; exit 1' }
  Caught: { run: 'echo y > "$LAMINAR_OUTPUTS/y"; exit 3', catch: [3] }
  Good: { run: 'echo a long enough text > "$LAMINAR_OUTPUTS/z"; echo good >> ran' }
  Lost: { cache: { sources: [absent] }, run: "true" }
"#,
    );
    world.write("ran", "");
    world.run(["run"]).exits(1).says(&["`Lost` cannot be looked for in the cache: cannot read the source", "absent"]);
    world.run(["run"]).exits(1);
    let told: Vec<String> = states(&world).into_iter().map(|(.., state)| state).collect();
    assert_eq!(told, ["caught", "failed", "cached", "finished"]);
    assert_eq!(world.read("ran"), "good\n");

    // Whoever writes through a link changes the object.
    let view = world.path().join(".laminar/objects");
    let mut damaged = 0;
    for folder in std::fs::read_dir(view).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for object in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if std::fs::read(&object).is_ok_and(|bytes| bytes == b"a long enough text\n") {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                std::fs::set_permissions(&object, mode).unwrap();
                std::fs::write(&object, "a long enough lie!\n").unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    world.run(["run"]).exits(1);
    assert_eq!((world.read("ran").as_str(), state(&world, "Good").as_str()), ("good\ngood\n", "finished"));
    assert_eq!(world.run(["cat", "Good/z"]).exits(0).stdout, "a long enough text\n");

    // Without its memory it runs, and remembers anew.
    std::fs::write(world.path().join(".laminar/cache.db"), "this is no database").unwrap();
    world.run(["run"]).exits(1);
    world.run(["run"]).exits(1);
    assert_eq!((world.read("ran").as_str(), state(&world, "Good").as_str()), ("good\ngood\ngood\n", "cached"));
}

#[test]
fn what_is_asked_to_run_again_runs_and_what_follows_is_looked_for() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Asked
defaults: { cache: true }
layers:
  A: { foreach: { i: [0, 1] }, run: 'echo a${{ each.i }} >> ran; echo ${{ each.i }} > "$LAMINAR_OUTPUTS/i.json"' }
  B: { run: "echo b >> ran; echo ${{ A.i | sum }}" }
"#,
    );
    let ran = |arguments: &[&str]| {
        world.write("ran", "");
        world.run(arguments).exits(0);
        let mut ran: Vec<String> = world.read("ran").split_whitespace().map(str::to_owned).collect();
        ran.sort();
        ran
    };
    assert_eq!(ran(&["run"]), ["a0", "a1", "b"]);
    assert_eq!(ran(&["resume", "--from", "A"]), ["a0", "a1"], "it left the same, so what follows is found");
    assert_eq!(ran(&["resume", "--from", "A[1]"]), ["a1"]);
    assert_eq!(ran(&["run"]), Vec::<String>::new());
}

#[test]
fn what_a_layer_does_not_look_at_can_be_left_out() {
    let world = world();
    let ran = |values: &str, seed: &str| {
        world.write(
            "flow.yaml",
            format!("flow: Some\nparameters: {{ seed: 1, other: 1 }}\nlayers:\n  A: {{ cache: {{ ignore: [parameters, splits] }}, foreach: {{ i: {values} }}, run: 'echo ${{{{ each.i }}}} ${{{{ parameters.seed }}}} >> ran' }}\n"),
        );
        world.write("ran", "");
        world.run(["run", "--jobs", "1", "--parameter", seed]).exits(0);
        world.read("ran")
    };
    assert_eq!(ran("[1, 2]", "seed=1").lines().count(), 2);
    assert_eq!(ran("[1, 2, 3]", "seed=1"), "3 1\n", "one more");
    assert_eq!(ran("[1, 2, 3]", "other=2"), "", "nothing names it");
    assert_eq!(ran("[1, 2, 3]", "seed=2").lines().count(), 3, "this one is named");
    assert_eq!(ran("[2, 1, 3]", "seed=1").lines().count(), 2, "the index counts");
}

#[test]
fn removing_who_took_from_the_cache_takes_nothing_from_who_ran() {
    let world = world();
    world.write("flow.yaml", "flow: Held\nlayers:\n  A: { cache: true, run: 'echo x > \"$LAMINAR_OUTPUTS/x\"' }\n");
    world.run(["run"]).exits(0);
    world.run(["run"]).exits(0);
    assert_eq!(state(&world, "A"), "cached");
    world.run(["rm", "latest"]).exits(0);
    world.run(["run"]).exits(0);
    assert_eq!(state(&world, "A"), "cached");
    // Once who ran has gone, those who took it from there have it.
    let ids: Vec<String> =
        world.run(["list", "--json"]).exits(0).json().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    world.run(["rm", &ids[1]]).exits(0);
    world.run(["run"]).exits(0);
    assert_eq!(state(&world, "A"), "cached");
}

/// Of what an update has changed an equal run is welcome; whoever names a layer wants it to run.
#[test]
fn a_named_layer_runs_also_when_the_flow_is_updated() {
    let world = world();
    let flow = |text: &str| {
        format!(
            "flow: Named\ndefaults: {{ cache: true }}\nlayers:\n  A: {{ run: 'echo A >> ran' }}\n  \
             B: {{ needs: [A], run: 'echo {text} >> ran' }}\n"
        )
    };
    for text in ["one", "two"] {
        world.write("flow.yaml", flow(text));
        world.run(["run"]).exits(0);
    }
    assert_eq!(world.read("ran"), "A\none\ntwo\n");
    world.write("flow.yaml", flow("one"));
    world.run(["resume", "--update"]).exits(0);
    assert_eq!((world.read("ran").as_str(), state(&world, "B").as_str()), ("A\none\ntwo\n", "cached"));
    world.write("flow.yaml", flow("two"));
    world.run(["resume", "--update", "--from", "A"]).exits(0);
    assert_eq!((state(&world, "A").as_str(), state(&world, "B").as_str()), ("finished", "cached"));
    world.write("flow.yaml", flow("one"));
    world.run(["resume", "--update", "--from", "B"]).exits(0);
    assert_eq!(world.read("ran"), "A\none\ntwo\nA\none\n");
}

#[test]
fn splits_are_cached_one_by_one() {
    let world = world();
    let flow = |values: &str| {
        world.write(
            "flow.yaml",
            format!("flow: Splits\nlayers:\n  A: {{ cache: true, foreach: {{ i: {values} }}, run: 'echo ${{{{ each.i }}}} >> ran; echo ${{{{ each.i }}}} > \"$LAMINAR_OUTPUTS/i.json\"' }}\n  Sum: {{ run: \"echo ${{{{ A.i | sum }}}}\" }}\n"),
        );
        world.write("ran", "");
        world.run(["run", "--jobs", "1"]).exits(0);
        let mut ran: Vec<String> = world.read("ran").split_whitespace().map(str::to_owned).collect();
        ran.sort();
        (ran, world.run(["logs", "Sum"]).exits(0).stdout)
    };
    assert_eq!(flow("[1, 2, 3]"), (["1", "2", "3"].map(str::to_owned).to_vec(), "6\n".to_owned()));
    assert_eq!(flow("[1, 2, 4]"), (vec!["4".to_owned()], "7\n".to_owned()));
    assert_eq!(flow("[1, 2, 3]"), (Vec::new(), "6\n".to_owned()));
}
