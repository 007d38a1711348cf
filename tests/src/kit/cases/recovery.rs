//! What a scheduler finds that comes after another.

use std::sync::Arc;

use laminar_core::executor::{Cause, ExecutorError, Handle, Recovered};
use laminar_core::id::{ExecutionId, TaskId};

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{GATE, IDLE, SOON, Scene, is_alive, output, text};

pub(super) const CASES: &[Case] = &[
    case!(recover_tells_what_became_of_each_task, [1, 11], []),
    case!(recover_in_the_middle_of_a_start_harms_nothing, [2, 7], [Processes, Files, Shared]),
    case!(a_handle_works_in_another_process, [1, 11], []),
    case!(tasks_go_on_when_the_execution_is_released, [11], [Processes, Output, Files]),
    case!(tasks_go_on_when_their_process_ends, [3, 11], [Processes, Output, Files, Survival]),
    case!(exits_are_known_to_whoever_comes_later, [4, 11], [Processes, Files]),
    case!(list_tells_of_what_another_executor_started, [1], []),
    case!(an_execution_knows_its_own_tasks_only, [1], []),
    case!(leftovers_are_told_and_swept_by_whoever_asks, [12], []),
    case!(what_is_swept_is_dead, [12], [Processes, Files]),
];

async fn recover_tells_what_became_of_each_task(scene: &mut Scene) {
    let (never, running, over) = (scene.sh(IDLE), scene.sh(IDLE), scene.sh("exit 3"));
    scene.start(&running).await;
    scene.run(&over).await;
    for _ in 0..2 {
        assert_eq!(scene.recover(&never).await, Recovered::NeverStarted);
        let Recovered::Running(runs) = scene.recover(&running).await else { panic!("it runs") };
        assert_eq!(runs.task, running.id);
        let Recovered::Exited(exited) = scene.recover(&over).await else { panic!("it is over") };
        assert_eq!(scene.wait(&exited).await.cause, Cause::Code(3));
        scene.succeed().await;
    }
    let Recovered::Running(runs) = scene.recover(&running).await else { panic!("it runs") };
    scene.stop(&running, SOON).await;
    assert_eq!(scene.wait(&runs).await.cause, Cause::Cancelled);
    assert!(matches!(scene.recover(&running).await, Recovered::Exited(_)));
}

