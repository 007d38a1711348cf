//! The scheduler in a container, its layers beside it: whatever is mounted where, whoever dies, and what is told where it
//! cannot be.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;

use laminar_tests::secrets::hides;
use laminar_tests::world::{eventually, finish, signal};

use crate::world::World;
use crate::{on_each_engine, on_engines};

mod home;

use home::Home;

on_each_engine!(
    layers_run_beside_their_scheduler_wherever_its_folder_is,
    what_must_be_mounted_is_told_before_anything_runs,
    who_stops_the_container_cancels_the_execution,
    another_container_or_the_host_goes_on_where_a_killed_one_was,
    plain_processes_run_in_the_container_itself,
);

on_engines!(docker_as_a_user "docker", podman_as_a_user "podman-rootless"; [a_scheduler_of_ones_own_leaves_what_is_ones_own]);

/// Every folder that a layer has, those of warm containers too.
const FLOW: &str = r#"
parameters: { word: hello }
defaults: { container: { image: IMAGE, network: none, mounts: [".:/flow:ro"] } }
layers:
  Words: { run: 'cat /flow/flow.yaml >/dev/null; echo "[1, 2]" >"$LAMINAR_OUTPUTS/all.json"; echo $WORD', env: { WORD: "${{ parameters.word }}" } }
  Each:
    foreach: { of: "${{ Words.all }}" }
    container: { user: "4321:4321", reuse: true }
    run: 'test -e /laminar/.task/born; cat "$LAMINAR_EACH" >&2; mkdir "$LAMINAR_OUTPUTS/d"; echo ${{ each.of }} >"$LAMINAR_OUTPUTS/d/x"; chmod 700 "$LAMINAR_OUTPUTS/d"'
  Sum: { needs: [Each], run: 'cat "$LAMINAR_INPUTS"/Each/d/*/x | sort | paste -sd+' }
"#;

/// Stays until `go` is there.
const STAYS: &str = r#"
defaults: { container: { image: IMAGE, network: none, mounts: [".:/flow"] } }
layers:
  Stays: { run: 'trap "exit 7" TERM; echo begins; touch /flow/up; while [ ! -e /flow/go ]; do sleep 0.05; done; echo ends' }
  After: { needs: [Stays], run: 'echo after' }
"#;

/// Everything below a folder belongs to whoever runs this.
fn is_ours(folder: &Path) {
    is_of(folder, rustix::process::geteuid().as_raw());
}

/// Everything below a folder belongs to this user.
fn is_of(folder: &Path, user: u32) {
    let metadata = std::fs::symlink_metadata(folder).unwrap();
    assert_eq!(metadata.uid(), user, "{}", folder.display());
    if metadata.is_dir() {
        std::fs::read_dir(folder).unwrap().for_each(|entry| is_of(&entry.unwrap().path(), user));
    }
}

fn layers_run_beside_their_scheduler_wherever_its_folder_is(world: &World) {
    let mut home = Home::new(world);
    home.flow(FLOW);
    let (folder, volume) = (home.folder().to_owned(), home.volume());
    let options = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let elsewhere = options(&["--volume", &format!("{folder}:/else/where"), "--workdir", "/else/where"]);
    // The flow is where it cannot be written, and all that is kept is in a volume.
    let in_volume = options(&[
        "--volume",
        &format!("{folder}:/flow:ro"),
        "--volume",
        &format!("{volume}:/kept"),
        "--workdir",
        "/flow",
        "--env",
        "LAMINAR_ROOT=/kept/.laminar",
        "--hostname",
        "another",
    ]);
    for options in [home.as_it_is(), elsewhere, in_volume] {
        home.run(&options, &["run"]).exits(0);
        let said = |layer: &str| home.run(&options, &["logs", "latest", layer]).exits(0).stdout;
        assert_eq!(said("Words"), "hello\n");
        assert_eq!(said("Sum"), "1+2\n");
        assert!(world.containers().is_empty());
    }
    is_ours(&Path::new(&folder).join(".laminar"));
    // What was kept at another path is read as well from here.
    assert_eq!(home.stage.said("Sum"), "1+2\n");
    assert_eq!(home.stage.run(&["list", "--json"]).exits(0).json().len(), 2);
}

