//! Kills at random moments, on plain processes. `LAMINAR_TEST_KILLS=200` for more than a few.

use std::time::Duration;

use laminar_tests::chaos::{Chaos, Victim, kills};

use crate::world;

fn play(victim: Victim, few: usize) {
    let world = world();
    let chaos = Chaos {
        program: &world,
        backend: Vec::new(),
        flow: "Chaos".to_owned(),
        container: String::new(),
        shape: (20, 12),
        jobs: 6,
        longest: Duration::from_millis(400),
        engine: None,
    };
    chaos.play(victim, kills(few));
}

#[test]
fn schedulers_are_killed() {
    play(Victim::Scheduler, 20);
}

#[test]
fn schedulers_are_killed_with_their_process_groups() {
    play(Victim::Group, 10);
}

#[test]
fn supervisors_are_killed() {
    play(Victim::Supervisor, 10);
}
