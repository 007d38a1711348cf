//! Limits of the `container` block that must bite, where the executor says that it enforces them.

use std::sync::Arc;

use laminar_core::container::{Container, Feature};
use laminar_core::executor::{Cause, Task};

use super::case;
use crate::kit::case::{Case, NotHere};
use crate::kit::scene::{Scene, is_alive, output, text};

pub(super) const CASES: &[Case] = &[
    case!(maybe memory_that_runs_out_is_told_with_evidence, [10], [Processes, Files]),
    case!(maybe a_task_with_memory_enough_is_not_out_of_memory, [10], [Processes, Signals]),
    case!(maybe processes_beyond_the_limit_cannot_be_started, [], [Processes, Files]),
];

/// A script that takes more memory with each round.
const GREEDY: &str = "x=aaaaaaaa; while :; do x=$x$x; done";

/// The task in a container with something else in it, if that is enforced.
async fn within(
    scene: &Scene,
    feature: Feature,
    task: Task,
    limit: impl FnOnce(&mut Container),
) -> Result<Task, NotHere> {
    let probe = scene.executor().probe().await.unwrap();
    if !probe.enforces.contains(&feature) {
        return Err(NotHere(format!("it does not enforce {feature:?} here")));
    }
    let mut container = scene.factory().container();
    limit(&mut container);
    Ok(Task { container: Arc::new(container), ..task })
}

async fn memory_that_runs_out_is_told_with_evidence(scene: &Scene) -> Result<(), NotHere> {
    let task = scene.lively(GREEDY);
    let task = within(scene, Feature::Memory, task, |container| container.memory = Some(24 << 20)).await?;
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::OutOfMemory, "{}", exit.evidence);
    assert!(exit.evidence.contains("memory"), "{}", exit.evidence);
    assert!(!is_alive(&task));
    Ok(())
}

async fn a_task_with_memory_enough_is_not_out_of_memory(scene: &Scene) -> Result<(), NotHere> {
    let task = scene.sh("kill -KILL $$");
    let task = within(scene, Feature::Memory, task, |container| container.memory = Some(64 << 20)).await?;
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::Signal(9), "{}", exit.evidence);
    Ok(())
}

async fn processes_beyond_the_limit_cannot_be_started(scene: &Scene) -> Result<(), NotHere> {
    // A shell that cannot start one more gives up; what it had started is ended with it.
    let script =
        r#"at=0; while [ $at -lt 40 ]; do at=$((at + 1)); echo $at >"$LAMINAR_OUTPUTS/at"; sleep 1000 & done; exit 0"#;
    let task = scene.lively(script);
    let task = within(scene, Feature::PidsLimit, task, |container| container.pids_limit = Some(16)).await?;
    let exit = scene.run(&task).await;
    let reached: u32 = output(&task, "at").trim().parse().unwrap();
    assert!(reached < 20, "{reached} of 16; {}", text(&task));
    assert!(matches!(exit.cause, Cause::Code(code) if code != 0), "{:?}", exit.cause);
    assert!(!is_alive(&task));
    Ok(())
}
