//! What is known of a container only when its task starts, as with an image that is named after a split; and what an image
//! tells of where a task would run.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::{Container, Mount, Pull};
use laminar_core::executor::{Cause, Executor, Recovered, Session, Task};
use laminar_core::id::{ExecutionId, TaskId};
use laminar_tests::world::finish;

use crate::on_each_engine;
use crate::options::settings;
use crate::registry::given;
use crate::registry::shop::Shop;
use crate::world::{Running, World};

on_each_engine!(
    splits_have_images_of_their_own_whoever_attends_to_them,
    a_flow_names_images_after_its_splits,
    an_image_that_many_splits_want_is_pulled_once,
    an_image_that_cannot_be_had_is_told_to_those_who_want_it,
    a_mount_that_is_not_there_is_told_when_it_is_known,
    a_stop_does_not_wait_for_an_image,
    an_interrupt_does_not_wait_for_an_image,
    an_identity_is_that_of_the_image_of_this_execution,
);

/// A split of a layer of three.
fn split(world: &World, index: u32, container: Container, script: &str) -> Task {
    let task = world.task(&format!("Split{index}"), script);
    let id = TaskId { layer: "Split".into(), index, ..task.id };
    Task { id, splits: 3, container: Arc::new(container), ..task }
}

/// A container of an image of this test's own.
fn of(world: &World, image: &str) -> Container {
    Container { image: Some(image.to_owned()), ..world.container() }
}

fn said(task: &Task) -> String {
    std::fs::read_to_string(&task.log).unwrap()
}

/// An executor that knew of no container when it was prepared, and whose client may ask the shop's registry.
fn executor(world: &World, shop: &Shop<'_>, session: Session) -> Running {
    let variables: String = shop.stage.env.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    let client = world.client(&variables);
    let settings = settings(world, &[("program", client.to_str().unwrap())]);
    world.try_executor_with(settings, session).unwrap_or_else(|error| panic!("{error}"))
}

fn splits_have_images_of_their_own_whoever_attends_to_them(world: &World) {
    let Some(shop) = Shop::new(world) else { return };
    let names = ["one", "two"].map(|image| format!("{}:1", shop.name(image)));
    names.iter().zip(["uno", "due"]).for_each(|(name, word)| shop.make(name, word));
    let script = "echo $WORD $LAMINAR_LAYER_INDEX of $LAMINAR_LAYER_SPLITS; : > $LAMINAR_OUTPUTS/here
        while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done";
    let split = |index, name: &str| split(world, index, of(world, name), script);
    let splits = [split(0, &names[0]), split(1, &names[1])];
    let first = world.executor();
    splits.iter().for_each(|task| drop(first.start(task)));
    splits.iter().for_each(|task| drop(first.until(task, "here")));
    let label = ["container", "inspect", "--format", "{{index .Config.Labels \"laminar.index\"}}"];
    assert_eq!(world.engine(&[&label[..], &[&world.name(&splits[1])]].concat()), "1");
    // The scheduler dies, and a tag moves before the next one has a split to start that wants it.
    drop(first);
    shop.make(&names[1], "other");
    let second = world.executor();
    let third = split(2, &names[1]);
    assert_eq!(second.recover(&third), Recovered::NeverStarted);
    let handle = second.start(&third);
    let handles = splits.each_ref().map(|task| match second.recover(task) {
        Recovered::Running(handle) => handle,
        other => panic!("{other:?}"),
    });
    for (task, handle) in splits.iter().zip(&handles).chain([(&third, &handle)]) {
        std::fs::write(task.outputs.join("go"), "").unwrap();
        assert_eq!(second.wait(handle).cause, Cause::Code(0));
    }
    assert_eq!(splits.each_ref().map(said), ["uno 0 of 3\n", "due 1 of 3\n"]);
    assert_eq!(said(&third), "due 2 of 3\n", "one execution, one image");
}

