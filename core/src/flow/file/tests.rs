#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;

fn yaml(text: &str) -> Source {
    Source { name: "flow.yaml".into(), text: text.into(), format: Format::Yaml }
}

fn json(text: &str) -> Source {
    Source { name: "flow.json".into(), text: text.into(), format: Format::Json }
}

/// Each problem as one line: the text it points at, the message, the hint.
fn drawn(problems: &Problems) -> String {
    let mut lines = String::new();
    for problem in &problems.list {
        for (at, place) in problem.places.iter().enumerate() {
            let text = &problems.source.as_ref().unwrap().text[place.span.clone()];
            let label = if place.label.is_empty() { String::new() } else { format!(" ({})", place.label) };
            lines += &format!("{}«{text}»{label}", if at > 0 { " " } else { "" });
        }
        lines += &format!(" {}", problem.message);
        if let Some(hint) = &problem.hint {
            lines += &format!(" | {hint}");
        }
        lines += "\n";
    }
    lines
}

fn wrong(text: &str) -> String {
    drawn(&parse(&yaml(text), &[]).unwrap_err())
}

/// Wrong files and what is said about them: `golden.txt` has the file, a line `=>`, and one line per problem, with the text
/// each place points at. After a change on purpose: `UPDATE_GOLDEN=1 cargo test golden`, and read the difference.
#[test]
fn golden_messages() {
    let golden = include_str!("golden.txt");
    let mut now = String::new();
    for case in golden.split_inclusive("\n====\n").map(|case| case.trim_end_matches("====\n")) {
        let text = case.split("\n=>\n").next().unwrap();
        let source = text.strip_prefix("(json)\n").map_or_else(|| yaml(text), json);
        let said = parse(&source, &[]).map_or_else(|problems| drawn(&problems), |_| "good\n".to_owned());
        now += &format!("{text}\n=>\n{said}====\n");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/flow/file/golden.txt"), &now).unwrap();
    }
    for (was, is) in golden.split("\n====\n").zip(now.split("\n====\n")) {
        assert_eq!(is, was);
    }
}

const EXAMPLE: &str = r#"
flow: Digits
parameters:
  seed: 7
  depths: [2, 4, 8]
  name: text
  rate: 0.5
  flag: true
  none: null
defaults:
  container: { image: "digits:1", cpu: 0.5, memory: 1500MiB, workdir: /laminar, env: { A: default, Z: 1 } }
  retry: { attempts: 2, delay: 1s, backoff: 3, jitter: 0 }
  env: { A: defaults, B: defaults }
  timeout: 1h 30m
  catch: [3]
layers:
  Split:
    run: python split.py --seed ${{ parameters.seed }}
  Train: &train
    needs: [Split]
    container: { cpu: 2, gpus: all, mounts: [data:/data:ro, { source: /x, target: /y }], env: { Z: 2 }, pull: never, shm_size: 64, reuse: true }
    command: [python, train.py, 1.10, true]
    retry: { attempts: 3 }
    timeout: 10m
    env: { B: 1.10, C: yes, D: "${{ attempt }}", E: 0x1F, F: ~ }
    outputs: [model.json]
    shell: [bash, -euo, pipefail, -c]
    catch: []
  Again: *train
on_failure: continue
max_parallel: 4
"#;

fn value(flow: &Flow, layer: usize, name: &str) -> String {
    let (parameters, env) = (&flow.parameters, &std::collections::BTreeMap::new());
    let execution = crate::id::ExecutionId::now();
    let scope =
        crate::flow::template::Scope { env, execution, ..crate::flow::template::Scope::of_parameters(parameters) };
    let found = flow.layers[layer].env.iter().rev().find(|(known, _)| known == name).unwrap();
    found.1.evaluate(&scope).unwrap()
}

