//! Flows that are fanned out, asked and cached, on real engines: what a split sees inside its container.

use laminar_core::container::Feature;
use laminar_core::executor::Executor;
use laminar_tests::gaps;

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::World;

on_each_engine!(
    splits_see_their_own_values_and_inputs,
    a_split_and_an_attempt_size_their_containers,
    a_cached_layer_knows_its_image
);

fn splits_see_their_own_values_and_inputs(world: &World) {
    let stage = Stage::new(world);
    stage.flow(
        r#"
defaults: { container: { network: none } }
layers:
  Split:
    container: { image: "IMAGE" }
    run: |
      mkdir "$LAMINAR_OUTPUTS/parts"
      for part in a 'b $c' d; do printf '%s' "$part" > "$LAMINAR_OUTPUTS/parts/$part"; done
      echo '{"word": "it'"'"'s"}' > "$LAMINAR_OUTPUTS/info.json"
  Fit:
    foreach: { part: "${{ Split.parts }}", image: ["IMAGE"], user: ["1234", "0"] }
    container: { image: "${{ each.image }}", user: "${{ each.user }}" }
    env: { WORD: "${{ Split.info.word }}" }
    run: |
      read=$(cat ${{ each.part }})
      grep -qF "\"user\":\"${{ each.user }}\"" "$LAMINAR_EACH"
      echo "$read $WORD $(id -u) ${{ index }}/${{ splits }}" > "$LAMINAR_OUTPUTS/line"
      printf '{"size": %d}' $(printf '%s' "$read" | wc -c) > "$LAMINAR_OUTPUTS/it.json"
  Join:
    container: { image: "IMAGE" }
    when: "${{ Fit.it | length == 6 }}"
    needs: [Fit]
    run: cat "$LAMINAR_INPUTS"/Fit/line/*; echo ${{ Fit.it | map_size }}
"#
        .replace("${{ Fit.it | map_size }}", "${{ (Fit.it | last).size + (Fit.it | first).size }}")
        .as_str(),
    );
    stage.run(&["run"]).exits(0);
    let lines =
        ["a it's 1234 0/6", "a it's 0 1/6", "b $c it's 1234 2/6", "b $c it's 0 3/6", "d it's 1234 4/6", "d it's 0 5/6"];
    assert_eq!(stage.said("Join"), lines.join("\n") + "\n2\n");
    stage.program.is_quiet();
}

fn a_split_and_an_attempt_size_their_containers(world: &World) {
    let executor = world.executor();
    let probe = executor.does(Executor::probe(&executor.executor)).unwrap();
    if !probe.enforces.contains(&Feature::Memory) {
        gaps::skip(&format!("{}: memory", world.column), "it limits nothing here (see `laminar backends`)");
        return;
    }
    let stage = Stage::new(world);
    stage.flow(
        r#"
defaults: { container: { image: "IMAGE", network: none } }
layers:
  Hog:
    foreach: { base: [16, 96] }
    container: { memory: "${{ each.base * attempt }}MiB" }
    retry: { attempts: 4, only: [oom], delay: 1ms }
    run: |
      head -c 40m /dev/zero | tail > /dev/null
      echo ${{ attempt }} > "$LAMINAR_OUTPUTS/attempt.json"
  Join: { run: "echo ${{ Hog.attempt }}" }
"#,
    );
    stage.run(&["run"]).exits(0);
    let said = stage.said("Join");
    let attempts: Vec<u32> = serde_json::from_str(&said).unwrap();
    assert!(attempts[0] > 1 && attempts[1] == 1, "{said}");
}

fn a_cached_layer_knows_its_image(world: &World) {
    let stage = Stage::new(world);
    let flow = |options: &str| {
        stage.flow(&format!(
            "defaults: {{ cache: true, container: {{ image: \"IMAGE\", network: none{options} }} }}\nlayers:\n  A: {{ run: 'echo \\\"$(cat /proc/sys/kernel/random/uuid)\\\" > \"$LAMINAR_OUTPUTS/now.json\"' }}\n  B: {{ foreach: {{ i: [1, 2] }}, run: \"echo ${{{{ A.now }}}} ${{{{ each.i }}}}\" }}\n"
        ));
        stage.run(&["run"]).exits(0);
        let status = stage.run(&["status", "--json"]).exits(0).document();
        let layers = status["layers"].as_array().unwrap();
        let mut states: Vec<_> = layers.iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!(flow(""), ["finished"; 3]);
    assert_eq!(flow(""), ["cached"; 3]);
    assert_eq!(flow(", workdir: /"), ["finished"; 3], "where it runs counts");
    assert_eq!(flow(", cpu: 1"), ["cached"; 3], "how much it gets does not");
}
