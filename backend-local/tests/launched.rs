//! Tasks that something else launches: what is exact about them although it stands between.

use std::sync::Arc;
use std::time::Duration;

use laminar_backend_local::{Launcher, LocalExecutor};
use laminar_core::executor::{Cause, Executor, ExecutorError, Exit, Handle, Recovered, Session, Task};

use crate::world::{self, World};

const NAME: &str = "launched";

/// Launches everything by these words.
struct Words(&'static [&'static str]);

impl Launcher for Words {
    fn launch(&self, _: &Task, _: &Session) -> Result<Vec<String>, ExecutorError> {
        Ok(self.0.iter().map(|word| (*word).to_owned()).collect())
    }
}

async fn launched(world: &World, words: &'static [&'static str]) -> LocalExecutor {
    let executor = LocalExecutor::launching(NAME, Words(words)).supervised_by(world::FIXTURE);
    executor.prepare(&world.session()).await.unwrap();
    executor
}

async fn run(world: &World, words: &'static [&'static str], script: &str) -> (Exit, String) {
    let executor = launched(world, words).await;
    let task = world.task(&["sh", "-c", script]);
    let log = task.log.clone();
    let handle = executor.start(task.into()).await.unwrap();
    let exit = executor.wait(&handle).await.unwrap();
    (exit, String::from_utf8(std::fs::read(log).unwrap_or_default()).unwrap())
}

#[tokio::test]
async fn the_words_come_before_the_task_and_it_is_told_exactly() {
    let world = World::unprepared();
    let (exit, said) = run(&world, &["env", "OWN=said"], "echo $OWN; kill -USR1 $$").await;
    assert_eq!((exit.cause, said.as_str()), (Cause::Signal(libc::SIGUSR1), "said\n"));
    // Whatever is between has its own idea of an exit.
    let (exit, _) = run(&world, &["sh", "-c", "\"$@\"; exit 1", "sh"], "exit 42").await;
    assert_eq!(exit.cause, Cause::Code(42));
    let (exit, _) = run(&world, &[], "exit 43").await;
    assert_eq!(exit.cause, Cause::Code(43));
    let executor = launched(&world, &["env"]).await;
    let handle = executor.start(world.task(&["/no/such/program"]).into()).await.unwrap();
    assert_eq!(executor.wait(&handle).await.unwrap().cause, Cause::NotFound);
}

#[tokio::test]
async fn what_cannot_launch_says_so_and_the_task_is_not_blamed() {
    let world = World::unprepared();
    let (exit, _) = run(&world, &["/no/such/launcher"], "exit 0").await;
    assert_eq!(exit.cause, Cause::EngineFailed);
    assert!(exit.evidence.contains("/no/such/launcher"), "{}", exit.evidence);
    let (exit, _) = run(&world, &["sh", "-c", "echo no room here >&2; exit 7"], "exit 0").await;
    assert_eq!(exit.cause, Cause::EngineFailed);
    assert!(exit.evidence.contains("exit code 7") && exit.evidence.ends_with("no room here"), "{}", exit.evidence);
}

#[tokio::test]
async fn what_launches_may_die_and_the_task_goes_with_it() {
    let world = World::unprepared();
    let script = "trap '' TERM; kill -KILL $(cut -d' ' -f4 /proc/$PPID/stat); while :; do sleep 1; done";
    let (exit, _) = run(&world, &["sh", "-c", "\"$@\"; exit 1", "sh"], script).await;
    assert_eq!(exit.cause, Cause::Lost, "{}", exit.evidence);
    assert_eq!(world.marked(), Vec::<String>::new());
}

#[tokio::test]
async fn what_has_shed_everything_ends_with_its_task_beside_others_too() {
    let world = World::unprepared();
    let executor = launched(&world, &["env"]).await;
    let other = executor.start(world.task(&["sleep", "1000"]).into()).await.unwrap();
    let task = world.task(&["sh", "-c", "(env -i setsid sleep 1000 & echo $! >daemon); exit 5"]);
    let handle = executor.start(task.into()).await.unwrap();
    assert_eq!(executor.wait(&handle).await.unwrap().cause, Cause::Code(5));
    let daemon = std::fs::read_to_string(world.path("daemon")).unwrap();
    assert!(!world::is_alive(daemon.trim().parse().unwrap()));
    executor.stop(&other.task, Duration::ZERO).await.unwrap();
}

/// A plain task's daemon would be out of reach then.
#[tokio::test]
async fn what_has_shed_everything_ends_with_its_supervisor() {
    let world = World::unprepared();
    let executor = launched(&world, &["env"]).await;
    let task = world.task(&["sh", "-c", "env -i setsid sleep 1000 & echo $! >daemon; exec sleep 1000"]);
    let handle = executor.start(task.into()).await.unwrap();
    let daemon = || std::fs::read_to_string(world.path("daemon")).ok()?.trim().parse::<i32>().ok();
    world.until(|| daemon().is_some()).await;
    assert!(world::is_alive(daemon().unwrap()));
    world::kill(world.supervisor_of(NAME).unwrap());
    assert_eq!(executor.wait(&handle).await.unwrap().cause, Cause::Lost);
    world.until(|| !world::is_alive(daemon().unwrap())).await;
}

/// The tasks of two backends in one execution: the death of one's supervisor is no matter of the other's.
#[tokio::test]
async fn what_a_supervisor_left_behind_is_swept_and_other_backends_tasks_are_not() {
    let world = World::new().await;
    let executor = launched(&world, &["env"]).await;
    let ours = world.task(&["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 6"]);
    let ours_handle = executor.start(Arc::new(ours.clone())).await.unwrap();
    let theirs: Handle = world.start(world.task(&["sh", "-c", "setsid sleep 1000 & sleep 1000"])).await;
    world::kill(world.supervisor().unwrap());
    assert_eq!(world.executor.wait(&theirs).await.unwrap().cause, Cause::Lost);
    let left = world.executor.leftovers().await.unwrap();
    let left = left.into_iter().filter(|left| left.execution == world.execution).map(|left| left.id);
    world.executor.sweep(&left.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(executor.recover(Arc::new(ours)).await.unwrap(), Recovered::Running(ours_handle.clone()));
    world.write("go", "", 0o644);
    assert_eq!(executor.wait(&ours_handle).await.unwrap().cause, Cause::Code(6));
    executor.release(world.execution).await.unwrap();
}
