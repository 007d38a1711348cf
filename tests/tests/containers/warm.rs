//! Warm containers (`container.reuse`): splits that follow each other in one, what they share, what they do not, and what
//! becomes of container and splits when either dies.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_backend_oci::OciExecutor;
use laminar_core::container::{Container, Feature};
use laminar_core::executor::{Cause, Executor, Exit, Recovered, Task};
use laminar_core::id::TaskId;
use laminar_tests::gaps;
use laminar_tests::world::finish;

use crate::on_each_engine;
use crate::options::settings;
use crate::stage::Stage;
use crate::world::{Running, World};

on_each_engine!(
    a_thousand_splits_need_few_containers,
    a_split_does_not_wait_for_the_engines_client_and_an_end_does,
    splits_share_what_is_theirs_to_share_and_nothing_else,
    what_ends_one_split_leaves_its_container_to_the_next,
    a_split_whose_container_is_killed_is_lost_and_runs_again_elsewhere,
    out_of_memory_is_one_splits_and_more_memory_is_another_container,
    a_scheduler_that_is_killed_finds_its_warm_containers_again,
    a_task_goes_on_without_its_scheduler_and_the_next_takes_its_container_over,
    an_idle_container_ends_when_no_scheduler_comes,
    other_settings_are_another_container,
    a_split_that_means_harm_reaches_no_file_of_the_host_and_does_not_outlive_itself,
    a_split_that_spoils_its_record_is_lost_and_nobody_waits_for_it,
    the_log_of_a_split_ends_at_its_limit,
);

/// A task of the layer `Warm` in a container that is shared.
fn task(world: &World, index: u32, script: &str) -> Task {
    let id = TaskId { execution: world.execution, layer: "Warm".into(), index, attempt: 1 };
    let outputs = world.folder.path().join("all").join(index.to_string());
    std::fs::create_dir_all(&outputs).unwrap();
    let base = world.task("Warm", script);
    let log = base.log.with_file_name(format!("{}.log", id.name()));
    let container = Arc::new(Container { reuse: true, ..world.container() });
    Task { id, outputs, log, container, splits: 100, ..base }
}

fn said(task: &Task) -> String {
    std::fs::read_to_string(&task.log).unwrap()
}

/// Which container it ran in, for a task that says so.
fn host(task: &Task) -> String {
    said(task).lines().next().unwrap_or_default().to_owned()
}

const HOST: &str = "cat /proc/sys/kernel/hostname; ";

fn release(world: &World, running: &Running) {
    running.does(running.executor.release(world.execution)).unwrap();
}

