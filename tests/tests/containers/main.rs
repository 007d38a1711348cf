//! Docker and podman themselves, through the executor and through the program.
//!
//! An engine that is not there is skipped, and said on standard error. `LAMINAR_TEST_REQUIRE=docker,podman` makes that a
//! failure. `LAMINAR_TEST_IMAGE` names an image with a shell and awk, without an entrypoint, that is there.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bare;
mod deaths;
mod ends;
mod flows;
mod golden;
mod life;
mod mixed;
mod options;
mod owners;
mod setup;
mod silence;
mod world;

/// One module per engine with each of these tests.
#[macro_export]
macro_rules! on_each_engine {
    ($($name:ident),* $(,)?) => {
        mod docker {
            $(#[test] fn $name() { $crate::world::on(&laminar_backend_docker::DOCKER, super::$name); })*
        }
        mod podman {
            $(#[test] fn $name() { $crate::world::on(&laminar_backend_podman::PODMAN, super::$name); })*
        }
    };
}
