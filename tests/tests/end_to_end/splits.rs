//! Layers with many splits, skipped and cached ones, as the command line shows them.

use laminar_tests::world::{Ran, World, eventually, finish};

use crate::world;

const GRID: &str = "\
flow: Grid
parameters: { depths: [1, 2, 4], bad: 0 }
layers:
  Split: { run: 'mkdir \"$LAMINAR_OUTPUTS/parts\"; for n in a b; do echo $n > \"$LAMINAR_OUTPUTS/parts/$n\"; done' }
  Fit:
    foreach: { depth: '${{ parameters.depths }}', part: '${{ Split.parts }}' }
    run: 'echo depth ${{ each.depth }}; test ${{ each.depth }} != ${{ parameters.bad }}; cp ${{ each.part }} \"$LAMINAR_OUTPUTS/part.txt\"'
  Best: { needs: [Fit], run: 'cat \"$LAMINAR_INPUTS\"/Fit/part.txt/*' }
";

fn grid() -> World {
    let world = world();
    world.write("flow.yaml", GRID);
    world
}

#[test]
fn every_split_of_a_foreach_layer_is_named_by_its_index_from_0() {
    let world = grid();
    world.run(["run"]).exits(0).says(&[
        "opened  Fit: 6 splits",
        "finished  Fit[0] (",
        "finished: 3 layers, 8 tasks in",
    ]);
    for name in ["Fit[0]", "Fit.0", "Fit[5]"] {
        let depth = if name.contains('5') { "depth 4\n" } else { "depth 1\n" };
        assert_eq!(world.run(["logs", name]).exits(0).stdout, depth);
    }
    let logs = world.run(["logs", "Fit"]).exits(0).stdout;
    assert!(logs.contains("==> Fit[0] <==\ndepth 1\n") && logs.contains("==> Fit[5] <=="), "{logs}");
    assert_eq!(world.run(["cat", "Fit[1]/part.txt"]).exits(0).stdout, "b\n");
    world.run(["cat", "Fit/part.txt"]).exits(2).says(&["several splits", "Fit[0]/part.txt"]);
    assert!(world.run(["artifacts", "Fit[0]"]).exits(0).stdout.contains("Fit[0]/part.txt"));
    let one = world.run(["artifacts", "Fit.3", "--json"]).exits(0).json();
    assert_eq!((one.len(), &one[0]["index"]), (1, &3.into()));
    assert!(world.run(["status", "Fit[3]"]).exits(0).stdout.contains("depth=2, part=Split/parts/b"));
    for command in ["logs", "artifacts", "status", "why"] {
        world
            .run([command, "Fit[6]"])
            .exits(4)
            .says(&["there is no `Fit[6]`: `Fit` has 6 splits", "`Fit[0]` to `Fit[5]`"]);
        world.run([command, "Best[1]"]).exits(4).says(&["`Best` has no `foreach`"]);
        world.run([command, "Best[0]"]);
    }
}

#[test]
fn a_failed_split_is_told_with_its_values_and_its_log_and_status_shows_it_below_its_layer() {
    let world = grid();
    world.run(["run", "-p", "bad=2", "--jobs", "1"]).exits(1).says(&[
        "failed  Fit[2] (depth=2, part=Split/parts/a): exit code 1",
        "    | depth 2",
        "failed: 1 of 8 tasks in",
    ]);
    let status = world.run(["status"]).exits(0).stdout;
    let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    let row =
        |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap_or_else(|| panic!("{name}: {status}"));
    assert_eq!(row("Fit")[1..3], ["failed", "6/6"]);
    assert!(row("Fit").join(" ").contains("1 failed, 2 finished, 3 cancelled"), "{status}");
    assert_eq!(row("Fit[2]")[1], "failed");
    assert!(row("Best").join(" ").contains("needs Fit, which failed"), "{status}");
    assert!(!status.contains("Fit[1]") && status.contains("3 layers, 8 tasks: "), "{status}");
    let all = world.run(["status", "-v"]).exits(0).stdout;
    assert!(all.contains("Fit[1]") && all.contains("stopped after Fit[2] failed"), "{all}");
    let document = world.run(["status", "--json"]).exits(0).document();
    assert_eq!((&document["tasks"], &document["counts"]["cancelled"]), (&8.into(), &4.into()));
    let fit = &document["foreach"][0];
    assert_eq!((&fit["layer"], &fit["splits"], &fit["counts"]["finished"]), (&"Fit".into(), &6.into(), &2.into()));
    let layers = document["layers"].as_array().unwrap();
    let failed: Vec<_> = layers.iter().filter(|layer| layer["state"] == "failed").collect();
    assert_eq!((layers.len(), failed.len(), &failed[0]["index"]), (8, 1, &2.into()));
    assert_eq!((&failed[0]["each"]["depth"], &failed[0]["exit"]["code"]), (&2.into(), &1.into()));
    let preview = world.run(["resume", "--dry-run"]).exits(0).stdout;
    assert!(
        preview.contains("to run: Fit (4 of 6 splits), Best") && preview.contains("3 of 8 tasks are done"),
        "{preview}"
    );
    assert!(world.run(["list"]).stdout.contains("3, 3 of 8 tasks"));
}

