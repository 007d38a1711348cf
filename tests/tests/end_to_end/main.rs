//! laminar as its users meet it: the real program, real processes, real files. One binary, so that it links once.
#![allow(clippy::unwrap_used)]

mod architecture;
mod backends;
mod bombs;
mod cache;
mod chaos;
mod foreach;
mod gc;
mod hostile;
mod init;
mod inspect;
mod interrupt;
mod others;
mod resume;
mod retry;
mod run;
mod secrets;
mod shares;
mod splits;
mod terminal;
mod update;
mod when;
mod wrong;

use laminar_tests::world::World;

/// A world with the program as it is shipped.
fn world() -> World {
    World::new(env!("CARGO_BIN_EXE_laminar-under-test"))
}
