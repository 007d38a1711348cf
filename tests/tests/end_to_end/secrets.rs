//! Secrets: what a layer is handed, and that it is nowhere else. Each promise of `docs/security.md` has its test here, or
//! beside the engines in `containers/secrets.rs`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use laminar_tests::secrets::{BINARY, TOKEN, hides, shelves, tells_of, tells_of_any};
use laminar_tests::world::{World, eventually, finish, processes_with};

use serde_json::Value;

use crate::world;

/// Every way in which a layer gives away what it was handed, but for artifacts, which are its own.
const LEAKY: &str = r#"
flow: Leaky
layers:
  Read:
    secrets: [TOKEN, { name: KEY, file: keys/key.bin }, { name: OTHER, env: NAMED_OTHERWISE }]
    run: |
      cd "$LAMINAR_SECRETS"
      cmp KEY "$OLDPWD/keys/key.bin"
      ls -ld . KEY OTHER TOKEN | cut -c1-10 >"$LAMINAR_OUTPUTS/modes"
      env >"$LAMINAR_OUTPUTS/env"
      cksum <TOKEN >"$LAMINAR_OUTPUTS/sum"
      cat TOKEN KEY
      sleep 0.01
      cat TOKEN KEY OTHER
  Without: { run: 'env >"$LAMINAR_OUTPUTS/env"' }
  Loud: { needs: [Read], secrets: [TOKEN], run: 'cat "$LAMINAR_SECRETS/TOKEN"; ln -s /x "$LAMINAR_OUTPUTS/$(head -c 6 "$LAMINAR_SECRETS/TOKEN")"' }
"#;

fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.env("TOKEN", OsString::from_vec(TOKEN.to_vec())).env("NAMED_OTHERWISE", "another-secret");
    command
}

