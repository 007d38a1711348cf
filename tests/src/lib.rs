//! Tests of laminar as its users meet it: the world an end-to-end test lives in, and fixtures; the conformance kit for
//! executors; and what there is on this machine to test with.

pub mod chaos;
pub mod engines;
pub mod gaps;
pub mod kit;
pub mod secrets;
pub mod terminal;
pub mod world;

/// The chapter of the manual that makes a backend, whose code is compiled here.
#[cfg(doctest)]
#[doc = include_str!("../../docs/backends.md")]
mod manual {}