/// A second scheduler asks while the first one starts: before, during and after.
async fn recover_in_the_middle_of_a_start_harms_nothing(scene: &mut Scene) {
    let other = scene.factory().executor();
    other.prepare(scene.session()).await.unwrap();
    let tasks: Vec<_> =
        (0..3).map(|_| scene.sh(&format!(r#"echo >>"$LAMINAR_OUTPUTS/runs"; {GATE} exit 3"#))).collect();
    for task in &tasks {
        let asks = async {
            loop {
                // Each of these is an answer; that it ran and is lost would be none.
                match other.recover(Arc::new(task.clone())).await.unwrap() {
                    Recovered::NeverStarted => tokio::task::yield_now().await,
                    Recovered::Running(handle) => return handle,
                    found => panic!("{found:?}"),
                }
            }
        };
        let (ours, theirs) = tokio::join!(scene.start(task), asks);
        assert_eq!(ours.task, theirs.task);
    }
    scene.open_gate();
    for task in &tasks {
        let handle = Handle { task: task.id.clone(), token: String::new() };
        assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
        assert_eq!(other.wait(&handle).await.unwrap().cause, Cause::Code(3));
        assert_eq!(output(task, "runs"), "\n");
    }
    other.release(scene.execution()).await.unwrap();
}

async fn a_handle_works_in_another_process(scene: &mut Scene) {
    let handle = scene.start(&scene.sh("exit 3")).await;
    let stored = serde_json::to_string(&handle).unwrap();
    scene.succeed().await;
    let handle: Handle = serde_json::from_str(&stored).unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    scene.executor().remove(&[handle]).await.unwrap();
    assert_eq!(scene.list().await, []);
}

async fn tasks_go_on_when_the_execution_is_released(scene: &mut Scene) {
    let task =
        scene.sh(&format!(r#": >"$LAMINAR_OUTPUTS/here"; {GATE} echo on; echo on >"$LAMINAR_OUTPUTS/on"; exit 3"#));
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    scene.executor().release(scene.execution()).await.unwrap();
    scene.executor().release(scene.execution()).await.unwrap();
    scene.open_gate();
    scene.left(&task, "on").await;
    scene.executor().prepare(scene.session()).await.unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    assert_eq!(text(&task), "on\n");
}

/// The runtime of a scheduler ends in the middle of things, and nobody releases anything.
async fn tasks_go_on_when_their_process_ends(scene: &mut Scene) {
    let script = format!(r#"echo >>"$LAMINAR_OUTPUTS/runs"; : >"$LAMINAR_OUTPUTS/here"; {GATE} echo on; exit 3"#);
    let task = scene.sh(&script);
    let (executor, session) = (scene.factory().executor(), scene.session().clone());
    scene.executor().release(scene.execution()).await.unwrap();
    let copy = Arc::new(task.clone());
    let process = std::thread::spawn(move || -> Result<(), ExecutorError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(async {
            executor.prepare(&session).await?;
            let handle = executor.start(copy).await?;
            let waiting = Arc::clone(&executor);
            tokio::spawn(async move { waiting.wait(&handle).await });
            tokio::task::yield_now().await;
            Ok(())
        });
        // As a process that dies does, without a wait for anything.
        runtime.shutdown_background();
        started
    });
    process.join().expect("it does not panic").unwrap();
    scene.left(&task, "here").await;
    scene.open_gate();
    scene.succeed().await;
    let (Recovered::Running(handle) | Recovered::Exited(handle)) = scene.recover(&task).await else {
        panic!("it was started");
    };
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    assert_eq!((text(&task), output(&task, "runs")), ("on\n".to_owned(), "\n".to_owned()));
}

async fn exits_are_known_to_whoever_comes_later(scene: &mut Scene) {
    let script = format!(r#": >"$LAMINAR_OUTPUTS/here"; {GATE} : >"$LAMINAR_OUTPUTS/end"; exit 3"#);
    let tasks = [scene.sh(&script), scene.sh(&script)];
    for task in &tasks {
        scene.start(task).await;
        scene.left(task, "here").await;
    }
    scene.executor().release(scene.execution()).await.unwrap();
    scene.open_gate();
    for task in &tasks {
        scene.left(task, "end").await;
    }
    for _ in 0..2 {
        scene.succeed().await;
        for task in &tasks {
            let (Recovered::Running(handle) | Recovered::Exited(handle)) = scene.recover(task).await else {
                panic!("it was started");
            };
            assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
        }
        assert_eq!(scene.list().await.len(), 2);
    }
}

async fn list_tells_of_what_another_executor_started(scene: &mut Scene) {
    let (running, over) = (scene.sh(IDLE), scene.sh("exit 3"));
    assert_eq!(scene.list().await, []);
    scene.start(&running).await;
    scene.run(&over).await;
    let all = [running.id, over.id];
    assert_eq!(scene.list().await, all);
    scene.succeed().await;
    assert_eq!(scene.list().await, all);
}

async fn an_execution_knows_its_own_tasks_only(scene: &Scene) {
    let ours = scene.sh("exit 1");
    let mut session = scene.session().clone();
    session.execution = ExecutionId::now();
    session.folder = scene.path("other");
    std::fs::create_dir_all(&session.folder).unwrap();
    scene.executor().prepare(&session).await.unwrap();
    let id = TaskId { execution: session.execution, ..ours.id.clone() };
    let theirs = scene.named(scene.sh("exit 2"), id);
    assert_eq!(scene.run(&ours).await.cause, Cause::Code(1));
    assert_eq!(scene.recover(&theirs).await, Recovered::NeverStarted);
    assert_eq!(scene.run(&theirs).await.cause, Cause::Code(2));
    assert_eq!(scene.list().await, std::slice::from_ref(&ours.id));
    let listed = scene.executor().list(session.execution).await.unwrap();
    assert_eq!(listed.iter().map(|handle| &handle.task).collect::<Vec<_>>(), [&theirs.id]);
    scene.executor().remove(&listed).await.unwrap();
    scene.executor().release(session.execution).await.unwrap();
    assert!(matches!(scene.recover(&ours).await, Recovered::Exited(_)));
}

async fn leftovers_are_told_and_swept_by_whoever_asks(scene: &mut Scene) {
    let (running, over) = (scene.sh(IDLE), scene.sh("exit 3"));
    scene.start(&running).await;
    scene.run(&over).await;
    // Another execution, in another folder, of which nothing may be missing in the end.
    let mut session = scene.session().clone();
    (session.execution, session.folder) = (ExecutionId::now(), scene.path("other"));
    std::fs::create_dir_all(&session.folder).unwrap();
    scene.executor().prepare(&session).await.unwrap();
    let id = TaskId { execution: session.execution, ..running.id.clone() };
    let theirs = scene.named(scene.sh(IDLE), id);
    scene.start(&theirs).await;

    // A scheduler that is at work would wonder.
    scene.executor().release(scene.execution()).await.unwrap();
    let stranger = scene.factory().executor();
    let left = async |session: &laminar_core::executor::Session| {
        let all = stranger.leftovers().await.unwrap();
        let of: Vec<_> = all.into_iter().filter(|left| left.execution == session.execution).collect();
        assert!(of.iter().all(|left| left.folder == session.folder), "{of:?} are of {:?}", session.folder);
        of
    };
    let ours = left(scene.session()).await;
    assert!(ours.iter().any(|left| left.running), "{ours:?}");
    let ids: Vec<String> = ours.iter().map(|left| left.id.clone()).collect();
    for _ in 0..2 {
        stranger.sweep(&ids).await.unwrap();
        assert_eq!(left(scene.session()).await, []);
    }
    assert!(left(&session).await.iter().any(|left| left.running));
    scene.succeed().await;
    let found = scene.recover(&running).await;
    assert!(!matches!(found, Recovered::Running(_)), "{found:?}");

    scene.executor().prepare(&session).await.unwrap();
    assert!(matches!(scene.recover(&theirs).await, Recovered::Running(_)));
    scene.stop(&theirs, SOON).await;
    let handles = scene.executor().list(session.execution).await.unwrap();
    scene.executor().remove(&handles).await.unwrap();
    scene.executor().release(session.execution).await.unwrap();
}

async fn what_is_swept_is_dead(scene: &mut Scene) {
    let task = scene.lively(&format!(r#": >"$LAMINAR_OUTPUTS/here"; (trap '' TERM; sleep 1000) & {IDLE}"#));
    scene.start(&task).await;
    scene.left(&task, "here").await;
    assert!(is_alive(&task));
    scene.executor().release(scene.execution()).await.unwrap();
    let stranger = scene.factory().executor();
    let left = stranger.leftovers().await.unwrap();
    let ours = left.into_iter().filter(|left| left.execution == scene.execution()).map(|left| left.id);
    stranger.sweep(&ours.collect::<Vec<_>>()).await.unwrap();
    assert!(!is_alive(&task), "after `sweep`");
    scene.executor().prepare(scene.session()).await.unwrap();
}
