//! What an image wants of its own: entrypoint, command, user, folder, variables; and whose the outputs are then.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor, Task};
use laminar_tests::world::{eventually, finish, signal};

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::{World, image};

on_each_engine!(
    an_images_entrypoint_variables_and_folder_hold_and_its_command_does_not,
    an_images_user_stays_and_its_outputs_are_ours_however_it_ends,
    outputs_of_many_users_are_ours_through_the_program,
    a_volume_that_an_image_asks_for_goes_with_its_container,
);

/// An image of this test's own.
struct Made<'a> {
    world: &'a World,
    name: String,
}

impl Made<'_> {
    /// The image of all tests, with these changes.
    fn with<'a>(world: &'a World, changes: &[&str]) -> Made<'a> {
        let root = world.folder.path().join("root.tar");
        let root = root.to_str().unwrap();
        let label = format!("laminar.test.own={}", world.execution);
        let from = world.engine(&["create", "--label", &label, "--network", "none", &image(), "true"]);
        world.engine(&["export", "--output", root, &from]);
        world.engine(&["rm", "--force", &from]);
        let name = format!("laminar-test:own-{}", world.execution);
        let label = format!("LABEL {label}");
        let changes = changes.iter().copied().chain(["ENV PATH=/bin", &label]);
        let words = changes.flat_map(|change| ["--change", change]);
        world.engine(&["import"].into_iter().chain(words).chain([root, &name]).collect::<Vec<_>>());
        Made { world, name }
    }

    fn container(&self) -> Container {
        Container { image: Some(self.name.clone()), ..self.world.container() }
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.world.clear();
        let mut command = std::process::Command::new(self.world.dialect.program);
        let _ = command.args(["rmi", "--force", &self.name]).output();
    }
}

fn an_images_entrypoint_variables_and_folder_hold_and_its_command_does_not(world: &World) {
    let changes = [
        r#"ENTRYPOINT ["/bin/env", "FROM=entrypoint"]"#,
        r#"CMD ["echo", "the command"]"#,
        "WORKDIR /etc",
        "ENV OWN=image",
        "ENV BOTH=image",
    ];
    let made = Made::with(world, &changes);
    let stage = Stage::new(world);
    stage.flow(&format!(
        "defaults: {{ container: {{ image: '{}', network: none }} }}
layers:
  Through: {{ run: 'pwd; echo $FROM $OWN $BOTH', env: {{ BOTH: layer }} }}
  Command: {{ command: [sh, -c, 'echo $FROM'] }}
  Without: {{ run: 'echo ${{FROM-none}} $OWN', container: {{ entrypoint: [] }} }}
  Other: {{ run: 'echo $FROM', container: {{ entrypoint: [env, FROM=layer] }} }}
  Moved: {{ run: pwd, container: {{ workdir: /tmp }} }}
",
        made.name
    ));
    stage.run(&["run"]).exits(0);
    assert_eq!(stage.said("Through"), "/etc\nentrypoint image layer\n");
    assert_eq!(stage.said("Command"), "entrypoint\n");
    assert_eq!(stage.said("Without"), "none image\n");
    assert_eq!(stage.said("Other"), "layer\n");
    assert_eq!(stage.said("Moved"), "/tmp\n");
}

/// Everything below a folder belongs to whoever runs this.
fn is_ours(folder: &Path) {
    let metadata = std::fs::symlink_metadata(folder).unwrap();
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw(), "{}", folder.display());
    if metadata.is_dir() {
        std::fs::read_dir(folder).unwrap().for_each(|entry| is_ours(&entry.unwrap().path()));
    }
}

/// Leaves a closed folder, a link that leads nowhere and a file of nobody else's.
const LEAVES: &str = "id -u; mkdir $LAMINAR_OUTPUTS/d; echo x > $LAMINAR_OUTPUTS/d/x; ln -s /nowhere $LAMINAR_OUTPUTS/d/l; \
                      chmod 000 $LAMINAR_OUTPUTS/d/x; chmod 500 $LAMINAR_OUTPUTS/d; ";