fn start(world: &World, args: &[&str]) -> Child {
    command(world, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn id(world: &World) -> String {
    world.run(["list", "--json"]).exits(0).json()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_layer_finds_exact_bytes_and_they_are_nowhere_else() {
    let world = world();
    world.write("flow.yaml", LEAKY);
    world.write("keys/key.bin", BINARY);
    let told = finish(start(&world, &["run", "--json"])).exits(1);
    let (id, root) = (id(&world), world.path().join(".laminar"));
    // Exact bytes, in files of its own.
    let mut sum = Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut sum.stdin.take().unwrap(), TOKEN).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(world.run(["cat", "Read/sum"]).exits(0).stdout, sum);
    let modes = "drwx------\n-r--------\n-r--------\n-r--------\n";
    assert_eq!(world.run(["cat", "Read/modes"]).exits(0).stdout, modes);
    // No layer has them as variables.
    for layer in ["Read", "Without"] {
        let env = world.run(["cat", &format!("{layer}/env")]).exits(0);
        assert!(!tells_of(&env.bytes) && !env.stdout.contains("NAMED_OTHERWISE") && !env.stdout.contains("another"));
        assert_eq!(env.stdout.contains("LAMINAR_SECRETS="), layer == "Read");
    }
    // Nothing is shown, nothing is kept; the raw log is the owner's alone.
    hides(&told);
    for args in [
        &["status"][..],
        &["status", "-v"],
        &["status", "--json"],
        &["status", "-f", "--json"],
        &["logs"],
        &["logs", "-f"],
        &["logs", "latest", "Read"],
        &["artifacts", "--json"],
        &["plan", "--json"],
    ] {
        hides(&finish(start(&world, args)));
    }
    let shown = finish(start(&world, &["logs", "latest", "Read"])).exits(0).stdout;
    assert!(shown.contains("***"), "{shown}");
    let logs = root.join("executions").join(&id).join("logs");
    for log in logs.read_dir().unwrap().map(|log| log.unwrap().path()) {
        assert!(tells_of(&std::fs::read(&log).unwrap()));
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(log).unwrap();
    }
    assert_eq!(tells_of_any(&root), Vec::<PathBuf>::new());
    assert_eq!(shelves(&id), Vec::<PathBuf>::new());
    world.is_quiet();
}

#[test]
fn what_is_missing_is_told_at_once_before_anything_runs() {
    let world = world();
    world.write("flow.yaml", LEAKY);
    for args in [&["run"][..], &["run", "--dry-run"], &["run", "--detach"], &["check"]] {
        let ran = world.run(args).exits(2);
        let ran = ran.says(&["secrets are missing", "`TOKEN` of Read, Loud: the variable `TOKEN` is not set"]);
        ran.says(&["`KEY` of Read: there is no file `", "keys/key.bin`", "`NAMED_OTHERWISE` is not set", "hint:"]);
    }
    assert!(!world.path().join(".laminar/executions").exists());
    let plan = world.run(["plan"]).exits(0).stdout;
    assert!(plan.contains("secrets TOKEN, KEY, OTHER"), "{plan}");
    // A short one is handed over, and it is said that it cannot be masked.
    world.write("short.yaml", "flow: Short\nlayers: { A: { secrets: [S], run: 'cat $LAMINAR_SECRETS/S' } }\n");
    let ran = finish(
        world
            .command(["run", "short.yaml"])
            .env("S", "abc")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    ran.exits(0).says(&["the secret `S` is too short to be masked"]);
}

/// `First` runs until it is let go, and reads its secret then.
const SLOW: &str = r#"
flow: Slow
layers:
  First: { secrets: [TOKEN], run: 'echo up >up; while [ ! -e go ]; do sleep 0.01; done; cat "$LAMINAR_SECRETS/TOKEN"' }
  Second: { needs: [First], secrets: [TOKEN], run: 'cat "$LAMINAR_SECRETS/TOKEN"' }
"#;

#[test]
fn when_the_scheduler_is_killed_its_layers_keep_their_secrets_and_take_them_along() {
    let world = world();
    world.write("flow.yaml", SLOW);
    // Another one, since other tests have the same.
    let token = [TOKEN, world.path().as_os_str().as_encoded_bytes()].concat();
    let mut run = world.command(["run"]);
    let child = run.env("TOKEN", OsString::from_vec(token.clone())).stdout(Stdio::null()).spawn().unwrap();
    let _ = world.wait_for_file("up");
    let id = id(&world);
    // While it runs, no process but the one that was given it has it.
    let pid = format!("{} ", child.id());
    assert_eq!(
        processes_with(&token).into_iter().filter(|it| !it.starts_with(&pid)).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    killed(child);
    assert_eq!(shelves(&id).len(), 1, "the layer still runs");
    // Others look after what is left, and leave what is in use alone.
    world.run(["gc"]).exits(0);
    assert_eq!(shelves(&id).len(), 1, "the layer still runs");
    world.write("go", "");
    eventually("the supervisor takes the secrets away", || {
        let tasks = shelves(&id).into_iter().flat_map(|shelf| shelf.read_dir().unwrap()).flatten();
        (tasks.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).count() == 0).then_some(())
    });
    // Where the variable is not set it is told before anything runs.
    let refused = world.run(["resume"]).exits(2);
    refused.says(&["a secret is missing", "`TOKEN` of ", "another shell"]);
    assert!(world.run(["status"]).exits(0).stdout.contains("interrupted"));
    finish(start(&world, &["resume"])).exits(0);
    let shown = finish(start(&world, &["logs"])).exits(0).stdout;
    // Where the secret is another one now, the rest of what it was is a text like any other.
    let shown = shown.replace(&*world.path().to_string_lossy(), "");
    assert_eq!(shown, "==> First <==\n***\n==> Second <==\n***");
    std::fs::remove_dir_all(world.path().join(".laminar/executions").join(&id).join("logs")).unwrap();
    assert_eq!(tells_of_any(&world.path().join(".laminar")), Vec::<PathBuf>::new());
    assert_eq!(shelves(&id), Vec::<PathBuf>::new());
    world.is_quiet();
}

#[test]
fn a_layer_that_is_found_running_needs_no_secret_again() {
    let world = world();
    let only = SLOW.split("  Second").next().unwrap();
    world.write("flow.yaml", only);
    let child = start(&world, &["run"]);
    let _ = world.wait_for_file("up");
    killed(child);
    let resumed = world.start(["resume"]);
    world.write("go", "");
    finish(resumed).exits(0);
    assert_eq!(shelves(&id(&world)), Vec::<PathBuf>::new());
    hides(&finish(start(&world, &["logs"])).exits(0));
}

#[test]
fn what_is_left_where_everything_died_goes_with_the_next_run() {
    let world = world();
    world.write("flow.yaml", SLOW);
    let child = start(&world, &["run"]);
    let _ = world.wait_for_file("up");
    let id = id(&world);
    killed(child);
    let supervisor = || {
        let status: Value = serde_json::from_str(&world.run(["status", "--json"]).exits(0).stdout).unwrap();
        status["supervisor"]["pid"].as_i64()
    };
    let pid = i32::try_from(supervisor().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the supervisor is gone", || supervisor().is_none().then_some(()));
    // It may be an engine that is about to start something, for all that anybody knows; later it cannot.
    let [shelf] = &shelves(&id)[..] else { panic!("nobody takes it away so soon") };
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::open(shelf).unwrap().set_modified(an_hour_ago).unwrap();
    world.write("other.yaml", "flow: Other\nlayers: { A: { run: 'true' } }\n");
    world.run(["run", "other.yaml"]).exits(0);
    assert_eq!(shelves(&id), Vec::<PathBuf>::new());
    // A cancel needs none.
    world.run(["cancel", &id]).exits(0);
    world.is_quiet();
}

#[test]
fn names_of_secrets_count_for_the_cache_and_values_do_not() {
    let world = world();
    let flow = |secrets: &str| {
        format!(
            "flow: Cached\nlayers: {{ A: {{ cache: true, secrets: {secrets}, run: 'echo x > $LAMINAR_OUTPUTS/x' }} }}\n"
        )
    };
    world.write("flow.yaml", flow("[TOKEN]"));
    let cached = |token: &str| {
        let ran = world.command(["run", "--json"]).env("TOKEN", token).env("MORE", "more").output().unwrap();
        String::from_utf8(ran.stdout).unwrap().contains("split_cached")
    };
    assert_eq!([cached("one value"), cached("another")], [false, true]);
    world.write("flow.yaml", flow("[TOKEN, MORE]"));
    assert!(!cached("another"));
    assert!(world.run(["why", "A"]).exits(0).stdout.contains("secrets"));
}
