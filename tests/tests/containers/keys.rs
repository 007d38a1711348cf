//! Every key of the `container` block, as it is seen from inside. `image` and `pull` are in `registry`, `gpus` is in
//! `golden` alone: there is no such device to be had.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use laminar_core::container::{Container, Feature, Mount};
use laminar_core::executor::{Cause, Executor, Exit, Task};
use laminar_tests::gaps;

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::{Running, World};

on_each_engine!(
    cpu_is_a_quota,
    memory_is_a_limit_without_swap,
    pids_limit_is_a_limit,
    workdir_is_the_working_folder,
    user_is_a_number_or_a_name,
    network_is_none_the_hosts_or_a_named_one,
    mounts_are_files_and_folders_read_only_or_not,
    env_is_the_layers,
    read_only_closes_the_root_and_nothing_of_ours,
    capabilities_are_added_and_dropped,
    platform_is_the_images,
    shm_size_is_the_size_of_dev_shm,
    options_are_passed_on,
    no_zombies_stay_while_a_layer_runs,
);

/// Runs a script in a container, and returns how it ended and what it printed.
fn ran(world: &World, running: &Running, layer: &str, container: Container, script: &str) -> (Exit, String) {
    let task = Task { container: Arc::new(container), ..world.task(layer, script) };
    let exit = running.run(&task);
    (exit, std::fs::read_to_string(&task.log).unwrap_or_default())
}

/// What a script prints that ends well.
fn says(world: &World, layer: &str, container: Container, script: &str) -> String {
    let (exit, said) = ran(world, &world.executor(), layer, container, script);
    assert_eq!(exit.cause, Cause::Code(0), "{}: {said}", exit.evidence);
    said
}

/// Whether the engine enforces a key here; what is not is put on record.
fn enforces(world: &World, feature: Feature) -> bool {
    let running = world.executor();
    let enforces = running.does(running.executor.probe()).unwrap().enforces.contains(&feature);
    if !enforces {
        gaps::skip(
            &format!("{}: {}", world.column, feature.keys().join(", ")),
            "it limits nothing here (see `laminar backends`)",
        );
    }
    enforces
}

/// Prints a file of the container's control group: its name in version 1, with the controller's folder, else in version 2.
fn group(one: &str, two: &str) -> String {
    format!("if [ -e /sys/fs/cgroup/{one} ]; then cat /sys/fs/cgroup/{one}; else cat /sys/fs/cgroup/{two}; fi;")
}

fn cpu_is_a_quota(world: &World) {
    if !enforces(world, Feature::Cpu) {
        return;
    }
    let container = Container { cpu_millis: Some(250), ..world.container() };
    let script = "cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)";
    let said = says(world, "Cpu", container, script);
    let numbers: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(numbers[0] * 4, numbers[1], "{said}");
}

fn memory_is_a_limit_without_swap(world: &World) {
    if !enforces(world, Feature::Memory) {
        return;
    }
    let container = Container { memory: Some(48 << 20), ..world.container() };
    let limit = group("memory/memory.limit_in_bytes", "memory.max");
    // With swap in version 1, swap alone in version 2; a kernel that does not count swap has no such file.
    let swap = group("memory/memory.memsw.limit_in_bytes", "memory.swap.max");
    let said = says(world, "Memory", container, &format!("{limit} {{ {swap} }} 2>/dev/null || true"));
    let limits: Vec<&str> = said.lines().collect();
    assert_eq!(limits[0], (48 << 20).to_string());
    assert!(limits.get(1).is_none_or(|swap| *swap == limits[0] || *swap == "0"), "{said}");
}

fn pids_limit_is_a_limit(world: &World) {
    if !enforces(world, Feature::PidsLimit) {
        return;
    }
    let container = Container { pids_limit: Some(12), ..world.container() };
    let said = says(world, "Pids", container.clone(), &group("pids/pids.max", "pids.max"));
    assert_eq!(said, "12\n");
    let (exit, said) = ran(world, &world.executor(), "Many", container, "for i in $(seq 20); do sleep 5 & done");
    assert!(exit.cause != Cause::Code(0) && said.contains("fork"), "{:?}: {said}", exit.cause);
}

fn workdir_is_the_working_folder(world: &World) {
    let container = Container { workdir: Some("/tmp".to_owned()), ..world.container() };
    assert_eq!(says(world, "Workdir", container, "pwd"), "/tmp\n");
}

