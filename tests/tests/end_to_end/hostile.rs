//! Values, names and files that try to break out of where they are put.

use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use crate::world;

/// Texts that mean something to a shell, to `echo` or to us.
const HOSTILE: [&str; 16] = [
    "; touch pwned;",
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    "\"; touch pwned; \"",
    "\\\"; touch pwned; \\'",
    "\ntouch pwned\n",
    "-n",
    "*",
    "~",
    "${IFS}touch${IFS}pwned",
    "a  b\tc ",
    "END\ntouch pwned\n",
    "${{ env.HOME }}",
    "$LAMINAR_INPUTS",
    "täxt ☂",
];

/// Shows a value that came through a script's unquoted, quoted and here-document text, an argument and a variable.
const SHOW: &str = r#"
    env: { FROM_ENV: "VALUE" }
    run: |
      printf '%s' VALUE > "$LAMINAR_OUTPUTS/unquoted"
      printf '%s' "VALUE" > "$LAMINAR_OUTPUTS/quoted"
      printf '%s' "$FROM_ENV" > "$LAMINAR_OUTPUTS/env"
      cat > "$LAMINAR_OUTPUTS/here" <<END
      VALUE
      END
"#;

#[test]
fn values_stay_values_wherever_they_come_from() {
    let world = world();
    let show = |value: &str| SHOW.replace("VALUE", value);
    let mut flow = json!({
        "flow": "Hostile",
        "parameters": { "texts": HOSTILE, "all": { "texts": HOSTILE } },
        "layers": {
            "Left": { "command": ["sh", "-c", "cp \"$LAMINAR_INPUTS/Parameters/texts.json\" \"$LAMINAR_OUTPUTS/texts.json\""] },
            "Direct": { "foreach": { "text": "${{ parameters.texts }}" } },
            "Read": { "foreach": { "text": "${{ Left.texts }}" } },
            "Index": { "foreach": { "at": (0..HOSTILE.len()).collect::<Vec<_>>() } },
            "Argument": {
                "foreach": { "text": "${{ Left.texts }}" },
                "command": ["sh", "-c", "printf '%s' \"$1\" > \"$LAMINAR_OUTPUTS/argument\"", "sh", "${{ each.text }}"],
            },
        },
    });
    for (layer, value) in
        [("Direct", "${{ each.text }}"), ("Read", "${{ each.text }}"), ("Index", "${{ Left.texts[each.at] }}")]
    {
        let shown: Value = serde_yaml::from_str(&show(value)).unwrap();
        let own = flow["layers"][layer].as_object_mut().unwrap();
        own.extend(shown.as_object().unwrap().clone());
    }
    world.write("flow.json", flow.to_string());
    world.run(["run", "flow.json"]).exits(0);
    for (at, text) in HOSTILE.iter().enumerate() {
        for layer in ["Direct", "Read", "Index"] {
            for way in ["unquoted", "quoted", "env", "here"] {
                let left = world.run(["cat", &format!("{layer}[{at}]/{way}")]).exits(0).stdout;
                let left = if way == "here" { left.strip_suffix('\n').unwrap().to_owned() } else { left };
                assert_eq!(left, *text, "{layer} {at} {way}");
            }
        }
        assert_eq!(world.run(["cat", &format!("Argument[{at}]/argument")]).exits(0).stdout, *text);
    }
    assert!(!world.path().join("pwned").exists());
}

#[test]
fn names_of_files_stay_names() {
    let world = world();
    for (at, text) in HOSTILE.iter().enumerate().filter(|(_, text)| !text.contains('/')) {
        let name = format!("{at:02}{text}");
        world.write(&format!("parts/{name}"), name.as_bytes());
    }
    world.write(
        "flow.yaml",
        r#"
flow: Names
layers:
  Split: { run: 'cp -r parts "$LAMINAR_OUTPUTS/parts"; echo whole > "$LAMINAR_OUTPUTS/; touch pwned;"' }
  Each:
    foreach: { part: "${{ Split.parts }}" }
    run: |
      test "$(basename ${{ each.part }}; echo x)" = "$(cat ${{ each.part }}; echo; echo x)"
      grep -q '"part"' "$LAMINAR_EACH"
      cat ${{ Split['; touch pwned;'] }}
"#,
    );
    world.run(["run"]).exits(0);
    assert_eq!(world.run(["logs", "Each[3]"]).exits(0).stdout, "whole\n");
    assert!(!world.path().join("pwned").exists());

    // A name that is no text cannot be a value: told, not mangled.
    let name = std::ffi::OsStr::from_bytes(b"parts/\xff");
    std::fs::write(world.path().join(name), "x").unwrap();
    let ran = world.run(["run", "--json"]).exits(1);
    let told = ran.json().into_iter().find(|it| it["event"] == "layer_failed").unwrap();
    assert!(told["reason"].as_str().unwrap().contains("an entry whose name is no text: `\\xff`"), "{told}");
}
