#![allow(clippy::unwrap_used)]
use super::*;

/// The text that a tree's scalars and keys were written with, in order.
fn written<'t>(tree: &Tree<'_>, node: &Node<'_>, text: &'t str, into: &mut Vec<&'t str>) {
    match node.kind() {
        Kind::List(items) => items.iter().for_each(|item| written(tree, item, text, into)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            written(tree, key, text, into);
            written(tree, value, text, into);
        }),
        _ => into.push(&text[tree.bytes(text, &node.span)]),
    }
}

fn scalars<'t>(tree: &Tree<'_>, text: &'t str) -> Vec<&'t str> {
    let mut into = Vec::new();
    written(tree, &tree.root, text, &mut into);
    into
}

#[test]
fn places_are_right_after_wide_characters_and_returns() {
    let text = "é日: 日本 # ü\r\nb:\r\n  - 'ä\"'\r\n  - |\r\n    ü\r\n  - &x 1\r\n  - *x\r\n";
    let tree = Tree::yaml(text).unwrap();
    assert_eq!(scalars(&tree, text), ["é日", "日本", "b", "'ä\"'", "ü", "&x 1", "*x"]);
    let long = format!("{}: 日{}\nend: here", "ä".repeat(300), "é".repeat(1000));
    let tree = Tree::yaml(&long).unwrap();
    assert_eq!(scalars(&tree, &long)[2..], ["end", "here"]);
}

#[test]
fn json_has_places_too() {
    let text = r#" {"a\"\u00e9": [1, "日", null, -1.5e3 ], "b" : { } } "#;
    let tree = Tree::json(text).unwrap();
    assert_eq!(scalars(&tree, text), [r#""a\"\u00e9""#, "1", "\"日\"", "null", "-1.5e3", "\"b\""]);
    assert_eq!(tree.root.entries()[0].0.text(), Some("a\"é"));
}

#[test]
fn scalars_are_of_the_core_schema() {
    let kind = |text: &str| {
        let document = format!("[{text}]");
        let tree = Tree::yaml(&document).unwrap();
        match tree.root.kind() {
            Kind::List(items) => match items[0].kind() {
                Kind::Plain(_, plain) => format!("{plain:?}"),
                Kind::Text(text) => format!("{text:?}"),
                other => format!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    for (text, expected) in [
        ("~", "Null"),
        ("null", "Null"),
        ("True", "Bool(true)"),
        ("yes", "\"yes\""),
        ("-12", "Signed(-12)"),
        ("0x1f", "Signed(31)"),
        ("0o17", "Signed(15)"),
        ("18446744073709551615", "Unsigned(18446744073709551615)"),
        ("1.10", "Float(1.1)"),
        ("1e3", "Float(1000.0)"),
        (".5", "Float(0.5)"),
        ("-.inf", "Float(-inf)"),
        (".", "\".\""),
        ("1.2.3", "\"1.2.3\""),
        ("12:30", "\"12:30\""),
        ("2026-01-01", "\"2026-01-01\""),
        ("1_000", "\"1_000\""),
        ("inf", "\"inf\""),
        ("'1'", "\"1\""),
        ("!!str 1", "\"1\""),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

/// The reference: what `serde_yaml` makes of the same text.
#[test]
fn values_are_those_of_serde_yaml() {
    let texts = [
        "a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: ~, e: true, f: 1.5, g: -3}\n",
        "folded: >\n  one\n  two\n\n  three\nliteral: |\n  one\n    two\nkept: |+\n  x\n\nstripped: >-\n  y\n",
        "base: &b [1, 2]\nagain: *b\nempty: {}\nnone:\nlist:\n- - 1\n  - 2\n- k: v\n",
        "quoted: 'it''s'\nwide: \"\\u00e9\\x41\"\nplain: a b # comment\nurl: http://x/y\n",
        include_str!("../../../../examples/iris/flow.yaml"),
    ];
    for text in texts {
        let reference: serde_json::Value = serde_yaml::from_str(text).unwrap();
        let tree = Tree::yaml(text).unwrap();
        let ours: serde_json::Value = de::deserialize(&tree.root).unwrap();
        assert_eq!(ours, reference, "{text}");
    }
}
