//! Flows through the program on a real engine.

use laminar_tests::gaps;
use laminar_tests::world::World as Program;

use crate::on_each_engine;
use crate::world::{World, image, program};

on_each_engine!(a_layer_that_was_out_of_memory_is_given_more);

/// A layer that needs more than 32 MiB and fewer than 64, and says what it had.
fn a_layer_that_was_out_of_memory_is_given_more(world: &World) {
    let executor = world.executor();
    let probe = executor.does(laminar_core::executor::Executor::probe(&executor.executor)).unwrap();
    if !probe.enforces.contains(&laminar_core::container::Feature::Memory) {
        gaps::skip(&format!("{}: memory", world.column), "it limits nothing here (see `laminar backends`)");
        return;
    }
    let program = Program::new(program());
    let flow = format!(
        r#"
flow: Greedy
defaults:
  container: {{ image: "{}", network: none, memory: 32MiB }}
layers:
  Greedy:
    retry: {{ attempts: 3, only: [oom], memory: x2, delay: 0s }}
    run: |
      awk 'BEGIN {{ s = sprintf("%1000s", ""); for (i = 0; i < 40000; i++) a[i] = s i }}'
      cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null > $LAMINAR_OUTPUTS/limit || true
"#,
        image()
    );
    program.write("flow.yaml", flow);
    let ran = program.run(["run", "--backend", world.dialect.name, "--json"]).exits(0);
    let events = ran.json();
    let of = |event: &str| events.iter().filter(|it| it["event"] == event).cloned().collect::<Vec<_>>();
    let causes: Vec<_> = of("attempt_exited").iter().map(|it| it["cause"].as_str().unwrap().to_owned()).collect();
    assert_eq!(causes, ["out_of_memory", "code"]);
    assert_eq!(of("retry_scheduled")[0]["memory"], 64 << 20);
    assert_eq!(program.run(["cat", "Greedy/limit"]).exits(0).stdout.trim(), (64 << 20).to_string());
}
