//! Layers that are fanned out: over what, in which order, what their splits are given, and how they fail and go on.

use serde_json::{Value, json};

use crate::world;
use laminar_tests::world::World;

/// Runs a flow that ends well, and gives the log of its layer `Join`.
fn joined(world: &World, flow: &str) -> String {
    world.write("flow.yaml", flow);
    world.run(["run"]).exits(0);
    world.run(["logs", "Join"]).exits(0).stdout
}

#[test]
fn a_grid_is_a_product_in_which_the_last_name_varies_fastest() {
    let world = world();
    let said = joined(
        &world,
        r#"
flow: Grid
parameters: { letters: [x, y, z], options: { deep: true } }
layers:
  A:
    foreach: { number: [1, 2], letter: "${{ parameters.letters }}", options: "${{ parameters.options }}" }
    env: { OPTIONS: "${{ each.options }}" }
    run: |
      echo ${{ each.number }}${{ each.letter }} ${{ index }}/${{ splits }} \
        "$LAMINAR_LAYER_INDEX/$LAMINAR_LAYER_SPLITS $OPTIONS $(cat "$LAMINAR_EACH")" > "$LAMINAR_OUTPUTS/said"
  Join: { needs: [A], run: 'cd "$LAMINAR_INPUTS/A/said"; for at in *; do echo "$at: $(cat $at)"; done' }
"#,
    );
    let line = |at: usize, number: u32, letter: &str| {
        let each = json!({"number": number, "letter": letter, "options": {"deep": true}});
        format!("{at}: {number}{letter} {at}/6 {at}/6 {{\"deep\":true}} {each}\n")
    };
    let pairs = [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")];
    let expected: String = pairs.iter().enumerate().map(|(at, (number, letter))| line(at, *number, letter)).collect();
    assert_eq!(said, expected);
}

#[test]
fn indices_have_zeros_in_front_so_that_a_glob_keeps_their_order() {
    let world = world();
    let said = joined(
        &world,
        r#"
flow: Order
layers:
  Numbers: { run: "seq -s, 0 10 | sed 's/.*/[&]/' > $LAMINAR_OUTPUTS/all.json" }
  A: { foreach: { n: "${{ Numbers.all }}" }, run: 'echo "{\"n\": ${{ each.n }}}" > $LAMINAR_OUTPUTS/it.json' }
  Join:
    run: |
      ls "$LAMINAR_INPUTS/A/it.json/" | tr '\n' ' '
      cat "$LAMINAR_INPUTS"/A/it.json/* | tr '\n' ' '
      echo ${{ A.it | length }} ${{ (A.it | first).n }} ${{ (A.it | last).n }}
"#,
    );
    let numbers: Vec<String> = (0..=10).map(|n| format!("{n:02}")).collect();
    let contents: Vec<String> = (0..=10).map(|n| format!("{{\"n\": {n}}}")).collect();
    assert_eq!(said, format!("{} {} 11 0 10\n", numbers.join(" "), contents.join(" ")));
}

#[test]
fn a_folder_is_fanned_out_over_its_entries_and_a_chain_goes_one_to_one() {
    let world = world();
    let said = joined(
        &world,
        r#"
flow: Chain
layers:
  Split:
    run: |
      mkdir -p "$LAMINAR_OUTPUTS/parts/c"
      printf one > "$LAMINAR_OUTPUTS/parts/a b.txt"
      printf two > "$LAMINAR_OUTPUTS/parts/b.txt"
      printf three > "$LAMINAR_OUTPUTS/parts/c/deep.txt"
  Fit:
    foreach: { part: "${{ Split.parts }}" }
    run: |
      find ${{ each.part }} -type f -exec cat {} + | tr a-z A-Z > "$LAMINAR_OUTPUTS/model.bin"
      printf '{"at": %d}' ${{ index }} > "$LAMINAR_OUTPUTS/report.json"
  Score:
    foreach: { model: "${{ Fit['model.bin'] }}", report: "${{ Fit.report }}", twice: [first, second] }
    command: [sh, -c, 'echo "$(cat "$1") $2 $3" > "$LAMINAR_OUTPUTS/line"', sh, "${{ each.model }}", "${{ each.report.at }}", "${{ each.twice }}"]
  Join: { needs: [Score], run: 'cat "$LAMINAR_INPUTS"/Score/line/*' }
"#,
    );
    assert_eq!(said, "ONE 0 first\nONE 0 second\nTWO 1 first\nTWO 1 second\nTHREE 2 first\nTHREE 2 second\n");
    let listed = world.run(["artifacts", "Score", "--json"]).exits(0).json();
    assert_eq!(listed.len(), 6);
    assert_eq!(world.run(["cat", "Score[3]/line"]).exits(0).stdout, "TWO 1 second\n");
    assert_eq!(world.run(["logs", "Fit[1]"]).exits(0).stdout, "");
}

#[test]
fn no_split_at_all_is_a_finished_layer_with_empty_artifacts() {
    let world = world();
    let said = joined(
        &world,
        r#"
flow: None
layers:
  List: { run: 'echo "[]" > "$LAMINAR_OUTPUTS/all.json"; mkdir "$LAMINAR_OUTPUTS/files"' }
  A: { foreach: { x: "${{ List.all }}" }, run: exit 1, outputs: [model, score.json] }
  B: { foreach: { x: "${{ List.files }}", y: [1, 2] }, run: exit 1 }
  C: { foreach: { m: "${{ A.model }}", s: "${{ A.score }}" }, run: exit 1 }
  Join:
    needs: [B, C]
    run: |
      ls "$LAMINAR_INPUTS/A" | tr '\n' ' '
      for file in "$LAMINAR_INPUTS"/A/model/*; do test -e "$file" && echo "$file"; done
      echo ${{ A.score }} ${{ A.score | length }} ${{ A.state }} ${{ C.state }}
"#,
    );
    assert_eq!(said, "model score.json [] 0 finished finished\n");
    let status = world.run(["status", "--json"]).exits(0).document();
    assert_eq!(status["state"], "finished");
}

#[test]
fn splits_fail_and_are_tried_again_one_by_one_and_only_they_run_on_resume() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Some
on_failure: continue
layers:
  A:
    foreach: { i: [0, 1, 2, 3, 4, 5] }
    retry: { attempts: 2, delay: 1ms }
    run: |
      echo ${{ each.i }}.${{ attempt }} >> ran
      test ${{ each.i }} != 4 || test ${{ attempt }} = 2
      test ${{ each.i }} != 2 || test -e mended
      echo ${{ each.i }} > "$LAMINAR_OUTPUTS/i"
  Beside: { run: "true" }
  Join: { needs: [A], run: 'cat "$LAMINAR_INPUTS"/A/i/*' }
"#,
    );
    world.run(["run", "--jobs", "1"]).exits(1);
    assert_eq!(world.read("ran").split_whitespace().count(), 8, "{}", world.read("ran"));
    let states = |world: &World| -> Vec<(String, u64, String)> {
        let status = world.run(["status", "--json"]).exits(0).document();
        let mut all: Vec<_> = status["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                let text = |key: &str| it[key].as_str().unwrap().to_owned();
                (text("layer"), it["index"].as_u64().unwrap(), text("state"))
            })
            .filter(|(layer, ..)| layer == "A" || layer == "Join")
            .collect();
        all.sort();
        all
    };
    let failed: Vec<_> = states(&world).into_iter().filter(|(.., state)| state == "failed").collect();
    assert_eq!(failed, [("A".to_owned(), 2, "failed".to_owned())]);
    assert!(states(&world).contains(&("Join".to_owned(), 0, "cancelled".to_owned())));

    world.write("mended", "");
    world.write("ran", "");
    world.run(["resume"]).exits(0);
    assert_eq!(world.read("ran"), "2.3\n");
    assert_eq!(world.run(["logs", "Join"]).exits(0).stdout, "0\n1\n2\n3\n4\n5\n");
    world.is_quiet();
}

#[test]
fn at_most_so_many_splits_of_a_layer_run_at_once_and_others_are_not_held_up() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Narrow
layers:
  A:
    foreach: { i: [0, 1, 2, 3, 4, 5, 6, 7] }
    max_parallel: 2
    run: |
      mkdir a.$LAMINAR_LAYER_INDEX
      ls -d a.* | wc -l >> seen
      # Until all of the others have started.
      until test -e b.0 -a -e b.1 -a -e b.2; do sleep 0.01; done
      rmdir a.$LAMINAR_LAYER_INDEX
  B: { foreach: { i: [0, 1, 2] }, run: "touch b.$LAMINAR_LAYER_INDEX" }
"#,
    );
    world.run(["run", "--jobs", "5"]).exits(0);
    let seen: Vec<u32> = world.read("seen").split_whitespace().map(|line| line.parse().unwrap()).collect();
    assert_eq!((seen.len(), seen.iter().max()), (8, Some(&2)), "{seen:?}");
}

#[test]
fn each_attempt_of_each_split_has_settings_of_its_own() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Sized
on_failure: continue
parameters: { least: 100 }
layers:
  Time: { foreach: { ms: [100, 60000] }, timeout: "${{ each.ms }}ms", run: "test ${{ each.ms }} = 60000 || exec sleep 100" }
  Grow:
    retry: { attempts: 3, delay: 1ms }
    container: { memory: "${{ parameters.least * attempt }}MiB", cpu: "${{ [attempt, 2] | min }}" }
    run: test ${{ attempt }} = 3
  Much: { foreach: { cpu: [1, 2, 3, none] }, container: { cpu: "${{ each.cpu }}" }, run: "true" }
"#,
    );
    world.run(["run", "--cpu", "2", "--memory", "1GiB"]).exits(1);
    let status = world.run(["status", "--json"]).exits(0).document();
    let of = |layer: &str, index: u64| -> Value {
        let mut all = status["layers"].as_array().unwrap().iter();
        all.find(|it| it["layer"] == layer && it["index"] == index).unwrap().clone()
    };
    assert_eq!((&of("Time", 0)["state"], &of("Time", 1)["state"]), (&json!("failed"), &json!("finished")));
    assert!(of("Time", 0)["exit"]["cause"].to_string().contains("timed_out"), "{}", of("Time", 0));
    assert_eq!((&of("Grow", 0)["state"], &of("Grow", 0)["attempt"]), (&json!("finished"), &json!(3)));
    assert_eq!((&of("Much", 1)["state"], &of("Much", 2)["state"]), (&json!("finished"), &json!("failed")));
    let why = |index| of("Much", index)["exit"]["evidence"].as_str().unwrap_or_default().to_owned();
    assert!(why(2).contains("`container.cpu` is 3, and there is 2 to share out"), "{}", why(2));
    assert!(why(3).contains("`cpu` is `none`, no number"), "{}", why(3));
}

#[test]
fn what_cannot_be_fanned_out_is_told_and_mended_on_resume() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Wrong
on_failure: continue
layers:
  A: { foreach: { i: [0, 1, 2] }, run: 'test $LAMINAR_LAYER_INDEX = 1 || touch "$LAMINAR_OUTPUTS/a"; touch "$LAMINAR_OUTPUTS/b"' }
  Zip: { foreach: { a: "${{ A.a }}", b: "${{ A.b }}" }, run: "true" }
  Scalar: { foreach: { a: "${{ Text.text2 | default(3) }}", b: x }, run: "true" }
  Absent: { foreach: { a: "${{ A.c }}" }, run: "true" }
  Text: { run: 'echo "no json" > "$LAMINAR_OUTPUTS/text.json"' }
  Broken: { foreach: { a: "${{ Text.text }}" }, run: "true" }
  Name: { foreach: { a: "${{ Text.text2 | default([1, 2]) }}" }, run: "echo ${{ each.a }}" }
"#,
    );
    let ran = world.run(["run", "--json"]).exits(1);
    let failed: Vec<(String, String)> = ran
        .json()
        .into_iter()
        .filter(|it| it["event"] == "layer_failed")
        .map(|it| (it["layer"].as_str().unwrap().to_owned(), it["reason"].as_str().unwrap().to_owned()))
        .collect();
    let why = |layer: &str| failed.iter().find(|(name, _)| name == layer).map_or("", |(_, reason)| reason.as_str());
    assert!(why("Zip").contains("`a` and `b` go together, since both are over `A`"), "{failed:?}");
    assert!(why("Absent").contains("`A` left no `c`") && why("Absent").contains("`a`, `b`"), "{failed:?}");
    assert!(why("Broken").contains("`Text/text.json` is no JSON"), "{failed:?}");
    assert!(
        why("Scalar").contains("there is nothing to fan out over: the value of `a` and of `b` is no list"),
        "{failed:?}"
    );
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert_eq!(world.run(["logs", "Name[1]"]).exits(0).stdout, "2\n");

    let mended = world.read("flow.yaml").replace("A.c", "A.b").replace("no json", "[7]");
    world.write("flow.yaml", mended.replace("a: \"${{ A.a }}\", ", "").replace("b: x", "b: [x]"));
    world.run(["resume", "--update"]).exits(0);
}
