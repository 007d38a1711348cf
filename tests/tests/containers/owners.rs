//! Whose the outputs are in the end: of every user that a layer or an image names, however the layer ended, with laminar inside
//! and without.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::Container;
use laminar_core::executor::{Cause, Task};

use crate::on_each_engine;
use crate::world::{Running, World, image};

on_each_engine!(
    outputs_are_ours_however_the_layer_ended,
    outputs_are_ours_whoever_the_images_user_is,
    outputs_are_ours_though_another_scheduler_waits,
);

/// Leaves files and folders that nobody else may touch.
const LEAVES: &str = "umask 077; mkdir -p $LAMINAR_OUTPUTS/d/e; echo x > $LAMINAR_OUTPUTS/d/e/x; \
                      ln -s /etc/passwd $LAMINAR_OUTPUTS/d/link; touch $LAMINAR_OUTPUTS/on;";

fn is_ours(task: &Task, what: &str) {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for path in ["", "on", "d", "d/e", "d/e/x", "d/link"] {
        let metadata = std::fs::symlink_metadata(task.outputs.join(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), own, "{what}: `{path}`");
    }
    assert_eq!(task.outputs.metadata().unwrap().mode() & 0o022, 0, "{what}: closed again");
    // What a link of the layer points to is not its own.
    assert_eq!(Path::new("/etc/passwd").metadata().unwrap().uid(), 0);
    std::fs::remove_dir_all(&task.outputs).unwrap();
}

fn task(world: &World, layer: &str, container: Container, then: &str) -> Task {
    Task { container: Arc::new(container), ..world.task(layer, &format!("{LEAVES} {then}")) }
}

fn both(world: &World) -> [(&'static str, Running); 2] {
    [("Inside", world.executor()), ("Bare", world.executor_that(laminar_backend_oci::OciExecutor::bare))]
}

fn outputs_are_ours_however_the_layer_ended(world: &World) {
    let container = || Container { user: Some("1234:4321".to_owned()), ..world.container() };
    for (manner, running) in both(world) {
        let failed = task(world, &format!("Failed{manner}"), container(), "exit 3");
        assert_eq!(running.run(&failed).cause, Cause::Code(3));
        is_ours(&failed, "failed");

        let stopped = task(world, &format!("Stopped{manner}"), container(), "exec sleep 1000");
        let handle = running.start(&stopped);
        running.until(&stopped, "on");
        running.stop(&stopped, Duration::from_millis(100));
        assert_eq!(running.wait(&handle).cause, Cause::Cancelled);
        is_ours(&stopped, "stopped");

        let mut late = task(world, &format!("Late{manner}"), container(), "exec sleep 1000");
        (late.timeout, late.grace) = (Some(Duration::from_secs(2)), Duration::from_millis(100));
        assert_eq!(running.run(&late).cause, Cause::TimedOut);
        is_ours(&late, "timed out");

        let killed = task(world, &format!("Killed{manner}"), container(), "exec sleep 1000");
        let handle = running.start(&killed);
        running.until(&killed, "on");
        world.engine(&["kill", &world.name(&killed)]);
        running.wait(&handle);
        is_ours(&killed, "killed from outside");
    }
}

fn outputs_are_ours_whoever_the_images_user_is(world: &World) {
    let tag = Tag::new(world, "USER 1234:4321");
    for (manner, running) in both(world) {
        let container = |user: Option<&str>| Container {
            image: Some(tag.name.clone()),
            user: user.map(str::to_owned),
            ..world.container()
        };
        for (name, user, id) in [("Image", None, "1234\n"), ("Said", Some("77"), "77\n"), ("Root", Some("root"), "0\n")]
        {
            let task = task(world, &format!("{name}{manner}"), container(user), "id -u; exit 4");
            let exit = running.run(&task);
            let log = std::fs::read_to_string(&task.log).unwrap();
            assert_eq!((exit.cause, log.as_str()), (Cause::Code(4), id), "{}", exit.evidence);
            is_ours(&task, name);
        }
    }
}

/// The one that waits was not told of the task, only its name.
fn outputs_are_ours_though_another_scheduler_waits(world: &World) {
    let container = Container { user: Some("1234".to_owned()), ..world.container() };
    let task = task(world, "Other", container, "sleep 1; exit 5");
    let first = world.executor();
    let handle = first.start(&task);
    drop(first);
    let second = world.executor();
    assert_eq!(second.wait(&handle).cause, Cause::Code(5));
    is_ours(&task, "another scheduler");
}

/// An image made from that of the tests.
struct Tag<'a> {
    world: &'a World,
    name: String,
}

impl Tag<'_> {
    fn new<'a>(world: &'a World, lines: &str) -> Tag<'a> {
        let name = format!("laminar-test:{}", world.execution);
        let folder = world.folder.path().join("image");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("Dockerfile"), format!("FROM {}\n{lines}\n", image())).unwrap();
        let mut build = Command::new(world.dialect.program);
        // What a newer client would like to build with may not be installed.
        build.args(["build", "--quiet", "--tag", &name, "."]).env("DOCKER_BUILDKIT", "0");
        let built = build.current_dir(&folder).stdin(Stdio::null()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Tag { world, name }
    }
}

impl Drop for Tag<'_> {
    fn drop(&mut self) {
        let _ = Command::new(self.world.dialect.program).args(["rmi", "--force", &self.name]).output();
    }
}