#[test]
fn a_good_file_becomes_a_flow() {
    let flow = parse(&yaml(&EXAMPLE.replace(", F: ~", "")), &[]).unwrap();
    assert_eq!(
        (&*flow.name, flow.on_failure, flow.max_parallel),
        ("Digits", crate::flow::OnFailure::Continue, Some(4))
    );
    assert_eq!(flow.layers.iter().map(|layer| &*layer.name).collect::<Vec<_>>(), ["Split", "Train", "Again"]);
    let [split, train, again] = &flow.layers[..] else { panic!() };
    assert_eq!(again.needs, [LayerId(0)]);
    assert_eq!(split.container.cpu_millis, Some(500));
    assert_eq!(train.container.cpu_millis, Some(2000));
    assert_eq!((train.container.memory, train.container.shm_size), (Some(1500 << 20), Some(64)));
    assert!(train.container.reuse);
    assert_eq!(train.container.image.as_deref(), Some("digits:1"));
    assert_eq!(train.container.gpus, Some(crate::container::Gpus::All));
    assert_eq!((train.container.mounts.len(), train.container.mounts[0].read_only), (2, true));
    assert_eq!((train.retry.attempts, train.retry.backoff, split.retry.attempts), (3, 3.0, 2));
    assert_eq!((split.timeout.unwrap().as_secs(), train.timeout.unwrap().as_secs()), (5400, 600));
    assert_eq!((&split.catch[..], &train.catch[..]), (&[3][..], &[][..]));
    assert_eq!(train.outputs.as_deref(), Some(&["model.json".to_owned()][..]));
    for (name, text) in [("A", "defaults"), ("B", "1.10"), ("C", "yes"), ("D", "1"), ("E", "0x1F"), ("Z", "2")] {
        assert_eq!(value(&flow, 1, name), text, "{name}");
    }
    assert_eq!((value(&flow, 0, "Z"), value(&flow, 0, "B")), ("1".into(), "defaults".into()));
    assert!(split.container.env);
}

#[test]
fn layers_without_a_container_share_one() {
    let flow =
        parse(&yaml("flow: F\nlayers: {A: {run: x}, B: {run: y}, C: {run: z, container: {cpu: 1}}}"), &[]).unwrap();
    assert!(std::sync::Arc::ptr_eq(&flow.layers[0].container, &flow.layers[1].container));
    assert!(!std::sync::Arc::ptr_eq(&flow.layers[0].container, &flow.layers[2].container));
}

#[test]
fn yaml_and_json_say_the_same() {
    let tree = yaml(&EXAMPLE.replace(", F: ~", ""));
    let value: Value = marked::deserialize::<raw::Json>(&Tree::yaml(&tree.text).unwrap().root).unwrap().0;
    let flow = parse(&json(&value.to_string()), &[]).unwrap();
    let same = format!("{:?}", parse(&tree, &[]).unwrap().layers[1].container);
    assert_eq!(format!("{:?}", flow.layers[1].container), same);
}

#[test]
fn overrides_have_the_type_of_the_default() {
    let source = yaml(&EXAMPLE.replace(", F: ~", ""));
    let set = |name: &str, text: &str| {
        let flow = parse(&source, &[(name.to_owned(), text.to_owned())]);
        flow.map(|flow| flow.parameters[name].to_string()).map_err(|problems| {
            assert!(problems.list[0].places.is_empty());
            drawn(&problems).trim().to_owned()
        })
    };
    for (name, text, value) in [
        ("seed", "9", "9"),
        ("depths", "[1]", "[1]"),
        ("name", "9", "\"9\""),
        ("rate", "2", "2"),
        ("flag", "false", "false"),
        ("none", "[1]", "[1]"),
        ("none", "word", "\"word\""),
    ] {
        assert_eq!(set(name, text).unwrap(), value, "{name}");
    }
    for (name, text, message) in [
        ("seed", "1.5", "parameter `seed` must be a whole number, but is `1.5`"),
        ("seed", "x", "parameter `seed` must be a whole number, but is `x`"),
        ("rate", "x", "parameter `rate` must be a number, but is `x`"),
        ("flag", "yes", "parameter `flag` must be `true` or `false`, but is `yes`"),
        ("depths", "3", "parameter `depths` must be a list, such as `[1, 2]`, but is `3`"),
        (
            "seeed",
            "1",
            "there is no parameter `seeed` | did you mean `seed`? the flow has `seed`, `depths`, `name`, `rate`, `flag`, `none`",
        ),
    ] {
        assert_eq!(set(name, text).unwrap_err(), message);
    }
}

