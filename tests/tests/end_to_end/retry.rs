//! After which ends a layer is tried again, and what is said when it is not.

use crate::world;

const FLOW: &str = r#"
flow: Retry
on_failure: continue
defaults: { retry: { attempts: 3, delay: 1ms, max_delay: 2ms, only: [75, 100-110, timeout] } }
layers:
  Once: { run: "echo x >> once; exit 3" }
  Code: { run: "test -e code || { touch code; exit 105; }" }
  Time: { run: "test -e time || { touch time; exec sleep 100; }", timeout: 100ms }
  Kill: { run: "kill -9 $$" }
  Left: { run: "true", outputs: [model] }
  Any:  { run: "test -e any || { touch any; kill -9 $$; }", retry: { only: [signal] } }
"#;

#[test]
fn only_the_ends_that_are_named_are_tried_again() {
    let world = world();
    world.write("flow.yaml", FLOW);
    let ran = world.run(["run", "--json"]).exits(1);
    let notices: Vec<_> = ran.json().into_iter().filter(|it| it["event"] == "notice").collect();
    let told = |layer: &str, end: &str| {
        let text = format!("`{layer}` is not tried again: {end} is not in its `retry.only`");
        notices.iter().any(|it| it["text"] == text.as_str())
    };
    assert!(told("Once", "exit code 3") && told("Kill", "SIGKILL") && told("Left", "`outputs`"), "{notices:?}");
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert_eq!(world.read("once"), "x\n");
    let status: serde_json::Value = serde_json::from_str(&world.run(["status", "--json"]).exits(0).stdout).unwrap();
    let layers = status["layers"].as_array().unwrap();
    let of = |layer: &str| {
        let it = layers.iter().find(|it| it["layer"] == layer).unwrap();
        (it["state"].as_str().unwrap().to_owned(), it["attempt"].as_u64().unwrap(), it["declined"].is_string())
    };
    for layer in ["Once", "Kill", "Left"] {
        assert_eq!(of(layer), ("failed".to_owned(), 1, true), "{layer}");
    }
    for layer in ["Code", "Time", "Any"] {
        assert_eq!(of(layer), ("finished".to_owned(), 2, false), "{layer}");
    }
    let text = world.run(["status"]).exits(0).stdout;
    assert!(text.contains("exit code 3; not tried again: `retry.only` does not name that"), "{text}");
}
