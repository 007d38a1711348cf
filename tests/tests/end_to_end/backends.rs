//! Which backend runs a layer, and with which options.

use laminar_core::folder::Root;
use laminar_core::store::{self, RunReader};

use crate::world;

const NICE: &str = "sed 's/.*) //' /proc/$$/stat | cut -d' ' -f17 > $LAMINAR_OUTPUTS/nice";

#[test]
fn an_option_is_the_command_lines_else_the_flows() {
    let world = world();
    world.write(
        "flow.yaml",
        format!("flow: A\nbackends: {{ local: {{ nice: 3 }} }}\nlayers: {{ A: {{ run: \"{NICE}\" }} }}\n"),
    );
    let nice = |args: &[&str]| -> i32 {
        world.run([&["run"], args].concat()).exits(0);
        world.run(["cat", "A/nice"]).exits(0).stdout.trim().parse().unwrap()
    };
    let base = nice(&["-o", "nice=0"]);
    assert_eq!(nice(&[]), base + 3);
    assert_eq!(nice(&["-o", "nice=9", "-o", "local.nice=5"]), base + 5);
    // What the command line sets is stored, so that whoever goes on with it does the same.
    let root = Root::new(&world.path().join(".laminar")).unwrap();
    let newest = store::resolve(&root, "latest").unwrap();
    let creation = RunReader::open(&root, newest).unwrap().creation().clone();
    let set = |value: &str| ("local".to_owned(), "nice".to_owned(), value.to_owned());
    assert_eq!(creation.options, [set("9"), set("5")]);
    assert_eq!((creation.backend.as_str(), creation.backends()), ("local", vec!["local"]));
}

#[test]
fn a_layers_own_backend_counts_most_then_the_command_lines_then_the_flows() {
    let world = world();
    // Nothing runs: an engine that does not answer is named.
    let refused = |flow: &str, args: &[&str], variable: &str| {
        world.write("flow.yaml", flow);
        let mut command =
            world.command([&["run", "-o", "docker.program=false", "-o", "podman.program=false"], args].concat());
        let output = command.env("LAMINAR_BACKEND", variable).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        said.split("cannot use the backend `").nth(1).and_then(|rest| rest.split('`').next()).map(str::to_owned)
    };
    let flow = |defaults: &str, layer: &str| format!("flow: A\n{defaults}layers: {{ A: {{ run: 'true'{layer} }} }}\n");
    let (docker, podman) = (Some("docker".to_owned()), Some("podman".to_owned()));
    assert_eq!(refused(&flow("", ""), &[], ""), None, "local");
    assert_eq!(refused(&flow("defaults: { backend: docker }\n", ""), &[], ""), docker);
    assert_eq!(refused(&flow("defaults: { backend: docker }\n", ""), &[], "podman"), podman);
    assert_eq!(refused(&flow("defaults: { backend: docker }\n", ""), &["--backend", "local"], "podman"), None);
    assert_eq!(refused(&flow("", ", backend: podman"), &["--backend", "docker"], ""), podman);
}

#[test]
fn wrong_options_are_usage_errors_and_nothing_is_made() {
    let world = world();
    world.write("flow.yaml", "flow: A\nlayers: { A: { run: 'true' } }\n");
    for (said, parts) in [
        ("nice", &["write `name=value` or `backend.name=value`"][..]),
        ("nice=high", &["`high` is no whole number", "-o nice=high"]),
        ("local.nise=1", &["the backend `local` has no option `nise`", "did you mean `nice`"]),
        (
            "network=none",
            &[
                "the backend `local` has no option `network`",
                "write `-o docker.network=none` or `-o podman.network=none`",
            ],
        ),
        ("slurm.queue=x", &["there is no backend `slurm`", "`podman`"]),
        ("docker.pull=nevr", &["did you mean `never`"]),
    ] {
        world.run(["run", "-o", said]).exits(2).says(parts);
    }
    assert!(!world.path().join(".laminar").exists());
    let ran = world.run(["run", "-o", "podman.pull=never"]).exits(0);
    ran.says(&["`-o podman.pull` has no effect: no layer runs on `podman`"]);
}

#[test]
fn the_options_of_each_backend_are_listed() {
    let world = world();
    let text = world.run(["backends"]).exits(0).stdout;
    assert!(text.contains("-o nice  0 to 19") && text.contains("-o userns"), "{text}");
    let listed = world.run(["backends", "--json", "-o", "program=false"]).exits(0).json();
    let docker = listed.iter().find(|backend| backend["name"] == "docker").unwrap();
    assert_eq!(docker["available"], false, "the option is used for the question");
    let pull = docker["options"].as_array().unwrap().iter().find(|option| option["name"] == "pull").unwrap();
    assert_eq!(pull["values"], serde_json::json!(["always", "missing", "never"]));
    assert_eq!((&pull["type"], &pull["default"]), (&"one_of".into(), &"missing".into()));
    world.run(["backends", "-o", "queue=x"]).exits(2).says(&["no backend has an option `queue`"]);
}
