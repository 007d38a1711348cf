//! Docker and podman themselves, through the executor and through the program.
//!
//! An engine that is not there is skipped, and put on record (see `laminar_tests::gaps`). `LAMINAR_TEST_IMAGE` names an
//! image with a shell and awk, without an entrypoint, that is there.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bare;
mod chaos;
mod deaths;
mod ends;
mod examples;
mod fans;
mod flows;
mod gc;
mod golden;
mod halfway;
mod hostile;
mod inside;
mod keys;
mod late;
mod life;
mod mixed;
mod options;
mod own;
mod owners;
mod registry;
mod secrets;
mod setup;
mod silence;
mod stage;
mod storm;
mod warm;
mod world;

/// One module per engine with each of these tests.
#[macro_export]
macro_rules! on_each_engine {
    ($($name:ident),* $(,)?) => {
        $crate::on_engines!(docker "docker", podman "podman", podman_rootless "podman-rootless"; [$($name),*]);
    };
}

/// The same for some engines only: a module's name and the engine's.
#[macro_export]
macro_rules! on_engines {
    ($($module:ident $engine:literal),*; $names:tt) => {
        $($crate::on_engines!(@one $module $engine $names);)*
    };
    (@one $module:ident $engine:literal [$($name:ident),*]) => {
        mod $module {
            $(#[test] fn $name() {
                $crate::world::on($engine, concat!(module_path!(), "::", stringify!($name)), super::$name);
            })*
        }
    };
}
