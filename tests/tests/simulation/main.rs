//! A deterministic simulation of executions with faults.
#![allow(clippy::unwrap_used)]

mod crowd;
mod datastore;
mod dice;
mod drive;
mod executor;
mod faults;
mod flows;
mod model;
mod sabotage;
mod store;
mod world;

use std::time::Instant;

use drive::{Setup, simulate};
use faults::Fault;
use sabotage::Sabotage;

/// How many executions `cargo test` simulates.
const MANY: u64 = 3000;

#[test]
fn executions_with_faults_keep_every_promise() {
    let many = crowd::number("LAMINAR_SIMULATE");
    let first = crowd::number("LAMINAR_SIMULATE_FROM").unwrap_or(0);
    let began = Instant::now();
    match crowd::simulate_many(first, many.unwrap_or(MANY), &crowd::limited(), many.is_some()) {
        Err(told) => panic!("{told}"),
        Ok(figures) => {
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("{}{seconds:.1} s", figures.table());
            if many.is_none() {
                let rare: Vec<_> = Fault::ALL.iter().filter(|fault| figures.count(**fault) < 20).collect();
                assert!(rare.is_empty(), "these hardly happen: {rare:?}");
            }
        }
    }
}

/// With `LAMINAR_SIMULATE_SEED` that seed, and what happened in it.
#[test]
fn a_seed_gives_the_same_execution_every_time() {
    let root = crowd::root();
    if let Some(setup) = crowd::asked() {
        let report = simulate(&Setup { traced: true, ..setup.clone() }, root.path());
        if let Some(path) = crowd::trace_file() {
            std::fs::write(path, report.trace.join("\n")).unwrap();
        }
        match report.broken {
            Some(_) => panic!("{}", crowd::tell(&setup)),
            None => return eprintln!("{}\n{}", report.trace.join("\n"), report.figures.table()),
        }
    }
    for seed in 0..100 {
        let setup = Setup { seed, traced: true, ..Setup::default() };
        let (one, other) = (simulate(&setup, root.path()).trace, simulate(&setup, root.path()).trace);
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

#[test]
fn a_scheduler_may_end_at_any_append() {
    let root = crowd::root();
    for seed in 0..40 {
        for fault in [Fault::DiesBeforeAppend, Fault::DiesAfterAppend, Fault::AppendFails] {
            for number in 1.. {
                let setup = Setup { seed, planned: Some((number, fault)), ..Setup::default() };
                let report = simulate(&setup, root.path());
                assert_eq!(report.broken, None, "seed {seed}, {} {number}", fault.word());
                if report.figures.count(fault) == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_world_that_breaks_its_promises_is_noticed() {
    let root = crowd::root();
    for sabotage in Sabotage::ALL {
        let broken = |seed| simulate(&Setup { seed, sabotage: Some(sabotage), ..Setup::default() }, root.path()).broken;
        let noticed = (0..200).find_map(|seed| Some((seed, broken(seed)?)));
        let Some((seed, broken)) = noticed else { panic!("{sabotage:?} is not noticed") };
        eprintln!("{sabotage:?}, seed {seed}: {broken}");
    }
}
