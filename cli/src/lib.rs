//! The command line of laminar (being written).
#![allow(dead_code, unused)]
mod error;
pub mod exit;
mod output;
mod problems;
mod text;