fn user_is_a_number_or_a_name(world: &World) {
    let said = |layer: &str, user: &str| {
        let container = Container { user: Some(user.to_owned()), ..world.container() };
        says(world, layer, container, "id -u; id -g")
    };
    assert_eq!(said("Numbers", "1234:2345"), "1234\n2345\n");
    assert_eq!(said("Name", "nobody"), "65534\n65534\n");
    let container = Container { user: Some("nosuchuser".to_owned()), ..world.container() };
    let task = Task { container: Arc::new(container), ..world.task("Nobody", "true") };
    let running = world.executor();
    let before = world.containers().len();
    let error = running.does(running.executor.start(Arc::new(task))).unwrap_err().to_string();
    assert!(error.contains("nosuchuser"), "the engine's refusal says which user: {error}");
    assert_eq!(world.containers().len(), before, "and leaves no container");
}

fn network_is_none_the_hosts_or_a_named_one(world: &World) {
    let on = |layer: &str, network: Option<&str>, script: &str| {
        let container = Container { network: network.map(str::to_owned), ..world.container() };
        says(world, layer, container, script)
    };
    let (interfaces, namespace) = ("ls /sys/class/net", "readlink /proc/self/ns/net");
    assert_eq!(on("None", Some("none"), "sed -n 's/: .*//p' /proc/net/dev | tr -d ' '"), "lo\n");
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(on("Host", Some("host"), namespace).trim(), ours.to_str().unwrap());
    let default = on("Default", None, &format!("{namespace}; {interfaces}"));
    assert!(!default.contains(ours.to_str().unwrap()) && default.lines().count() >= 3, "{default}");

    let network = Network::new(world);
    let task = Task {
        container: Arc::new(Container { network: Some(network.name.clone()), ..world.container() }),
        ..world.task("Named", interfaces)
    };
    assert_eq!(world.executor().run(&task).cause, Cause::Code(0));
    assert!(std::fs::read_to_string(&task.log).unwrap().contains("eth0"));
    let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(world.engine(&["container", "inspect", "--format", format, &world.name(&task)]).trim(), network.name);
    world.clear();
}

/// A network of this test's own.
struct Network<'a> {
    world: &'a World,
    name: String,
}

impl Network<'_> {
    fn new(world: &World) -> Network<'_> {
        let name = format!("laminar-test-{}", world.execution);
        world.engine(&["network", "create", "--label", "laminar.test=1", &name]);
        Network { world, name }
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.world.clear();
        let mut command = std::process::Command::new(self.world.dialect.program);
        let _ = command.args(["network", "rm", &self.name]).output();
    }
}

fn mounts_are_files_and_folders_read_only_or_not(world: &World) {
    let place = |name: &str| world.folder.path().join(name);
    std::fs::create_dir_all(place("my data/deep")).unwrap();
    std::fs::write(place("my data/deep/x"), "deep\n").unwrap();
    std::fs::write(place("one file"), "file\n").unwrap();
    let mount = |source: &str, target: &str, read_only| Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let outside = place("one file").to_str().unwrap().to_owned();
    let mounts = vec![
        mount("my data", "/in here/data", true),
        mount("./my data/../my data/deep", "/deep", false),
        mount(&outside, "/etc/one file", true),
        mount("one file", "/file", false),
    ];
    let script = "cat '/in here/data/deep/x' '/etc/one file'
        ! touch '/in here/data/y' 2>/dev/null; ! sh -c 'echo no > \"/etc/one file\"' 2>/dev/null
        echo written > /deep/y; echo also > /file; cat '/etc/one file'";
    let said = says(world, "Mounts", Container { mounts, ..world.container() }, script);
    assert_eq!(said, "deep\nfile\nalso\n");
    assert_eq!(std::fs::read_to_string(place("my data/deep/y")).unwrap(), "written\n");
    assert!(!place("my data/y").exists());
    let owner = std::fs::metadata(place("my data/deep/y")).unwrap().uid();
    assert_eq!(owner, rustix::process::geteuid().as_raw());
}