#[test]
fn a_cycle_is_drawn_at_its_needs() {
    for text in [
        "flow: F\nlayers:\n  A: {needs: [X, B], run: a}\n  B: {needs: [C], run: b}\n  C: {needs: [A], run: c}\n  X: {run: x}\n",
        r#"{"flow": "F", "layers": {"A": {"needs": ["X", "B"], "run": "a"}, "B": {"needs": ["C"], "run": "b"}, "C": {"needs": ["A"], "run": "c"}, "X": {"run": "x"}}}"#,
    ] {
        let source = if text.starts_with('{') { json(text) } else { yaml(text) };
        let flow = parse(&source, &[]).unwrap();
        let problems = cycle(&source, &flow, &[LayerId(0), LayerId(1), LayerId(2)]);
        let drawn = drawn(&problems).replace('"', "");
        assert_eq!(
            drawn,
            "«B» (`A` needs `B`) «C» (`B` needs `C`) «A» (`C` needs `A`) layers need each other in a cycle: A → B → C → A | remove one of these needs\n"
        );
        let starts: Vec<_> = problems.list[0].places.iter().map(|place| place.span.start).collect();
        assert!(starts.is_sorted(), "not at the needs: {starts:?}");
    }
}

#[test]
fn limits_hold() {
    let deep = "[".repeat(100_000);
    assert!(wrong(&deep).contains("within each other"));
    assert!(wrong(&format!("flow: F\nlayers: {deep}")).contains("within each other"));
    assert!(wrong(&"- ".repeat(100_000)).contains("within each other"));
    assert!(wrong(&"{a: ".repeat(100_000)).contains("within each other"));
    let closed = format!("{{\"flow\": {deep}{}}}", "]".repeat(100_000));
    assert!(drawn(&parse(&json(&closed), &[]).unwrap_err()).contains("within each other"));
    assert!(drawn(&parse(&json(&deep), &[]).unwrap_err()).contains("too early"));
    let mut bomb = "flow: F\nparameters:\n  a0: &a0 [lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("  a{level}: &a{level} [{}]\n", [&*alias; 9].join(", "));
    }
    assert!(wrong(&format!("{bomb}layers: {{A: {{run: x}}}}\n")).contains("aliases of this file stand for more than"));
    let chain: String = (1..1000).map(|n| format!("  b{n}: &b{n} [*b{}]\n", n - 1)).collect();
    assert!(
        wrong(&format!("flow: F\nparameters:\n  b0: &b0 1\n{chain}layers: {{A: {{run: x}}}}"))
            .contains("within each other")
    );
    let long = "x".repeat(10 << 20);
    assert!(wrong(&format!("flow: F\nlayers: {{A: {{run: {long}}}}}")).contains("more than the kernel takes"));
    assert!(wrong(&long).contains("expected a map"));
    assert!(wrong(&format!("{long}: 1")).len() < 1000);
    assert!(wrong(&format!("flow: {long}\nlayers: {{A: {{run: x, needs: [{long}]}}}}")).contains("unknown layer"));
}

#[test]
fn only_files_with_text_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let said = |path: &Path| {
        let problems = read(path).unwrap_err();
        let text = drawn(&Problems { source: Some(problems.source.unwrap_or_else(|| yaml(""))), list: problems.list });
        text.replace(&folder.path().display().to_string(), "DIR")
    };
    std::fs::write(path("flow.yaml"), "\u{feff}flow: F\nlayers: {A: {run: x}}").unwrap();
    let source = read(&path("flow.yaml")).unwrap();
    assert!(source.text.starts_with("flow") && source.format == Format::Yaml);
    parse(&source, &[]).unwrap();
    assert_eq!(
        said(&path("flaw.yaml")),
        " cannot read `DIR/flaw.yaml`: there is no such file | did you mean `DIR/flow.yaml`?\n"
    );
    assert_eq!(
        said(&path("digits")),
        " cannot read `DIR/digits`: there is no such file | did you mean `DIR/flow.yaml`?\n"
    );
    assert_eq!(said(folder.path()), " cannot read `DIR`: it is a folder | did you mean `DIR/flow.yaml`?\n");
    std::fs::write(path("bytes.json"), b"{\"flow\": \"\xffF\"}").unwrap();
    assert_eq!(said(&path("bytes.json")), "«\u{fffd}» this is not UTF-8: the byte 0xff | save it as UTF-8\n");
    std::fs::write(path("nul.yaml"), b"flow: F\n\0").unwrap();
    assert_eq!(
        said(&path("nul.yaml")),
        "«\0» a NUL byte | a flow file is a text; save it as UTF-8 without NUL bytes\n"
    );
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for no_file in [path("pipe"), "/dev/zero".into(), "/dev/null".into()] {
        assert!(said(&no_file).contains("it is no regular file | give it through standard input: `-`"));
    }
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    assert!(said(&path("loop")).contains("cannot read `DIR/loop`: too many levels of symbolic links"));
}

