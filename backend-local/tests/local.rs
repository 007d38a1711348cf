//! The local backend with real processes, real signals and real deaths.
#![allow(clippy::unwrap_used)]

mod launched;
mod world;

use std::time::Duration;

use laminar_core::executor::{Cause, Executor, Recovered};
use world::World;

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn exit_codes_and_signals_are_told_as_they_were() {
    let world = World::new().await;
    for (script, cause) in [
        ("exit 0", Cause::Code(0)),
        ("exit 3", Cause::Code(3)),
        ("exit 255", Cause::Code(255)),
        ("kill -9 $$", Cause::Signal(9)),
        ("kill -SEGV $$", Cause::Signal(11)),
        ("kill -TERM $$", Cause::Signal(15)),
        ("kill -PIPE $$", Cause::Signal(13)),
    ] {
        assert_eq!(world.sh(script).await.0.cause, cause, "{script}");
    }
}

#[tokio::test]
async fn arguments_and_variables_arrive_as_they_are() {
    let world = World::new().await;
    let nasty = ["a b", "", "'\"`$HOME \\", "two\nlines", "äöü 漢字 🦀", "*"];
    let mut task = world.task(&["perl", "-e", r#"print join("|", @ARGV), "|$ENV{NASTY}|$ENV{PLAIN}""#]);
    task.argv.extend(nasty.iter().map(|text| (*text).to_owned()));
    task.env = vec![
        ("NASTY".to_owned(), "first".to_owned()),
        ("PLAIN".to_owned(), "p".to_owned()),
        ("NASTY".to_owned(), nasty.join("~")),
    ];
    let (exit, log) = world.run(task).await;
    assert_eq!(exit.cause, Cause::Code(0));
    assert_eq!(log, format!("{}|{}|p", nasty.join("|"), nasty.join("~")).as_bytes());
}

#[tokio::test]
async fn the_environment_is_the_callers_less_an_outer_executions() {
    let world = World::new().await;
    let (_, log) = world.sh("env").await;
    let log = String::from_utf8(log).unwrap();
    let mut ours: Vec<&str> = log.lines().filter(|line| line.starts_with("LAMINAR_")).collect();
    ours.sort_unstable();
    let id = world.execution;
    let (inputs, outputs) = (world.path("inputs"), world.path("outputs"));
    let expected = [
        format!("LAMINAR_EXECUTION_ID={id}"),
        "LAMINAR_FLOW_NAME=Test".to_owned(),
        format!("LAMINAR_INPUTS={}", inputs.display()),
        "LAMINAR_LAYER_ATTEMPT=1".to_owned(),
        "LAMINAR_LAYER_INDEX=0".to_owned(),
        "LAMINAR_LAYER_NAME=L".to_owned(),
        "LAMINAR_LAYER_SPLITS=4".to_owned(),
        format!("LAMINAR_OUTPUTS={}", outputs.display()),
    ];
    assert_eq!(ours, expected);
    assert!(log.lines().any(|line| line == format!("PATH={}", std::env::var("PATH").unwrap())));
}

#[tokio::test]
async fn a_task_starts_in_a_clean_state() {
    let world = World::new().await;
    // Its folder, its empty input, no descriptor but three, nothing blocked or ignored.
    let script = r#"pwd -P; cat; perl -e 'print join(" ", grep { -e "/proc/self/fd/$_" } 0..64), "\n"'
        grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -Sn"#;
    let (exit, log) = world.sh(script).await;
    assert_eq!(exit.cause, Cause::Code(0));
    let log = String::from_utf8(log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], world.folder().display().to_string());
    assert_eq!(lines[1], "0 1 2");
    assert_eq!(lines[2].split_ascii_whitespace().last().unwrap(), "0000000000000000");
    assert_eq!(lines[3].split_ascii_whitespace().last().unwrap(), "0000000000000000");
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert_eq!(lines[4], files.map_or("unlimited".to_owned(), |files| files.to_string()));
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_an_exit_with_what_was_looked_at() {
    let world = World::new().await;
    world.write("plain", "no program", 0o644);
    world.write("no-shebang", "echo hello\n", 0o755);
    world.write("no-interpreter", "#!/does/not/exist\n", 0o755);
    let huge = "x".repeat(200_000);
    for (argv, cause, evidence) in [
        (vec!["no-such-program-anywhere"], Cause::NotFound, "PATH: /"),
        (vec!["./nothing"], Cause::NotFound, "./nothing` in `/"),
        (vec!["/plain/nothing"], Cause::NotFound, "/plain/nothing"),
        (vec![""], Cause::NotFound, "PATH"),
        (vec!["./plain"], Cause::NotExecutable, "Permission denied"),
        (vec!["./no-shebang"], Cause::NotExecutable, "#!"),
        (vec!["./no-interpreter"], Cause::NotFound, "interpreter"),
        (vec!["/"], Cause::NotExecutable, "folder"),
        (vec!["true", &huge], Cause::NotExecutable, "200001"),
        (vec!["true", "a\0b"], Cause::NotExecutable, "NUL"),
    ] {
        let (exit, _) = world.run(world.task(&argv)).await;
        assert_eq!(exit.cause, cause, "{:?}: {}", argv[0], exit.evidence);
        assert!(exit.evidence.contains(evidence), "{:?}: {}", argv[0], exit.evidence);
    }
    assert_eq!(world.sh("exit 4").await.0.cause, Cause::Code(4));
}

#[tokio::test]
async fn the_tasks_own_path_is_searched() {
    let world = World::new().await;
    world.write("bin/tool", "#!/bin/sh\necho found\n", 0o755);
    let mut task = world.task(&["tool"]);
    task.env.push(("PATH".to_owned(), world.path("bin").display().to_string()));
    assert_eq!(world.run(task.clone()).await.1, b"found\n");
    // What was found once may be elsewhere the next time.
    world.write("later/tool", "#!/bin/sh\necho moved\n", 0o755);
    let both = format!("{}:{}", world.path("bin").display(), world.path("later").display());
    task.env[0].1 = both;
    for said in [&b"found\n"[..], b"moved\n"] {
        task = world.next(task);
        assert_eq!(world.run(task.clone()).await.1, said);
        let _ = std::fs::remove_file(world.path("bin/tool"));
    }
}

#[tokio::test]
async fn output_is_kept_byte_for_byte() {
    let world = World::new().await;
    let (exit, log) = world.sh("head -c 67108864 /dev/zero").await;
    assert_eq!((exit.cause, log.len()), (Cause::Code(0), 64 << 20));
    let (_, log) = world.sh("head -c 5242880 /dev/zero | tr '\\0' x; printf '\\377\\nunterminated'").await;
    assert_eq!(log.len(), (5 << 20) + 14);
    assert!(log.ends_with(b"x\xff\nunterminated"));
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; echo dev $i > /dev/stderr; done";
    let expected: String = (1..6).map(|i| format!("out {i}\nerr {i}\ndev {i}\n")).collect();
    assert_eq!(String::from_utf8(world.sh(script).await.1).unwrap(), expected);
}

#[tokio::test]
async fn a_task_that_writes_nothing_leaves_no_log() {
    let world = World::new().await;
    let task = world.task(&["true"]);
    let log = task.log.clone();
    world.run(task).await;
    assert!(!log.exists());
}

#[tokio::test]
async fn closing_the_output_early_is_no_end() {
    let world = World::new().await;
    let (exit, log) = world.sh("echo before; exec >&- 2>&-; sleep 0.1; exit 7").await;
    assert_eq!((exit.cause, log.as_slice()), (Cause::Code(7), &b"before\n"[..]));
}

#[tokio::test]
async fn a_log_that_cannot_be_written_does_not_hold_up_the_task() {
    let world = World::new().await;
    let mut task = world.task(&["sh", "-c", "head -c 1000000 /dev/zero; exit 5"]);
    task.log = "/dev/full".into();
    let (exit, _) = world.run_only(task).await;
    assert_eq!(exit.cause, Cause::Code(5));
    assert!(exit.evidence.contains("the log is incomplete") && exit.evidence.contains("space"), "{}", exit.evidence);
}

#[tokio::test]
async fn a_log_that_has_become_a_link_is_not_followed() {
    let world = World::new().await;
    world.write("precious", "untouched", 0o644);
    let task = world.task(&["sh", "-c", "echo harm; exit 5"]);
    std::os::unix::fs::symlink(world.path("precious"), &task.log).unwrap();
    let (exit, _) = world.run_only(task).await;
    assert_eq!(exit.cause, Cause::Code(5));
    assert!(exit.evidence.contains("the log is incomplete"), "{}", exit.evidence);
    assert_eq!(std::fs::read_to_string(world.path("precious")).unwrap(), "untouched");
}

#[tokio::test]
async fn what_a_task_leaves_running_is_ended_with_it() {
    let world = World::new().await;
    for (what, script) in [
        ("keeps the output", "sleep 1000 & exit 3"),
        ("is in a session of its own", "setsid sleep 1000 & exit 3"),
        (
            "ignores TERM, detached",
            "(trap '' TERM; setsid sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' &) ; exit 3",
        ),
        ("has no variables, detached", "env -i setsid sleep 1000 & sleep 0.1; exit 3"),
        ("is below one that lives", "setsid sh -c 'setsid sh -c \"setsid sleep 1000; :\"; :' & sleep 0.1; exit 3"),
        ("is suspended", "setsid sh -c 'kill -STOP $$' & sleep 0.1; exit 3"),
        ("forks a thousand", "for i in $(seq 1000); do sleep 1000 & done; exit 3"),
    ] {
        let (exit, _) = world.sh(script).await;
        assert_eq!(exit.cause, Cause::Code(3), "{what}: {}", exit.evidence);
        assert_eq!(world.descendants(), Vec::<String>::new(), "{what}");
    }
}

#[tokio::test]
async fn a_neighbours_background_process_is_left_alone() {
    let world = World::new().await;
    // The first task's detached process is an orphan while the second ends.
    let path = world.path("orphan");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & \n while [ ! -e {0}.done ]; do sleep 0.01; done; kill -0 $(cat {0})",
        path.display()
    );
    let detached = format!("({script}\n)"); // the subshell's parent stays
    let handle = world.start(world.task(&["sh", "-c", &detached])).await;
    world.until(|| path.exists()).await;
    for _ in 0..5 {
        assert_eq!(world.sh("sleep 1000 & exit 0").await.0.cause, Cause::Code(0));
    }
    world.write("orphan.done", "", 0o644);
    assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Code(0));
    assert_eq!(world.descendants(), Vec::<String>::new());
}

