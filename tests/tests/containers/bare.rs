//! Containers without laminar inside, where it cannot be.

use std::path::Path;

use laminar_backend_oci::{OciExecutor, PROGRAM, Settings};
use laminar_core::executor::{Cause, Executor};
use laminar_core::option::Options;

use crate::on_each_engine;
use crate::world::{Running, World};

on_each_engine!(
    a_program_that_needs_a_loader_stays_outside,
    an_engine_on_a_machine_of_another_kind_gets_no_program,
    the_live_log_is_replaced_by_the_whole_one,
);

/// The layer's first process is its own, and all of it is told.
fn works(world: &World, running: &Running, why: &str) {
    let probe = running.does(running.executor.probe()).unwrap();
    let said = probe.facts.iter().find(|(name, _)| *name == "supervisor inside");
    assert!(said.is_some_and(|(_, text)| text.contains(why)), "{:?}", probe.facts);
    let task = world.task("Bare", "echo $$; ls -a /laminar; exit 3");
    let exit = running.run(&task);
    assert_eq!(exit.cause, Cause::Code(3), "{}", exit.evidence);
    assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "1\n.\n..\noutputs\n");
}

fn a_program_that_needs_a_loader_stays_outside(world: &World) {
    // One that is not this program, but linked as a dynamic build of it would be.
    let dynamic = Path::new("/usr/bin/env");
    let bytes = std::fs::read(dynamic).unwrap();
    if !bytes.windows(4).any(|window| window == b"ld-l") {
        laminar_tests::gaps::skip("a dynamic program", &format!("{} needs no loader here", dynamic.display()));
        return;
    }
    works(world, &world.executor_that(|_| OciExecutor::with_program(world.dialect, dynamic)), "linked dynamically");
}

fn an_engine_on_a_machine_of_another_kind_gets_no_program(world: &World) {
    let client = world
        .client(r#"[ "$1" != info ] || { "$engine" "$@" | sed -E 's/x86_64|amd64|aarch64|arm64/riscv64/g'; exit; }"#);
    let options = Options::new(&[PROGRAM], [("program", client.to_str().unwrap())]);
    let running = world.executor_that(|executor| executor.with_settings(Settings::new(&options, &[], &[])));
    works(world, &running, "riscv64");
}

fn the_live_log_is_replaced_by_the_whole_one(world: &World) {
    let running = world.executor_that(OciExecutor::bare);
    let script = "echo one; echo two >&2; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; printf three";
    let task = world.task("Live", script);
    let handle = running.start(&task);
    // It can be watched while it runs.
    running.does(async {
        while std::fs::read_to_string(&task.log).unwrap().len() < 8 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    std::fs::write(&task.log, "somebody wrote nonsense").unwrap();
    std::fs::write(task.outputs.join("go"), "").unwrap();
    assert_eq!(running.wait(&handle).cause, Cause::Code(0));
    let log = std::fs::read_to_string(&task.log).unwrap();
    assert!(matches!(log.as_str(), "one\ntwo\nthree" | "two\none\nthree" | "one\nthreetwo\n"), "{log}");
    let left: Vec<_> = task.log.parent().unwrap().read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
