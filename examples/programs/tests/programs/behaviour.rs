//! What each example program leaves, wherever its layers run.

use std::process::Command;

use laminar_tests::engines;
use laminar_tests::world::{eventually, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::place::Place;

/// A program's name, and its test.
type Test = (&'static str, fn(&Place));

/// All of them.
pub(crate) const ALL: [Test; 10] = [
    ("hello", hello),
    ("grid", grid),
    ("decide", decide),
    ("sizes", sizes),
    ("parameters", parameters),
    ("files", files),
    ("combine", combine),
    ("mixed", mixed),
    ("again", again),
    ("a scheduler that is killed", killed),
];

fn hello(place: &Place) {
    let stage = place.stage("hello");
    stage.run(&["run"]).exits(0);
    assert_eq!(stage.said("World"), "hello [1, 4, 9]\n");
    assert_eq!(stage.value("Square[2]/value.json"), 9);
    // Without its own image an engine has nothing to run.
    if place.has_images() {
        stage.world.run(["run", "--backend", place.backend]).exits(2).says(&["no image to run in", "--image"]);
    }
}

fn grid(place: &Place) {
    let stage = place.stage("grid");
    stage.run(&["run"]).exits(0);
    let pairs: Vec<String> = stage.value("All/value.json").as_str().unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(pairs.len(), 12);
    assert_eq!(pairs[..3], ["2-10-a:510", "2-10-b:510", "2-20-a:520"]);
    assert_eq!(pairs[11], "8-20-b:580");
    assert_eq!(stage.value("Some/value.json"), json!(pairs[2..5]));
    assert_eq!(stage.said("Some"), "12 in all\n");
    assert_eq!(stage.value("Train[5]/label.json"), "4-10-b");
    assert_eq!(stage.value("Report/value.json"), "best: 1160");
}

fn decide(place: &Place) {
    let stage = place.stage("decide");
    let caught = "exit code 121 (in a flow program: an error that it catches)";
    stage.run(&["run"]).exits(0).says(&["caught  Parse[1]", caught]);
    assert!(stage.run(&["status", "latest", "Parse"]).exits(0).stdout.contains(caught));
    assert_eq!(stage.value("Report/value.json"), "small, probe None, numbers [1, 3]");
    assert_eq!((stage.states("Small"), stage.states("Large")), (vec!["finished".into()], vec!["skipped".into()]));
    assert_eq!((stage.states("Polish"), stage.states("Probe")), (vec!["skipped".into()], vec!["caught".into()]));
    assert_eq!(stage.states("Parse"), ["finished", "caught", "finished"]);
    assert_eq!(stage.status("Probe", 0)["exit"]["code"], 75);
    let said = stage.said("Parse[1]");
    assert_eq!(said, "caught: no number\n  caused by: invalid digit found in string\n");

    stage.run(&["run", "-p", "size=9"]).exits(0);
    assert_eq!(stage.value("Report/value.json"), "large, probe None, numbers [1, 3]");
    assert_eq!(stage.value("Polish/value.json"), "LARGE");
}

fn sizes(place: &Place) {
    let stage = place.stage("sizes");
    let images = if place.has_images() { place.images() } else { vec!["one".to_owned(), "two".to_owned()] };
    let images = format!("images={}", json!(images));
    let ran = stage.run(&["run", "--json", "-p", &images]).exits(0);
    let sized = |layer: &str, index: u32| -> Vec<u64> {
        let events = ran.json().into_iter();
        let of = events.filter(|it| it["event"] == "attempt_sized" && it["layer"] == layer && it["index"] == index);
        of.map(|it| it["memory"].as_u64().unwrap() >> 20).collect()
    };
    assert_eq!((sized("Fit", 0), sized("Fit", 1)), (vec![64, 128], vec![96, 192]));
    for (index, image) in ["one", "two"].iter().enumerate() {
        let where_ = stage.value(&format!("Where[{index}]/value.json"));
        assert!(where_.as_str().unwrap().ends_with(image), "{where_}");
    }
    if !place.has_images() {
        assert_eq!(stage.value("Fit[0]/value.json"), json!([2, null]));
        assert_eq!(stage.value("Hungry/value.json")[0], 1);
        return;
    }
    // What the kernel says in there.
    assert_eq!(stage.value("Fit[0]/value.json"), json!([2, 128 << 20]));
    assert_eq!(stage.value("Fit[1]/value.json"), json!([2, 192 << 20]));
    assert_eq!(stage.value("Small/value.json"), 32 << 20);
    // Out of memory once, and then with twice as much.
    assert_eq!(stage.value("Hungry/value.json")[0], 2);
    let ends = ran.json().into_iter().filter(|it| it["event"] == "attempt_exited" && it["layer"] == "Hungry");
    assert_eq!(ends.map(|it| it["cause"].clone()).collect::<Vec<_>>(), ["out_of_memory", "code"]);
}

fn parameters(place: &Place) {
    let stage = place.stage("parameters");
    stage.run(&["run"]).exits(0);
    assert_eq!(stage.value("Train[1]/value.json"), "4 7 Fast");
    assert_eq!(stage.value("Flaky/value.json"), "no note");
    assert_eq!(stage.said("Train[1]"), "Train[1] begins\nwithin\nTrain[1] ends\n");
    assert_eq!(stage.status("Flaky", 0)["attempt"], 1);

    let set = ["run", "-p", "seed=9", "-p", "depths=[1]", "-p", "mode=thorough", "-p", "note=two words"];
    stage.run(&set).exits(0);
    assert_eq!(stage.value("Train[0]/value.json"), "1 9 Thorough");
    assert_eq!(stage.states("Train").len(), 1);
    assert_eq!(stage.value("Flaky/value.json"), "two words");

    for (wrong, why) in [
        ("seed=x", "`seed` must be a whole number"),
        ("mode=slow", "`mode`: unknown variant `slow`, expected `fast` or `thorough`"),
        ("depths=[\"x\"]", "`depths`: invalid type: string \"x\", expected u32"),
        ("speed=1", "there is no parameter `speed`"),
    ] {
        stage.run(&["run", "-p", wrong]).exits(2).says(&[why]);
    }
    assert_eq!(stage.world.run(["list", "--json"]).exits(0).json().len(), 2, "what does not fit makes no execution");
}

fn files(place: &Place) {
    let stage = place.stage("files");
    stage.run(&["run"]).exits(0);
    assert_eq!(stage.value("Report/value.json"), "2 [3, 3, 3] [0, 255, 10] 5 1000 9945");
    assert_eq!(stage.text("Text/text.txt"), "one line\nanother line\n");
    assert_eq!(stage.text("Table/table.csv"), "x,y\n0,0\n1,1\n2,4\n");
    assert_eq!(stage.world.run(["cat", "Bytes/raw.bin"]).exits(0).bytes, [0, 255, 10]);
    let left = stage.world.run(["artifacts", "--json"]).exits(0).json();
    let kinds = |layer: &str| -> Vec<_> {
        left.iter().filter(|it| it["layer"] == layer).map(|it| (it["name"].clone(), it["kind"].clone())).collect()
    };
    // Nothing but what was left on purpose.
    assert_eq!(kinds("Text"), [(json!("text.txt"), json!("file"))]);
    assert_eq!(kinds("Pages"), [(json!("pages"), json!("folder"))]);
    assert_eq!(kinds("Numbers"), [(json!("numbers"), json!("folder"))]);
}

fn combine(place: &Place) {
    let stage = place.stage("combine");
    stage.run(&["run", "-p", "seed=3"]).exits(0);
    assert_eq!(stage.value("Report/value.json"), "[3, 6, 9] 252");
    assert_eq!(stage.value("Sum/value.json"), 252);
}

fn mixed(place: &Place) {
    let stage = place.stage("mixed");
    let tools = format!("tools={}", engines::image());
    stage.run(&["run", "-p", if place.has_images() { &tools } else { "tools=none" }]).exits(0);
    assert_eq!(stage.text("Total[1]/more.json"), "17\n");
    assert_eq!(stage.value("Words/count.json"), "2");
    assert_eq!(stage.value("Report/value.json"), "[9, 16] [10, 17] 2 raw");
}

fn again(place: &Place) {
    let stage = place.stage("again");
    let past = || {
        let mut past = Command::new(env!("CARGO_BIN_EXE_past"));
        let output = past.arg(stage.world.path().join(".laminar")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    stage.run(&["run"]).exits(1).says(&["it is not ready"]);
    assert_eq!(stage.states("Work"), ["finished", "finished", "failed", "finished"]);
    let failed = past();
    assert!(
        failed.starts_with("Again failed\n  Prepare finished\n  Work finished finished failed finished\n"),
        "{failed}"
    );
    assert!(failed.ends_with("done [0, 10, 30], sum None\n"), "{failed}");

    stage.world.write("ready", "");
    stage.run(&["resume"]).exits(0);
    assert_eq!(stage.value("Sum/value.json"), 60);
    assert_eq!(stage.status("Prepare", 0)["attempt"], 1, "what has finished is not done again");
    assert_eq!(
        (stage.status("Work", 1)["attempt"].clone(), stage.status("Work", 2)["attempt"].clone()),
        (json!(1), json!(2))
    );
    assert!(past().ends_with("done [0, 10, 20, 30], sum Some(60)\n"));

    // As it is now, it is as it was: also where it is among images.
    stage.run(&["resume", "--update"]).exits(0).says(&["has finished; see"]);
    stage.run(&["run"]).exits(0);
    let both = past();
    assert_eq!((both.matches("Again finished").count(), both.matches("sum Some(60)").count()), (2, 2), "{both}");
}

fn killed(place: &Place) {
    let stage = place.stage("odd");
    let slow = stage.world.write("slow", "");
    let mut scheduler = stage.start(&["run", "--jobs", "3"]);
    eventually("a split runs", || {
        let status: Value = serde_json::from_str(&stage.world.run(["status", "--json"]).stdout).ok()?;
        (status["foreach"][0]["counts"]["running"].as_u64()? > 0).then_some(())
    });
    signal(&scheduler, Signal::KILL);
    scheduler.wait().unwrap();
    // A process that it was just starting holds the execution until it has become what it was started for.
    eventually("it is known to be interrupted", || {
        (stage.world.run(["status", "--json"]).exits(0).document()["state"] == "interrupted").then_some(())
    });
    std::fs::remove_file(slow).unwrap();
    // Two of its layers fail in any case.
    stage.run(&["resume"]).exits(1);
    assert_eq!(stage.value("Sum/value.json"), 28);
    let attempts: Vec<Value> = (0..8).map(|index| stage.status("Slow", index)["attempt"].clone()).collect();
    assert_eq!(attempts, vec![json!(1); 8], "what ran when the scheduler died was waited for");
    stage.world.is_quiet();
}