#[tokio::test]
async fn a_timeout_asks_then_forces() {
    let world = World::new().await;
    let mut task = world.task(&["sleep", "1000"]);
    task.timeout = Some(SOON);
    let (exit, _) = world.run(task).await;
    assert_eq!(exit.cause, Cause::TimedOut);
    assert!(exit.evidence.starts_with("SIGTERM after 5"), "{}", exit.evidence);

    let mut task = world.task(&["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    (task.timeout, task.grace) = (Some(4 * SOON), SOON);
    let (exit, _) = world.run(task).await;
    assert_eq!(exit.cause, Cause::TimedOut);
    assert!(exit.evidence.contains("SIGKILL 5") && exit.evidence.contains("later"), "{}", exit.evidence);
    assert_eq!(world.descendants(), Vec::<String>::new());
}

#[tokio::test]
async fn stop_is_total() {
    let world = World::new().await;
    for script in [
        "exec sleep 1000",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
        "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done",
        "kill -STOP $$",
        "exec perl -e '$| = 1; setpgrp(0, getpgrp(getppid)) and print \"ready\"; sleep 1000'",
        "setsid sh -c 'trap \"\" TERM; sleep 1000; :' & wait",
    ] {
        let task = world.task(&["sh", "-c", script]);
        let (id, log) = (task.id.clone(), task.log.clone());
        let handle = world.start(task).await;
        if script.contains("ready") {
            world.until(|| log.exists()).await;
        }
        world.executor.stop(&id, SOON).await.unwrap();
        assert_eq!(world.descendants(), Vec::<String>::new(), "{script}");
        assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Cancelled, "{script}");
        world.executor.stop(&id, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_shorter_grace_shortens_and_a_task_that_is_over_keeps_its_exit() {
    let world = World::new().await;
    let task = world.task(&["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
    let (id, log) = (task.id.clone(), task.log.clone());
    world.start(task).await;
    world.until(|| log.exists()).await;
    let patient = world.executor.stop(&id, Duration::from_secs(3600));
    let hasty = async {
        tokio::task::yield_now().await;
        world.executor.stop(&id, Duration::ZERO).await
    };
    let (patient, hasty) = tokio::join!(patient, hasty);
    patient.unwrap();
    hasty.unwrap();

    let task = world.task(&["sh", "-c", "exit 9"]);
    let id = task.id.clone();
    let handle = world.start(task).await;
    assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Code(9));
    world.executor.stop(&id, SOON).await.unwrap();
    assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Code(9));
}

#[tokio::test]
async fn stop_while_starting_stops_what_was_started() {
    let world = World::new().await;
    for _ in 0..50 {
        let task = world.task(&["sleep", "1000"]);
        let id = task.id.clone();
        let (handle, stopped) = tokio::join!(world.start(task), world.executor.stop(&id, SOON));
        stopped.unwrap();
        assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Cancelled);
    }
    assert_eq!(world.descendants(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_start_finds_the_first_until_it_is_removed() {
    let world = World::new().await;
    let task = world.task(&["sh", "-c", "echo once; exit 4"]);
    let first = world.start(task.clone()).await;
    let second = world.start(task.clone()).await;
    assert_eq!(first, second);
    let (one, two) = tokio::join!(world.executor.wait(&first), world.executor.wait(&second));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(world.start(task.clone()).await, first);
    assert_eq!(std::fs::read(&task.log).unwrap(), b"once\n");
    assert_eq!(world.executor.list(world.execution).await.unwrap(), std::slice::from_ref(&first));
    for _ in 0..2 {
        world.executor.remove(std::slice::from_ref(&first)).await.unwrap();
    }
    assert_eq!(world.executor.list(world.execution).await.unwrap(), []);
    assert_eq!(world.executor.recover(task.into()).await.unwrap(), Recovered::NeverStarted);
    assert!(world.executor.wait(&first).await.is_err());
}

#[tokio::test]
async fn three_hundred_tasks_run_at_once() {
    let world = World::new().await;
    let script =
        "echo $LAMINAR_LAYER_INDEX; while [ ! -e go ]; do sleep 0.2; done; exit $((LAMINAR_LAYER_INDEX % 200))";
    let tasks: Vec<_> = (0..300).map(|_| world.task(&["sh", "-c", script])).collect();
    let logs: Vec<_> = tasks.iter().map(|task| task.log.clone()).collect();
    let mut handles = Vec::new();
    for task in tasks {
        handles.push(world.start(task).await);
    }
    world.until(|| logs.iter().all(|log| log.exists())).await;
    world.write("go", "", 0o644);
    for (index, handle) in handles.iter().enumerate() {
        assert_eq!(world.executor.wait(handle).await.unwrap().cause, Cause::Code(index as i32 % 200));
        assert_eq!(std::fs::read_to_string(&logs[index]).unwrap(), format!("{index}\n"));
    }
}

#[tokio::test]
async fn usage_is_measured() {
    let world = World::new().await;
    let script = "my $x = 'x' x 50_000_000; my $end = time + 1; 1 while (times)[0] < 0.1";
    let (exit, _) = world.run(world.task(&["perl", "-e", script])).await;
    assert!(exit.usage.cpu_us >= 100_000 && exit.usage.wall_us >= 100_000, "{:?}", exit.usage);
    assert!((50_000_000..500_000_000).contains(&exit.usage.peak_memory), "{:?}", exit.usage);
}

#[tokio::test]
async fn long_folder_names_are_no_obstacle() {
    let world = World::below(&format!("{}/{}", "x".repeat(200), "y z'\"".repeat(20))).await;
    assert_eq!(world.sh("exit 6").await.0.cause, Cause::Code(6));
}

#[tokio::test]
async fn nothing_is_left_after_release() {
    let world = World::new().await;
    assert_eq!(world.sh("exit 0").await.0.cause, Cause::Code(0));
    let supervisor = world.supervisor().unwrap();
    world.executor.release(world.execution).await.unwrap();
    world.until(|| !world::is_alive(supervisor)).await;
    // And it can be taken up again.
    world.prepare().await;
    assert_eq!(world.executor.list(world.execution).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_successor_takes_over_from_a_scheduler_that_was_killed() {
    let world = World::unprepared();
    let scripts = ["echo one; exit 3", "echo two; while [ ! -e go ]; do sleep 0.02; done; echo end; exit 4"];
    world.doomed_scheduler(&scripts);
    world.prepare().await;
    let tasks: Vec<_> = (0..3).map(|_| world.task(&["sh", "-c", "echo never"])).collect();
    let recover = async |index: usize| world.executor.recover(tasks[index].clone().into()).await.unwrap();
    world.until_async(async || matches!(recover(0).await, Recovered::Exited(_))).await;
    let Recovered::Running(running) = recover(1).await else { panic!("it runs") };
    assert_eq!(recover(2).await, Recovered::NeverStarted);
    assert_eq!(world.executor.list(world.execution).await.unwrap().len(), 2);
    let Recovered::Exited(over) = recover(0).await else { panic!("it is over") };
    assert_eq!(world.executor.wait(&over).await.unwrap().cause, Cause::Code(3));
    world.write("go", "", 0o644);
    assert_eq!(world.executor.wait(&running).await.unwrap().cause, Cause::Code(4));
    assert_eq!(std::fs::read(&tasks[1].log).unwrap(), b"two\nend\n");
}

#[tokio::test]
async fn exits_are_known_after_the_supervisor_has_left() {
    let world = World::unprepared();
    world.doomed_scheduler(&["exit 3", "sleep 0.2; exit 4", "no-such-program-anywhere"]);
    world.until(|| world.supervisor().is_none()).await;
    world.prepare().await;
    for (index, code) in [3, 4, 127].into_iter().enumerate() {
        let task = world.task(&["false"]);
        let Recovered::Exited(handle) = world.executor.recover(task.into()).await.unwrap() else { panic!("{index}") };
        assert_eq!(world.executor.wait(&handle).await.unwrap().cause, Cause::Code(code));
    }
}

#[tokio::test]
async fn the_death_of_a_supervisor_is_the_end_of_its_tasks_and_not_of_the_executor() {
    let world = World::new().await;
    let over = world.start(world.task(&["sh", "-c", "exit 5"])).await;
    assert_eq!(world.executor.wait(&over).await.unwrap().cause, Cause::Code(5));
    let task = world.task(&["sh", "-c", "setsid sleep 1000 & echo $!; (exec sleep 1000) & wait"]);
    let log = task.log.clone();
    let handle = world.start(task.clone()).await;
    world.until(|| log.exists()).await;
    world::kill(world.supervisor().unwrap());
    let exit = world.executor.wait(&handle).await.unwrap();
    assert_eq!(exit.cause, Cause::Lost);
    assert!(exit.evidence.contains("supervisor was killed"), "{}", exit.evidence);
    assert_eq!(world.marked(), Vec::<String>::new());
    assert_eq!(world.executor.recover(task.into()).await.unwrap(), Recovered::Gone);
    // Another supervisor is there, and knows what the first one knew.
    assert_eq!(world.executor.wait(&over).await.unwrap().cause, Cause::Code(5));
    assert_eq!(world.executor.list(world.execution).await.unwrap().len(), 2);
    assert_eq!(world.sh("exit 8").await.0.cause, Cause::Code(8));
}

#[tokio::test]
async fn a_supervisor_that_dies_again_and_again_loses_no_request() {
    let world = World::new().await;
    for _ in 0..5 {
        let task = world.task(&["sleep", "1000"]);
        let supervisor = world.supervisor();
        let (handle, ()) = tokio::join!(world.start(task), async { supervisor.into_iter().for_each(world::kill) });
        let waiting = world.executor.wait(&handle);
        let stopping = world.executor.stop(&handle.task, SOON);
        let (exit, stopped) = tokio::join!(waiting, stopping);
        stopped.unwrap();
        let cause = exit.unwrap().cause;
        assert!([Cause::Lost, Cause::Cancelled].contains(&cause), "{cause:?}");
    }
    assert_eq!(world.descendants(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_scheduler_shuts_out_the_first() {
    let world = World::new().await;
    let handle = world.start(world.task(&["sleep", "1000"])).await;
    let second = world.executor_of_another_process();
    second.prepare(&world.session()).await.unwrap();
    let error = world.executor.wait(&handle).await.unwrap_err();
    assert!(error.to_string().contains("another scheduler has taken over"), "{error}");
    assert!(world.executor.list(world.execution).await.is_err());
    second.stop(&handle.task, SOON).await.unwrap();
    assert_eq!(second.wait(&handle).await.unwrap().cause, Cause::Cancelled);
}

#[tokio::test]
async fn many_executions_share_an_executor() {
    let world = World::new().await;
    let other = world.sibling();
    world.executor.prepare(&other).await.unwrap();
    let mut task = world.task(&["sh", "-c", "echo $LAMINAR_EXECUTION_ID"]);
    assert_eq!(world.run(task.clone()).await.1, format!("{}\n", world.execution).as_bytes());
    task.id.execution = other.execution;
    assert_eq!(world.run(task).await.1, format!("{}\n", other.execution).as_bytes());
    assert!(world.executor.start(world.foreign_task().into()).await.is_err());
}

#[tokio::test]
async fn a_log_beyond_the_limit_on_file_sizes_harms_nobody_else() {
    let world = World::new().await;
    let other = world.start(world.task(&["sh", "-c", "while [ ! -e done ]; do sleep 0.02; done"])).await;
    let supervisor = world.supervisor().unwrap();
    world::limit_files(supervisor, 100_000);
    let (exit, log) = world.sh("head -c 300000 /dev/zero").await;
    assert_eq!(exit.cause, Cause::Code(0));
    assert!(exit.evidence.contains("the log is incomplete"), "{}", exit.evidence);
    assert_eq!(log.len(), 100_000);
    assert_eq!(world.supervisor(), Some(supervisor));
    world.write("done", "", 0o644);
    assert_eq!(world.executor.wait(&other).await.unwrap().cause, Cause::Code(0));
}

#[tokio::test]
async fn tasks_are_as_nice_as_is_asked_and_their_supervisor_is_not() {
    use laminar_core::option::Options;
    let mut world = World::unprepared();
    let options = Options::new(&laminar_backend_local::OPTIONS, [("nice", "7")]);
    world.executor = world.executor_of_another_process().with_options(&options);
    world.prepare().await;
    // The 19th field of `stat`, of the task and of its parent; and of the session's group, where there are such groups.
    let script = "for pid in $$ $PPID; do sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f17; done; \
                  sed 's/.*nice //' /proc/$PPID/autogroup || echo 7";
    let (exit, log) = world.sh(script).await;
    assert_eq!(exit.cause, Cause::Code(0));
    let log = String::from_utf8_lossy(&log).into_owned();
    let numbers: Vec<i32> = log.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert_eq!((numbers[0] - numbers[1], numbers[2]), (7, 7), "{log}");
}
