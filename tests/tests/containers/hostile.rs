//! Layers in containers that mean harm to the machine: by what they put where the scheduler reads and writes.

use std::time::Duration;

use laminar_core::executor::{Cause, Exit};
use laminar_tests::world::under;

use crate::on_each_engine;
use crate::stage::Stage;
use crate::world::World;

on_each_engine!(
    no_file_of_the_host_is_read_or_written_through_links_of_a_layer,
    what_a_layer_leaves_is_taken_as_it_is,
    whoever_the_layer_is_reads_what_it_is_given_and_no_other_user_does,
    nothing_that_a_layer_of_another_user_makes_is_there_for_good,
);

/// Puts links wherever the scheduler might write, one to an exit of another task where it reads, and a pipe nobody writes to.
const HARM: &str = r#"
    cd /laminar/.task
    ls -A > $LAMINAR_OUTPUTS/seen
    for name in asked .asked-draft .exit-draft terms .terms-draft started shared variables oom; do
      rm -f $name; ln -s PRECIOUS $name
    done
    if rm -f /laminar/.log || mv /laminar/.log /laminar/other || ln -sf PRECIOUS /laminar/.log; then exit 9; fi 2>/dev/null
    test ! -L /laminar/.log
    ln -s PRECIOUS exit
"#;

fn no_file_of_the_host_is_read_or_written_through_links_of_a_layer(world: &World) {
    let precious = world.folder.path().join("precious");
    let said = serde_json::to_string(&Exit::code(77)).unwrap();
    std::fs::write(&precious, &said).unwrap();
    let harm = HARM.replace("PRECIOUS", precious.to_str().unwrap());
    let running = world.executor();

    let stopped = world.task("Stopped", &format!("{harm} touch $LAMINAR_OUTPUTS/on; exec sleep 1000"));
    let handle = running.start(&stopped);
    running.until(&stopped, "on");
    assert!(
        !world.output(&stopped, "seen").contains("terms"),
        "what decides about files of the host is not seen inside"
    );
    running.stop(&stopped, Duration::from_millis(100));
    let exit = running.wait(&handle);
    assert_eq!(exit.cause, Cause::Cancelled, "{}", exit.evidence);

    let ended = world.task("Ended", &format!("{harm} rm exit; mkfifo exit; exit 3"));
    let exit = running.run(&ended);
    assert_eq!(exit.cause, Cause::Code(3), "{}", exit.evidence);

    // Another scheduler finds both, and is told the same.
    drop(running);
    let running = world.executor();
    for (task, cause) in [(&stopped, Cause::Cancelled), (&ended, Cause::Code(3))] {
        let laminar_core::executor::Recovered::Exited(handle) = running.recover(task) else { panic!("it is over") };
        assert_eq!(running.wait(&handle).cause, cause);
    }
    running.does(laminar_core::executor::Executor::remove(&running.executor, &[handle])).unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), said);
}

/// What is not a file, a folder or a link is refused, with a name; what leads out of the outputs as well.
fn what_a_layer_leaves_is_taken_as_it_is(world: &World) {
    use laminar_core::datastore::local::LocalDatastore;
    use laminar_core::datastore::{AdoptError, Datastore};
    let running = world.executor();
    let leaves =
        "cd $LAMINAR_OUTPUTS; mkfifo pipe; ln -s /etc/passwd passwd; ln -s ../../.. up; ln -s . self; echo x > good";
    let task = world.task("Leaves", leaves);
    assert_eq!(running.run(&task).cause, Cause::Code(0));
    let store = LocalDatastore::new(world.folder.path().join("objects"));
    let Err(AdoptError::Rejected(told)) = store.adopt(&task.outputs) else { panic!("it must be refused") };
    let mut told: Vec<&str> = told.iter().map(|it| it.path.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["passwd", "pipe", "self", "up"]);
}

const FLOW: &str = r#"
defaults: { container: { image: "IMAGE", network: none, user: "1234:1234" } }
parameters: { seed: 7 }
layers:
  Left: { run: 'umask 077; mkdir -p "$LAMINAR_OUTPUTS/d/e"; echo x > "$LAMINAR_OUTPUTS/d/e/x"; echo "[1, 2]" > "$LAMINAR_OUTPUTS/list.json"' }
  Each:
    foreach: { at: "${{ Left.list }}" }
    run: 'id -u; cat "$LAMINAR_EACH" "$LAMINAR_INPUTS/Left/d/e/x" "$LAMINAR_INPUTS/Parameters/seed.json"; echo left > "$LAMINAR_OUTPUTS/left"'
"#;

fn whoever_the_layer_is_reads_what_it_is_given_and_no_other_user_does(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new(world);
    stage.flow(FLOW);
    for umask in [0o077, 0o000] {
        let ran = under(umask, stage.command(&["run"])).output().unwrap();
        assert!(ran.status.success(), "umask {umask:o}: {}", String::from_utf8_lossy(&ran.stderr));
        let log = stage.run(&["logs", "latest", "Each[1]"]).exits(0).stdout;
        assert!(log.starts_with("1234\n") && log.ends_with("x\n7"), "umask {umask:o}: {log}");
        let root = stage.program.path().join(".laminar");
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700, "umask {umask:o}");
        for execution in root.join("executions").read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            assert_eq!(
                (mode(&execution), mode(&execution.join(world.dialect.name))),
                (0o700, 0o700),
                "umask {umask:o}"
            );
            for log in execution.join("logs").read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                // Whoever the user inside is writes it; in a folder that is closed.
                assert_eq!(mode(&log) & 0o055, 0, "umask {umask:o}: {}", log.display());
            }
        }
    }
}

fn nothing_that_a_layer_of_another_user_makes_is_there_for_good(world: &World) {
    let stage = Stage::new(world);
    stage.flow(
        r#"
layers:
  Closed:
    container: { image: "IMAGE", network: none, user: "1234:1234" }
    run: 'for at in /laminar/.task "$LAMINAR_OUTPUTS"; do mkdir -p $at/a/b; touch $at/a/b/c; chmod 000 $at/a/b $at/a; done; exit 3'
"#,
    );
    stage.run(&["run"]).exits(1);
    stage.run(&["rm", "latest"]).exits(0);
    assert_eq!(stage.program.path().join(".laminar/executions").read_dir().unwrap().count(), 0);
}