#[test]
fn one_split_runs_again_with_all_that_needs_its_layer() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Again\nlayers:\n  First: { run: 'echo First >> ran' }\n  Fit: { needs: [First], foreach: { i: [5, 6, 7] }, run: 'echo Fit ${{ each.i }} >> ran; cat word > \"$LAMINAR_OUTPUTS/word\"' }\n  Join: { needs: [Fit], run: 'echo Join >> ran; cat \"$LAMINAR_INPUTS\"/Fit/word/*' }\n",
    );
    world.write("word", "old ");
    world.run(["run", "--jobs", "1"]).exits(0);
    assert_eq!(world.read("ran"), "First\nFit 5\nFit 6\nFit 7\nJoin\n");
    world.write("ran", "");
    world.write("word", "new ");
    for (name, why) in
        [("Fit[3]", "`Fit` has 3 splits"), ("Join[1]", "`Join` has no `foreach`"), ("Nope", "no layer `Nope`")]
    {
        world.run(["resume", "--from", name]).exits(4).says(&[why]);
    }
    let preview = world.run(["resume", "--from", "Fit[1]", "--dry-run"]).exits(0).stdout;
    assert!(preview.contains("2 layers to run: Fit (1 of 3 splits), Join"), "{preview}");
    let events = world.run(["resume", "--from", "Fit[1]", "--json"]).exits(0).json();
    let resumed = events.iter().find(|event| event["event"] == "execution_resumed").unwrap();
    assert_eq!(resumed["splits"], serde_json::json!([{"layer": "Fit", "index": 1}]));
    assert_eq!(world.read("ran"), "Fit 6\nJoin\n");
    assert_eq!(world.run(["logs", "Join"]).exits(0).stdout, "old new old ");
    assert!(world.run(["status", "Fit[1]"]).stdout.contains("2  "), "its second attempt");
    world.is_quiet();
}

#[test]
fn many_splits_are_told_in_few_lines_but_each_failure() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Many\non_failure: continue\nparameters: { is: [] }\nlayers:\n  Each: { foreach: { i: '${{ parameters.is }}' }, run: 'test ${{ each.i }} != 7' }\n",
    );
    let is = format!("is={:?}", (0..40).collect::<Vec<_>>());
    let run = world.run(["run", "-p", &is]).exits(1).says(&[
        "opened  Each: 40 splits",
        "failed  Each[7] (i=7)",
        "failed  Each: 40 splits, 1 failed",
    ]);
    assert!(run.stderr.lines().count() < 12, "{}", run.stderr);
    let verbose = world.run(["run", "-v", "-p", &is]).exits(1);
    assert!(verbose.stderr.matches("finished  Each[").count() == 39, "{}", verbose.stderr);
    world.run(["run", "-p", "is=[]"]).exits(0).says(&["finished  Each: 0 splits", "finished: 1 layer, 0 tasks"]);
    assert!(world.run(["status"]).exits(0).stdout.contains("0 splits"));
    world.run(["status", "Each[0]"]).exits(4).says(&["`Each` has no splits"]);
}

