//! Secrets in containers: exact bytes for whoever the user inside is, and nowhere else: not in what the engine shows, not in
//! processes, not in what is kept or told; also when the scheduler is killed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use laminar_tests::secrets::{BINARY, TOKEN, hides, shelves, tells_of, tells_of_any};
use laminar_tests::world::{eventually, finish, processes_with};

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::World;

on_each_engine!(secrets_are_seen_inside_and_nowhere_else);

const FLOW: &str = r#"
defaults:
  secrets: [TOKEN, { name: KEY, file: key.bin }]
  container: { image: "IMAGE", network: none, mounts: [".:/flow"] }
layers:
  First:
    run: |
      cmp "$LAMINAR_SECRETS/KEY" /flow/key.bin
      sha256sum <"$LAMINAR_SECRETS/TOKEN" >"$LAMINAR_OUTPUTS/sum"
      env >"$LAMINAR_OUTPUTS/env"
      if echo x >"$LAMINAR_SECRETS/TOKEN" || echo x >"$LAMINAR_SECRETS/more"; then exit 9; fi
      echo up >"$LAMINAR_OUTPUTS/up"; while [ ! -e /flow/go ]; do sleep 0.05; done
      cat "$LAMINAR_SECRETS/TOKEN" "$LAMINAR_SECRETS/KEY"
  Second:
    needs: [First]
    container: { user: "1234:1234" }
    run: 'cmp "$LAMINAR_SECRETS/KEY" /flow/key.bin; cat "$LAMINAR_SECRETS/TOKEN"; exit 3'
    catch: [3]
  Third: { needs: [First, Second], secrets: [], run: 'test -z "$LAMINAR_SECRETS"; test ! -e /laminar/secrets; cat /laminar/inputs/First/env' }
"#;

/// Another one for each test: the others look into processes too.
fn token(stage: &Stage<'_>) -> Vec<u8> {
    [TOKEN, stage.world.execution.to_string().as_bytes()].concat()
}

fn with_token(stage: &Stage<'_>, args: &[&str]) -> Child {
    let mut command = stage.command(args);
    command.env("TOKEN", OsString::from_vec(token(stage)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn secrets_are_seen_inside_and_nowhere_else(world: &World) {
    let stage = Stage::new(world);
    let folder = stage.program.path();
    stage.flow(FLOW);
    stage.program.write("key.bin", BINARY);
    // Whoever the layers' user is reads the file beside the flow; the one with the secret is another.
    for path in [folder.to_owned(), folder.join("key.bin")] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let scheduler = with_token(&stage, &["run", "--json"]);
    let root = folder.join(".laminar");
    let up = || root.join("executions").read_dir().ok()?.flatten().find(|it| it.path().join("outputs/0/up").exists());
    let id = eventually("the layer is up", up).file_name().into_string().unwrap();

    // While it runs: what the engine shows, and whose processes have it.
    let containers = world.containers();
    assert_eq!(containers.len(), 1);
    let shown = Command::new(world.dialect.program).arg("inspect").args(&containers).output().unwrap();
    assert!(shown.status.success() && !tells_of(&shown.stdout), "{}", String::from_utf8_lossy(&shown.stdout));
    let scheduler_is = format!("{} ", scheduler.id());
    let others = processes_with(&token(&stage)).into_iter().filter(|process| !process.starts_with(&scheduler_is));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());

    // It keeps them when its scheduler is killed, and whoever tidies up leaves them alone.
    let mut scheduler = scheduler;
    scheduler.kill().unwrap();
    scheduler.wait().unwrap();
    stage.run(&["gc"]);
    assert_eq!(shelves(&id).len(), 1);
    stage.run(&["resume"]).exits(2).says(&["a secret is missing", "`TOKEN` of "]);
    stage.program.write("go", "");
    hides(&finish(with_token(&stage, &["resume", "--json"])).exits(0));

    for args in [&["logs"][..], &["logs", "-f"], &["status", "-v"], &["status", "--json"], &["status", "-f", "--json"]]
    {
        hides(&finish(with_token(&stage, args)).exits(0));
    }
    let log = finish(with_token(&stage, &["logs", "latest", "First"])).exits(0).stdout;
    assert!(log.contains("***"), "{log}");
    let env = finish(with_token(&stage, &["logs", "latest", "Third"])).exits(0).stdout;
    assert!(env.contains("LAMINAR_SECRETS=/laminar/secrets") && !env.contains("TOKEN="), "{env}");
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut sum.stdin.take().unwrap(), &token(&stage)).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(stage.run(&["cat", "First/sum"]).exits(0).stdout, sum);

    let logs = root.join("executions").join(&id).join("logs");
    for log in logs.read_dir().unwrap().map(|log| log.unwrap().path()) {
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o044, 0, "{}", log.display());
    }
    assert_eq!(logs.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::remove_dir_all(logs).unwrap();
    assert_eq!(tells_of_any(&root), Vec::<PathBuf>::new());
    assert_eq!(shelves(&id), Vec::<PathBuf>::new());
}
