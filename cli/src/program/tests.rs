//! What flows built in Rust mean: the real scheduler, in this process.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::*;

crate::artifacts! {
    struct Trained {
        accuracy: f64,
        model: Bytes = "model.bin",
    }
}

/// A number that is kept in a format of its own.
#[derive(Debug, PartialEq)]
struct Roman(u32);

impl Artifact for Roman {
    const ENDING: &'static str = ".roman";

    fn save(self, to: &std::path::Path) -> Result<()> {
        Ok(std::fs::write(to, "I".repeat(self.0 as usize))?)
    }

    fn load(from: &std::path::Path) -> Result<Roman> {
        Ok(Roman(u32::try_from(std::fs::read(from)?.len())?))
    }
}

#[test]
fn the_last_of_a_product_varies_fastest_and_chains_go_one_to_one() {
    let flow = Flow::new("Grid");
    let shards = flow.layer("Shards", || Ok(vec!["x".to_owned(), "${{ y }}".to_owned()])).sharded();
    let grid = flow.foreach("Grid", (vec![1, 2], shards), |(n, text): (u32, String)| Ok(format!("{n}{text}")));
    let chain = flow.foreach_with("Chain", grid, task(), |text: String, task| Ok(format!("{}:{text}", task.index)));
    let some = flow.layer_with("Some", chain, |all| all.slice(1..3).to_vec());
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.state().unwrap(), "finished");
    assert_eq!(ran.read(chain.join()).unwrap(), ["0:1x", "1:1${{ y }}", "2:2x", "3:2${{ y }}"]);
    assert_eq!(ran.read(some).unwrap(), ["1:1${{ y }}", "2:2x"]);
}

#[test]
fn lists_may_hold_what_looks_like_an_expression() {
    let flow = Flow::new("Literal");
    let same = flow.foreach("Same", ["${{ a }}", "b ${{", "}}"].map(String::from), Ok::<String, _>);
    assert_eq!(flow.in_process().run().unwrap().read(same.join()).unwrap(), ["${{ a }}", "b ${{", "}}"]);
}

#[test]
fn what_goes_together_is_zipped_and_must_be_as_much() {
    let flow = Flow::new("Zip");
    let train = flow
        .foreach("Train", vec![1_u8, 2, 3], |n| Ok(Trained { accuracy: f64::from(n) / 4.0, model: Bytes(vec![n]) }));
    let other = flow.foreach("Other", vec![10_u8, 20, 30], |n: u8| Ok(n));
    let both = flow.foreach("Both", (train.get(Trained::model), train.get(Trained::accuracy)), |(model, accuracy)| {
        Ok(f64::from(model.0[0]) + accuracy)
    });
    let zipped = flow.foreach("Zipped", zip(train.get(Trained::model), other), |(model, n)| Ok(model.0[0] + n));
    let fewer = flow.layer("Fewer", || Ok(vec![1_u8])).sharded();
    flow.foreach("Wrong", zip(other, fewer), |(a, b): (u8, u8)| Ok(a + b));
    flow.go_on_after_failures();
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.read(both.join()).unwrap(), [1.25, 2.5, 3.75]);
    assert_eq!(ran.read(zipped.join()).unwrap(), [11, 22, 33]);
    let wrong = ran.layer("Wrong").unwrap().splits.swap_remove(0);
    assert!(wrong.evidence.unwrap().contains("3 values cannot be zipped with the 1 of `Fewer`"));
}

