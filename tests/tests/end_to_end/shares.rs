//! Executions that run at once do not together take more than there is.

use std::fs;

use laminar_tests::world::{World, eventually, finish};

use crate::world;

/// Reserves three of four cores until it is let go.
const BIG: &str = "\
flow: Big
layers: { Big: { container: { cpu: 3 }, run: 'echo up > \"$UP\"; while [ ! -e \"$GO\" ]; do sleep 0.01; done' } }
";

fn start(world: &World, name: &str, more: &[&str]) -> std::process::Child {
    let mut command = world.command(["run", "--cpu", "4", "--root", name]);
    command.args(more).env("UP", world.path().join(format!("{name}.up"))).env("GO", world.path().join("go"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().expect("laminar starts")
}

fn is_up(world: &World, name: &str) -> Option<()> {
    world.path().join(format!("{name}.up")).exists().then_some(())
}

#[test]
fn what_does_not_fit_beside_another_execution_waits_until_that_has_ended() {
    let world = world();
    world.write("flow.yaml", BIG);
    let one = start(&world, "one", &[]);
    eventually("the first runs", || is_up(&world, "one"));
    let two = start(&world, "two", &[]);
    let third = start(&world, "unshared", &["--no-share"]);
    // It looks at what is there several times in the time that another needs to come up.
    eventually("who does not share runs at once", || is_up(&world, "unshared"));
    eventually("the second has joined", || {
        let entries = fs::read_dir(world.path().join(".shares")).ok()?;
        (entries.count() == 3).then_some(())
    });
    assert!(is_up(&world, "two").is_none(), "seven of four cores are taken");
    world.write("go", "");
    for child in [one, two, third] {
        finish(child).exits(0);
    }
    assert!(is_up(&world, "two").is_some());
    assert_eq!(fs::read_dir(world.path().join(".shares")).map(Iterator::count).ok(), Some(1), "nothing is left");
}

#[test]
fn what_a_killed_scheduler_had_reserved_is_free_at_once() {
    let world = world();
    world.write("flow.yaml", BIG);
    let mut one = start(&world, "one", &[]);
    eventually("the first runs", || is_up(&world, "one"));
    one.kill().and_then(|()| one.wait()).expect("it is ours");
    let two = start(&world, "two", &[]);
    eventually("the second runs", || is_up(&world, "two"));
    world.write("go", "");
    finish(two).exits(0);
    world.run(["resume", "--root", "one"]).exits(0);
}
