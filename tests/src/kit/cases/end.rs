//! How tasks end by themselves or by their time, and what `wait` tells of it.

use std::time::{Duration, Instant};

use laminar_core::executor::Cause;

use super::case;
use crate::kit::case::Case;
use crate::kit::scene::{GATE, IDLE, Scene, is_alive, text};

pub(super) const CASES: &[Case] = &[
    case!(exit_codes_are_told_as_they_were, [10], []),
    case!(signals_are_told_as_they_were, [10], [Signals]),
    case!(a_program_that_does_not_exist_is_an_exit, [10], [Programs]),
    case!(a_program_that_cannot_be_executed_is_an_exit, [10], [Programs]),
    case!(a_grandchild_that_keeps_the_output_open_does_not_hang_it, [4], [Processes, Output, Files]),
    case!(a_grandchild_that_floods_the_output_does_not_hang_it, [4], [Processes, Files]),
    case!(a_task_that_closes_its_output_is_waited_for, [4], [Processes, Output, Files]),
    case!(a_daemon_does_not_outlive_its_task, [4], [Processes, Files]),
    case!(a_daemon_without_its_variables_does_not_outlive_its_task, [4], [Processes, Files]),
    case!(such_a_daemon_is_ended_beside_other_tasks_too, [4], [Processes, Files, Containment]),
    case!(the_end_of_a_task_ends_nothing_of_another, [4, 5], [Processes, Files]),
    case!(several_callers_get_the_same_exit, [4], []),
    case!(a_caller_that_gives_up_takes_nothing_with_it, [4], []),
    case!(time_that_is_up_is_told_with_evidence, [10], []),
    case!(time_that_is_up_ends_what_ignores_term, [10], [Processes, Files]),
    case!(time_is_up_without_a_scheduler_too, [11], [Processes, Files, Unattended]),
    case!(a_task_in_time_is_not_cut, [10], []),
    case!(usage_is_plausible, [], [Processes, Usage]),
];

const SHORT: Duration = Duration::from_millis(150);

async fn exit_codes_are_told_as_they_were(scene: &Scene) {
    let codes: Vec<i32> = match scene.factory().is_dear() {
        true => vec![0, 1, 2, 42, 125, 126, 127, 128, 137, 143, 255],
        false => (0..256).collect(),
    };
    let mut handles = Vec::new();
    for code in &codes {
        handles.push(scene.start(&scene.sh(&format!("exit {code}"))).await);
    }
    for (code, handle) in codes.iter().zip(&handles) {
        let exit = scene.wait(handle).await;
        assert_eq!(exit.cause, Cause::Code(*code), "{}", exit.evidence);
    }
}

async fn signals_are_told_as_they_were(scene: &Scene) {
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15), ("PIPE", 13), ("USR1", 10), ("HUP", 1)] {
        let exit = scene.run(&scene.sh(&format!("kill -{name} $$"))).await;
        assert_eq!(exit.cause, Cause::Signal(number), "{name}: {}", exit.evidence);
    }
}

async fn a_program_that_does_not_exist_is_an_exit(scene: &Scene) {
    for program in ["no-such-program-anywhere", "/no/such/program"] {
        let exit = scene.run(&scene.task(vec![program.to_owned()])).await;
        assert_eq!(exit.cause, Cause::NotFound, "{program}: {}", exit.evidence);
        assert!(exit.evidence.contains(program), "{}", exit.evidence);
    }
}

async fn a_program_that_cannot_be_executed_is_an_exit(scene: &Scene) {
    for program in ["/etc/passwd", "/"] {
        let exit = scene.run(&scene.task(vec![program.to_owned()])).await;
        assert_eq!(exit.cause, Cause::NotExecutable, "{program}: {}", exit.evidence);
        assert!(exit.evidence.contains(program), "{}", exit.evidence);
    }
}