#[test]
fn files_folders_bytes_and_formats_of_ones_own_go_through_as_they_are() {
    let flow = Flow::new("Files");
    let file = flow
        .layer("File", || {
            let file = File::create()?;
            std::fs::write(&file, b"\xff\0")?;
            // One that is not left is gone.
            let _other = Folder::create()?;
            Ok(file)
        })
        .named("raw.bin");
    let folder = flow.layer("Folder", || {
        let folder = Folder::create()?;
        std::fs::write(folder.path().join("b"), "2")?;
        std::fs::write(folder.path().join("a"), "1")?;
        Ok(folder)
    });
    let bytes = flow.layer_with("Bytes", file, |file| Ok(Bytes(std::fs::read(&file)?)));
    let roman = flow.layer("Roman", || Ok(Roman(3)));
    let each = flow.foreach("Each", folder, |file: File| Ok(std::fs::read_to_string(&file)?));
    let kept = flow.layer_with("Kept", (file, folder), |(file, folder)| {
        let copy = Folder::create()?;
        std::fs::copy(&file, copy.path().join("copy"))?;
        assert_eq!(folder.entries()?.len(), 2);
        Ok(copy)
    });
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.state().unwrap(), "finished");
    assert_eq!(ran.read(bytes).unwrap().0, b"\xff\0");
    assert_eq!(ran.read(roman).unwrap(), Roman(3));
    assert_eq!(ran.read(each.join()).unwrap(), ["1", "2"]);
    assert_eq!(std::fs::read(ran.read(kept).unwrap().path().join("copy")).unwrap(), b"\xff\0");
    let left: Vec<_> = ran.execution().artifacts().unwrap().into_iter().map(|one| (one.layer, one.name)).collect();
    assert!(left.contains(&("File".to_owned(), "raw.bin".to_owned())), "{left:?}");
    assert!(left.contains(&("Roman".to_owned(), "value.roman".to_owned())), "{left:?}");
    assert_eq!(left.len(), 7);
}

#[test]
fn what_is_not_there_is_told_by_what_was_left_and_a_name_is_no_path_of_ours() {
    let flow = Flow::new("Left");
    let _ = flow.layer("One", || Ok(1)).named("number");
    let skipped = flow.layer("Skipped", || Ok(1)).when((), |()| Ok(false));
    let each = flow.foreach("Each", vec![1, 2], Ok::<u32, Failure>);
    let _ = flow.layer("File", || Ok(Bytes(b"no json".to_vec()))).named("note.json");
    let ran = flow.in_process().run().unwrap();
    let execution = ran.execution();

    let other = Flow::new("Left");
    let misnamed = other.layer("One", || Ok(1));
    let said = execution.read(misnamed).unwrap_err().to_string();
    assert_eq!(said, "cannot read what `One` has left\n  caused by: there is no `value.json`; it left `number.json`");
    let said = execution.value::<u32>("One", "value").unwrap_err().to_string();
    assert!(
        said.contains("`One` has left no `value.json` in execution") && said.contains("; it left `number"),
        "{said}"
    );
    let said = execution.read(skipped).unwrap_err().to_string();
    assert!(
        said.ends_with("of a layer that may be skipped or caught, read `.maybe()`, which gives an `Option`"),
        "{said}"
    );
    let folder = tempfile::tempdir().unwrap();
    let inputs = folder.path().to_path_buf();
    std::fs::create_dir(inputs.join("One")).unwrap();
    std::fs::write(inputs.join("One/other.json"), "1").unwrap();
    let task = source::Source::task(execution).clone();
    let process = source::Folders { task, inputs, each: Default::default() };
    let said = (Input::plug(misnamed).read)(&process).unwrap_err().to_string();
    assert!(said.ends_with("there is no `value.json`; it left `other.json`"), "{said}");

    // What is read lies in a folder that is nobody's business.
    let said = execution.value::<bool>("One", "number").unwrap_err();
    assert!(said.to_string().starts_with("`One/number.json` is no `bool`\n"), "{said}");
    let said = execution.value::<u32>("File", "note").unwrap_err().to_string();
    assert!(said.starts_with("`File/note.json` is no `u32`\n"), "{said}");
    let texts = execution.values::<String>("Each", "value").unwrap();
    let said = texts.to_vec().unwrap_err().to_string();
    assert!(said.starts_with("`Each/value.json/0` is no `alloc::string::String`\n"), "{said}");
    assert_eq!(execution.read(each.join()).unwrap(), [1, 2]);
    let said = execution.value::<Folder>("File", "note.json").unwrap_err().to_string();
    assert!(said.starts_with("cannot read `File/note.json`\n"), "{said}");
}