#[test]
fn what_was_skipped_says_why_and_a_when_that_is_wrong_too() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Skip\non_failure: continue\nparameters: { n: 1 }\nlayers:\n  A: { when: '${{ parameters.n > 1 }}', foreach: { i: [1, 2] }, run: 'true' }\n  B: { needs: [A], run: 'true' }\n  C: { needs: [B], when: true, run: 'true' }\n  D: { when: '${{ env.LAMINAR_NEVER_SET | default(1) }}', run: 'true' }\n",
    );
    world
        .run(["run"])
        .exits(1)
        .says(&["skipped  A: its `when` said no, with 1 layer that needs it", "failed  D: `when`: "]);
    let status = world.run(["status"]).exits(0).stdout;
    for line in ["its `when` said no", "needs A, which was skipped", "its value is `1`, neither `true"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    world.run(["status", "A[1]"]).exits(4).says(&["`A` has no splits: it was skipped"]);
    let events = world.run(["run", "--json"]).exits(1).json();
    let event = |word: &str| events.iter().find(|event| event["event"] == word).unwrap_or_else(|| panic!("{word}"));
    assert_eq!(event("layer_skipped")["layer"], "A");
    assert_eq!(event("layer_failed")["layer"], "D");
    assert_eq!((&event("layer_opened")["layer"], &event("layer_opened")["splits"]), (&"C".into(), &1.into()));
}

#[test]
fn how_many_splits_there_are_is_asked_while_it_is_not_decided() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Later\nlayers:\n  Split: { run: 'echo up > up; while [ ! -e go ]; do sleep 0.01; done; echo \"[1, 2]\" > \"$LAMINAR_OUTPUTS/all.json\"' }\n  Fit: { foreach: { i: '${{ Split.all }}' }, run: 'echo ${{ each.i }}' }\n",
    );
    let run = world.start(["run"]);
    let _ = world.wait_for_file("up");
    world.run(["status", "Fit[0]"]).exits(4).says(&["is decided when what it needs has finished: Split"]);
    let follow = world.start(["logs", "-f", "Fit[1]"]);
    world.write("go", "");
    finish(run).exits(0);
    assert_eq!(finish(follow).exits(0).stdout, "2\n");
}

#[test]
fn a_plan_says_how_many_splits_there_are_where_that_is_known() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Plan\nlayers:\n  Split: { cache: true, run: 'true' }\n  Fit: { foreach: { i: '${{ Split.all }}' }, max_parallel: 3, run: 'true' }\n  Grid: { foreach: { a: [1, 2], b: [3, 4] }, when: true, run: 'true' }\n",
    );
    for command in [&["plan"][..], &["run", "--dry-run"]] {
        let plan = world.run(command).exits(0).stdout;
        for line in [
            "3 layers, 5 tasks or more",
            "Split  cache",
            "Fit  ? splits (known when Split has finished), 3 at once",
            "Grid  4 splits, when",
        ] {
            assert!(plan.contains(line), "{line}: {plan}");
        }
    }
    let layers = world.run(["plan", "--json"]).exits(0).document()["layers"].clone();
    assert_eq!(
        (&layers[1]["splits"], &layers[2]["splits"], &layers[0]["cache"]),
        (&().into(), &4.into(), &true.into())
    );
}

fn cached() -> World {
    let world = world();
    world.write("train.txt", "1");
    world.write(
        "flow.yaml",
        "flow: Cached\nparameters: { seed: 1 }\nlayers:\n  Model: { cache: { sources: [train.txt] }, run: 'cat train.txt > \"$LAMINAR_OUTPUTS/model\"' }\n  Each: { cache: true, foreach: { i: [1, 2, 3] }, run: 'echo ${{ each.i }} ${{ env.LOUD | default(0) }}' }\n  Plain: { needs: [Model], run: 'true' }\n",
    );
    world
}

fn why(world: &World, words: &[&str]) -> Ran {
    world.run([&["why"], words].concat()).exits(0)
}

