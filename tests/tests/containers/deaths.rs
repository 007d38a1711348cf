//! Sudden deaths, by SIGKILL, in the middle of a big output: of the scheduler, and of the engine's clients. Whatever dies, the
//! log is complete, byte for byte, the layer runs once, and its exit is right.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use laminar_backend_docker::DOCKER;
use laminar_backend_podman::PODMAN;
use laminar_core::executor::{Cause, Executor, Handle, Recovered, Task};
use rustix::process::{Pid, Signal};

use crate::on_each_engine;
use crate::world::{Running, World, program};

on_each_engine!(
    a_scheduler_that_is_killed_loses_nothing,
    a_scheduler_that_is_killed_loses_nothing_without_laminar_inside,
    clients_that_are_killed_lose_nothing,
    clients_that_are_killed_lose_nothing_without_laminar_inside,
);

/// What the child process that plays a scheduler is told: dialect, whether bare, folder, execution.
const PART: &str = "LAMINAR_TEST_SCHEDULER";

/// 100 bytes, with the line's end.
const LINE: &str =
    "0123456789 The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. äö";

/// Eight megabytes, in forty parts.
fn writer(world: &World) -> Task {
    let script = format!(
        "echo x >> $LAMINAR_OUTPUTS/runs; at=0; while [ $at -lt 40 ]; do yes '{LINE}' | head -n 2000; at=$((at + 1)); \
         sleep 0.05; done; exit 7"
    );
    world.task("Writer", &script)
}

fn is_whole(world: &World, task: &Task) {
    let log = std::fs::read(&task.log).unwrap();
    let expected = format!("{LINE}\n").repeat(80_000);
    assert!(log == expected.as_bytes(), "{} bytes of {}", log.len(), expected.len());
    assert_eq!(world.output(task, "runs"), "x\n");
}

fn executor(world: &World, bare: bool) -> Running {
    world.executor_that(|executor| if bare { executor.bare() } else { executor })
}

fn a_scheduler_that_is_killed_loses_nothing(world: &World) {
    kill_the_scheduler(world, false);
}

fn a_scheduler_that_is_killed_loses_nothing_without_laminar_inside(world: &World) {
    kill_the_scheduler(world, true);
}

fn kill_the_scheduler(world: &World, bare: bool) {
    let task = writer(world);
    let mut scheduler = Scheduler::start(world, bare);
    // It is in the midst of things.
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&task.log).map_or(0, |log| log.len()) < 500_000 {
        assert!(scheduler.0.try_wait().unwrap().is_none(), "the scheduler has ended by itself");
        assert!(Instant::now() < deadline, "there is no output");
        std::thread::sleep(Duration::from_millis(5));
    }
    scheduler.0.kill().unwrap();
    scheduler.0.wait().unwrap();
    let next = executor(world, bare);
    let (Recovered::Running(handle) | Recovered::Exited(handle)) = next.recover(&task) else {
        panic!("it was started");
    };
    let exit = next.wait(&handle);
    assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
    is_whole(world, &task);
}

/// This program once more, as a scheduler.
struct Scheduler(Child);

impl Scheduler {
    fn start(world: &World, bare: bool) -> Scheduler {
        let part = format!("{} {bare} {} {}", world.dialect.name, world.folder.path().display(), world.execution);
        // Whoever runs this may not be able to reach the program where it lies.
        let mut command = Command::new("/proc/self/exe");
        let program = std::fs::File::open(program()).unwrap();
        command.args(["--ignored", "--exact", "deaths::the_scheduler_that_is_killed", "--nocapture"]);
        Scheduler(command.env(PART, part).stdin(program).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "other tests start it as a process of its own"]
fn the_scheduler_that_is_killed() {
    let Ok(part) = std::env::var(PART) else { return };
    let words: Vec<&str> = part.split(' ').collect();
    let [dialect, bare, folder, execution] = words[..] else { panic!("{part}") };
    let dialect = if dialect == DOCKER.name { &DOCKER } else { &PODMAN };
    let world = World::of_another(dialect.name, dialect, Path::new(folder).to_owned(), execution.parse().unwrap());
    let running = executor(&world, bare == "true");
    let handle = running.start(&writer(&world));
    running.wait(&handle);
    // What it has started is not its own to remove.
    std::process::exit(0);
}

fn clients_that_are_killed_lose_nothing(world: &World) {
    kill_clients(world, false);
}

fn clients_that_are_killed_lose_nothing_without_laminar_inside(world: &World) {
    kill_clients(world, true);
}

fn kill_clients(world: &World, bare: bool) {
    let task = writer(world);
    let running = executor(world, bare);
    let killer = Killer::start(world, &task, 12);
    start_whatever_dies(&running, &task);
    let exit = running.wait(&handle(&task));
    assert!(killer.killed.load(Ordering::Relaxed) > 0, "there was no client to kill");
    drop(killer);
    if bare && world.dialect.name == PODMAN.name && exit.cause == Cause::Lost {
        // Its client had started it, and was killed before it could take that down: see `halfway.rs`.
        is_ended(world, &task);
        return;
    }
    assert_eq!(exit.cause, Cause::Code(7), "{}", exit.evidence);
    is_whole(world, &task);
}

pub(crate) fn handle(task: &Task) -> Handle {
    Handle { task: task.id.clone(), token: String::new() }
}

/// It ran once at most, and does so no more.
pub(crate) fn is_ended(world: &World, task: &Task) {
    assert!(["x\n", ""].contains(&&*std::fs::read_to_string(task.outputs.join("runs")).unwrap_or_default()));
    assert_eq!(world.containers(), [""; 0]);
}

pub(crate) fn start_whatever_dies(running: &Running, task: &Task) {
    // As an engine does that gets no answer: it asks what became of it, again and again.
    let mut errors = Vec::new();
    loop {
        assert!(errors.len() < 100, "{errors:?}");
        let started = running.does(running.executor.start(Arc::new(task.clone())));
        match started {
            Ok(_) => break,
            Err(error) => errors.push(error.to_string()),
        }
        match running.does(running.executor.recover(Arc::new(task.clone()))) {
            Ok(Recovered::NeverStarted) => {}
            Ok(Recovered::Running(_) | Recovered::Exited(_)) => break,
            Ok(Recovered::Gone) => panic!("it is said to be lost after {errors:?}"),
            Err(error) => errors.push(error.to_string()),
        }
    }
}

/// Kills the engine's clients that are about one container, as soon as it sees them, some of them.
struct Killer {
    killed: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Killer {
    fn start(world: &World, task: &Task, most: u32) -> Killer {
        let (killed, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (program, name) = (world.dialect.program, world.name(task));
        let shared = (Arc::clone(&killed), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let (killed, over) = shared;
            let mut pause = Duration::from_millis(1);
            while !over.load(Ordering::Relaxed) && killed.load(Ordering::Relaxed) < most {
                for client in clients(program, &name) {
                    if rustix::process::kill_process(client, Signal::KILL).is_ok() {
                        killed.fetch_add(1, Ordering::Relaxed);
                        // The next lives longer, so that all of them die at other moments.
                        pause += Duration::from_millis(15);
                    }
                }
                std::thread::sleep(pause);
            }
        });
        Killer { killed, over, thread: Some(thread) }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The processes of an engine's command line that name this container, children of this process.
fn clients(program: &str, name: &str) -> Vec<Pid> {
    let own = std::process::id();
    let children = std::fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().flatten().flat_map(|thread| {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    });
    let is_one = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words[0].ends_with(program) && words.iter().any(|word| word == name)
    };
    children.filter(is_one).filter_map(Pid::from_raw).collect()
}