#[test]
fn the_schema_is_for_editors() {
    let schema = schema();
    assert_eq!(schema["title"], "laminar flow");
    assert!(schema.get("$id").is_none());
    assert_eq!(schema["required"], serde_json::json!(["flow", "layers"]));
    let layer = &schema["$defs"]["Layer"];
    assert_eq!(layer["additionalProperties"], false);
    assert!(layer["properties"]["needs"]["description"].as_str().unwrap().contains("must have finished"));
}

/// Whatever is read, there is no panic, and every place is within the text and at the boundaries of characters.
fn survives(text: &str) {
    for source in [yaml(text), json(text)] {
        let Err(problems) = parse(&source, &[]) else { continue };
        assert!(!problems.list.is_empty());
        for problem in &problems.list {
            assert!(!problem.message.is_empty());
            for place in &problem.places {
                assert!(text.get(place.span.clone()).is_some(), "{problem:?}\n{text}");
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 256, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        if let Ok(source) = decode("x".into(), bytes.clone(), Format::Yaml) {
            survives(&source.text);
        }
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_texts_are_survived(text in "([ -~\n\té日]|flow: |layers:\n|  A:|run: |\\$\\{\\{|\\}\\}|&a |\\*a|!!str |- |\\? |: |'|\"|\\||>-\n|---|\r\n|#|\\[|\\]){0,40}") {
        survives(&text);
    }

    #[test]
    fn mutated_files_are_survived(
        cuts in proptest::collection::vec((0.0..1.0_f64, 0..12_usize, "([ -~\n]|\\$\\{\\{ |é日|\t|\r\n|\u{2028}|  |: |- ){0,4}"), 1..6),
        is_json: bool,
    ) {
        let example = EXAMPLE.replace("split.py", "spliß.py # 日本");
        let mut text = example.clone();
        if is_json {
            text = marked::deserialize::<raw::Json>(&Tree::yaml(&example).unwrap().root).unwrap().0.to_string();
        }
        for (at, length, insert) in cuts {
            let at = marked::floor(&text, (at * text.len() as f64) as usize);
            let end = marked::floor(&text, at + length).max(at);
            text.replace_range(at..end, &insert);
        }
        survives(&text);
    }
}

#[test]
fn expressions_are_rehearsed() {
    let text = "flow: F\nparameters: {l: [1], s: a}\ndefaults: {env: {D: '${{ env.NOPE }}'}}\nlayers:\n  A: {run: 'echo ${{ 1/0 }} ${{ parameters.s }} ${{ 1/0 }}'}\n  B: {command: [x, '${{ parameters.l[5] }}'], container: {env: {E: '${{ env.HOME }}'}}}\n";
    let environment = Environment::from([("HOME".to_owned(), "/home/me".to_owned())]);
    let json_text = marked::deserialize::<raw::Json>(&Tree::yaml(text).unwrap().root).unwrap().0.to_string();
    for source in [yaml(text), json(&json_text)] {
        let flow = parse(&source, &[]).unwrap();
        let said = drawn(&rehearse(&source, &flow, &environment).unwrap());
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert_eq!(
            lines[0],
            "«${{ env.NOPE }}» the environment variable `NOPE` is not set | set it, or write `${{ env.NOPE | default('') }}`"
        );
        assert!(lines[1].starts_with("«${{ 1/0 }}»") && lines[2].starts_with("«${{ 1/0 }}»"), "{said}");
        assert!(lines[3].starts_with("«${{ parameters.l[5] }}»"), "{said}");
    }
    let good = yaml("flow: F\nlayers: {A: {run: 'echo ${{ attempt }}'}}");
    assert!(rehearse(&good, &parse(&good, &[]).unwrap(), &environment).is_none());
}

#[test]
fn rehearsing_literals_costs_next_to_nothing() {
    let source = yaml(&format!("flow: F\nlayers:\n{}", large(100_000, |at| format!("  L{at}: {{command: [x, y]}}\n"))));
    let flow = parse(&source, &[]).unwrap();
    let start = std::time::Instant::now();
    assert!(rehearse(&source, &flow, &Environment::new()).is_none());
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
}

#[test]
fn large_whole_numbers_are_not_rounded() {
    for source in [
        yaml("flow: F\nparameters: {id: 18446744073709551616}\nlayers: {A: {run: x}}"),
        json(r#"{"flow": "F", "parameters": {"id": 18446744073709551616}, "layers": {"A": {"run": "x"}}}"#),
    ] {
        let said = drawn(&parse(&source, &[]).unwrap_err());
        assert_eq!(said, "«18446744073709551616» too large for a number | put it in quotes\n");
    }
    for source in [
        yaml(
            "flow: F\nparameters: {id: 18446744073709551615, f: 1e300}\nlayers: {A: {run: x, env: {V: 18446744073709551616}}}",
        ),
        json(
            r#"{"flow": "F", "parameters": {"id": 18446744073709551615, "f": 1e300}, "layers": {"A": {"run": "x", "env": {"V": 18446744073709551616}}}}"#,
        ),
    ] {
        let flow = parse(&source, &[]).unwrap();
        assert_eq!(flow.parameters["id"], 18_446_744_073_709_551_615_u64);
        assert_eq!(value(&flow, 0, "V"), "18446744073709551616");
    }
}

fn large(layers: usize, write: impl Fn(usize) -> String) -> String {
    (0..layers).map(write).collect()
}

/// Measured by `cargo test --release -- --ignored --nocapture measured`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement is read by whoever takes it")]
fn measured_with_100_000_layers() {
    let layer = |at: usize| {
        format!(
            "  Layer{at}:\n    needs: [Layer{}]\n    run: echo hello {at} ${{{{ parameters.seed }}}}\n    container: {{ cpu: 1 }}\n    retry:\n      attempts: 3\n",
            at + 1
        )
    };
    let head = "flow: Big\nparameters: {seed: 1}\nlayers:\n";
    let text = format!("{head}{}  Layer100000: {{run: x}}\n", large(100_000, layer));
    let start = std::time::Instant::now();
    let tree = Tree::yaml(&text).unwrap();
    println!("YAML, tree: {:?}", start.elapsed());
    check_tree(&tree.root, &[]).unwrap().unwrap();
    println!("YAML, flow: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    assert_eq!(parse(&yaml(&text), &[]).unwrap().layers.len(), 100_001);
    println!("YAML, {} bytes: {:?}", text.len(), start.elapsed());
    let text = text.replace("${{ parameters.seed }}", "x");
    let start = std::time::Instant::now();
    assert_eq!(parse(&yaml(&text), &[]).unwrap().layers.len(), 100_001);
    println!("YAML without expressions: {:?}", start.elapsed());
    let layer = |at: usize| {
        format!(
            "\"L{at}\":{{\"needs\":[\"L{}\"],\"run\":\"echo hello {at}\",\"container\":{{\"cpu\":1}},\"retry\":{{\"attempts\":3}}}},",
            at + 1
        )
    };
    let text = format!("{{\"flow\":\"Big\",\"layers\":{{{}\"L100000\":{{\"run\":\"x\"}}}}}}", large(100_000, layer));
    let start = std::time::Instant::now();
    assert_eq!(parse(&json(&text), &[]).unwrap().layers.len(), 100_001);
    println!("JSON, {} bytes: {:?}", text.len(), start.elapsed());
    let text = format!(
        "flow: Big\nlayers:\n{}",
        large(100_000, |at| format!("  Layer{at}: {{needs: [Leyer{at}], run: x}}\n"))
    );
    let start = std::time::Instant::now();
    assert_eq!(parse(&yaml(&text), &[]).unwrap_err().list.len(), 100_000);
    println!("100,000 problems: {:?}", start.elapsed());
}

#[test]
fn what_is_said_of_backends_is_compared_with_those_there_are() {
    use crate::option::{Kind, Spec};
    let docker = [Spec::new("network", Kind::Text, ""), Spec::new("pull", Kind::OneOf(&["always", "never"]), "")];
    let known = [Known { name: "local", options: &[] }, Known { name: "docker", options: &docker }];
    let said = |text: &str| {
        let source = yaml(text);
        let flow = parse(&source, &[]).unwrap();
        unknown_backends(&source, &flow, &known).map_or_else(String::new, |problems| drawn(&problems))
    };
    let good = "flow: A\nbackends: { docker: { network: none, pull: never }, local: {} }\ndefaults: { backend: local }\n\
                layers:\n  A: { run: x, backend: docker }\n  B: { run: x }\n";
    assert_eq!(said(good), "");
    let flow = parse(&yaml(good), &[]).unwrap();
    assert_eq!(flow.backend.as_deref(), Some("local"));
    assert_eq!((flow.layers[0].backend.as_deref(), flow.layers[1].backend.as_deref()), (Some("docker"), None));
    let bad = "flow: A\nbackends: { docker: { networks: x, pull: nevr, 7: 1 }, dokcer: { a: b }, local: { nice: 1 } }\n\
               defaults: { backend: slurm }\nlayers:\n  A: { run: x, backend: dockr }\n";
    assert_eq!(
        said(bad),
        "«networks» the backend `docker` has no option `networks` | did you mean `network`?\n\
         «nevr» `pull` is `nevr`, but must be one of `always`, `never` | did you mean `never`?\n\
         «7» the backend `docker` has no option `7` | it has `network`, `pull`\n\
         «dokcer» there is no backend `dokcer` | did you mean `docker`?\n\
         «nice» the backend `local` has no option `nice` | it has no options\n\
         «slurm» there is no backend `slurm` | there is `local`, `docker`; `laminar backends` says more\n\
         «dockr» there is no backend `dockr` | did you mean `docker`?\n"
    );
    let unquoted = "flow: A\nbackends: { docker: { network: '${{ env.X }}' } }\nlayers: { A: { run: x } }\n";
    assert!(wrong(unquoted).contains("an expression cannot stand in `backends`"));
    assert!(wrong("flow: A\nbackends: { docker: [x] }\nlayers: { A: { run: x } }\n").contains("expected a map"));
}

#[test]
fn what_retry_says_is_read_and_merged_key_by_key() {
    use crate::flow::On;
    let flow = parse(
        &yaml(
            "flow: A\ndefaults: { retry: { attempts: 4, only: [oom, 75, 100-110], max_delay: 1m } }\nlayers:\n  \
             A: { run: x, container: { memory: 32MiB }, retry: { memory: x1.5, max_memory: 1GiB } }\n  \
             B: { run: x, retry: { only: [outputs] } }\n",
        ),
        &[],
    )
    .unwrap();
    let (one, other) = (&flow.layers[0].retry, &flow.layers[1].retry);
    assert_eq!(one.only.as_deref(), Some(&[On::OutOfMemory, On::Codes(75, 75), On::Codes(100, 110)][..]));
    assert_eq!((one.memory, one.max_memory, one.max_delay), (Some(1.5), Some(1 << 30), Some(Duration::from_secs(60))));
    assert_eq!((other.only.as_deref(), other.attempts, other.memory), (Some(&[On::Outputs][..]), 4, None));
}

#[test]
fn no_layer_is_named_like_the_newest_execution() {
    let said = wrong("flow: A\nlayers: { latest: { run: x } }\n");
    assert!(said.starts_with("«latest» a layer cannot be named `latest` | choose another"), "{said}");
}

#[test]
fn a_retry_without_effect_is_told() {
    let said = |retry: &str, container: &str| {
        wrong(&format!("flow: A\nlayers: {{ A: {{ run: x, container: {{ {container} }}, retry: {{ {retry} }} }} }}\n"))
    };
    let memory = "memory: 32MiB";
    assert_eq!(
        said("only: [oom]", ""),
        "«retry» with one attempt there is no other after it | say how many there are in all: `attempts: 3`\n"
    );
    assert!(
        said("attempts: 2, memory: x2", "").starts_with("«retry» memory grows from `container.memory`, which is not")
    );
    assert_eq!(said("attempts: 2, memory: x2", "memory: lots").lines().count(), 1, "no news of what is wrong itself");
    assert_eq!(said("attempts: 0, only: [oom]", memory), "«0» `attempts` is 0, but must be at least 1\n");
    assert_eq!(
        said("attempts: 2, memory: x2, only: [timeout]", memory),
        "«only» `memory` grows after `oom`, which `only` does not name | add `oom` to `only`, or remove `memory`\n"
    );
    assert!(
        said("attempts: 2, memory: x2, max_memory: 16MiB", memory).starts_with("«16MiB» `max_memory` is less than")
    );
    assert!(said("attempts: 2, max_memory: 64MiB", memory).starts_with("«retry» `max_memory` without `memory`"));
    assert!(said("attempts: 2, only: []", memory).starts_with("«[]» an empty `only`"));
    assert!(
        said("attempts: 2, only: [300, omm]", memory).contains("«omm» `omm` is no end of an attempt | did you mean")
    );
    assert!(
        said("attempts: 2, only: [300]", memory).starts_with("«300» `300` is no exit code of a failure (1 to 255)")
    );
    assert!(said("attempts: 2, only: oom", memory).contains("write a list: `[oom]`"));
    assert!(said("attempts: 2, memory: 2", memory).starts_with("«2» `2` is no factor | write a factor"));
    assert!(said("attempts: 2, max_delay: 5", memory).starts_with("«5» `5` has no unit"));
}
