//! The example programs where they run: on the local backend, docker and podman; and what becomes of programs that are started
//! wrongly, fail, are killed, or start each other.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod behaviour;
mod ends;
mod place;

use place::Place;

#[test]
fn every_program_on_local() {
    everything(&Place::local());
}

#[test]
fn every_program_on_docker() {
    Place::on("docker", everything);
}

#[test]
fn every_program_on_podman() {
    Place::on("podman", everything);
}

/// One after the other, in one image.
fn everything(place: &Place) {
    for (name, test) in behaviour::ALL {
        eprintln!("{}: {name}", place.backend);
        test(place);
    }
}
