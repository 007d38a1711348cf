//! Layers that are asked whether they run: what is skipped with them, what runs all the same, and which states tell it apart.

use crate::world;
use laminar_tests::world::World;

fn state(world: &World, layer: &str) -> String {
    let status = world.run(["status", "--json"]).exits(0).document();
    let mut all = status["layers"].as_array().unwrap().iter();
    all.find(|it| it["layer"] == layer).unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_needs_a_skipped_layer_is_skipped_unless_it_is_asked_itself() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Asked
parameters: { go: false }
layers:
  Score: { run: 'echo "{\"value\": 0.5}" > "$LAMINAR_OUTPUTS/it.json"' }
  Good: { when: "${{ Score.it.value > 0.9 or parameters.go }}", run: 'echo good > "$LAMINAR_OUTPUTS/word"' }
  Behind: { needs: [Good], run: 'cat "$LAMINAR_INPUTS/Good/word"' }
  Further: { foreach: { i: [1, 2] }, needs: [Behind], run: "true" }
  Never: { when: "${{ Behind.state == 'finished' }}", needs: [Further], run: "true" }
  Always: { when: true, run: "echo ${{ Behind.state }} ${{ Further.state }} ${{ Good.word | default('none') }}" }
  Caught: { run: exit 3, catch: [3] }
  Last: { needs: [Always], run: "echo ${{ Caught.state }} ${{ Always.state }}" }
"#,
    );
    world.run(["run"]).exits(0);
    let states = |names: &[&str]| names.iter().map(|name| state(&world, name)).collect::<Vec<_>>();
    assert_eq!(states(&["Good", "Behind", "Further", "Never"]), ["skipped"; 4]);
    assert_eq!(states(&["Score", "Caught", "Always", "Last"]), ["finished", "caught", "finished", "finished"]);
    assert_eq!(world.run(["logs", "Always"]).exits(0).stdout, "skipped skipped none\n");
    assert_eq!(world.run(["logs", "Last"]).exits(0).stdout, "caught finished\n");

    world.run(["run", "--parameter", "go=true"]).exits(0);
    assert_eq!(states(&["Good", "Behind", "Further", "Never"]), ["finished"; 4]);
    let always = world.run(["logs", "Always"]).exits(0).stdout;
    assert!(always.starts_with("finished finished /") && always.ends_with("/Good/word\n"), "{always}");
}

#[test]
fn a_failure_is_not_overridden_and_a_condition_that_is_none_fails_its_layer() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Failing
on_failure: continue
layers:
  Bad: { run: exit 1 }
  All: { when: true, needs: [Bad], run: "true" }
  Text: { when: "${{ env.LAMINAR_NEVER_SET | default('yes') }}", run: "true" }
  Unset: { when: "${{ Left.nothing > 1 }}", run: "true" }
  Left: { run: "true" }
  Behind: { needs: [Text], run: "true" }
"#,
    );
    let ran = world.run(["run", "--json"]).exits(1);
    let reasons: Vec<_> = ran.json().into_iter().filter(|it| it["event"] == "layer_failed").collect();
    let why = |layer: &str| {
        let it = reasons.iter().find(|it| it["layer"] == layer).unwrap();
        it["reason"].as_str().unwrap().to_owned()
    };
    assert!(why("Text").contains("its value is the text `yes`, neither `true` nor `false`"), "{}", why("Text"));
    assert!(why("Unset").contains("`Left` left no `nothing`"), "{}", why("Unset"));
    let states: Vec<_> = ["Bad", "All", "Text", "Unset", "Behind"].iter().map(|name| state(&world, name)).collect();
    assert_eq!(states, ["failed", "cancelled", "failed", "failed", "cancelled"]);

    // Mended, it is asked again, and what was skipped or finished stays.
    let mended = world
        .read("flow.yaml")
        .replace("'yes'", "true")
        .replace("exit 1", "'true'")
        .replace(".nothing > 1", ".state == 'x'");
    world.write("flow.yaml", mended);
    world.run(["resume", "--update"]).exits(0);
    let states: Vec<_> = ["Bad", "All", "Text", "Unset", "Behind"].iter().map(|name| state(&world, name)).collect();
    assert_eq!(states, ["finished", "finished", "finished", "skipped", "finished"]);
}

#[test]
fn what_is_skipped_is_asked_again_when_what_it_needs_runs_again() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Again
layers:
  A: { run: 'cat answer > "$LAMINAR_OUTPUTS/answer.json"' }
  B: { when: "${{ A.answer }}", run: "echo b >> ran" }
  C: { needs: [B], run: "echo c >> ran" }
"#,
    );
    world.write("ran", "");
    world.write("answer", "false");
    world.run(["run"]).exits(0);
    assert_eq!((world.read("ran").as_str(), state(&world, "C").as_str()), ("", "skipped"));
    world.write("answer", "true");
    world.run(["resume"]).exits(0);
    assert_eq!(state(&world, "C"), "skipped", "nothing has changed in this execution");
    world.run(["resume", "--from", "A"]).exits(0);
    assert_eq!((world.read("ran").as_str(), state(&world, "C").as_str()), ("b\nc\n", "finished"));
}
