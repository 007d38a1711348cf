//! The command that creates a container, for every engine side by side: `golden.txt` shows what is common once, and what
//! differs with whose it is. `LAMINAR_TEST_BLESS=1` writes it anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use laminar_backend_docker::DOCKER;
use laminar_backend_oci::{Dialect, Host, Image, Order, Outside, Settings, create};
use laminar_backend_podman::PODMAN;
use laminar_core::container::{Container, Gpus, Mount};
use laminar_core::executor::{EachFile, Inputs, LOG_LIMIT, Task};
use laminar_core::id::TaskId;
use laminar_core::option::Options;

const ROOT: Host = Host { uid: 0, gid: 0, rootless: false, selinux: false };
const ALICE: Host = Host { uid: 1000, gid: 100, ..ROOT };

/// A command line: a short name, the dialect, and who runs laminar.
type Engine = (&'static str, &'static Dialect, Host);

const ENGINES: [Engine; 4] = [
    ("docker as root", &DOCKER, ROOT),
    ("docker", &DOCKER, ALICE),
    ("podman as root", &PODMAN, ROOT),
    ("podman", &PODMAN, Host { rootless: true, ..ALICE }),
];

const SELINUX: [Engine; 2] =
    [("docker", &DOCKER, Host { selinux: true, ..ROOT }), ("podman", &PODMAN, Host { selinux: true, ..ROOT })];

fn task(container: Container) -> Task {
    let execution = "01a1fd2d5eaa7120b196fb7d6f2ccb11".parse().unwrap();
    let views = [("Parameters".to_owned(), "/x/views/Parameters".into()), ("A".to_owned(), "/x/views/A".into())];
    Task {
        id: TaskId { execution, layer: "Train".into(), index: 2, attempt: 1 },
        flow: "Digits, all".into(),
        splits: 3,
        argv: ["python", "train.py", "--name=a b"].map(str::to_owned).to_vec(),
        env: vec![("TOKEN".into(), "not in any argv".into()), ("PATH".into(), "/opt/bin:/bin".into())],
        container: Arc::new(container),
        timeout: None,
        grace: Duration::from_secs(5),
        places: None,
        inputs: Inputs { folder: "/x/inputs/0".into(), views: Arc::new(views) },
        each: Some(EachFile { folder: "/x/each/Train".into(), name: "2.json".into() }),
        secrets: Some("/dev/shm/laminar-secrets-0/x/Train.2.1".into()),
        outputs: "/x/outputs/7".into(),
        log: "/x/logs/Train.2.1.log".into(),
        log_limit: LOG_LIMIT,
    }
}

fn everything() -> Container {
    let mount =
        |source: &str, target: &str, read_only| Mount { source: source.into(), target: target.into(), read_only };
    Container {
        image: Some("digits:1".into()),
        cpu_millis: Some(1500),
        memory: Some(4 << 30),
        gpus: Some(Gpus::Count(2)),
        workdir: Some("/work".into()),
        user: Some("app:staff".into()),
        network: Some("none".into()),
        mounts: vec![mount("data", "/data", true), mount("/a, b", "/odd", false)],
        entrypoint: Some(vec!["/bin/tini".into(), "--".into()]),
        pids_limit: Some(100),
        read_only: true,
        cap_add: vec!["NET_RAW".into()],
        cap_drop: vec!["ALL".into()],
        platform: Some("linux/amd64".into()),
        shm_size: Some(1 << 30),
        options: vec!["--hostname".into(), "digits".into()],
        ..Container::default()
    }
}

/// The command, an option with its value on each line.
/// `bare`: without laminar inside.
fn lines(dialect: &Dialect, host: Host, container: &Container, image: &Image, bare: bool) -> Vec<String> {
    lines_with(&Settings::default(), dialect, host, container, image, bare)
}

