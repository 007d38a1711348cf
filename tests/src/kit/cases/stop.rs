//! Stopping and removing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::executor::{Cause, Recovered};

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{IDLE, SOON, Scene, is_alive, text};

pub(super) const CASES: &[Case] = &[
    case!(a_task_that_was_never_started_can_be_stopped_or_refused, [5], []),
    case!(stop_while_starting_stops_what_was_started, [5], []),
    case!(stop_ends_a_running_task, [5], []),
    case!(stop_of_a_task_that_is_over_changes_nothing, [5], []),
    case!(stop_leaves_time_to_tidy_up, [5], [Processes, Output, Files]),
    case!(stop_forces_what_ignores_term, [5], [Processes, Files]),
    case!(stop_ends_a_suspended_task, [5], [Processes, Files]),
    case!(stop_ends_daemons_and_grandchildren, [5], [Processes, Files]),
    case!(a_second_stop_shortens_the_first, [5], [Processes, Files]),
    case!(stop_from_another_executor_ends_it, [5], []),
    case!(remove_is_idempotent, [6], []),
    case!(remove_leaves_logs_and_outputs, [6], [Processes, Output, Files]),
    case!(remove_of_what_never_was_is_a_success, [6], []),
];

/// A task that ignores TERM, once its file `here` is there.
const STUBBORN: &str = r#"trap '' TERM; : >"$LAMINAR_OUTPUTS/here"; while :; do sleep 1; done"#;

async fn a_task_that_was_never_started_can_be_stopped_or_refused(scene: &Scene) {
    let task = scene.sh(IDLE);
    let _ = scene.executor().stop(&task.id, SOON).await;
    assert_eq!(scene.list().await, []);
    assert_eq!(scene.recover(&task).await, Recovered::NeverStarted);
}

async fn stop_while_starting_stops_what_was_started(scene: &Scene) {
    for _ in 0..if scene.factory().is_dear() { 3 } else { 30 } {
        let task = scene.sh(IDLE);
        let start = scene.executor().start(Arc::new(task.clone()));
        let (started, ()) = tokio::join!(start, scene.stop(&task, SOON));
        let Ok(handle) = started else {
            assert_eq!(scene.recover(&task).await, Recovered::NeverStarted, "refused, so nothing runs");
            continue;
        };
        let exit = scene.wait(&handle).await;
        assert_eq!(exit.cause, Cause::Cancelled, "{}", exit.evidence);
    }
}

async fn stop_ends_a_running_task(scene: &Scene) {
    let task = scene.sh(IDLE);
    let handle = scene.start(&task).await;
    let (exit, ()) = tokio::join!(scene.wait(&handle), scene.stop(&task, Duration::from_secs(60)));
    assert_eq!(exit.cause, Cause::Cancelled, "{}", exit.evidence);
    assert!(matches!(scene.recover(&task).await, Recovered::Exited(_)));
}

async fn stop_of_a_task_that_is_over_changes_nothing(scene: &Scene) {
    let task = scene.sh("exit 9");
    let exit = scene.run(&task).await;
    for _ in 0..2 {
        scene.stop(&task, SOON).await;
    }
    let again = scene.start(&task).await;
    assert_eq!(scene.wait(&again).await, exit);
}

async fn stop_leaves_time_to_tidy_up(scene: &Scene) {
    let task =
        scene.lively(r#"trap 'echo tidy; exit 3' TERM; : >"$LAMINAR_OUTPUTS/here"; while :; do sleep 0.05; done"#);
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    scene.stop(&task, Duration::from_secs(60)).await;
    assert!(!is_alive(&task));
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
    // A shell may have its own word on the signal before.
    assert!(text(&task).ends_with("tidy\n"), "{}", text(&task));
}

async fn stop_forces_what_ignores_term(scene: &Scene) {
    let task = scene.lively(STUBBORN);
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    assert!(is_alive(&task));
    let asked = Instant::now();
    scene.stop(&task, SOON * 4).await;
    assert!(!is_alive(&task));
    assert!(asked.elapsed() >= SOON * 4, "{:?}", asked.elapsed());
    let exit = scene.wait(&handle).await;
    assert_eq!(exit.cause, Cause::Cancelled);
    assert_ne!(exit.evidence, "");
}

async fn stop_ends_a_suspended_task(scene: &Scene) {
    let task = scene.lively(r#": >"$LAMINAR_OUTPUTS/here"; kill -STOP $$; sleep 1000"#);
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    scene.stop(&task, SOON).await;
    assert!(!is_alive(&task));
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
}

async fn stop_ends_daemons_and_grandchildren(scene: &Scene) {
    let task = scene.lively(
        r#"(setsid sh -c 'trap "" TERM; : >"$LAMINAR_OUTPUTS/daemon"; while :; do sleep 1; done' &)
        sleep 1000 & sh -c 'sleep 1000; :'"#,
    );
    let handle = scene.start(&task).await;
    scene.left(&task, "daemon").await;
    assert!(is_alive(&task));
    scene.stop(&task, SOON).await;
    assert!(!is_alive(&task));
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
}

async fn a_second_stop_shortens_the_first(scene: &Scene) {
    let task = scene.lively(STUBBORN);
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    let patient = scene.stop(&task, Duration::from_secs(1000));
    let hasty = async {
        // After the first: it is asked for in its own turn of the loop.
        tokio::task::yield_now().await;
        scene.stop(&task, SOON).await;
    };
    tokio::join!(patient, hasty);
    assert!(!is_alive(&task));
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
}

async fn stop_from_another_executor_ends_it(scene: &mut Scene) {
    let task = scene.sh(IDLE);
    let handle = scene.start(&task).await;
    scene.succeed().await;
    scene.stop(&task, SOON).await;
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
}

async fn remove_is_idempotent(scene: &mut Scene) {
    let (one, two) = (scene.sh("exit 1"), scene.sh("exit 2"));
    let handles = [scene.start(&one).await, scene.start(&two).await];
    for handle in &handles {
        scene.wait(handle).await;
    }
    scene.executor().remove(&handles[..1]).await.unwrap();
    assert_eq!(scene.list().await, std::slice::from_ref(&two.id));
    for _ in 0..2 {
        scene.executor().remove(&handles).await.unwrap();
    }
    scene.succeed().await;
    scene.executor().remove(&handles).await.unwrap();
    assert_eq!(scene.list().await, []);
    assert_eq!(scene.recover(&one).await, Recovered::NeverStarted);
    assert!(scene.executor().wait(&handles[0]).await.is_err());
}

async fn remove_leaves_logs_and_outputs(scene: &Scene) {
    let task = scene.sh(r#"echo said; echo left >"$LAMINAR_OUTPUTS/word""#);
    let handle = scene.start(&task).await;
    scene.wait(&handle).await;
    scene.executor().remove(&[handle]).await.unwrap();
    assert_eq!(text(&task), "said\n");
    assert!(task.outputs.join("word").exists());
}

async fn remove_of_what_never_was_is_a_success(scene: &Scene) {
    let task = scene.sh(IDLE);
    let handle = laminar_core::executor::Handle { task: task.id, token: String::new() };
    scene.executor().remove(&[handle]).await.unwrap();
    scene.executor().remove(&[]).await.unwrap();
}