fn env_is_the_layers(world: &World) {
    let stage = Stage::new(world);
    stage.flow(
        "defaults: { env: { BOTH: flow, FLOW: yes }, container: { image: IMAGE, network: none, env: { BOTH: container } } }
layers:
  A: { run: 'echo $BOTH $FLOW $OWN', container: { env: { OWN: 'a b' } } }
  B: { run: 'echo $BOTH', env: { BOTH: layer } }
",
    );
    stage.run(&["run"]).exits(0);
    let local = Stage::new(world);
    std::fs::copy(stage.program.path().join("flow.yaml"), local.program.path().join("flow.yaml")).unwrap();
    local.program.run(["run", "--backend", "local"]).exits(0);
    for layer in ["A", "B"] {
        assert_eq!(stage.said(layer), local.said(layer), "as on the local backend");
    }
    assert!(stage.said("A").ends_with(" a b\n"), "{}", stage.said("A"));
}

fn read_only_closes_the_root_and_nothing_of_ours(world: &World) {
    let container = Container { read_only: true, ..world.container() };
    let script = "! touch /etc/x 2>/dev/null; ! touch /x 2>/dev/null; touch $LAMINAR_OUTPUTS/x; echo closed";
    assert_eq!(says(world, "Closed", container, script), "closed\n");
    assert_eq!(says(world, "Open", world.container(), "touch /etc/x; echo open"), "open\n");
}

fn capabilities_are_added_and_dropped(world: &World) {
    let has = |layer: &str, add: &[&str], drop: &[&str]| {
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let container = Container { cap_add: words(add), cap_drop: words(drop), ..world.container() };
        let said = says(world, layer, container, "sed -n 's/CapEff:.//p' /proc/self/status");
        u64::from_str_radix(said.trim(), 16).unwrap()
    };
    const CHOWN: u64 = 1;
    const NET_RAW: u64 = 1 << 13;
    const SYS_PTRACE: u64 = 1 << 19;
    assert_eq!(has("Plain", &[], &[]) & (CHOWN | SYS_PTRACE), CHOWN);
    assert_eq!(has("Dropped", &[], &["CHOWN"]) & CHOWN, 0);
    assert_eq!(has("Added", &["SYS_PTRACE"], &[]) & SYS_PTRACE, SYS_PTRACE);
    assert_eq!(has("Only", &["NET_RAW"], &["ALL"]), NET_RAW);
}

fn platform_is_the_images(world: &World) {
    let (ours, other) = match std::env::consts::ARCH {
        "aarch64" => ("linux/arm64", "linux/amd64"),
        _ => ("linux/amd64", "linux/arm64"),
    };
    let on = |platform: &str| Container { platform: Some(platform.to_owned()), ..world.container() };
    assert_eq!(says(world, "Ours", on(ours), "echo here"), "here\n");
    // The image there is for another one, and the registry that its name stands for has none.
    let flow = Stage::new(world);
    flow.flow(&format!(
        "layers:\n  Other: {{ run: 'true', container: {{ image: IMAGE, platform: {other}, pull: never, network: none }} }}\n"
    ));
    let ran = flow.run(&["run"]);
    assert!(ran.code != 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("platform") || ran.stderr.contains(other), "{}", ran.stderr);
}

fn shm_size_is_the_size_of_dev_shm(world: &World) {
    let container = Container { shm_size: Some(24 << 20), ..world.container() };
    let said = says(world, "Shm", container, "df -k /dev/shm | tail -n 1");
    assert_eq!(said.split_whitespace().nth(1), Some("24576"), "{said}");
}

fn options_are_passed_on(world: &World) {
    let options = vec!["--hostname".to_owned(), "a-name-of-its-own".to_owned()];
    let said = says(world, "Options", Container { options, ..world.container() }, "hostname");
    assert_eq!(said, "a-name-of-its-own\n");
}

fn no_zombies_stay_while_a_layer_runs(world: &World) {
    // Each is left by its parent, and so is the first process's; a look at all of them until none is left that is dead.
    let script = "for i in $(seq 30); do ( sleep 0.0$((i % 10)) & ); done
        for look in $(seq 1000); do
            left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep)') || true
            [ $left != 0 ] || { echo none; exit 0; }
            sleep 0.01
        done
        ps; exit 1";
    // The look's own pause is a `sleep` too, but of the shell's, and over by then.
    assert_eq!(says(world, "Orphans", world.container(), script), "none\n");
}