fn a_flow_names_images_after_its_splits(world: &World) {
    let Some(shop) = Shop::new(world) else { return };
    let name = |image: &str| format!("{}:1", shop.name(image));
    shop.make(&name("one"), "uno");
    shop.make(&name("two"), "due");
    let repository = shop.name("");
    shop.stage.flow(&format!(
        "on_failure: continue
layers:
  Split:
    foreach: {{ image: [one, absent, two] }}
    run: 'echo $WORD; cat $LAMINAR_EACH'
    container: {{ image: '{repository}${{{{ each.image }}}}:1', pull: never, network: none, user: '1234' }}
"
    ));
    let absent = name("absent");
    let _ = shop.run().exits(1).says(&[&format!("use the image `{absent}`"), "`container.pull` is `never`"]);
    assert_eq!(shop.stage.said("Split[0]"), "uno\n{\"image\":\"one\"}");
    assert_eq!(shop.stage.said("Split[2]"), "due\n{\"image\":\"two\"}");
    // What has come to be there since is found when it is gone on with.
    shop.make(&absent, "tre");
    shop.stage.run(&["resume"]).exits(0);
    assert_eq!(shop.stage.said("Split[1]"), "tre\n{\"image\":\"absent\"}");
}

fn an_image_that_many_splits_want_is_pulled_once(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("late"));
    shop.stock(&name, "word");
    let running = executor(world, &shop, world.session(Vec::new()));
    // Also where each would pull it.
    let container = Container { pull: Some(Pull::Always), ..of(world, &name) };
    let splits: [Task; 3] = std::array::from_fn(|at| split(world, at as u32, container.clone(), "echo $WORD"));
    let start = |task: &Task| running.executor.start(Arc::new(task.clone()));
    let (a, b, c) = running.does(async { tokio::join!(start(&splits[0]), start(&splits[1]), start(&splits[2])) });
    for (task, handle) in splits.iter().zip([a, b, c]) {
        assert_eq!(running.wait(&handle.unwrap()).cause, Cause::Code(0));
        assert_eq!(said(task), "word\n");
    }
    assert_eq!(given(&shop.door.take(), &name).0, 1);
    // Nor by the next scheduler of the same execution.
    drop(running);
    let running = executor(world, &shop, world.session(Vec::new()));
    let again = split(world, 7, container, "echo $WORD");
    assert_eq!(running.run(&again).cause, Cause::Code(0));
    assert_eq!(shop.door.take(), []);
}

fn an_image_that_cannot_be_had_is_told_to_those_who_want_it(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("absent"));
    let running = executor(world, &shop, world.session(Vec::new()));
    let splits: [Task; 3] = std::array::from_fn(|at| split(world, at as u32, of(world, &name), "echo $WORD"));
    let start = |task: &Task| running.executor.start(Arc::new(task.clone()));
    let asked = || shop.door.take().iter().filter(|request| request.path.contains("/manifests/")).count();
    let alone = running.does(start(&splits[0])).unwrap_err().to_string();
    let once = asked();
    assert!(once > 0);
    let (a, b, c) = running.does(async { tokio::join!(start(&splits[0]), start(&splits[1]), start(&splits[2])) });
    for (task, refused) in splits.iter().zip([a, b, c]) {
        let refused = refused.unwrap_err().to_string();
        assert_eq!(refused, alone);
        for part in [&format!("pull the image `{name}`"), "the registry has no such image: look at its name"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(running.recover(task), Recovered::NeverStarted);
    }
    assert!(asked() < 2 * once, "all three were told by one refusal");
    // The others go on, and what has come to be there since is found.
    assert_eq!(running.run(&world.task("Other", "true")).cause, Cause::Code(0));
    shop.stock(&name, "word");
    assert_eq!(running.run(&splits[1]).cause, Cause::Code(0));
    assert_eq!(said(&splits[1]), "word\n");
}

fn a_stop_does_not_wait_for_an_image(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("slow"));
    let running = executor(world, &shop, world.session(Vec::new()));
    let task = split(world, 0, of(world, &name), "true");
    shop.door.hold_until(2);
    let start = running.executor.start(Arc::new(task.clone()));
    let stop = async {
        while !shop.door.is_holding() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.executor.stop(&task.id, Duration::ZERO).await
    };
    let (started, stopped) = running.does(async { tokio::join!(start, stop) });
    assert!(shop.door.is_holding(), "the registry has not answered yet");
    stopped.unwrap();
    let refused = started.unwrap_err().to_string();
    assert!(refused.contains("it was stopped while its image was looked for"), "{refused}");
    assert_eq!(running.recover(&task), Recovered::NeverStarted);
    // It was one start that nobody wanted.
    shop.door.hold_until(0);
    let refused = running.does(running.executor.start(Arc::new(task.clone()))).unwrap_err().to_string();
    assert!(refused.contains("the registry has no such image"), "{refused}");
}

