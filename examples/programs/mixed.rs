//! Layers in other languages beside those of the program: each reads what the other has left, since values are JSON.

use laminar::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parameters {
    /// The image of the layers that are no Rust, where layers run in containers: one with a shell and awk.
    tools: String,
}

/// As a flow file has them.
const LAYERS: &str = r#"
layers:
  Total:
    foreach: { n: "${{ Square['value.json'] }}" }
    container: { image: "${{ parameters.tools }}" }
    run: |
      awk '{ print $1 + 1 }' ${{ each.n }} > "$LAMINAR_OUTPUTS/more.json"
"#;

fn main() -> ExitCode {
    let flow = Flow::new("Mixed");
    flow.parameters(Parameters { tools: "busybox".to_owned() });
    let numbers = flow.layer("Numbers", || Ok(vec![3_u32, 4]));
    let square = flow.foreach("Square", numbers, |n| Ok(n * n));
    flow.include(LAYERS);

    // The same, said here: one layer with a split for each of what the program's layer has left.
    let words = flow.declare(
        "Words",
        json!({
            "container": { "image": "${{ parameters.tools }}" },
            "run": "printf '\"%s\"' ${{ Numbers.value | length }} > \"$LAMINAR_OUTPUTS/count.json\"; \
                    echo raw > \"$LAMINAR_OUTPUTS/raw.txt\"",
        }),
    );

    let total = flow.find("Total").artifacts::<u32>("more");
    let all = (square.join(), total.join(), words.artifact::<String>("count"), words.artifact::<File>("raw.txt"));
    flow.layer_with("Report", all, |(squares, totals, count, raw)| {
        Ok(format!("{squares:?} {totals:?} {count} {}", std::fs::read_to_string(&raw)?.trim()))
    });
    laminar::main(flow)
}