fn what_must_be_mounted_is_told_before_anything_runs(world: &World) {
    let home = Home::new(world);
    let nothing_ran = || assert!(world.containers().is_empty());
    home.flow(FLOW);
    let read_only = ["--volume", &format!("{}:/flow:ro", home.folder())].map(str::to_owned).to_vec();
    let no_root = home.run(&read_only, &["run", "/flow/flow.yaml"]).exits(3);
    no_root.says(&[
        "cannot share `/.laminar` with layers",
        "--volume \"$PWD:$PWD\" --workdir \"$PWD\"",
        "nothing was run",
    ]);
    nothing_ran();

    // It is known which container that is, unless somebody says something else.
    let (name, options) = home.named("asked", &[]);
    let known = home.run(&options, &["backends"]).exits(0).stdout;
    assert!(known.contains(&format!("the container `{name}`; layers run beside it")), "{known}");
    let said = |container: &str| ["--env", &format!("LAMINAR_CONTAINER={container}")].map(str::to_owned).to_vec();
    let ran = home.run(&[home.as_it_is(), said("nobody-1")].concat(), &["run"]).exits(3);
    ran.says(&["cannot show the container `nobody-1`", "`LAMINAR_CONTAINER`"]);
    nothing_ran();
    home.run(&[options, home.as_it_is(), said(&name)].concat(), &["run"]).exits(0);

    // What the image has itself is as little seen as what it has not.
    let mounts = |source: &str| {
        format!("\nlayers:\n  One: {{ container: {{ image: IMAGE, mounts: ['{source}:/x:ro'] }}, run: 'true' }}\n")
    };
    for source in ["/usr/local/bin", "/data/set"] {
        home.flow(&mounts(source));
        let ran = home.run(&home.as_it_is(), &["run"]).exits(2);
        ran.says(&[&format!("cannot mount `{source}` for layer `One`"), &format!("--volume {source}:{source}:ro")]);
        nothing_ran();
    }

    home.flow(
        "\ndefaults: { secrets: [TOKEN], container: { image: IMAGE, network: none } }\n\
         layers:\n  One: { run: 'cat $LAMINAR_SECRETS/TOKEN' }\n",
    );
    let token = ["--env", "TOKEN=not-for-everybody"].map(str::to_owned).to_vec();
    let options = [home.as_it_is(), token].concat();
    // Memory of the user's own; a machine may have none where it should be.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let is_rootless = world.column == "podman-rootless";
    let shared =
        if is_rootless { format!("{}:/run/user/0", memory.path().display()) } else { "/dev/shm:/dev/shm".to_owned() };
    let told = if is_rootless { "\"$XDG_RUNTIME_DIR:/run/user/0\"" } else { "/dev/shm:/dev/shm" };
    home.run(&options, &["run"]).exits(3).says(&["cannot hand secrets to layers", &format!("--volume {told}")]);
    nothing_ran();
    let shared = ["--volume", &shared].map(str::to_owned).to_vec();
    let options = [options, shared].concat();
    home.run(&options, &["run"]).exits(0);
    let log = home.run(&options, &["logs", "latest", "One"]).exits(0);
    assert_eq!(log.stdout, "***");
    hides(&log);
}

/// Waits until the layer is up; or says what the scheduler has said.
fn is_up(home: &Home<'_>, child: &mut Child) {
    let up = Path::new(home.folder()).join("up");
    eventually("the layer is up", || (up.exists() || child.try_wait().unwrap().is_some()).then_some(()));
    assert!(up.exists(), "it ended before");
}

fn who_stops_the_container_cancels_the_execution(world: &World) {
    let home = Home::new(world);
    home.flow(STAYS);
    let (name, options) = home.named("stopped", &home.as_it_is());
    let mut child = home.start(&options, &["run"]);
    is_up(&home, &mut child);
    world.engine(&["stop", "--time", "60", &name]);
    finish(child).exits(130);
    assert!(world.containers().is_empty());
    assert_eq!(home.stage.run(&["status", "--json"]).exits(0).document()["state"], "cancelled");

    // So does who says it where it runs; though it may end with the container before it can tell.
    std::fs::remove_file(Path::new(home.folder()).join("up")).unwrap();
    let (name, options) = home.named("told", &home.as_it_is());
    let mut child = home.start(&options, &["run"]);
    is_up(&home, &mut child);
    home.try_engine(&["exec", &name, "laminar", "cancel"]);
    finish(child).exits(130);
    assert!(world.containers().is_empty());

    // An interrupt at the client's terminal is one too; and what was started detached keeps the container.
    std::fs::remove_file(Path::new(home.folder()).join("up")).unwrap();
    let mut child = home.start(&home.as_it_is(), &["run", "--detach"]);
    is_up(&home, &mut child);
    signal(&child, rustix::process::Signal::INT);
    let ran = finish(child).exits(0);
    assert_eq!(ran.stdout.trim().len(), 32, "{}", ran.stderr);
    assert_eq!(home.stage.run(&["status", "--json"]).exits(0).document()["state"], "cancelled");
    assert!(world.containers().is_empty());
}

