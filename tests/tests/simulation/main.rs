//! A deterministic simulation of executions with faults: the real engine and the real scheduler, over an executor, a run
//! store and a datastore that exist in virtual time only.
//!
//! An execution is led by one scheduler after another. Each has a tokio runtime of its own, on one thread and with a
//! paused clock, and runs [`laminar_core::engine::run`]. It dies at a random moment, in the middle of a verb, before or
//! after an append, while it adopts; or it is shut out, or what it needs fails; or it ends. What outlives schedulers lives
//! in a [`world::World`]: processes and what the executor remembers of them, the log, the objects, the time. Between two
//! schedulers time passes, clocks are set, limits, the environment and sources change, finished layers are asked for again. In the
//! end nothing fails any more, and the execution must settle as if nothing ever had. Of a flow with cached layers there are
//! several executions in a world, which share what was run before.
//!
//! Flows are drawn as values ([`shapes`]), written as the text of a flow file, and read like any other; so expressions are
//! real, and what layers leave decides over splits, conditions and sizes. What they must give is told once more in [`expect`].
//!
//! # What must hold
//!
//! - No two processes of a layer are alive at once, none begins twice, and none begins that the log does not say is
//!   launched. What is alive is in flight by the log, always.
//! - A split starts when all that its layer needs has settled well, and nothing of it was skipped unless `when` overrides
//!   that. It reads exactly what those have left, until its end. It finds an empty folder for its outputs that nobody else
//!   writes to.
//! - How many splits a layer has, their values, whether it is skipped, what each attempt reserves and the words that it is
//!   told follow from what its needs have left in this execution, and from nothing that they left before they ran again.
//! - What is cached has never run, and has what running it would leave now. Equal keys promise equal artifacts; what is
//!   remembered has finished, was not caught, and is what its key promises.
//! - What runs has reserved what it asks for; never are more splits of a layer alive than its `max_parallel`.
//! - Every event may come where it comes, by rules that are told a second time in [`model`]: limits, attempts, charges,
//!   lost launches, pauses, cancels, what may run again.
//! - What is published has the bytes that it has in an undisturbed execution; they depend on all that was read.
//! - When the engine returns, nothing is alive, and the executor has forgotten everything, unless a failure explains it.
//!   So it has when the end is on record, whoever dies then, unless the user was in a hurry.
//!   Only what is over and on record is forgotten, and only what is unwanted is stopped.
//! - The log, told to a new scheduler, gives the states that the store was told; the reporter hears every event once.
//! - The executor is asked nothing before it is prepared. One who is shut out starts and stops nothing.
//! - There is always something that will happen, until the end. Real time does not pass without virtual time for long.
//!
//! # How to run it
//!
//! ```text
//! cargo test -p laminar-tests --test simulation                          some thousand executions
//! LAMINAR_SIMULATE=1000000 cargo test --profile simulation \
//!     -p laminar-tests --test simulation every_promise -- --nocapture    that many, on all cores, with figures
//! LAMINAR_SIMULATE_FROM=5000000                                          other seeds
//! LAMINAR_SIMULATE_SEED=17 cargo test -p laminar-tests \
//!     --test simulation a_seed -- --nocapture                            one seed, and what happened in it
//! ```
//!
//! What goes wrong is told with the least that still does: `LAMINAR_SIMULATE_LAYERS` limits the flow,
//! `LAMINAR_SIMULATE_WITHOUT` takes kinds of faults away, and `LAMINAR_SIMULATE_TRACE` names a file for the whole trace.
//!
//! # That it is the same every time
//!
//! Everything random comes from [`dice::Dice`]; every choice is made under one lock by whoever the runtime lets run, and a
//! runtime on one thread without input or output lets tasks run in the same order every time. So nothing that takes part
//! may use a thread ([`laminar_core::engine::Blocking::Inline`]), a clock of its own, a map's random order, an unbiased
//! `select!`, or tokio's `watch` with several waiters, which wakes them in random order.
//!
//! # That it notices
//!
//! One test breaks promises of the world (see [`sabotage`]) and expects an outcry. By hand the engine and the scheduler were
//! broken in these ways, each noticed within some thousand seeds, most within the first hundred:
//!
//! | what was done | what was said |
//! |---|---|
//! | a task that may have been launched is started without being looked for | alive, and the log does not say so |
//! | deeds are done before the group is committed | begins, and the log does not say that it is launched |
//! | an attempt is adopted twice after a resume | outputs are adopted, and no attempt there has ended well |
//! | four lost launches in a row are not charged | launched, and the layer is tired |
//! | a resume forgets nothing that is over | it has ended, and the executor has something still |
//! | the end is put on record before everything is forgotten | its end is on record, and the executor has something still |
//! | views of layers that run again stay; or their old artifacts count | reads this, and should read that |
//! | finished layers wait again on a resume | launched, and the layer is good |
//! | a cancel stops one task only | ends by itself, and was to be stopped |
//! | outputs folders in use are taken for free | finds no folder, or something in it |
//! | one job more than the limit | exceeds the limits |
//! | nothing is stopped when a write fails; or a stop does not wait for the start | it gave up, and a task is alive |
//! | an error of `recover` is taken for "never started" | alive, and the log does not say so |
//! | pauses are not taken up again | nothing more will happen, and it has not ended |
//! | a task is forgotten before its exit is committed | remove, and its exit is not on record |
//! | charges are lost on a resume | the pause should be longer |
//! | memory is given back that was not taken | the scheduler panicked |
//! | a run that was caught is remembered | it is remembered, and it is caught |
//! | a run in another environment, or with other sources, than it was looked for in is remembered | its key promises something else |
//! | keys have no values of the split, no inputs, or no sources | two leave something else, and have the same key |
//! | damaged artifacts are taken from the cache | on record, and not in the datastore |
//! | `max_parallel` forgets who is alive after a resume | so many splits are alive then |
//! | an attempt has the timeout of the layer, and not its own | may last so long, and should otherwise |
//! | a split has the values of another index; indices have no zeros in front | is told, or reads, something else |
//! | only what is named runs again, not what needs it | something is under way that reads what would change |
//! | attempts of a layer that is opened anew are numbered from 1 | so many launches came before |
//! | what is ready is not recalled and sized anew on a resume | launched, and it is not sized |
//! | more is granted than there is | it asks for so much |
//! | `when` does not override a skipped need | the outcome should be another one |
//! | no splits never settle, or a layer is not asked again on a resume | nothing more will happen |
//! | an answer that comes too late is refused | an event does not fit |
//! | what was offered is launched with another folder for its outputs | published, and it has left something else |
//! | an offer that is void has not used its number | so many launches came before |
//! | nobody takes offers back when nothing is to start any more | it has ended, and the executor has something still |
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod answers;
mod checks;
mod crowd;
mod datastore;
mod dice;
mod drive;
mod executor;
mod expect;
mod faults;
mod flows;
mod launches;
mod model;
mod runs;
mod sabotage;
mod shapes;
mod store;
mod world;

use std::time::Instant;

use drive::{Setup, simulate};
use faults::Fault;
use sabotage::Sabotage;

/// How many flows `cargo test` simulates, with an execution or more of each.
const MANY: u64 = 2000;

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
                let least = |fault: Fault| if fault.is_rarely_met() { 5 } else { 20 };
                let rare: Vec<_> = Fault::ALL.iter().filter(|fault| figures.count(**fault) < least(**fault)).collect();
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
    for seed in 0..8 {
        for fault in [Fault::DiesBeforeAppend, Fault::DiesAfterAppend, Fault::AppendFails] {
            for number in 1.. {
                let setup = Setup { seed, layers: Some(4), planned: Some((number, fault)), ..Setup::default() };
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
        let noticed = (0..2000).find_map(|seed| Some((seed, broken(seed)?)));
        let Some((seed, broken)) = noticed else { panic!("{sabotage:?} is not noticed") };
        eprintln!("{sabotage:?}, seed {seed}: {broken}");
    }
}