fn a_thousand_splits_need_few_containers(world: &World) {
    let stage = Stage::new(world);
    stage.flow(
        r#"
defaults: { container: { image: "IMAGE", network: none } }
layers:
  Numbers: { run: 'echo "[$(seq -s, 1 1000)]" > "$LAMINAR_OUTPUTS/numbers.json"' }
  Fit:
    foreach: { number: "${{ Numbers.numbers }}" }
    container: { reuse: true }
    env: { NUMBER: "${{ each.number }}" }
    run: |
      echo "$LAMINAR_LAYER_INDEX"
      [ "$(ls -A "$LAMINAR_OUTPUTS")" = "" ]
      read -r host < /proc/sys/kernel/hostname
      echo "$host $NUMBER" > "$LAMINAR_OUTPUTS/line"
  Join:
    needs: [Fit]
    run: |
      cat "$LAMINAR_INPUTS"/Fit/line/* > /tmp/all
      cut -d' ' -f1 /tmp/all | sort -u | wc -l
      cut -d' ' -f2 /tmp/all | sort -nu | wc -l
"#,
    );
    stage.run(&["run", "--jobs", "2"]).exits(0);
    let joined = stage.said("Join");
    let counts: Vec<u32> = joined.split_whitespace().map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts[1], 1000, "{joined}");
    assert!((1..=2).contains(&counts[0]), "{joined}");
    let log = stage.program.run(["logs", "latest", "Fit.999"]);
    assert!(log.stdout.ends_with("999\n"), "{}", log.stdout);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn a_split_does_not_wait_for_the_engines_client_and_an_end_does(world: &World) {
    let (go, gone) = (world.folder.path().join("go"), world.folder.path().join("gone"));
    let client = world.client(&format!(
        r#"if [ "$1" = run ]; then
            "$engine" "$@" || exit
            while [ ! -e '{}' ]; do sleep 0.05; done
            : >'{}'; exit 0
        fi"#,
        go.display(),
        gone.display()
    ));
    let settings = settings(world, &[("program", client.to_str().unwrap())]);
    let running =
        world.try_executor_with(settings, world.session(Vec::new())).unwrap_or_else(|error| panic!("{error}"));
    for index in 0..2 {
        assert_eq!(running.run(&task(world, index, "true")).cause, Cause::Code(0));
    }
    assert!(!gone.exists());
    std::fs::write(&go, "").unwrap();
    release(world, &running);
    assert!(gone.exists(), "what a client was at was removed beneath it");
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn splits_share_what_is_theirs_to_share_and_nothing_else(world: &World) {
    let first = task(
        world,
        1,
        &format!(
            r#"{HOST} echo kept >/tmp/kept; echo mine >"$LAMINAR_OUTPUTS/mine"; mkdir "$LAMINAR_OUTPUTS/more"
            (setsid sleep 1000 &) ; chmod 0 "$LAMINAR_OUTPUTS""#
        ),
    );
    let second = task(
        world,
        2,
        &format!(
            r#"{HOST} cat /tmp/kept; ls -A "$LAMINAR_OUTPUTS"; ls -d /proc/[0-9]* | wc -l
            find / -name mine 2>/dev/null || true; ls -A /laminar/.task | grep -c -e exit -e first; echo yours >"$LAMINAR_OUTPUTS/yours""#
        ),
    );
    let running = world.executor();
    for one in [&first, &second] {
        let exit = running.run(one);
        assert_eq!(exit.cause, Cause::Code(0), "{}; {}", exit.evidence, said(one));
    }
    let lines: Vec<String> = said(&second).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], host(&first));
    assert_eq!(lines[1], "kept", "the file system is the container's");
    // The supervisor, the shell, and the two of the pipe.
    let processes: u32 = lines[2].parse().unwrap();
    assert!(processes <= 4, "{lines:?}");
    assert_eq!(lines[3..], ["1"], "the record that it will have, and none that was");
    assert_eq!(world.output(&first, "mine"), "mine\n");
    assert!(first.outputs.join("more").is_dir());
    assert_eq!(world.output(&second, "yours"), "yours\n");
    release(world, &running);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn what_ends_one_split_leaves_its_container_to_the_next(world: &World) {
    let running = world.executor();
    let stubborn = format!("{HOST} trap '' TERM; : >$LAMINAR_OUTPUTS/here; while :; do sleep 1; done");
    let mut hosts = BTreeSet::new();
    let stopped = task(world, 1, &stubborn);
    let handle = running.start(&stopped);
    running.until(&stopped, "here");
    running.stop(&stopped, Duration::from_millis(100));
    assert_eq!(running.wait(&handle).cause, Cause::Cancelled);
    hosts.insert(host(&stopped));
    let late = Task {
        timeout: Some(Duration::from_millis(300)),
        grace: Duration::from_millis(100),
        ..task(world, 2, &stubborn)
    };
    assert_eq!(running.run(&late).cause, Cause::TimedOut);
    hosts.insert(host(&late));
    for (index, script, cause) in [
        (3, "kill -SEGV $$", Cause::Signal(11)),
        (4, "kill -KILL -1; exit 3", Cause::Signal(9)),
        (5, "exit 7", Cause::Code(7)),
        (6, "exec /no/such/program", Cause::Code(127)),
    ] {
        let ends = task(world, index, &format!("{HOST} {script}"));
        let exit = running.run(&ends);
        assert!(exit.cause == cause || index == 4, "{script}: {}; {}", exit.cause, exit.evidence);
        hosts.insert(host(&ends));
    }
    let nothing = Task { argv: vec!["/no/such/program".into()], ..task(world, 7, "") };
    assert_eq!(running.run(&nothing).cause, Cause::NotFound);
    let last = task(world, 8, HOST);
    assert_eq!(running.run(&last).cause, Cause::Code(0));
    hosts.insert(host(&last));
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    release(world, &running);
}

fn a_split_whose_container_is_killed_is_lost_and_runs_again_elsewhere(world: &World) {
    let running = world.executor();
    let dies = task(world, 1, &format!("{HOST} : >$LAMINAR_OUTPUTS/here; sleep 1000"));
    let handle = running.start(&dies);
    running.until(&dies, "here");
    let [container] = &world.containers()[..] else { panic!("there is one") };
    world.engine(&["kill", container]);
    let exit = running.wait(&handle);
    assert_eq!(exit.cause, Cause::Lost, "{}", exit.evidence);
    assert!(exit.evidence.contains("137") && exit.evidence.contains("warm container"), "{}", exit.evidence);
    assert!(dies.outputs.join("here").exists(), "what it left is where it was to be");
    // The container dies while it is idle: the next split goes to another.
    for index in [2, 3] {
        let next = task(world, index, HOST);
        let exit = running.run(&next);
        assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
        assert_ne!(host(&next), host(&dies));
        for id in
            world.engine(&["ps", "-q", "--filter", &format!("label=laminar.execution={}", world.execution)]).lines()
        {
            world.engine(&["kill", id]);
        }
    }
    release(world, &running);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn limits_memory(world: &World) -> bool {
    let executor = world.executor();
    let limits = executor.does(Executor::probe(&executor.executor)).unwrap().enforces.contains(&Feature::Memory);
    if !limits {
        gaps::skip(&format!("{}: memory", world.column), "it limits nothing here (see `laminar backends`)");
    }
    limits
}

fn out_of_memory_is_one_splits_and_more_memory_is_another_container(world: &World) {
    if !limits_memory(world) {
        return;
    }
    let running = world.executor();
    let within = |index, mebibytes: u64, script: &str| {
        let task = task(world, index, &format!("{HOST} {script}"));
        let container = Container { memory: Some(mebibytes << 20), ..(*task.container).clone() };
        Task { container: Arc::new(container), ..task }
    };
    let greedy = "head -c 40m /dev/zero | tail >/dev/null";
    let before = within(1, 24, ":");
    assert_eq!(running.run(&before).cause, Cause::Code(0));
    let hungry = within(2, 24, greedy);
    let exit = running.run(&hungry);
    assert_eq!(exit.cause, Cause::OutOfMemory, "{}", exit.evidence);
    assert!(exit.evidence.contains("memory"), "{}", exit.evidence);
    assert_eq!(host(&hungry), host(&before));
    // A kill that has nothing to do with memory, right after: that container is another.
    let killed = within(3, 24, "kill -KILL $$");
    let exit = running.run(&killed);
    assert_eq!(exit.cause, Cause::Signal(9), "{}", exit.evidence);
    assert_ne!(host(&killed), host(&hungry));
    let fed = within(4, 128, greedy);
    let exit = running.run(&fed);
    assert_eq!(exit.cause, Cause::Code(0), "{}", exit.evidence);
    assert!(![host(&hungry), host(&killed)].contains(&host(&fed)));
    release(world, &running);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn a_scheduler_that_is_killed_finds_its_warm_containers_again(world: &World) {
    let stage = Stage::new(world);
    stage.flow(
        r#"
defaults: { container: { image: "IMAGE", network: none, mounts: [".:/flow"], reuse: true } }
layers:
  Fit:
    foreach: { number: [1, 2, 3, 4, 5, 6, 7, 8] }
    run: |
      echo x >> /flow/runs.${{ each.number }}
      cat /proc/sys/kernel/hostname >> /flow/hosts
      if [ ${{ each.number }} = 3 ]; then : > /flow/here; while [ ! -e /flow/go ]; do sleep 0.05; done; fi
      echo ${{ each.number }} > "$LAMINAR_OUTPUTS/number"
  Join: { needs: [Fit], run: 'cat "$LAMINAR_INPUTS"/Fit/number/* | sort | tr -d "\n"' }
"#,
    );
    let path = |name: &str| stage.program.path().join(name);
    let mut scheduler = stage.start(&["run", "--jobs", "2"]);
    until(&path("here"));
    scheduler.kill().unwrap();
    drop(finish(scheduler));
    std::fs::write(path("go"), "").unwrap();
    stage.run(&["resume"]).exits(0);
    assert_eq!(stage.said("Join"), "12345678");
    for number in 1..=8 {
        assert_eq!(std::fs::read_to_string(path(&format!("runs.{number}"))).unwrap(), "x\n", "{number} ran once");
    }
    let hosts = std::fs::read_to_string(path("hosts")).unwrap();
    assert!(hosts.lines().collect::<BTreeSet<_>>().len() <= 2, "{hosts}");
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn until(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} is not there", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_task_goes_on_without_its_scheduler_and_the_next_takes_its_container_over(world: &World) {
    let script =
        "echo one; : >$LAMINAR_OUTPUTS/on; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done; echo two; exit 7";
    let orphan = task(world, 1, &format!("{HOST} {script}"));
    let first = world.executor();
    let handle = first.start(&orphan);
    first.until(&orphan, "on");
    drop(first);
    let second = world.executor();
    assert_eq!(second.recover(&orphan), Recovered::Running(handle.clone()));
    std::fs::write(orphan.outputs.join("go"), "").unwrap();
    assert_eq!(second.wait(&handle).cause, Cause::Code(7));
    assert!(said(&orphan).ends_with("one\ntwo\n"));
    let next = task(world, 2, HOST);
    assert_eq!(second.run(&next).cause, Cause::Code(0));
    assert_eq!(host(&next), host(&orphan));
    // The third finds it idle.
    drop(second);
    let third = world.executor();
    let last = task(world, 3, HOST);
    assert_eq!(third.run(&last).cause, Cause::Code(0));
    assert_eq!(host(&last), host(&orphan));
    assert_eq!(third.recover(&orphan), Recovered::Exited(handle));
    release(world, &third);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn an_idle_container_ends_when_no_scheduler_comes(world: &World) {
    let impatient = |executor: OciExecutor| executor.with_warmth(Duration::from_millis(200));
    let running = world.executor_that(impatient);
    let over = task(world, 1, HOST);
    assert_eq!(running.run(&over).cause, Cause::Code(0));
    let [container] = &world.containers()[..] else { panic!("there is one") };
    let state = || world.engine(&["container", "inspect", "--format", "{{.State.Status}}", container]);
    assert_eq!(state(), "running");
    drop(running);
    let deadline = Instant::now() + Duration::from_secs(60);
    while state() == "running" {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Whoever comes then has what is left removed.
    let next = world.executor_that(impatient);
    release(world, &next);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn other_settings_are_another_container(world: &World) {
    let running = world.executor();
    let with = |index, change: &dyn Fn(&mut Container)| {
        let task = task(world, index, HOST);
        let mut container = (*task.container).clone();
        change(&mut container);
        let task = Task { container: Arc::new(container), ..task };
        assert_eq!(running.run(&task).cause, Cause::Code(0), "{}", said(&task));
        host(&task)
    };
    let plain = with(1, &|_| {});
    let hosts = [
        with(2, &|container| container.workdir = Some("/tmp".into())),
        with(3, &|container| container.user = Some("1234".into())),
        with(4, &|container| container.read_only = true),
        with(5, &|container| container.reuse = false),
    ];
    assert_eq!(hosts.iter().chain([&plain]).collect::<BTreeSet<_>>().len(), 5, "{plain}, {hosts:?}");
    assert_eq!(with(6, &|_| {}), plain);
    assert_eq!(with(7, &|container| container.user = Some("1234".into())), hosts[1]);
    release(world, &running);
}

/// Puts links wherever the scheduler or the supervisor might read or write, one to an exit where that is read.
const HARM: &str = r#"
    cd /laminar/.task
    ls -A > $LAMINAR_OUTPUTS/seen
    ln log other
    for name in bell errand .errand-draft .withdrawn log asked .asked-draft forced .forced-draft started terms plate task tasks \
      held oom .place .inside born; do
      rm -f $name; ln -s PRECIOUS $name
    done
    mkdir -p folder/in/folder; ln -s PRECIOUS folder/in/link; ln -s / root
"#;

fn a_split_that_means_harm_reaches_no_file_of_the_host_and_does_not_outlive_itself(world: &World) {
    let precious = world.folder.path().join("precious");
    let exit = serde_json::to_string(&Exit::code(77)).unwrap();
    std::fs::write(&precious, &exit).unwrap();
    let harm = format!("{HOST} {}", HARM.replace("PRECIOUS", precious.to_str().unwrap()));
    let running = world.executor();
    let forged = r#"{"argv":["touch","/tmp/forged"],"env":[],"timeout":null,"grace":{"secs":1,"nanos":0},"log_limit":9,"own_group":false}"#;
    let ended = task(
        world,
        1,
        &format!("{harm} ln -s {} exit; rm errand; echo '{forged}' >errand; exit 3", precious.display()),
    );
    let over = running.run(&ended);
    assert_eq!(over.cause, Cause::Code(3), "{}", over.evidence);
    let seen = world.output(&ended, "seen");
    for ours in ["terms", "plate", "task", "held"] {
        assert!(!seen.lines().any(|line| line == ours), "{seen}");
    }
    let next = task(world, 2, &format!("{HOST} ls -A /laminar/.task; test ! -e /tmp/forged && echo none"));
    let over = running.run(&next);
    assert_eq!(over.cause, Cause::Code(0), "{}; {}", over.evidence, said(&next));
    assert_eq!(host(&next), host(&ended), "its container goes on");
    let seen = said(&next);
    assert!(!["other", "folder", "root", "terms"].iter().any(|name| seen.lines().any(|line| line == *name)), "{seen}");

    let stopped = task(world, 3, &format!("{harm} touch $LAMINAR_OUTPUTS/on; trap '' TERM; while :; do sleep 1; done"));
    let handle = running.start(&stopped);
    running.until(&stopped, "on");
    // Another scheduler takes it over as it is.
    drop(running);
    let running = world.executor();
    running.recover(&stopped);
    running.stop(&stopped, Duration::from_millis(100));
    let over = running.wait(&handle);
    assert_eq!(over.cause, Cause::Cancelled, "{}", over.evidence);
    assert!(stopped.outputs.join("on").exists());
    let last = task(world, 4, HOST);
    assert_eq!(running.run(&last).cause, Cause::Code(0));
    for task in [&ended, &next, &stopped, &last] {
        assert!(task.log.symlink_metadata().unwrap().is_file());
    }
    release(world, &running);
    assert_eq!(world.containers(), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), exit);
}

fn a_split_that_spoils_its_record_is_lost_and_nobody_waits_for_it(world: &World) {
    let running = world.executor();
    let spoils = task(world, 1, "cd /laminar/.task; rm .exit; ln -s /nowhere .exit");
    let over = running.run(&spoils);
    assert_eq!(over.cause, Cause::Lost, "{}", over.evidence);
    let next = task(world, 2, HOST);
    assert_eq!(running.run(&next).cause, Cause::Code(0));
    release(world, &running);
    assert_eq!(world.containers(), Vec::<String>::new());
}

fn the_log_of_a_split_ends_at_its_limit(world: &World) {
    let running = world.executor();
    for (index, limit) in [(1, 64), (2, 4096)] {
        let talks = Task { log_limit: limit, ..task(world, index, "head -c 5000 /dev/zero | tr '\\0' x") };
        let over = running.run(&talks);
        assert_eq!(over.cause, Cause::Code(0), "{}", over.evidence);
        let kept = said(&talks).bytes().filter(|byte| *byte == b'x').count() as u64;
        assert!(kept <= limit + 16 && kept + 256 >= limit.min(256), "{kept} of {limit}");
        assert!(over.evidence.contains("log"), "{}", over.evidence);
    }
    release(world, &running);
}
