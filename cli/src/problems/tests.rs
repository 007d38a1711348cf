//! Golden drawings, and what must hold for every file.

#![allow(clippy::unwrap_used)]

use laminar_core::flow::problem::Format;

use super::*;

fn source(text: &str) -> Source {
    Source { name: "flow.yaml".to_owned(), text: text.into(), format: Format::Yaml }
}

fn place(text: &str, needle: &str, label: &str) -> Place {
    let start = text.find(needle).unwrap();
    Place { span: start..start + needle.len(), label: label.to_owned() }
}

fn problem(message: &str, places: Vec<Place>, hint: Option<&str>) -> Problem {
    Problem { message: message.to_owned(), places, hint: hint.map(str::to_owned) }
}

fn drawn(text: &str, list: Vec<Problem>) -> String {
    draw(&Problems { source: Some(source(text)), list }, Style::Plain, 100, false)
}

const FLOW: &str = "flow: Digits\nlayers:\n  Train:\n    retires: 3\n    needs: [Score]\n    run: true\n  Score:\n    needs: [Train]\n    run: true\n";

#[test]
fn a_problem_is_drawn_with_its_line_and_hint() {
    let one = problem(
        "unknown key `retires`",
        vec![place(FLOW, "retires", "not a key of a layer")],
        Some("did you mean `retry`?"),
    );
    assert_eq!(
        drawn(FLOW, vec![one]),
        "\
error: unknown key `retires`
 --> flow.yaml:4:5
  |
4 |     retires: 3
  |     ^^^^^^^ not a key of a layer
  |
  = hint: did you mean `retry`?

1 problem in `flow.yaml`"
    );
}

#[test]
fn a_cycle_shows_each_step() {
    let places = vec![place(FLOW, "Score]", "`Train` needs `Score`"), place(FLOW, "Train]", "`Score` needs `Train`")];
    assert_eq!(
        drawn(FLOW, vec![problem("layers need each other in a cycle", places, None)]),
        "\
error: layers need each other in a cycle
 --> flow.yaml:5:13
  |
5 |     needs: [Score]
  |             ^^^^^^ `Train` needs `Score`
...
8 |     needs: [Train]
  |             ------ `Score` needs `Train`

1 problem in `flow.yaml`"
    );
}

#[test]
fn places_far_apart_are_drawn_apart() {
    let text = format!("first: 1\n{}second: 2\n", "# filler\n".repeat(5000));
    let list =
        vec![problem("said twice", vec![place(&text, "second", "again"), place(&text, "first", "before")], None)];
    assert_eq!(
        drawn(&text, list),
        "\
error: said twice
    --> flow.yaml:5002:1
     |
5002 | second: 2
     | ^^^^^^ again
     |
    ::: flow.yaml:1:1
     |
   1 | first: 1
     | ----- before

1 problem in `flow.yaml`"
    );
}

#[test]
fn a_huge_line_is_cut_around_what_matters_and_keeps_its_column() {
    let text = format!("{{\"a\": \"{}\", \"wrong\": 1, \"b\": \"{}\"}}", "x".repeat(5_000_000), "y".repeat(5_000_000));
    let drawn = drawn(&text, vec![problem("unknown key `wrong`", vec![place(&text, "\"wrong\"", "here")], None)]);
    assert!(drawn.len() < 2000, "{} bytes", drawn.len());
    assert!(drawn.contains("flow.yaml:1:5000011"), "{drawn}");
    assert!(drawn.contains("\"wrong\": 1"), "{drawn}");
    assert!(drawn.contains("^^^^^^^ here"), "{drawn}");
}

#[test]
fn two_places_at_the_ends_of_a_huge_line_are_both_shown() {
    let text = format!("{{\"one\": 1, {}\"two\": 2}}", "\"x\": 0, ".repeat(10_000));
    let places = vec![place(&text, "\"one\"", "first"), place(&text, "\"two\"", "second")];
    let drawn = drawn(&text, vec![problem("clash", places, None)]);
    assert!(drawn.len() < 2000, "{} bytes", drawn.len());
    assert!(drawn.contains("first") && drawn.contains("second"), "{drawn}");
}