#[test]
fn numbers_that_json_does_not_have_are_errors_that_say_where() {
    let flow = Flow::new("Numbers");
    let losses = flow.layer("Losses", || Ok(vec![Some(0.5), None, Some(f64::NAN)]));
    flow.foreach("Each", losses.list(|losses| losses), |_: Option<f64>| Ok(()));
    let ran = flow.in_process().run().unwrap();
    let evidence = ran.layer("Losses").unwrap().splits.swap_remove(0).evidence.unwrap();
    assert!(evidence.contains("NaN has no JSON form; at `[2]`"), "{evidence}");

    let flow = Flow::new("Listed");
    let one = flow.layer("One", || Ok(1.0));
    flow.foreach("Each", one.list(|one| vec![one / 0.0]), |_: f64| Ok(()));
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.layer("Each").unwrap().state, Some("failed"));

    let flow = Flow::new("Written");
    flow.foreach("Each", vec![1.0, f64::NAN], |_: f64| Ok(()));
    let wrong = flow.in_process().run().unwrap_err().to_string();
    assert!(wrong.contains("the list cannot be written as JSON: NaN has no JSON form; at `[1]`"), "{wrong}");
    let flow = Flow::new("Set");
    flow.layer("One", || Ok(())).container(Container::new().cpu(f64::NAN)).retry(Retry::new().jitter(f64::INFINITY));
    let wrong = flow.in_process().run().unwrap_err().to_string();
    assert!(wrong.contains("`cpu` is NaN") && wrong.contains("`inf`"), "{wrong}");
    let wrong = flow.in_process().parameter("x", f64::NAN).run().unwrap_err().to_string();
    assert!(wrong.contains("NaN has no JSON form"), "{wrong}");
}

#[test]
fn what_is_skipped_or_caught_is_an_option() {
    let flow = Flow::new("Maybe");
    let score = flow.layer("Score", || Ok(0.5));
    let skipped = flow.layer("Skipped", || Ok(1)).when(score, |score| Ok(score > 0.9));
    let along = flow.layer_with("Along", skipped, |n| Ok(n + 1));
    let caught = flow.layer("Caught", || Ok(std::fs::read("/nowhere").context("no data")?.len())).catch::<io::Error>();
    let told = flow
        .layer_with("Told", (skipped.maybe(), along.maybe(), caught.maybe()), Ok)
        .when(skipped.maybe(), |skipped| Ok(skipped.is_none()));
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.read(told).unwrap(), (None, None, None));
    assert_eq!(ran.state().unwrap(), "finished");
    assert_eq!(ran.layer("Along").unwrap().state, Some("skipped"));
    let caught = ran.layer("Caught").unwrap().splits.swap_remove(0);
    assert_eq!((caught.state, caught.cause.as_deref()), ("caught", Some("exit code 121")));
    assert!(caught.evidence.unwrap().starts_with("no data\n  caused by: No such file"));
}

#[test]
fn retries_settings_and_what_wraps_a_call_are_per_attempt_and_split() {
    let flow = Flow::new("Settings");
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    flow.around(move |task, call| {
        counted.fetch_add(1 + task.index, Ordering::Relaxed);
        call()
    });
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let busy = flow
        .foreach_with("Busy", vec![5_u64, 6], task(), |n, task| match task.attempt {
            1 => Err(Failure::new("busy").with_code(75)),
            _ => Ok(n),
        })
        .retry(Retry::attempts(3).only(["75"]))
        .memory_by(move |split| {
            seen.lock().unwrap().push((split.index, split.attempt, split.value::<u64>()?));
            Ok(u64::from(split.attempt) << 30)
        })
        .around(|_, call| call().map_err(|_| Failure::new("wrapped").with_code(75)));
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.read(busy.join()).unwrap(), [5, 6]);
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    let asked = asked.lock().unwrap();
    for wanted in [(0, 1, 5), (0, 2, 5), (1, 1, 6), (1, 2, 6)] {
        assert!(asked.contains(&wanted), "{asked:?}");
    }
    assert!(ran.layer("Busy").unwrap().splits.iter().all(|split| split.attempt == 2));
}

