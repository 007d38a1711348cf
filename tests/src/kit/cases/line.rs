//! Tasks that stand in line until there is a place for them.

use std::sync::Arc;

use laminar_core::executor::{Cause, ExecutorError, Handle, Recovered, Task};
use laminar_core::id::TaskId;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{GATE, IDLE, SOON, Scene};

pub(super) const CASES: &[Case] = &[
    case!(a_task_in_line_starts_once_there_is_a_place, [], [Line, Processes, Files]),
    case!(never_more_are_alive_than_there_are_places, [], [Line, Processes, Files]),
    case!(a_task_that_ends_badly_closes_the_line_until_it_is_removed, [13], [Line, Processes, Files]),
    case!(what_is_withdrawn_never_starts, [13], [Line, Processes, Files]),
    case!(what_is_stopped_in_line_never_starts, [5, 13], [Line, Processes, Files]),
    case!(what_stood_in_line_when_the_scheduler_died_was_never_started, [13], [Line, Processes, Files, Survival]),
];

/// A task that says that it was here.
const HERE: &str = r#": >"$LAMINAR_OUTPUTS/here""#;

type Started = Result<Handle, ExecutorError>;

/// A task is asked for, with so many places.
fn line_up(scene: &Scene, task: &Task, places: u32) -> tokio::task::JoinHandle<Started> {
    let (executor, task) = (scene.shared_executor(), Task { places: Some(places), ..task.clone() });
    tokio::spawn(async move { executor.start(Arc::new(task)).await })
}

fn was_here(task: &Task) -> bool {
    task.outputs.join("here").exists()
}

/// Everything that was asked before has been heard.
async fn heard(scene: &Scene) {
    tokio::task::yield_now().await;
    let _ = scene.list().await;
}

async fn started(asked: tokio::task::JoinHandle<Started>) -> Started {
    asked.await.unwrap()
}

async fn a_task_in_line_starts_once_there_is_a_place(scene: &mut Scene) {
    let (first, second) = (scene.lively(GATE), scene.sh(HERE));
    let first_is = line_up(scene, &first, 1);
    let running = started(first_is).await.unwrap();
    let second_is = line_up(scene, &second, 1);
    heard(scene).await;
    assert!(!was_here(&second) && !second_is.is_finished());
    assert_eq!(scene.recover(&second).await, Recovered::NeverStarted);
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    let handle = started(second_is).await.unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(0));
    assert!(was_here(&second));
}

async fn never_more_are_alive_than_there_are_places(scene: &mut Scene) {
    // Each says when it has begun and that it is about to end, in one pipe, which keeps the order.
    let (pipe, everybody) = (scene.path("views/Upstream/ledger"), Mode::from_raw_mode(0o666));
    mknodat(CWD, &pipe, FileType::Fifo, everybody, 0).unwrap();
    let ledger = rustix::fs::open(&pipe, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let script = r#"say() { echo $1 >"$LAMINAR_INPUTS/Upstream/ledger"; }; say +; sleep 0.01; say -"#;
    let tasks: Vec<Task> = (0..40).map(|_| scene.sh(script)).collect();
    let asked: Vec<_> = tasks.iter().map(|task| line_up(scene, task, 2)).collect();
    for asked in asked {
        let handle = started(asked).await.unwrap();
        assert_eq!(scene.wait(&handle).await.cause, Cause::Code(0));
    }
    let mut told = [0; 40 * 4 + 1];
    let length = rustix::io::read(&ledger, &mut told).unwrap();
    let told = &told[..length];
    let begun = told.iter().filter(|byte| **byte == b'+').count();
    assert_eq!((told.len(), begun), (40 * 4, 40));
    told.iter().fold(0, |alive, byte| {
        let alive = alive + i32::from(*byte == b'+') - i32::from(*byte == b'-');
        assert!((0..=2).contains(&alive), "{}", String::from_utf8_lossy(told));
        alive
    });
}

async fn a_task_that_ends_badly_closes_the_line_until_it_is_removed(scene: &mut Scene) {
    let (bad, next, free) = (scene.lively(&format!("{GATE}exit 3")), scene.sh(HERE), scene.sh(HERE));
    let bad_is = line_up(scene, &bad, 1);
    let next_is = line_up(scene, &next, 1);
    scene.open_gate();
    let handle = started(bad_is).await.unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    heard(scene).await;
    assert!(!was_here(&next) && !next_is.is_finished(), "nobody has seen yet that the first failed");
    assert_eq!(scene.run(&free).await.cause, Cause::Code(0), "who does not stand in line does not care");
    scene.executor().remove(&[handle]).await.unwrap();
    let handle = started(next_is).await.unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(0));
}

async fn what_is_withdrawn_never_starts(scene: &mut Scene) {
    let (first, second) = (scene.lively(GATE), scene.sh(HERE));
    let first_is = line_up(scene, &first, 1);
    let second_is = line_up(scene, &second, 1);
    let running = started(first_is).await.unwrap();
    let both = [first.id.clone(), second.id.clone()];
    scene.executor().withdraw(&both).await.unwrap();
    assert!(matches!(started(second_is).await, Err(ExecutorError::Withdrawn)));
    assert_eq!(scene.recover(&second).await, Recovered::NeverStarted);
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0), "what runs is left alone");
    heard(scene).await;
    assert!(!was_here(&second));
    let again = scene.run(&second).await;
    assert_eq!(again.cause, Cause::Code(0), "it may be asked for anew");
}

async fn what_is_stopped_in_line_never_starts(scene: &mut Scene) {
    let (first, second) = (scene.lively(IDLE), scene.sh(HERE));
    let first_is = line_up(scene, &first, 1);
    let second_is = line_up(scene, &second, 1);
    let running = started(first_is).await.unwrap();
    scene.stop(&second, SOON).await;
    assert!(matches!(started(second_is).await, Err(ExecutorError::Withdrawn)));
    scene.stop(&first, SOON).await;
    assert_eq!(scene.wait(&running).await.cause, Cause::Cancelled);
    assert!(!was_here(&second));
}

async fn what_stood_in_line_when_the_scheduler_died_was_never_started(scene: &mut Scene) {
    let (first, second) = (scene.lively(GATE), scene.sh(HERE));
    let first_is = line_up(scene, &first, 1);
    let second_is = line_up(scene, &second, 1);
    let running = started(first_is).await.unwrap();
    heard(scene).await;
    scene.succeed().await;
    drop(second_is);
    assert_eq!(scene.recover(&first).await, Recovered::Running(running.clone()));
    assert_eq!(scene.recover(&second).await, Recovered::NeverStarted);
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    let names: Vec<TaskId> = scene.list().await;
    assert_eq!(names, std::slice::from_ref(&first.id), "nobody is there for whom it would start");
    assert!(!was_here(&second));
}
