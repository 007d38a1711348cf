//! Layers, flows and files that mean harm to the terminal of whoever looks at them: by what they print, and by their names.

use laminar_tests::terminal::{Shown, show};
use laminar_tests::world::World;

use crate::world;

/// Sets a title, clears the screen in two ways, turns the direction of text, hides something.
const HARM: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{202e}y\u{200b}\u{e0041}z\r";

/// The same in a shell's word.
const WORD: &str = r"$(printf 'x\033]0;owned\a\033[2J\302\2332J\342\200\256y\342\200\213\363\240\201\201z\rq')";

const FLOW: &str = r#"
flow: Terminal
on_failure: continue
parameters: { said: "PARAMETER" }
layers:
  Names: { run: 'mkdir -p "$LAMINAR_OUTPUTS/d"; echo text > "$LAMINAR_OUTPUTS/d/WORD"; printf ''%s'' "WORD" > "$LAMINAR_OUTPUTS/file"' }
  Turned: { run: 'echo text > "$LAMINAR_OUTPUTS/$(printf ''a\342\200\256b\342\200\213c'')"' }
  Each: { foreach: { name: "${{ Names.d }}" }, cache: true, run: 'echo ${{ each.name }}; exit 3' }
  Values: { foreach: { value: ["${{ parameters.said }}", plain] }, run: 'echo ${{ each.value }}' }
  Prints: { run: 'echo "WORD"; printf ''\377\n'' >&2; exit 4' }
  Refused: { run: 'echo x > "$LAMINAR_OUTPUTS/WORD"' }
  Lost: { command: ["${{ parameters.said }}"] }
  Json: { run: 'cp "$LAMINAR_INPUTS/Parameters/said.json" "$LAMINAR_OUTPUTS"' }
  When: { when: "${{ Json.said }}", run: 'true' }
"#;

fn hostile() -> World {
    let world = world();
    let parameter = serde_json::to_string(HARM).unwrap();
    world.write(
        "flow.yaml",
        FLOW.replace("\"PARAMETER\"", &parameter).replace("WORD", WORD.replace('\'', "''").as_str()),
    );
    world
}

fn harmless(world: &World, args: &[&str]) -> Shown {
    let shown = show(world.command(args));
    assert_eq!(
        shown.harm(),
        Vec::<String>::new(),
        "{args:?}: {}",
        String::from_utf8_lossy(&shown.bytes).escape_debug()
    );
    assert!(!shown.bytes.is_empty(), "{args:?} shows nothing");
    shown
}

#[test]
fn nothing_that_is_shown_does_anything_to_the_terminal() {
    let world = hostile();
    let ran = harmless(&world, &["run"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.has("x\\x1b]0;owned\\x07\\x1b[2J\\u{9b}2J\\u{202e}y\\u{200b}"), "what it is can be seen");
    for args in [
        &["list"][..],
        &["status"],
        &["status", "-v"],
        &["status", "latest", "Each"],
        &["status", "latest", "Values"],
        &["why", "Each"],
        &["artifacts"],
        &["artifacts", "--values"],
        &["cat", "Names/file"],
        &["cat", "Names/d"],
        &["cat", "Names/nothing\u{1b}[2J"],
        &["cat", "Turned/nothing"],
        &["logs"],
        &["logs", "Prints"],
        &["logs", "-f"],
        &["logs", "No\u{1b}[2JSuch"],
        &["status", "\u{1b}[2J"],
        &["plan"],
        &["run", "--dry-run"],
        &["run", "-v"],
        &["run", "--parameter", "said=\u{1b}[2J\u{202e}"],
        &["run", "--parameter", "\u{1b}[2J=x"],
        &["run", "-o", "docker.\u{1b}[2J=x"],
        &["run", "--backend", "\u{1b}[2J"],
        &["run", "no\u{1b}[2Jsuch.yaml"],
        &["no\u{1b}[2Jsuch"],
        &["resume", "--dry-run"],
        &["resume", "--from", "\u{1b}[2J"],
        &["gc", "--dry-run", "-v"],
        &["list", "--json"],
        &["status", "--json"],
        &["artifacts", "--json"],
    ] {
        harmless(&world, args);
    }
}

#[test]
fn a_flow_file_that_is_wrong_is_shown_as_it_is_written_and_does_nothing() {
    let world = world();
    world.write(
        "flow.yaml",
        format!(
            "flow: Wrong\nlayers:\n  One: {{ run: 'true' }}\n  \"{0}\": {{ {0}: 1 }} # \u{1b}[2J\n",
            "x\u{202e}\\e[2J"
        ),
    );
    let shown = harmless(&world, &["check"]);
    assert_eq!(shown.code, Some(2));
    world.write("flow.yaml", "flow: Wrong\nlayers: { One: { runn: '\u{1b}[2J\u{202e}' } }\n");
    harmless(&world, &["check"]);
    world.write("flow.json", "{\"flow\": \"Wrong\u{202e}\", \"layers\": {\"a\\u001b[2J\": 1}}");
    harmless(&world, &["check", "flow.json"]);
}

#[test]
fn what_is_piped_is_what_was_written_byte_for_byte() {
    let world = hostile();
    world.run(["run"]).exits(1);
    let said = HARM.replace('\r', "\rq");
    assert_eq!(world.run(["cat", "Names/file"]).exits(0).bytes, said.as_bytes());
    assert_eq!(world.run(["logs", "Prints"]).exits(0).bytes, [said.as_bytes(), b"\n\xff\n"].concat());
    assert_eq!(world.run(["logs", "Values[0]"]).exits(0).bytes, [HARM.as_bytes(), b"\n"].concat());
}
