//! How an executor and its tasks begin.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::executor::{Cause, Executor, Handle, Recovered};
use laminar_core::id::{ExecutionId, TaskId};

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{GATE, IDLE, Scene, output, text};

pub(super) const CASES: &[Case] = &[
    case!(an_engine_tells_what_it_is, [], []),
    case!(an_engine_that_does_not_answer_is_an_error, [7], [Mute]),
    case!(an_engine_that_answers_with_errors_is_an_error, [7], [Broken]),
    case!(a_second_prepare_changes_nothing, [], []),
    case!(a_second_start_finds_the_first, [2], []),
    case!(a_start_from_another_executor_finds_the_first, [2], []),
    case!(a_task_that_is_over_is_not_started_again, [2], [Processes, Files]),
    case!(starts_at_the_same_time_run_once, [2], [Processes, Files]),
    case!(another_attempt_is_another_task, [1, 2], []),
    case!(the_longest_names_are_no_obstacle, [1], [Processes, Output]),
    Case { folder: LONG, ..case!(long_paths_are_no_obstacle, [], [Processes, Output, Files]) },
    Case { folder: ODD, ..case!(odd_folder_names_are_no_obstacle, [8], [Processes, Output, Files]) },
    case!(a_hundred_tasks_run_at_once, [], [Processes, Files, Output]),
    case!(verbs_on_different_tasks_run_at_the_same_time, [], []),
];

/// Longer than the path of a Unix socket may be.
const LONG: &str = concat!(
    "a-folder-whose-name-is-rather-long-so-that-its-path-is-longer-than-a-socket-address-may-be/",
    "and-another-one-below-it-with-a-name-that-is-not-short-either-and-goes-on-for-a-while"
);

/// What may be in the name of a folder, and means something to shells, engines or their options.
const ODD: &str = "two words, 'one' \"quote\" $HOME ${x} `id` a=b c:d * ä漢\\n";

async fn an_engine_tells_what_it_is(scene: &Scene) {
    let probe = scene.executor().probe().await.unwrap();
    assert_ne!(probe.version, "");
    assert!(probe.cpu_millis >= 100, "{} thousandths of a core", probe.cpu_millis);
    assert!(probe.memory >= 1 << 20, "{} bytes of memory", probe.memory);
    assert!(!scene.executor().name().is_empty());
}

async fn an_engine_that_does_not_answer_is_an_error(scene: &Scene) {
    let mute = scene.factory().mute().expect("the factory has an executor whose engine does not answer");
    knows_nothing(scene, mute.as_ref()).await;
}

async fn an_engine_that_answers_with_errors_is_an_error(scene: &Scene) {
    let broken = scene.factory().broken().expect("the factory has an executor whose engine answers with errors");
    knows_nothing(scene, broken.as_ref()).await;
}

/// Whatever it is asked, it does not say that a task is not there, or over.
async fn knows_nothing(scene: &Scene, mute: &dyn Executor) {
    let mut session = scene.session().clone();
    session.execution = ExecutionId::now();
    session.folder = scene.path("mute");
    std::fs::create_dir_all(&session.folder).unwrap();
    let prepared = mute.prepare(&session).await;
    let mut task = scene.sh(IDLE);
    task.id.execution = session.execution;
    let task = Arc::new(task);
    let started_id = task.id.clone();
    let started = mute.start(Arc::clone(&task)).await;
    assert!(started.is_err(), "{prepared:?}, then {started:?}");
    let recovered = mute.recover(task).await;
    assert!(recovered.is_err(), "{prepared:?}, then {recovered:?}");
    assert!(mute.list(session.execution).await.is_err());
    assert!(mute.wait(&Handle { task: started_id, token: String::new() }).await.is_err());
}

async fn a_second_prepare_changes_nothing(scene: &Scene) {
    let task = scene.sh(IDLE);
    scene.start(&task).await;
    scene.executor().prepare(scene.session()).await.unwrap();
    assert_eq!(scene.list().await, std::slice::from_ref(&task.id));
    assert!(matches!(scene.recover(&task).await, Recovered::Running(_)));
}

async fn a_second_start_finds_the_first(scene: &Scene) {
    let task = scene.sh("exit 4");
    let first = scene.start(&task).await;
    let second = scene.start(&task).await;
    assert_eq!(first.task, second.task);
    assert_eq!(scene.wait(&first).await, scene.wait(&second).await);
    let third = scene.start(&task).await;
    assert_eq!(scene.wait(&third).await.cause, Cause::Code(4));
    assert_eq!(scene.list().await, [task.id]);
}

async fn a_start_from_another_executor_finds_the_first(scene: &mut Scene) {
    let (running, over) = (scene.sh(IDLE), scene.sh("exit 4"));
    scene.start(&running).await;
    scene.run(&over).await;
    scene.succeed().await;
    assert_eq!(scene.start(&running).await.task, running.id);
    let again = scene.start(&over).await;
    assert_eq!(scene.wait(&again).await.cause, Cause::Code(4));
    assert_eq!(scene.list().await, [running.id, over.id]);
}

