//! Tests of laminar as its users meet it: the world an end-to-end test lives in, and fixtures.

pub mod world;