#[test]
fn why_tells_what_was_cached_and_what_was_not_the_same() {
    let world = cached();
    world.run(["run"]).exits(0);
    assert!(why(&world, &["Model"]).stdout.contains("never ran before"));
    let first = world.run(["list", "--json"]).json()[0]["id"].as_str().unwrap().to_owned();
    let again = world.run(["run"]).exits(0).says(&["cached  Model (from ", "cached  Each[2]", "4 cached"]);
    assert!(again.stderr.contains(&first[..12]), "{}", again.stderr);
    assert!(why(&world, &["Model"]).stdout.contains(&format!("taken from execution {}", &first[..12])));
    let status = world.run(["status"]).exits(0).stdout;
    assert!(
        status.lines().filter(|line| line.contains("cached") && line.contains(&first[..12])).count() == 2,
        "{status}"
    );
    world.run(["logs", "Each[1]"]).exits(4).says(&["was taken from the cache"]);
    let each = why(&world, &["Each", "--json"]).document();
    assert_eq!((&each["cached"], &each["ran"], &each["from"][0]), (&3.into(), &0.into(), &first.as_str().into()));

    world.write("train.txt", "2");
    world.run(["run", "-p", "seed=2"]).exits(0);
    let said = why(&world, &["Model"]).stdout;
    assert!(said.contains("parameter seed changed\n") && said.contains("source train.txt changed\n"), "{said}");
    assert!(!said.contains("command"), "{said}");
    let each = why(&world, &["Each", "latest"]).stdout;
    assert!(
        each.contains("0 cached, 3 ran") && each.contains("parameter seed changed  3 splits, Each[0] for one"),
        "{each}"
    );
    let one = why(&world, &["Each[2]", "--json"]).document();
    assert_eq!((&one["index"], &one["changes"][0]["part"]), (&2.into(), &"parameter seed".into()));
    assert!(why(&world, &["Plain"]).stdout.contains("`cache: true`"));
    assert!(why(&world, &[&first[..14], "Model"]).stdout.contains("never ran before"));
}

#[test]
fn why_tells_that_artifacts_are_gone_and_that_there_is_no_key() {
    let world = cached();
    world.run(["run"]).exits(0);
    let digest = world.run(["artifacts", "Model", "--json"]).json()[0]["digest"].as_str().unwrap().to_owned();
    std::fs::remove_file(world.path().join(".laminar/objects").join(&digest[..2]).join(&digest[2..])).unwrap();
    world.run(["run"]).exits(0);
    assert!(why(&world, &["Model"]).stdout.contains("what it left then was gone"));
    std::fs::remove_file(world.path().join("train.txt")).unwrap();
    world.run(["run"]);
    let said = why(&world, &["Model"]).stdout;
    assert!(said.contains("it has no key: ") && said.contains("train.txt"), "{said}");
}

#[test]
fn gc_forgets_what_executions_ran_that_it_removes() {
    let world = cached();
    world.run(["run"]).exits(0);
    world.run(["rm", "latest"]).exits(0);
    world.run(["run", "-q"]).exits(0);
    let status = world.run(["status"]).exits(0).stdout;
    assert!(!status.contains("cached"), "{status}");
}

#[test]
fn what_a_backend_cannot_enforce_is_told_also_where_an_expression_asks_for_it() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Open\nlayers:\n  A: { container: { memory: '${{ 100 * attempt }}MiB', user: '${{ env.WHO | default(0) }}' }, run: 'true' }\n",
    );
    world.run(["run"]).exits(0).says(&["does not enforce `memory`, asked for by A", "does not enforce `user`"]);
    world.run(["run", "--strict"]).exits(2).says(&["`user`"]);
}

#[test]
fn what_many_splits_did_is_told_in_short_and_can_be_had_in_full() {
    let world = world();
    let path = format!("/{}/", "folder".repeat(30));
    let paths: Vec<String> = (0..210).map(|n| format!("{path}{n}.csv")).collect();
    let flow = serde_json::json!({"flow": "Short", "on_failure": "continue", "layers": {
        "Good": {"foreach": {"path": paths}, "command": ["true"]},
        "Bad": {"foreach": {"path": paths[..40]}, "retry": {"attempts": 2, "delay": "1ms"}, "command": ["false"]},
        "Gone": {"foreach": {"i": [1, 2]}, "command": ["no-such-program"]},
    }});
    world.write("flow.json", flow.to_string());
    let run = world.run(["run", "-q"]).exits(1).says(&["and 30 more of Bad; `", " Bad` lists them"]);
    assert_eq!(run.stderr.matches("failed  Bad[").count(), 10, "{}", run.stderr);
    assert!(run.stderr.contains("folder/0.csv): exit code 1") && !run.stderr.contains(&path), "{}", run.stderr);
    assert_eq!(run.stderr.matches("it printed nothing").count(), 10, "{}", run.stderr);
    let status = world.run(["status"]).exits(0).stdout;
    let bad = status.lines().find(|line| line.starts_with("Bad  ")).unwrap_or_default();
    let words: Vec<&str> = bad.split_whitespace().collect();
    assert_eq!(words[..4], ["Bad", "failed", "40/40", "2"], "{status}");
    assert!(bad.ends_with("exit code 1") && status.contains("folder/0.csv "), "{status}");
    let good = world.run(["status", "Good"]).exits(0).stdout;
    assert!(
        good.contains("finished  210/210") && good.contains("and 210 splits that are done; `-v` shows all"),
        "{good}"
    );
    assert!(world.run(["status", "-v", "Good"]).exits(0).stdout.contains(&paths[209]));
    assert!(world.run(["status", "Bad[3]"]).exits(0).stdout.contains(&paths[3]));
    // Whoever follows what is over is told how long it took.
    let followed = world.run(["status", "-f"]).exits(1);
    let last = |ran: &Ran| ran.stderr.lines().last().unwrap_or_default().to_owned();
    assert_eq!(last(&followed), last(&run));
    assert!(last(&world.run(["resume", "-q"]).exits(1)).contains(" since it was resumed ("));
}

