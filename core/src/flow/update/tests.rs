//! Which layers of a changed file are not what they were.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::flow::file;
use crate::flow::problem::{Format, Source};

fn flow(text: &str, parameters: &[(&str, &str)]) -> Flow {
    let source = Source { name: "flow.yaml".into(), text: text.into(), format: Format::Yaml };
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    file::parse(&source, &parameters.iter().map(own).collect::<Vec<_>>()).unwrap()
}

fn side(flow: &Flow) -> Side<'_> {
    Side { flow, backend: "local" }
}

/// Of a flow with one layer `A`, whose keys are these.
fn parts_of(before: &str, after: &str) -> Vec<Part> {
    let of = |keys: &str| {
        flow(
            &format!("flow: F\nparameters: {{ x: 1, y: 2 }}\nlayers:\n  B: {{ run: 'true' }}\n  A: {{ {keys} }}\n"),
            &[],
        )
    };
    let before = of(before);
    let after = of(after).aligned(&before);
    changes(side(&before), side(&after)).changed.pop().map(|changed| changed.parts).unwrap_or_default()
}

#[test]
fn a_layer_keeps_its_place_by_its_name() {
    let first = flow("flow: F\nlayers: { A: { run: a }, B: { needs: [A], run: b }, C: { needs: [B], run: c } }", &[]);
    let second = flow("flow: F\nlayers: { D: { run: d }, C: { needs: [D], run: c }, A: { run: a } }", &[]);
    let second = second.aligned(&first);
    let names: Vec<&str> = second.layers.iter().map(|layer| &*layer.name).collect();
    assert_eq!(names, ["A", "B", "C", "D"]);
    assert_eq!(second.layers[2].needs, [LayerId(3)]);
    assert!(second.layers[1].retired && second.layers[1].needs.is_empty());
    assert_eq!(second.active().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 2, 3]);
    let found = changes(side(&first), side(&second));
    assert_eq!(found.changed, [Changed { layer: LayerId(2), parts: vec![Part::Needs] }]);
    assert_eq!((found.new, found.removed), (vec![LayerId(3)], vec![LayerId(1)]));

    let third = flow("flow: F\nlayers: { B: { run: b }, A: { run: a } }", &[]).aligned(&second);
    let found = changes(side(&second), side(&third));
    assert_eq!((found.new, found.removed), (vec![LayerId(1)], vec![LayerId(2), LayerId(3)]), "one comes back");
    assert_eq!(third.layers.len(), 4);
}

#[test]
fn what_a_layer_is_counts_and_how_it_is_tried_does_not() {
    assert_eq!(parts_of("run: a", "run: 'a'"), []);
    assert_eq!(parts_of("run: a", "run: b"), [Part::Run]);
    assert_eq!(parts_of("run: a", "run: a, shell: [bash, -c]"), [Part::Shell]);
    assert_eq!(parts_of("run: a", "command: [a]"), [Part::Command]);
    assert_eq!(parts_of("command: [a, b]", "command: [a, c]"), [Part::Command]);
    assert_eq!(parts_of("run: a", "run: a, env: { X: 1 }"), [Part::Env]);
    assert_eq!(parts_of("run: a, env: { X: 1, Y: 2 }", "run: a, env: { Y: 2, X: 1 }"), []);
    assert_eq!(parts_of("run: a", "run: b, needs: [B], outputs: [x]"), [Part::Needs, Part::Run, Part::Outputs]);
    assert_eq!(parts_of("run: a", "run: a, catch: [3]"), [Part::Catch]);
    assert_eq!(parts_of("run: a", "run: a, backend: docker"), [Part::Backend]);
    assert_eq!(parts_of("run: a", "run: a, backend: local"), [], "it ran there");
    assert_eq!(parts_of("run: a", "run: a, container: { image: x }"), [Part::Container]);
    assert_eq!(parts_of("run: a", "run: a, retry: { attempts: 3 }, timeout: 5s"), []);
    assert_eq!(parts_of("run: a", "run: a, container: { memory: 1GiB, cpu: 2 }"), []);
}

#[test]
fn values_count_not_how_they_are_written() {
    assert_eq!(parts_of("command: [a, '${{ parameters.x }}']", "command: [a, '1']"), []);
    assert_eq!(parts_of("command: ['v${{ parameters.x }}']", "command: ['v${{ parameters.y - 1 }}']"), []);
    assert_eq!(parts_of("command: ['${{ parameters.x }}']", "command: ['${{ parameters.y }}']"), [Part::Command]);
    // What only a task knows is the same where it is written the same.
    assert_eq!(parts_of("run: 'a ${{ attempt }}'", "run: 'a ${{ attempt }}'"), []);
    assert_eq!(parts_of("run: 'a ${{ attempt }}'", "run: 'a ${{ attempt + 1 }}'"), [Part::Run]);
}

#[test]
fn a_parameter_changes_the_layers_that_name_it() {
    let text = "
flow: F
parameters: { x: 1, y: 2 }
layers:
  Script: { run: 'echo ${{ parameters.x }}' }
  Words: { command: [echo, '${{ parameters.y }}'] }
  Env: { run: 'echo $X', env: { X: '${{ parameters.x if attempt > 1 else 0 }}' } }
  Plain: { run: echo }
";
    let before = flow(text, &[]);
    let after = flow(text, &[("x", "5")]).aligned(&before);
    let found = changes(side(&before), side(&after));
    let changed: Vec<_> = found.changed.iter().map(|changed| (changed.layer.0, changed.parts[0])).collect();
    assert_eq!(changed, [(0, Part::Run), (2, Part::Env)]);
    assert_eq!(found.parameters, ["x"]);
    let other = Side { backend: "docker", ..side(&before) };
    assert_eq!(changes(side(&before), other).changed.len(), 4, "all of them run elsewhere");
}
