//! Kills at random moments, on real engines. `LAMINAR_TEST_KILLS=200` for more than a few.

use std::process::{Command, Stdio};
use std::time::Duration;

use laminar_tests::chaos::{Chaos, Victim, kills};
use laminar_tests::world::World as Program;

use crate::on_each_engine;
use crate::world::{World, image, program};

on_each_engine!(schedulers_are_killed, clients_are_killed, containers_are_killed);

fn play(world: &World, victim: Victim, few: usize) {
    let program = Program::new(program());
    let container = format!(
        "  container: {{ image: '{}', network: none, workdir: /flow, mounts: ['.:/flow'] }}\n  shell: [sh, -e, -c]\n",
        image()
    );
    let chaos = Chaos {
        program: &program,
        backend: ["--backend", world.dialect.name].map(str::to_owned).to_vec(),
        flow: world.flow(),
        container,
        shape: (6, 4),
        jobs: 4,
        longest: Duration::from_millis(3000),
        engine: Some(Box::new(|args| {
            // What is to be killed may be over by then.
            let output = Command::new(world.dialect.program).args(args).stdin(Stdio::null()).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })),
    };
    chaos.play(victim, kills(few));
}

fn schedulers_are_killed(world: &World) {
    play(world, Victim::Scheduler, 8);
}

fn clients_are_killed(world: &World) {
    play(world, Victim::Clients, 6);
}

fn containers_are_killed(world: &World) {
    play(world, Victim::Container, 6);
}
