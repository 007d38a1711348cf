//! What a container is given: variables, folders, users, an entrypoint; and what is refused before anything runs.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use laminar_core::container::{Container, Mount, Pull};
use laminar_core::executor::{Cause, Task};

use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    variables_arrive_byte_for_byte_and_are_in_no_argv,
    output_of_both_streams_arrives_whole,
    what_the_scheduler_ignores_is_not_ignored_by_the_layer,
    views_are_read_only_under_any_path,
    outputs_of_any_user_are_ours_in_the_end,
    the_entrypoint_comes_first_unless_it_is_taken_away,
    an_image_is_the_same_for_every_scheduler_of_an_execution,
    what_is_known_to_be_wrong_is_said_before_anything_runs,
);

fn variables_arrive_byte_for_byte_and_are_in_no_argv(world: &World) {
    let running = world.executor();
    let value = "two\nlines, 'quotes' \"double\" $HOME #hash = \\ é ";
    let mut task = world.task("Env", "printf %s \"$V\" > $LAMINAR_OUTPUTS/v; echo $PATH > $LAMINAR_OUTPUTS/path; env");
    task.env = vec![("V".into(), "first".into()), ("PATH".into(), "/bin:/odd path".into()), ("V".into(), value.into())];
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    assert_eq!(world.output(&task, "v"), value);
    assert_eq!(world.output(&task, "path"), "/bin:/odd path\n");
    let log = std::fs::read_to_string(&task.log).unwrap();
    assert!(!log.contains("LAMINAR_VARIABLE"), "{log}");
    let created =
        world.engine(&["container", "inspect", "--format", "{{json .Config.Cmd}} {{json .Args}}", &world.name(&task)]);
    assert!(!created.contains("odd path"), "{created}");
}

fn output_of_both_streams_arrives_whole(world: &World) {
    let running = world.executor();
    let script = "i=0; while [ $i -lt 2000 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done; \
                  head -c 3000000 /dev/zero; printf 'no newline'";
    let task = world.task("Loud", script);
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    let mut expected: Vec<u8> = (0..2000).flat_map(|i| format!("out{i}\nerr{i}\n").into_bytes()).collect();
    expected.extend(vec![0; 3_000_000]);
    expected.extend(b"no newline");
    assert!(std::fs::read(&task.log).unwrap() == expected);
}

fn what_the_scheduler_ignores_is_not_ignored_by_the_layer(world: &World) {
    // Podman's monitor, its runtime and whatever they start inherit it.
    for signal in [libc::SIGUSR2, libc::SIGRTMIN() + 3] {
        // SAFETY: a plain call; no test of this program sends these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let task = world.task("Clean", "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'");
    assert_eq!(world.executor().run(&task).cause, Cause::Code(0));
    let log = std::fs::read_to_string(&task.log).unwrap();
    assert_eq!(log, "SigBlk:0000000000000000\nSigIgn:0000000000000000\n");
}

fn views_are_read_only_under_any_path(world: &World) {
    let running = world.executor();
    let odd = world.folder.path().join("a, \"b\" c:d");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("x"), "content").unwrap();
    let mut task =
        world.task("Reader", "cat $LAMINAR_INPUTS/Odd/x /odd/x; ! touch $LAMINAR_INPUTS/Odd/y; touch /odd/z");
    task.inputs.views = Arc::new([("Odd".to_owned(), odd.clone())]);
    let mount = Mount { source: "a, \"b\" c:d".to_owned(), target: "/odd".to_owned(), read_only: false };
    task.container = Arc::new(Container { mounts: vec![mount], ..world.container() });
    let exit = running.run(&task);
    assert_eq!(exit.cause, Cause::Code(0), "{}", std::fs::read_to_string(&task.log).unwrap());
    assert!(std::fs::read_to_string(&task.log).unwrap().starts_with("contentcontent"));
    assert!(odd.join("z").exists() && !odd.join("y").exists());
}