fn an_images_user_stays_and_its_outputs_are_ours_however_it_ends(world: &World) {
    let made = Made::with(world, &["USER 4321:4321"]);
    let running = world.executor();
    let task = |layer: &str, script: &str| Task {
        container: Arc::new(made.container()),
        ..world.task(layer, &format!("{LEAVES}{script}"))
    };
    let ends = |task: &Task, cause: &Cause| {
        let handle = running.start(task);
        if *cause == Cause::Cancelled {
            running.until(task, "on");
            running.stop(task, Duration::from_millis(200));
        }
        let exit = running.wait(&handle);
        assert_eq!(exit.cause, *cause, "{}", exit.evidence);
        assert_eq!(std::fs::read_to_string(&task.log).unwrap(), "4321\n");
        is_ours(&task.outputs);
        assert_eq!(task.outputs.metadata().unwrap().mode() & 0o022, 0, "closed again");
    };
    ends(&task("Finishes", "true"), &Cause::Code(0));
    ends(&task("Fails", "exit 3"), &Cause::Code(3));
    let deaf = "trap '' TERM; touch $LAMINAR_OUTPUTS/on; while :; do sleep 1; done";
    ends(&task("Cancelled", deaf), &Cause::Cancelled);
    let mut late = task("Late", "sleep 100");
    late.timeout = Some(Duration::from_secs(1));
    ends(&late, &Cause::TimedOut);
    // Killed from outside, with nobody inside who could tidy up.
    let killed = task("Killed", "touch $LAMINAR_OUTPUTS/on; sleep 100");
    let handle = running.start(&killed);
    running.until(&killed, "on");
    world.engine(&["kill", &world.name(&killed)]);
    assert_eq!(running.wait(&handle).cause, Cause::Signal(libc::SIGKILL));
    is_ours(&killed.outputs);
    // And when another scheduler comes after the one that started it.
    let orphan = task("Orphan", "touch $LAMINAR_OUTPUTS/on; while [ ! -e $LAMINAR_OUTPUTS/go ]; do sleep 0.05; done");
    running.start(&orphan);
    running.until(&orphan, "on");
    drop(running);
    let next = world.executor();
    let found = next.recover(&orphan);
    std::fs::write(orphan.outputs.join("go"), "").unwrap();
    let laminar_core::executor::Recovered::Running(handle) = found else { panic!("{found:?}") };
    assert_eq!(next.wait(&handle).cause, Cause::Code(0));
    is_ours(&orphan.outputs);
    next.does(next.executor.remove(&[handle])).unwrap();
}

fn outputs_of_many_users_are_ours_through_the_program(world: &World) {
    let made = Made::with(world, &["USER 4321:4321"]);
    let stage = Stage::new(world);
    let tree = stage.program.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::set_permissions(&tree, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let layer = |name: &str, keys: &str, script: &str| format!("  {name}: {{ {keys}run: '{script}' }}\n");
    let leaves = "mkdir $LAMINAR_OUTPUTS/d; id -u > $LAMINAR_OUTPUTS/d/x; ";
    let layers = [
        layer("Own", "", leaves),
        layer("Root", "container: { user: \"0\" }, ", leaves),
        layer("Other", "container: { user: \"77:88\" }, ", leaves),
        layer("Reads", "needs: [Own, Root, Other], ", "cat $LAMINAR_INPUTS/*/d/x | sort -n"),
        layer("Fails", "", &format!("{leaves} exit 5")),
        layer("Stays", "needs: [Reads], ", &format!("{leaves} touch /tree/on; sleep 1000")),
    ];
    stage.flow(&format!(
        "on_failure: continue\ndefaults: {{ container: {{ image: '{}', network: none, mounts: ['./tree:/tree'] }} }}\nlayers:\n{}",
        made.name,
        layers.concat()
    ));
    let mut child = stage.start(&["run", "--grace", "200ms"]);
    eventually("the last layer runs", || {
        (tree.join("on").exists() || child.try_wait().unwrap().is_some()).then_some(())
    });
    signal(&child, rustix::process::Signal::INT);
    finish(child).exits(130);
    assert_eq!(stage.said("Reads"), "0\n77\n4321\n");
    // All of the execution can be looked at and removed by whoever ran it.
    is_ours(&stage.program.path().join(".laminar"));
    assert!(world.containers().is_empty());
}

fn a_volume_that_an_image_asks_for_goes_with_its_container(world: &World) {
    let made = Made::with(world, &["VOLUME /data"]);
    let running = world.executor();
    let task = Task { container: Arc::new(made.container()), ..world.task("Volume", "echo x > /data/x") };
    let handle = running.start(&task);
    assert_eq!(running.wait(&handle).cause, Cause::Code(0));
    let format = "{{range .Mounts}}{{if eq .Destination \"/data\"}}{{.Name}}{{end}}{{end}}";
    let volume = world.engine(&["container", "inspect", "--format", format, &world.name(&task)]);
    assert!(!volume.is_empty() && world.engine(&["volume", "ls", "-q"]).contains(&volume));
    running.does(running.executor.remove(&[handle])).unwrap();
    assert!(!world.engine(&["volume", "ls", "-q"]).contains(&volume));
}
