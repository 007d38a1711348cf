#![allow(clippy::unwrap_used)]
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

#[test]
fn zz_draft() {
    let layer = |more: &str| format!("flow: F\nlayers:\n  A:\n    run: echo a\n{more}");
    let cases: Vec<String> = vec![
        layer("    retires: 3\n    retrry: {}\n"),
        layer("    image: x\n    foreach: {a: [1]}\n"),
        layer("    needs: B\n"),
        layer("    needs: [B, A]\n  Bb: {run: x, needs: [A, A]}\n"),
        layer("  A:\n    command: [x]\n"),
        layer("    run: echo b\n"),
        layer("    command: [x]\n"),
        layer("  B:\n  C: {}\n  D: 5\n"),
        layer("  B: {command: []}\n  C: {run: ''}\n  D: {command: ['']}"),
        layer("  b-c: {run: x}\n  1x: {run: x}\n  index: {run: x}\n  é: {run: x}\n"),
        layer("    timeout: 10\n    retry: {attempts: 0, delay: soon, backoff: .inf, jitter: -1}\n"),
        layer("    container: {cpu: 0, memory: lots, gpus: some, mounts: [a, 'b:c', {source: a}], pull: allways, pids_limit: 0, shm_size: 4GB}\n"),
        layer("    container: {image: '${{ parameters.x }}', env: {LAMINAR_X: 1, 'a=b': 2}}\n"),
        layer("    catch: [0, 256, x]\n    outputs: [a/b, '..', ok, ok]\n    timeout: 0s\n"),
        "flow: F\nlayers:\n  A: { run: echo ${{ parameters.x }} }\n".into(),
        "flow: F\nlayers:\n  A:\n    env: { X: ${{ attempt }} }\n    run: x\n".into(),
        "flow: F\nlayers:\n\tA: {run: x}\n".into(),
        "flow: F\nlayers:\n  A:\n    run:echo\n".into(),
        "flow:F\nlayers:\n  A:\n    run: echo\n".into(),
        "flow: F\nlayers:\n  A:\n    run: 'echo\n".into(),
        "flow: F\nlayers:\n  A:\n    command: [echo, x\n".into(),
        "flow: F\nlayers:\n  A:\n    run: echo a: b\n".into(),
        "flow: F\nlayers:\n  A:\n    run: a\n   command: b\n".into(),
        "flow: F\nlayers: {A: {run: x}}\n---\nflow: G\n".into(),
        "".into(), "# nothing\n".into(), "- a\n".into(), "flow".into(), "flow: F\n".into(), "layers: {}\n".into(), "flow: F\nlayers: {}\nmax_parallel: 0\nbackends: {}\nA: {run: x}\n".into(),
        "parameters: {a: &x [*x]}\nflow: F\nlayers: {A: {run: x}}\n".into(),
        "flow: !x F\nlayers: {A: {run: x}}\non_failure: stopp\n".into(),
        "flow: [F]\nparameters: {seed: 7, b-c: 1, d: {a: 1, a: 2}, e: .nan}\nlayers: {A: {run: 'echo ${{ parameters.sede }} ${{ foo }} ${{ seed }} ${{ 1 + }} ${{ x'}, B: {run: 'echo ${{ parameters.seed | uper }} ${{ atempt }} ${{ execution.name }} ${{}} ${{each.x}}'}}\n".into(),
        "flow: F\nlayers:\n  A:\n    run: |\n      # äöü\n      echo '${{ attempt }}' \"$((${{ attempt }}+1))\"\n      cat <<'E'\n      ${{ index }}\n      E\n  B: {shell: [python, -c], run: 'print(${{ index }})'}\n".into(),
    ];
    for case in &cases {
        println!("---\n{case}\n=>\n{}", wrong(case));
    }
    for case in ["{\"flow\": \"F\", \"layers\": {\"A\": {\"run\": \"x\",}}}", "{'flow': 1}", "{\"flow\": \"F\", \"layers\": {\"A\": {\"run\": \"echo \\u00e9 '${{ index }}'\", \"retires\": 1, \"run\": 2}}}", "{\"flow\": \"F\" // x\n}", "{\"flow\": \"F\"", "", "[]", "{\"flow\": \"F\", \"layers\": {\"A\": {\"command\": [1, true, 1.50, null]}}}"] {
        println!("---\n{case}\n=>\n{}", drawn(&parse(&json(case), &[]).unwrap_err()));
    }
}

fn large(layers: usize, write: impl Fn(usize) -> String) -> String {
    (0..layers).map(write).collect()
}

/// Measured by `cargo test --release -- --ignored --nocapture measured`.
#[test]
#[ignore = "a measurement"]
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
    assert_eq!(parse(&yaml(&text), &[]).unwrap().layers.len(), 100_001);
    println!("YAML, {} bytes: {:?}", text.len(), start.elapsed());
    let text = text.replace("${{ parameters.seed }}", "x");
    let start = std::time::Instant::now();
    assert_eq!(parse(&yaml(&text), &[]).unwrap().layers.len(), 100_001);
    println!("YAML without expressions: {:?}", start.elapsed());
    let layer = |at: usize| {
        format!("\"L{at}\":{{\"needs\":[\"L{}\"],\"run\":\"echo hello {at}\",\"container\":{{\"cpu\":1}},\"retry\":{{\"attempts\":3}}}},", at + 1)
    };
    let text = format!("{{\"flow\":\"Big\",\"layers\":{{{}\"L100000\":{{\"run\":\"x\"}}}}}}", large(100_000, layer));
    let start = std::time::Instant::now();
    assert_eq!(parse(&json(&text), &[]).unwrap().layers.len(), 100_001);
    println!("JSON, {} bytes: {:?}", text.len(), start.elapsed());
    let text = format!("flow: Big\nlayers:\n{}", large(100_000, |at| format!("  Layer{at}: {{needs: [Leyer{at}], run: x}}\n")));
    let start = std::time::Instant::now();
    assert_eq!(parse(&yaml(&text), &[]).unwrap_err().list.len(), 100_000);
    println!("100,000 problems: {:?}", start.elapsed());
}
