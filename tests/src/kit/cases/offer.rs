//! Tasks that are offered: each takes the place of one task that ends well and leaves nothing.

use std::sync::Arc;

use laminar_core::executor::{Cause, Recovered, Task};

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{GATE, IDLE, SOON, Scene, is_alive, output};

pub(super) const CASES: &[Case] = &[
    case!(what_is_offered_starts_when_the_task_before_it_is_over, [2, 14], [Line, Processes, Files]),
    case!(what_is_offered_never_starts_after_a_task_that_failed_or_left_something, [14], [Line, Processes, Files]),
    case!(what_is_offered_never_starts_while_the_line_is_closed, [13, 14], [Line, Processes, Files]),
    case!(what_stands_in_line_comes_before_what_is_offered, [14], [Line, Processes, Files]),
    case!(an_offer_that_is_taken_back_never_starts, [14], [Line, Processes, Files]),
    case!(an_offer_that_has_begun_is_ended_by_a_stop, [5, 14], [Line, Processes, Files]),
    case!(an_offer_ends_with_its_scheduler_unless_it_has_begun, [11, 14], [Line, Processes, Files, Survival]),
];

/// A task that tells how often it ran.
const HERE: &str = r#"echo ran >>"$LAMINAR_OUTPUTS/here"; "#;

fn offer(scene: &Scene, task: &Task, after: &Task) {
    scene.executor().offer(task, &after.id, &after.outputs);
}

/// Whether it never started, also after everything that was said before has been heard.
async fn never_started(scene: &Scene, task: &Task) -> bool {
    tokio::task::yield_now().await;
    scene.recover(task).await == Recovered::NeverStarted && !task.outputs.join("here").exists()
}

async fn what_is_offered_starts_when_the_task_before_it_is_over(scene: &mut Scene) {
    let (first, second, third) = (scene.sh(GATE), scene.sh(&format!("{HERE}exit 3")), scene.sh(HERE));
    // Also before the task that it comes after is asked for.
    offer(scene, &second, &first);
    let running = scene.start(&first).await;
    offer(scene, &third, &second);
    assert!(never_started(scene, &second).await);
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    scene.left(&second, "here").await;
    let handle = scene.start(&second).await;
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    assert_eq!(output(&second, "here"), "ran\n", "whoever asks for it finds the first");
    assert!(never_started(scene, &third).await, "the one before it failed");
    assert_eq!(scene.run(&third).await.cause, Cause::Code(0), "it may be asked for all the same");
}

async fn what_is_offered_never_starts_after_a_task_that_failed_or_left_something(scene: &mut Scene) {
    for script in ["exit 1", "kill -9 $$", HERE, r#"chmod 755 "$LAMINAR_OUTPUTS""#] {
        let (first, second) = (scene.sh(script), scene.sh(HERE));
        offer(scene, &second, &first);
        let handle = scene.start(&first).await;
        scene.wait(&handle).await;
        assert!(never_started(scene, &second).await, "{script}");
        scene.executor().remove(&[handle]).await.unwrap();
        assert!(never_started(scene, &second).await, "{script}, and it is forgotten");
    }
}

async fn what_is_offered_never_starts_while_the_line_is_closed(scene: &mut Scene) {
    let (bad, first, second) = (scene.sh("exit 7"), scene.sh(GATE), scene.sh(HERE));
    offer(scene, &second, &first);
    let running = scene.start(&first).await;
    assert_eq!(scene.run(&bad).await.cause, Cause::Code(7));
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    assert!(never_started(scene, &second).await);
}

async fn what_stands_in_line_comes_before_what_is_offered(scene: &mut Scene) {
    let (first, second, waiting) = (scene.sh(GATE), scene.sh(HERE), scene.sh(HERE));
    offer(scene, &second, &first);
    let running = scene.start(&first).await;
    let (executor, task) = (scene.shared_executor(), Task { places: Some(1), ..waiting.clone() });
    let asked = tokio::spawn(async move { executor.start(Arc::new(task)).await });
    assert!(never_started(scene, &waiting).await, "it stands in line");
    scene.open_gate();
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    let handle = asked.await.unwrap().unwrap();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(0));
    assert!(never_started(scene, &second).await);
}

async fn an_offer_that_is_taken_back_never_starts(scene: &mut Scene) {
    let (one, other, first) = (scene.sh(HERE), scene.sh(HERE), scene.sh(GATE));
    let last = scene.sh(GATE);
    offer(scene, &one, &first);
    offer(scene, &other, &last);
    let running = [scene.start(&first).await, scene.start(&last).await];
    scene.stop(&one, SOON).await;
    scene.executor().withdraw(std::slice::from_ref(&other.id)).await.unwrap();
    scene.open_gate();
    for handle in &running {
        assert_eq!(scene.wait(handle).await.cause, Cause::Code(0));
    }
    assert!(never_started(scene, &one).await && never_started(scene, &other).await);
}

async fn an_offer_that_has_begun_is_ended_by_a_stop(scene: &mut Scene) {
    let (first, second) = (scene.sh(""), scene.lively(&format!("{HERE}{IDLE}")));
    offer(scene, &second, &first);
    assert_eq!(scene.run(&first).await.cause, Cause::Code(0));
    scene.left(&second, "here").await;
    scene.stop(&second, SOON).await;
    assert!(!is_alive(&second));
    let handle = scene.start(&second).await;
    assert_eq!(scene.wait(&handle).await.cause, Cause::Cancelled);
}

async fn an_offer_ends_with_its_scheduler_unless_it_has_begun(scene: &mut Scene) {
    let (first, second) = (scene.sh(""), scene.sh(&format!("{HERE}{GATE}")));
    let (third, fourth) = (scene.sh(GATE), scene.sh(HERE));
    offer(scene, &second, &first);
    offer(scene, &fourth, &third);
    let running = scene.start(&third).await;
    assert_eq!(scene.run(&first).await.cause, Cause::Code(0));
    scene.left(&second, "here").await;
    scene.succeed().await;
    let Recovered::Running(begun) = scene.recover(&second).await else { panic!("it has begun") };
    scene.open_gate();
    assert_eq!(scene.wait(&begun).await.cause, Cause::Code(0));
    assert_eq!(scene.wait(&running).await.cause, Cause::Code(0));
    assert!(never_started(scene, &fourth).await, "nobody is there who would know of it");
}