#[test]
fn programs_are_told_the_values_of_what_fails() {
    let world = grid();
    let events = world.run(["run", "--json", "-p", "bad=2", "--jobs", "1"]).exits(1).json();
    let of = |event: &'static str| events.iter().filter(move |line| line["event"] == event && line["layer"] == "Fit");
    assert_eq!(of("attempt_launched").next().unwrap()["each"]["depth"], 1);
    let failed: Vec<_> = of("attempt_exited").filter(|line| line["code"] != 0).collect();
    assert_eq!((failed.len(), &failed[0]["each"]["depth"]), (1, &2.into()));
    let resumed = world.run(["resume", "--json"]).exits(1).json();
    let failed = resumed.iter().find(|line| line["event"] == "attempt_exited" && line["code"] == 1).unwrap();
    assert_eq!(failed["each"]["depth"], 2, "also of a layer that was opened before");
}

#[test]
fn what_a_split_printed_that_is_no_longer_there_can_be_read() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Less\nparameters: { is: [1, 2, 3] }\nlayers:\n  A: { foreach: { i: '${{ parameters.is }}' }, run: 'echo i ${{ each.i }}' }\n",
    );
    world.run(["run", "-q"]).exits(0);
    world.run(["resume", "-q", "--update", "-p", "is=[1]"]).exits(0);
    let log = world.run(["logs", "A[2]"]).exits(0).says(&["there is no `A[2]` any more", "its attempt 1"]);
    assert_eq!(log.stdout, "i 3\n");
    world.run(["logs", "A[2]", "--attempt", "2"]).exits(4);
    world.run(["logs", "A[3]"]).exits(4).says(&["`A` has 1 split"]);
}

/// However many splits there are, looking at them takes a moment.
#[test]
fn a_hundred_thousand_splits_are_looked_at_at_once() {
    let world = world();
    let many: Vec<u32> = (0..100_000).collect();
    let flow = serde_json::json!({"flow": "Huge", "parameters": {"many": many}, "layers": {
        // The first fails, and the others never start.
        "Huge": {"foreach": {"i": "${{ parameters.many }}"}, "command": ["false"]},
        "After": {"needs": ["Huge"], "command": ["true"]},
    }});
    world.write("flow.json", flow.to_string());
    world.run(["run", "--jobs", "1", "-q"]).exits(1);
    let begun = std::time::Instant::now();
    let status = world.run(["status"]).exits(0).stdout;
    assert!(status.contains("2 layers, 100001 tasks") && status.lines().count() < 20, "{status}");
    assert!(status.contains("1 failed, 99999 cancelled"), "{status}");
    let one = world.run(["status", "Huge[99999]"]).exits(0).stdout;
    assert!(one.contains("stopped after Huge[0] failed") && one.contains("i=99999"), "{one}");
    world.run(["why", "Huge"]).exits(0);
    world.run(["logs", "Huge[99999]"]).exits(4);
    let took = begun.elapsed();
    // Far above what it takes, far below what anything quadratic would.
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    eventually("it is let go of", || world.run(["list"]).stdout.contains("2, ").then_some(()));
}