async fn a_task_that_is_over_is_not_started_again(scene: &mut Scene) {
    let task = scene.sh(r#"echo once >>"$LAMINAR_OUTPUTS/runs"; exit 4"#);
    for _ in 0..2 {
        assert_eq!(scene.run(&task).await.cause, Cause::Code(4));
        scene.succeed().await;
        assert!(matches!(scene.recover(&task).await, Recovered::Exited(_)));
    }
    assert_eq!(output(&task, "runs"), "once\n");
}

async fn starts_at_the_same_time_run_once(scene: &mut Scene) {
    let task = Arc::new(scene.sh(&format!(r#"echo once >>"$LAMINAR_OUTPUTS/runs"; {GATE} exit 4"#)));
    let executor = scene.shared_executor();
    let starts = at_once((0..8).map(|_| {
        let (executor, task) = (Arc::clone(&executor), Arc::clone(&task));
        async move { executor.start(task).await.unwrap() }
    }));
    let handles = starts.await;
    scene.open_gate();
    for handle in &handles {
        assert_eq!(scene.wait(handle).await.cause, Cause::Code(4));
    }
    assert_eq!(output(&task, "runs"), "once\n");
}

async fn another_attempt_is_another_task(scene: &Scene) {
    let first = scene.sh("exit 1");
    assert_eq!(scene.run(&first).await.cause, Cause::Code(1));
    let id = TaskId { attempt: 2, ..first.id.clone() };
    let second = scene.named(scene.sh("exit 2"), id);
    assert_eq!(scene.recover(&second).await, Recovered::NeverStarted);
    assert_eq!(scene.run(&second).await.cause, Cause::Code(2));
    assert_eq!(scene.list().await, [first.id, second.id]);
}

async fn the_longest_names_are_no_obstacle(scene: &mut Scene) {
    let mut tasks = Vec::new();
    // The longest a layer may have, and two that differ in their ends and in their letters' case only.
    for (at, layer) in
        [format!("{}a", "L".repeat(127)), format!("{}b", "L".repeat(127)), "_".to_owned(), "layer".to_owned()]
            .into_iter()
            .enumerate()
    {
        let id = TaskId { execution: scene.execution(), layer: layer.into(), index: 999_999, attempt: u32::MAX };
        let task = scene.named(scene.sh(&format!("printf %s \"$LAMINAR_LAYER_NAME\"; exit {at}")), id);
        scene.start(&task).await;
        tasks.push(task);
    }
    scene.succeed().await;
    for (at, task) in tasks.iter().enumerate() {
        let (Recovered::Running(handle) | Recovered::Exited(handle)) = scene.recover(task).await else {
            panic!("{} is not found again", task.id);
        };
        assert_eq!(scene.wait(&handle).await.cause, Cause::Code(i32::try_from(at).unwrap()));
        assert_eq!(text(task), &*task.id.layer);
    }
    assert_eq!(scene.list().await.len(), 4);
}

async fn long_paths_are_no_obstacle(scene: &Scene) {
    works(scene).await;
}

async fn odd_folder_names_are_no_obstacle(scene: &Scene) {
    works(scene).await;
}

/// A task reads, writes, says and exits.
async fn works(scene: &Scene) {
    std::fs::write(scene.path("views/Upstream/word"), "said\n").unwrap();
    let task = scene.sh(r#"cat "$LAMINAR_INPUTS/Upstream/word"; echo left >"$LAMINAR_OUTPUTS/word"; exit 6"#);
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Code(6), "{}; {}", exit.evidence, text(&task));
    assert_eq!((text(&task), output(&task, "word")), ("said\n".to_owned(), "left\n".to_owned()));
    assert_eq!(scene.list().await, [task.id], "whoever comes later finds it");
}

async fn a_hundred_tasks_run_at_once(scene: &mut Scene) {
    let script = format!("echo $LAMINAR_LAYER_INDEX; : >\"$LAMINAR_OUTPUTS/here\"; {GATE} exit $LAMINAR_LAYER_INDEX");
    let count = if scene.factory().is_dear() { 10 } else { 100 };
    let tasks: Vec<_> = (0..count).map(|_| scene.sh(&script)).collect();
    let handles = at_once(tasks.iter().map(|task| {
        let (executor, task) = (scene.shared_executor(), Arc::new(task.clone()));
        async move { executor.start(task).await.unwrap() }
    }));
    let handles = handles.await;
    for task in &tasks {
        scene.left(task, "here").await;
    }
    scene.open_gate();
    for (index, (task, handle)) in tasks.iter().zip(&handles).enumerate() {
        assert_eq!(scene.wait(handle).await.cause, Cause::Code(i32::try_from(index).unwrap()));
        assert_eq!(text(task), format!("{index}\n"));
    }
}

async fn verbs_on_different_tasks_run_at_the_same_time(scene: &Scene) {
    let count = if scene.factory().is_dear() { 5 } else { 50 };
    let lives = (0..count).map(|at| {
        let (executor, task) = (scene.shared_executor(), Arc::new(scene.sh(if at % 2 == 0 { IDLE } else { "exit 3" })));
        async move {
            let handle = executor.start(Arc::clone(&task)).await.unwrap();
            assert_ne!(executor.recover(Arc::clone(&task)).await.unwrap(), Recovered::NeverStarted);
            if at % 2 == 0 {
                executor.stop(&task.id, Duration::from_secs(60)).await.unwrap();
            }
            let exit = executor.wait(&handle).await.unwrap();
            executor.remove(&[handle]).await.unwrap();
            assert_eq!(executor.recover(task).await.unwrap(), Recovered::NeverStarted);
            exit.cause
        }
    });
    for (at, cause) in at_once(lives).await.into_iter().enumerate() {
        assert_eq!(cause, if at % 2 == 0 { Cause::Cancelled } else { Cause::Code(3) });
    }
    assert_eq!(scene.list().await, []);
}

/// What comes of each of these, all of them under way together.
async fn at_once<T: Send + 'static>(all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let running: Vec<_> = all.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for one in running {
        done.push(one.await.unwrap());
    }
    done
}