#[test]
fn nothing_of_the_file_controls_the_terminal() {
    let text = "flow: \u{1b}[2J\u{202e}\nlayers: \u{1b}]0;title\u{7}\r\nnext\r\n";
    let list = vec![
        problem(
            "bad \u{1b}[31m name",
            vec![place(text, "\u{1b}[2J", "label \u{1b}[0m\nnew")],
            Some("hint \u{7}\u{9b}"),
        ),
        problem("bad", vec![place(text, "\u{1b}]0", "")], None),
    ];
    let drawn = drawn(text, list);
    assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()), "{drawn:?}");
    assert!(!drawn.contains('\u{202e}'), "{drawn:?}");
}

#[test]
fn every_span_of_a_small_file_can_be_drawn() {
    let text = "a: é\r\n\n\tb: [1,\n  2]\n";
    let bounds: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
    for start in &bounds {
        for end in bounds.iter().filter(|end| *end >= start) {
            let spot = Place { span: *start..*end, label: "here".to_owned() };
            let drawn = drawn(text, vec![problem("wrong", vec![spot], None)]);
            assert!(drawn.contains("here"), "{start}..{end}: {drawn}");
        }
    }
    assert!(
        drawn("", vec![problem("empty", vec![Place { span: 0..0, label: String::new() }], None)]).contains("empty")
    );
}

#[test]
fn at_most_twenty_are_drawn() {
    let list: Vec<_> = (0..25).map(|n| problem(&format!("wrong {n}"), vec![place(FLOW, "run", "")], None)).collect();
    let all = draw(&Problems { source: Some(source(FLOW)), list: list.clone() }, Style::Plain, 100, true);
    assert!(all.contains("wrong 24") && all.ends_with("\n25 problems in `flow.yaml`"), "{all}");
    let drawn = drawn(FLOW, list);
    assert!(drawn.contains("wrong 19") && !drawn.contains("wrong 20"));
    let end = "and 5 more; 25 problems in `flow.yaml`; `-v` shows all, and `--json` all as data";
    assert!(drawn.ends_with(end), "{drawn}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_in_short() {
    let list = vec![problem("cannot read `flow.yaml`: there is no such file", Vec::new(), Some("write one"))];
    let drawn = draw(&Problems { source: None, list }, Style::Plain, 100, false);
    assert_eq!(drawn, "error: cannot read `flow.yaml`: there is no such file\nhint: write one");
}

#[test]
fn a_problem_without_a_place_has_its_hint_too() {
    let drawn = drawn(FLOW, vec![problem("all wrong", Vec::new(), Some("start again"))]);
    assert_eq!(drawn, "error: all wrong\nhint: start again\n\n1 problem in `flow.yaml`");
}

#[test]
fn values_have_every_field() {
    let one = problem(
        "unknown key `retires`",
        vec![place(FLOW, "retires", "here"), place(FLOW, "Score]", "there")],
        Some("did you mean `retry`?"),
    );
    let values =
        objects(&Problems { source: Some(source(FLOW)), list: vec![one, problem("all wrong", Vec::new(), None)] });
    assert_eq!(
        values,
        [
            json!({
                "message": "unknown key `retires`",
                "file": "flow.yaml",
                "line": 4,
                "column": 5,
                "end": {"line": 4, "column": 12},
                "label": "here",
                "hint": "did you mean `retry`?",
                "places": [{"line": 5, "column": 13, "end": {"line": 5, "column": 19}, "label": "there"}],
            }),
            json!({
                "message": "all wrong",
                "file": "flow.yaml",
                "line": null,
                "column": null,
                "end": null,
                "label": null,
                "hint": null,
                "places": [],
            }),
        ]
    );
}