fn lines_with(
    settings: &Settings,
    dialect: &Dialect,
    host: Host,
    container: &Container,
    image: &Image,
    bare: bool,
) -> Vec<String> {
    let mut task = task(container.clone());
    if container.shm_size.is_some() {
        // Where everything is said.
        task.log_limit = 9 << 30;
    }
    task.timeout = container.memory.map(|_| Duration::from_secs(60));
    let (folder, place) = (Path::new("/x"), Path::new("/x/engine/tasks/Train.2.1"));
    let (entry, workdir) = (Path::new("/x/engine/entry"), Path::new("/flows/digits"));
    let entry = (!bare).then_some(entry);
    let words = create(&Order {
        dialect,
        host,
        task: &task,
        image,
        folder,
        place,
        entry,
        workdir,
        settings,
        outside: &Outside::default(),
    })
    .unwrap();
    let mut lines: Vec<String> = Vec::new();
    for word in words.args.iter().map(|word| word.to_str().unwrap()) {
        assert!(!word.contains("not in any argv"), "{word}");
        match lines.last_mut() {
            Some(line) if line.starts_with("--") && !line.contains([' ', '=']) && !word.starts_with("--") => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.extend(words.file.lines().map(|line| format!("({}/variables: {line})", place.display())));
    lines.extend(words.env.iter().map(|(name, value)| format!("({name}: {value})")));
    lines
}

/// All of them in one text: what all have in common has no name before it.
fn side_by_side(engines: &[Engine], container: &Container, image: &Image, bare: bool) -> String {
    let all: Vec<_> =
        engines.iter().map(|(name, dialect, host)| (name, lines(dialect, *host, container, image, bare))).collect();
    let mut at = vec![0; engines.len()];
    let mut text = String::new();
    let common = |line: &String| all.iter().all(|(_, lines)| lines.contains(line));
    loop {
        for ((name, lines), at) in all.iter().zip(&mut at) {
            while let Some(line) = lines.get(*at).filter(|line| !common(line)) {
                text.push_str(&format!("{name:>14} | {line}\n"));
                *at += 1;
            }
        }
        let Some(line) = all[0].1.get(at[0]) else { return text };
        text.push_str(&format!("{:>14} | {line}\n", ""));
        at.iter_mut().for_each(|at| *at += 1);
    }
}

#[test]
fn the_commands_that_create_containers() {
    let image = |user: &str, entrypoint: &[&str]| Image {
        id: "sha256:c6a8".into(),
        user: user.into(),
        entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
        ..Image::default()
    };
    let plain = Container { image: Some("digits:1".into()), ..Container::default() };
    let without = Container { entrypoint: Some(Vec::new()), ..plain.clone() };
    let cases = [
        ("an image of root, and nothing said", side_by_side(&ENGINES, &plain, &image("", &[]), false)),
        (
            "an image with a user and an entrypoint of its own",
            side_by_side(&ENGINES, &plain, &image("app", &["/entry.sh"]), false),
        ),
        ("everything said", side_by_side(&ENGINES, &everything(), &image("app", &["/entry.sh"]), false)),
        ("with SELinux", side_by_side(&SELINUX, &everything(), &image("", &[]), false)),
        (
            "bare, an image with an entrypoint of its own",
            side_by_side(&ENGINES, &plain, &image("app", &["/entry.sh"]), true),
        ),
        ("bare, everything said", side_by_side(&ENGINES, &everything(), &image("", &[]), true)),
        ("bare, the entrypoint taken away", side_by_side(&ENGINES, &without, &image("", &["/entry.sh"]), true)),
    ];
    let text: String = cases.iter().map(|(title, text)| format!("# {title}\n\n{text}\n")).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containers/golden.txt");
    if std::env::var_os("LAMINAR_TEST_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs; now it is:\n{text}", path.display());
}

/// What options of an engine change, as what is new on the command line.
#[test]
fn the_options_of_an_engine_reach_the_command_that_creates_containers() {
    let image = Image { id: "sha256:c6a8".into(), ..Image::default() };
    let said = [("network", "none"), ("userns", "auto"), ("userns", "host"), ("runtime", "crun"), ("context", "x")];
    let new = |dialect, settings: &Settings, container: &Container| -> Vec<String> {
        let before = lines(dialect, ROOT, container, &image, false);
        let after = lines_with(settings, dialect, ROOT, container, &image, false);
        assert!(before.iter().all(|line| after.contains(line)), "{after:?}");
        after.into_iter().filter(|line| !before.contains(line)).collect()
    };
    let docker = laminar_backend_docker::settings(&Options::new(&laminar_backend_docker::OPTIONS, said));
    let podman = laminar_backend_podman::settings(&Options::new(&laminar_backend_podman::OPTIONS, said));
    let plain = Container { image: Some("digits:1".into()), ..Container::default() };
    assert_eq!(new(&DOCKER, &docker, &plain), ["--userns host", "--runtime crun", "--network none"]);
    assert_eq!(new(&PODMAN, &podman, &plain), ["--userns auto", "--network none"]);
    let own = Container { network: Some("lan".into()), ..plain };
    assert_eq!(new(&PODMAN, &podman, &own), ["--userns auto"], "what a layer says counts more");
}