fn outputs_of_any_user_are_ours_in_the_end(world: &World) {
    let running = world.executor();
    let own = rustix::process::geteuid().as_raw();
    let script =
        "mkdir -p $LAMINAR_OUTPUTS/d; echo x > $LAMINAR_OUTPUTS/d/x; chmod 700 $LAMINAR_OUTPUTS/d; id -u; exit 4";
    for (layer, user, id) in
        [("Default", None, None), ("Other", Some("1234:1234"), Some("1234\n")), ("Root", Some("0"), Some("0\n"))]
    {
        let mut task = world.task(layer, script);
        task.container = Arc::new(Container { user: user.map(str::to_owned), ..world.container() });
        let exit = running.run(&task);
        assert_eq!(exit.cause, Cause::Code(4), "{} {}", exit.evidence, std::fs::read_to_string(&task.log).unwrap());
        for path in ["", "d", "d/x"] {
            assert_eq!(task.outputs.join(path).metadata().unwrap().uid(), own, "{layer} `{path}`");
        }
        assert_eq!(task.outputs.metadata().unwrap().mode() & 0o022, 0, "{layer}: closed again");
        if let Some(id) = id {
            assert_eq!(std::fs::read_to_string(&task.log).unwrap(), id);
        }
    }
}

fn the_entrypoint_comes_first_unless_it_is_taken_away(world: &World) {
    let running = world.executor();
    let said = |layer: &str, entrypoint: &[&str]| {
        let entrypoint = Some(entrypoint.iter().map(|word| (*word).to_owned()).collect());
        let container = Arc::new(Container { entrypoint, ..world.container() });
        let task = Task { argv: vec!["echo".into(), "a b".into()], container, ..world.task(layer, "") };
        assert_eq!(running.run(&task).cause, Cause::Code(0));
        std::fs::read_to_string(&task.log).unwrap()
    };
    assert_eq!(said("With", &["echo", "first"]), "first echo a b\n");
    assert_eq!(said("Without", &[]), "a b\n");
}

fn what_is_known_to_be_wrong_is_said_before_anything_runs(world: &World) {
    let refused = |container: Container| {
        let session = world.session(vec![("Train".into(), Arc::new(container))]);
        match world.try_executor(session) {
            Ok(_) => panic!("it is prepared"),
            Err(error) => error.to_string(),
        }
    };
    let absent = "laminar-test:no-such-image".to_owned();
    let never = refused(Container { image: Some(absent), pull: Some(Pull::Never), ..Container::default() });
    assert!(never.contains("laminar-test:no-such-image") && never.contains("never"), "{never}");
    let without = refused(Container::default());
    assert!(without.contains("`Train`") && without.contains("container.image"), "{without}");
    let mount = Mount { source: "nowhere".to_owned(), target: "/x".to_owned(), read_only: true };
    let missing = refused(Container { mounts: vec![mount], ..world.container() });
    assert!(missing.contains("nowhere"), "{missing}");
    assert!(!world.folder.path().join("nowhere").exists());
}

fn an_image_is_the_same_for_every_scheduler_of_an_execution(world: &World) {
    let tag = format!("laminar-test:{}", world.execution);
    let ours = world.engine(&["image", "inspect", "--format", "{{.Id}}", &crate::world::image()]);
    world.engine(&["tag", &ours, &tag]);
    let container = Container { image: Some(tag.clone()), ..world.container() };
    let task = |layer: &str| Task { container: Arc::new(container.clone()), ..world.task(layer, "true") };
    let first = task("First");
    assert_eq!(world.executor().run(&first).cause, Cause::Code(0));
    // The tag is moved, here to nothing; what it was resolved to is still there.
    world.engine(&["rmi", &tag]);
    let second = task("Second");
    assert_eq!(world.executor().run(&second).cause, Cause::Code(0));
    let of = |task: &Task| world.engine(&["container", "inspect", "--format", "{{.Image}}", &world.name(task)]);
    assert_eq!(of(&first), of(&second));
}