fn an_interrupt_does_not_wait_for_an_image(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = shop.name("slow");
    shop.stage.flow(&format!(
        "layers:
  Split:
    foreach: {{ tag: [a, a, a] }}
    run: 'true'
    container: {{ image: '{name}:${{{{ each.tag }}}}', network: none }}
"
    ));
    shop.door.hold_until(2);
    let program = shop.stage.start(&["run", "--jobs", "3"]);
    until(|| shop.door.is_holding());
    assert!(!pulling(&name).is_empty());
    rustix::process::kill_process(rustix::process::Pid::from_child(&program), rustix::process::Signal::INT).unwrap();
    let ran = finish(program).exits(130);
    assert!(shop.door.is_holding(), "the registry has not answered yet");
    ran.says(&["cancelled  Split[0]", "3 of 3 tasks"]);
    until(|| pulling(&name).is_empty());
    // Nothing was begun, and nothing is left that would be in the way.
    shop.stock(&format!("{name}:a"), "word");
    shop.stage.run(&["resume"]).exits(0);
}

/// The processes that pull an image of this name.
fn pulling(name: &str) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(" pull ") && line.contains(name)).collect()
}

/// Waits for something that takes seconds at most.
fn until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_mount_that_is_not_there_is_told_when_it_is_known(world: &World) {
    let mount = Mount { source: "for/split".to_owned(), target: "/x".to_owned(), read_only: true };
    let container = Container { mounts: vec![mount], ..world.container() };
    let prepared = world.try_executor(world.session(vec![("Split".into(), Arc::new(container.clone()))]));
    let prepared = prepared.err().unwrap().to_string();
    let running = world.executor();
    let task = split(world, 1, container, "ls /x");
    let refused = running.does(running.executor.start(Arc::new(task.clone()))).unwrap_err().to_string();
    assert_eq!(refused, prepared);
    assert!(refused.contains("for/split") && refused.contains("`Split`"), "{refused}");
    assert_eq!(running.recover(&task), Recovered::NeverStarted);
    std::fs::create_dir_all(world.folder.path().join("for/split/inside")).unwrap();
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    assert_eq!(said(&task), "inside\n");
}

fn an_identity_is_that_of_the_image_of_this_execution(world: &World) {
    let Some(shop) = Shop::new(world) else { return };
    let name = format!("{}:1", shop.name("moving"));
    let id = || world.engine(&["image", "inspect", "--format", "{{.Id}}", &name]);
    let container = of(world, &name);
    let identity = |running: &Running, execution| {
        running
            .does(running.executor.identity(execution, "Split", &container))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    shop.make(&name, "old");
    let running = world.executor();
    let old = identity(&running, world.execution);
    assert_eq!(old.trim_start_matches("sha256:"), id().trim_start_matches("sha256:"));
    shop.make(&name, "new");
    assert_eq!(identity(&running, world.execution), old);
    let task = split(world, 0, container.clone(), "echo $WORD");
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    assert_eq!(said(&task), "old\n", "what was said is what it gets");
    // Another execution in a folder of its own.
    let folder = world.folder.path().join("next");
    std::fs::create_dir(&folder).unwrap();
    let session = Session { execution: ExecutionId::now(), folder, ..world.session(Vec::new()) };
    let execution = session.execution;
    let next = world.try_executor(session).unwrap_or_else(|error| panic!("{error}"));
    let new = identity(&next, execution);
    assert_ne!(new, old);
    assert_eq!(new.trim_start_matches("sha256:"), id().trim_start_matches("sha256:"));
    // Nobody says something of an image that cannot be had.
    let absent = Container { pull: Some(Pull::Never), ..of(world, &format!("{name}-absent")) };
    let refused = next.does(next.executor.identity(execution, "Split", &absent)).unwrap_err().to_string();
    assert!(refused.contains("-absent") && refused.contains("never"), "{refused}");
}
