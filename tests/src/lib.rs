//! Tests of laminar as its users meet it: the world an end-to-end test lives in, and fixtures; and the conformance kit
//! for executors.

pub mod chaos;
pub mod kit;
pub mod world;