#[test]
fn a_layer_that_leaves_more_than_its_limits_fails() {
    let flow = Flow::new("Limited");
    flow.limits(Limits::new().outputs("100 B").files(1));
    flow.layer("Small", || Ok("x".repeat(50)));
    flow.layer("Big", || Ok("x".repeat(200)));
    flow.layer("Allowed", || Ok("x".repeat(200))).limits(Limits::new().outputs("1KiB"));
    flow.go_on_after_failures();
    let ran = flow.in_process().run().unwrap();
    let state = |name: &str| ran.layer(name).unwrap().splits[0].state;
    assert_eq!(["Small", "Big", "Allowed"].map(state), ["finished", "failed", "finished"]);
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Settings {
    seed: u64,
    depths: Vec<u32>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Fast,
    Slow,
}

#[test]
fn parameters_are_a_struct_and_must_fit_it() {
    let define = |flow: &Flow| {
        let parameters = flow.parameters(Settings { seed: 7, depths: vec![1, 2], mode: Mode::Fast });
        let fit = flow.foreach_with("Fit", parameters.list(|p| p.depths), parameters, |depth: u32, p: Settings| {
            Ok((p.seed * u64::from(depth), p.mode))
        });
        flow.layer_with("All", fit.join(), Ok).when(parameters, |p| Ok(p.seed > 0));
    };
    let run = |name: &str, value: serde_json::Value| {
        let flow = Flow::new("Parameters");
        define(&flow);
        flow.in_process().parameter(name, value).run()
    };
    let ran = run("depths", serde_json::json!([3])).unwrap();
    assert_eq!(ran.execution().value::<Vec<(u64, Mode)>>("All", "value").unwrap(), [(21, Mode::Fast)]);
    let wrong = run("mode", "sideways".into()).unwrap_err().to_string();
    assert!(wrong.contains("unknown variant `sideways`"), "{wrong}");
    assert!(run("nothing", 1.into()).unwrap_err().to_string().contains("nothing"));
}

#[test]
fn what_is_wrong_with_how_a_flow_is_built_is_told_with_its_place() {
    let flow = Flow::new("Wrong");
    let other = Flow::new("Other");
    let elsewhere = other.layer("A", || Ok(1));
    flow.layer("Twice", || Ok(1));
    flow.layer("Twice", || Ok(2));
    flow.layer_with("B", elsewhere, Ok);
    let told = flow.in_process().run().unwrap_err().to_string();
    assert!(told.contains("there are two layers `Twice`, at cli/src/program/tests.rs:"), "{told}");
    assert!(told.contains("layer `B` reads from another flow, at cli/src/program/tests.rs:"), "{told}");
    let none = Flow::new("Named wrong");
    none.layer("A", || Ok(1));
    assert!(none.in_process().run().unwrap_err().to_string().contains("Named wrong"));
}

#[test]
fn a_panic_is_a_failure_and_a_layer_of_a_file_is_told_apart() {
    let flow = Flow::new("Ends");
    flow.go_on_after_failures();
    flow.layer("Panics", || -> Result<()> { panic!("no {}", "luck") });
    flow.include("layers: { Foreign: { run: 'true' } }\nflow: Other");
    flow.layer("Decides", || Ok(1)).when((), |()| panic!("no luck either"));
    let ran = flow.in_process().run().unwrap();
    assert_eq!(ran.layer("Decides").unwrap().state, Some("failed"));
    let evidence = |layer: &str| ran.layer(layer).unwrap().splits.swap_remove(0).evidence.unwrap();
    assert_eq!(evidence("Panics"), "panicked: no luck");
    assert!(evidence("Foreign").contains("only a backend runs it"));
    assert_eq!(ran.state().unwrap(), "failed");
}

#[test]
fn no_splits_at_all_are_an_empty_list() {
    let flow = Flow::new("Empty");
    let none = flow.foreach("Nothing", Vec::<u32>::new(), Ok);
    let chain = flow.foreach("Chain", none, |n: u32| Ok(n));
    let sum = flow.layer_with("Sum", (none, chain.join()), |(none, chain)| Ok(none.len() + chain.len()));
    assert_eq!(flow.in_process().run().unwrap().read(sum).unwrap(), 0);
}