fn another_container_or_the_host_goes_on_where_a_killed_one_was(world: &World) {
    let home = Home::new(world);
    home.flow(STAYS);
    let folder = Path::new(home.folder()).to_owned();
    let elsewhere =
        |at: &str| ["--volume", &format!("{}:{at}", home.folder()), "--workdir", at].map(str::to_owned).to_vec();
    let starts = |name: &str, options: &[String], args: &[&str]| {
        for left in ["up", "go"] {
            let _ = std::fs::remove_file(folder.join(left));
        }
        let (name, options) = home.named(name, options);
        let mut child = home.start(&options, args);
        is_up(&home, &mut child);
        (name, child)
    };
    let is_whole = || {
        assert_eq!(home.stage.said("Stays"), "begins\nends\n");
        assert_eq!(home.stage.said("After"), "after\n");
        assert!(world.containers().is_empty());
        is_ours(&folder.join(".laminar"));
    };

    // A container is killed, and another one goes on with the same layer. Where that would find the flow's folder elsewhere, it is
    // told what to mount where.
    let (name, child) = starts("first", &home.as_it_is(), &["run"]);
    world.engine(&["kill", &name]);
    finish(child).exits(137);
    assert_eq!(world.containers().len(), 1, "the layer goes on");
    let refused = home.run(&elsewhere("/flow"), &["resume"]).exits(3);
    refused.says(&[&format!("mount the folder that is meant at `{}`", home.folder())]);
    let second = home.start(&home.as_it_is(), &["resume"]);
    let stage = &home.stage;
    eventually("it is resumed", || (stage.run(&["status", "--json"]).document()["state"] == "running").then_some(()));

    // A scheduler that is not seen is not signalled: its number is another's here. It is told where to go.
    let refused = home.run(&elsewhere("/x"), &["cancel"]).exits(3);
    refused.says(&["cannot signal the scheduler", "docker exec CONTAINER laminar cancel", "docker stop CONTAINER"]);
    std::fs::write(folder.join("go"), "").unwrap();
    finish(second).exits(0);
    is_whole();

    // The host goes on with it.
    let (name, child) = starts("second", &home.as_it_is(), &["run"]);
    world.engine(&["kill", &name]);
    finish(child).exits(137);
    std::fs::write(folder.join("go"), "").unwrap();
    home.stage.run(&["gc"]).exits(0);
    home.stage.run(&["resume"]).exits(0);
    is_whole();

    // Whoever sees its process, as the host does, cancels it.
    let (_, child) = starts("third", &home.as_it_is(), &["run"]);
    home.stage.run(&["cancel"]).exits(0);
    finish(child).exits(130);
    assert!(world.containers().is_empty());
}

fn plain_processes_run_in_the_container_itself(world: &World) {
    let home = Home::new(world);
    home.stage.program.write(
        "flow.yaml",
        "flow: Plain\nlayers:\n  Stays: { run: 'echo x >>up; while [ ! -e go ]; do busybox sleep 0.05; done', shell: [busybox, sh, -ec] }\n  \
         After: { needs: [Stays], shell: [busybox, sh, -ec], run: 'echo after' }\n",
    );
    let folder = Path::new(home.folder()).to_owned();
    let (name, options) = home.named("plain", &home.as_it_is());
    let mut child = home.start(&options, &["run", "--backend", "local"]);
    is_up(&home, &mut child);
    // Everything in it dies with it: so the layer is lost, which is no word about whether it was done, and it runs again.
    world.engine(&["kill", &name]);
    finish(child).exits(137);
    std::fs::write(folder.join("go"), "").unwrap();
    let resumed = home.run(&home.as_it_is(), &["resume"]);
    let state = home.stage.run(&["status", "--json"]).exits(0).document();
    assert_eq!(resumed.code, if state["state"] == "finished" { 0 } else { 1 }, "{}", resumed.stderr);
    home.run(&home.as_it_is(), &["resume"]).exits(0);
    assert_eq!(home.stage.said("After"), "after\n");
}

fn a_scheduler_of_ones_own_leaves_what_is_ones_own(world: &World) {
    const USER: u32 = 4444;
    let home = Home::new(world);
    home.flow(FLOW);
    let folder = Path::new(home.folder());
    let (owner, as_user) = if world.dialect.name == "docker" {
        for path in [folder.to_owned(), folder.join("flow.yaml")] {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
        }
        let group = std::fs::metadata("/var/run/docker.sock").unwrap().gid().to_string();
        (USER, ["--user", "4444:4444", "--group-add", &group].map(str::to_owned).to_vec())
    } else {
        (rustix::process::geteuid().as_raw(), ["--userns", "keep-id", "--tmpfs", "/tmp"].map(str::to_owned).to_vec())
    };
    let options = [home.as_it_is(), as_user].concat();
    home.run(&options, &["run"]).exits(0);
    assert_eq!(home.run(&options, &["logs", "latest", "Sum"]).exits(0).stdout, "1+2\n");
    is_of(&folder.join(".laminar"), owner);
    assert!(world.containers().is_empty());
}
