//! Layers that leave or print more than anybody wants: what a flow allows, and what is said of the rest.

use crate::world;

const FLOW: &str = r#"
flow: Bombs
on_failure: continue
defaults: { limits: { files: 50, outputs: 1MiB, log: 1KiB } }
layers:
  Few: { run: 'cd "$LAMINAR_OUTPUTS"; seq 1 49 | xargs touch; head -c 1000000 /dev/zero > zeros' }
  Many: { run: 'cd "$LAMINAR_OUTPUTS"; mkdir d; cd d; seq 1 50 | xargs touch' }
  Big: { run: 'cd "$LAMINAR_OUTPUTS"; truncate -s 1T sparse; echo small > a' }
  Allowed: { limits: { outputs: 2MiB, files: 51 }, run: 'cd "$LAMINAR_OUTPUTS"; truncate -s 2M sparse; seq 1 50 | xargs touch' }
  Loud: { run: 'yes | head -c 100000; echo done > "$LAMINAR_OUTPUTS/done"' }
  Louder: { limits: { log: 1MiB }, run: 'yes | head -c 100000' }
"#;

#[test]
fn what_is_more_than_a_flow_allows_is_refused_or_cut_and_told() {
    let world = world();
    world.write("flow.yaml", FLOW);
    let ran = world.run(["run"]).exits(1);
    let ran = ran.says(&[
        "`.` is the outputs folder, and has more than 50 files, folders and links in it",
        "or allow more (`limits: { files: … }`)",
        "`sparse` is too big: it has 1.0 TiB, of which 0 B are on the disk (the rest are holes), and all files together may have \
         1.0 MiB",
    ]);
    assert!(!ran.stderr.contains("`Few`") && !ran.stderr.contains("`Allowed`"), "{}", ran.stderr);
    let status = world.run(["status", "--json"]).exits(0).document();
    let state = |name: &str| {
        let layers = status["layers"].as_array().unwrap().iter();
        layers.clone().find(|layer| layer["name"] == name || layer["layer"] == name).unwrap()["state"].clone()
    };
    for (name, expected) in
        [("Few", "finished"), ("Many", "failed"), ("Big", "failed"), ("Allowed", "finished"), ("Loud", "finished")]
    {
        assert_eq!(state(name), expected, "{name}: {status}");
    }
    let log = world.run(["logs", "Loud"]).exits(0).stdout;
    assert_eq!(
        log,
        "y\n".repeat(512) + "laminar: the limit of this log is reached (1024 bytes); what follows is not kept\n"
    );
    assert_eq!(world.run(["cat", "Loud/done"]).exits(0).stdout, "done\n", "the layer itself is none the worse");
    assert_eq!(world.run(["logs", "Louder"]).exits(0).stdout.len(), 100_000);
    let told = world.run(["status", "--json"]).exits(0).stdout;
    assert!(told.contains("the log ends at its limit of 1024 bytes; 98976 more were printed and not kept"), "{told}");
}

#[test]
fn limits_that_are_none_are_told_where_they_are_written() {
    let world = world();
    world.write(
        "flow.yaml",
        "flow: Wrong\ndefaults: { limits: { files: -1 } }\nlayers: { One: { limits: { log: much, outputs: 0 }, run: 'true' } }\n",
    );
    world.run(["check"]).exits(2).says(&[
        "`files` is -1, but must be at least 0",
        "`much` is not a size",
        "`0` is no size",
    ]);
}

/// A list that an expression reads, and a value, are bounded by what can be held.
#[test]
fn a_value_that_is_too_large_to_be_read_is_told() {
    let world = world();
    world.write(
        "flow.yaml",
        r#"
flow: Values
on_failure: continue
layers:
  Huge: { run: 'truncate -s 65M "$LAMINAR_OUTPUTS/list.json"' }
  Each: { foreach: { at: "${{ Huge.list }}" }, run: echo }
  Long: { run: '{ echo "[0"; yes ,1 | head -n 1000000; echo "]"; } > "$LAMINAR_OUTPUTS/list.json"' }
  Many: { foreach: { at: "${{ Long.list }}" }, run: echo }
  Deep: { run: 'yes "[" | head -n 100000 > "$LAMINAR_OUTPUTS/list.json"' }
  Down: { foreach: { at: "${{ Deep.list }}" }, run: echo }
  Parts: { foreach: { at: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17] }, run: 'truncate -s 64M "$LAMINAR_OUTPUTS/part.json"' }
  Sum: { run: 'echo ${{ Parts.part | sum }}' }
"#,
    );
    world.run(["run"]).exits(1).says(&[
        "`Huge/list.json` has 68157440 bytes, more than a value may have (64 MiB)",
        "it makes 1000001 splits, more than 1000000",
        "`Deep/list.json` is no JSON: recursion limit exceeded",
        "`part.json` of all splits of `Parts` has 1140850688 bytes",
    ]);
}