async fn a_grandchild_that_keeps_the_output_open_does_not_hang_it(scene: &Scene) {
    let task = scene.lively("echo said; sleep 1000 & exit 3");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(3));
    assert!(!is_alive(&task));
    assert_eq!(text(&task), "said\n");
}

async fn a_grandchild_that_floods_the_output_does_not_hang_it(scene: &Scene) {
    let task = scene.lively("yes & exit 3");
    assert_eq!(scene.run(&task).await.cause, Cause::Code(3));
    assert!(!is_alive(&task));
}

async fn a_task_that_closes_its_output_is_waited_for(scene: &mut Scene) {
    let task = scene.lively(&format!(r#"echo said; exec >&- 2>&-; : >"$LAMINAR_OUTPUTS/here"; {GATE} exit 3"#));
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    assert!(is_alive(&task));
    let early = tokio::time::timeout(SHORT, scene.wait(&handle)).await;
    assert!(early.is_err(), "{early:?}");
    scene.open_gate();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(3));
    assert_eq!(text(&task), "said\n");
}

async fn a_daemon_does_not_outlive_its_task(scene: &Scene) {
    // It has a session of its own, and a parent that is gone.
    let task = scene.lively(
        r#"(setsid sh -c ': >"$LAMINAR_OUTPUTS/daemon"; exec sleep 1000' &)
        while [ ! -e "$LAMINAR_OUTPUTS/daemon" ]; do sleep 0.01; done; exit 5"#,
    );
    assert_eq!(scene.run(&task).await.cause, Cause::Code(5));
    assert!(!is_alive(&task));
}

/// It kept nothing that it could be known by but its ancestry.
async fn a_daemon_without_its_variables_does_not_outlive_its_task(scene: &Scene) {
    sheds_everything(scene).await;
}

async fn such_a_daemon_is_ended_beside_other_tasks_too(scene: &Scene) {
    scene.start(&scene.sh(IDLE)).await;
    sheds_everything(scene).await;
}

async fn sheds_everything(scene: &Scene) {
    let task = scene.lively(
        r#"(env -i PATH="$PATH" OUT="$LAMINAR_OUTPUTS" setsid sh -c ': >"$OUT/daemon"; exec sleep 1000' &)
        while [ ! -e "$LAMINAR_OUTPUTS/daemon" ]; do sleep 0.01; done; exit 5"#,
    );
    assert_eq!(scene.run(&task).await.cause, Cause::Code(5));
    assert!(!is_alive(&task));
}

async fn the_end_of_a_task_ends_nothing_of_another(scene: &mut Scene) {
    let begin = r#"(setsid sh -c ': >"$LAMINAR_OUTPUTS/daemon"; trap "" TERM; while :; do sleep 1; done' &)
        while [ ! -e "$LAMINAR_OUTPUTS/daemon" ]; do sleep 0.01; done;"#;
    let stays = scene.lively(&format!("{begin} {GATE} exit 6"));
    let (exits, stopped) = (scene.lively(&format!("{begin} exit 5")), scene.lively(&format!("{begin} sleep 1000")));
    let handle = scene.start(&stays).await;
    scene.left(&stays, "daemon").await;
    assert_eq!(scene.run(&exits).await.cause, Cause::Code(5));
    scene.start(&stopped).await;
    scene.left(&stopped, "daemon").await;
    scene.stop(&stopped, SHORT).await;
    assert_eq!((is_alive(&exits), is_alive(&stopped), is_alive(&stays)), (false, false, true));
    scene.open_gate();
    assert_eq!(scene.wait(&handle).await.cause, Cause::Code(6));
    assert!(!is_alive(&stays));
}

async fn several_callers_get_the_same_exit(scene: &Scene) {
    let handle = scene.start(&scene.sh("exit 7")).await;
    let (one, two, three) = tokio::join!(scene.wait(&handle), scene.wait(&handle), scene.wait(&handle));
    assert_eq!(one.cause, Cause::Code(7));
    assert_eq!((&one, &one), (&two, &three));
    assert_eq!(scene.wait(&handle).await, one);
}

async fn a_caller_that_gives_up_takes_nothing_with_it(scene: &Scene) {
    let task = scene.sh(IDLE);
    let handle = scene.start(&task).await;
    let (kept, given_up) = tokio::join!(scene.wait(&handle), async {
        let given_up = tokio::time::timeout(Duration::from_millis(20), scene.wait(&handle)).await;
        scene.stop(&task, SHORT).await;
        given_up
    });
    assert!(given_up.is_err(), "{given_up:?}");
    assert_eq!(kept.cause, Cause::Cancelled);
    assert_eq!(scene.wait(&handle).await, kept);
}

async fn time_that_is_up_is_told_with_evidence(scene: &Scene) {
    let mut task = scene.sh(IDLE);
    task.timeout = Some(SHORT);
    let exit = scene.run(&task).await;
    assert_eq!(exit.cause, Cause::TimedOut, "{}", exit.evidence);
    assert_ne!(exit.evidence, "");
}

async fn time_that_is_up_ends_what_ignores_term(scene: &Scene) {
    // A machine that is busy may need longer than the time for what has to be there before.
    for timeout in [4, 16, 64].map(|times| SHORT * times) {
        let mut task = scene.lively("trap '' TERM; while :; do sleep 1; done");
        task.timeout = Some(timeout);
        task.grace = SHORT;
        let begun = Instant::now();
        let exit = scene.run(&task).await;
        assert_eq!(exit.cause, Cause::TimedOut, "{}", exit.evidence);
        if task.outputs.join("alive").exists() {
            assert!(begun.elapsed() >= timeout + SHORT, "{:?}", begun.elapsed());
            assert!(!is_alive(&task));
            return;
        }
    }
    panic!("the task does not begin");
}

async fn time_is_up_without_a_scheduler_too(scene: &mut Scene) {
    let mut task = scene.lively(r#": >"$LAMINAR_OUTPUTS/here"; sleep 1000"#);
    // Time enough to begin, on a busy machine too.
    task.timeout = Some(Duration::from_secs(6));
    let handle = scene.start(&task).await;
    scene.left(&task, "here").await;
    scene.executor().release(scene.execution()).await.unwrap();
    scene.until("the task is over", || !is_alive(&task)).await;
    scene.succeed().await;
    assert_eq!(scene.wait(&handle).await.cause, Cause::TimedOut);
}

async fn a_task_in_time_is_not_cut(scene: &Scene) {
    let mut task = scene.sh("exit 8");
    task.timeout = Some(Duration::from_secs(1000));
    assert_eq!(scene.run(&task).await.cause, Cause::Code(8));
}

async fn usage_is_plausible(scene: &mut Scene) {
    let script =
        r"x=$(head -c 30000000 /dev/zero | tr '\0' x); at=0; while [ $at -lt 100000 ]; do at=$((at + 1)); done";
    let begun = Instant::now();
    let idle = scene.sh(&format!("{GATE} exit 0"));
    let handle = scene.start(&idle).await;
    let busy = scene.run(&scene.sh(script)).await;
    let lasted = u64::try_from(begun.elapsed().as_micros()).unwrap();
    scene.open_gate();
    let idle = scene.wait(&handle).await.usage;
    assert_eq!(busy.cause, Cause::Code(0));
    let usage = busy.usage;
    assert!(usage.wall_us > 0 && usage.wall_us <= lasted, "{usage:?} in {lasted} µs");
    assert!((20_000..lasted * 64).contains(&usage.cpu_us), "{usage:?}");
    assert!((30_000_000..1_000_000_000).contains(&usage.peak_memory), "{usage:?}");
    // One task's figures are not another's.
    assert!(idle.wall_us >= usage.wall_us, "{idle:?}, {usage:?}");
    assert!(idle.cpu_us < usage.cpu_us && idle.peak_memory < usage.peak_memory, "{idle:?}, {usage:?}");
}
