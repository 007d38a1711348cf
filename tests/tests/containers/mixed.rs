//! One flow on plain processes, docker and podman at once.

use laminar_tests::world::World as Program;

use crate::world::{image, on_all, program};

/// A flow in which each backend reads what the two others have left. Each layer also says where it ran: `here` is in the
/// flow file's folder alone, the other file in podman's containers.
fn flow() -> String {
    let place = "{ ls here /run/.containerenv 2>/dev/null || true; } > $LAMINAR_OUTPUTS/place";
    let hand =
        "cat $LAMINAR_INPUTS/*/chain > $LAMINAR_OUTPUTS/chain; echo $LAMINAR_LAYER_NAME >> $LAMINAR_OUTPUTS/chain";
    let layer = |name: &str, backend: &str, needs: &str| {
        let hand = if needs.is_empty() { "echo $LAMINAR_LAYER_NAME > $LAMINAR_OUTPUTS/chain" } else { hand };
        format!("  {name}: {{ backend: {backend}, needs: [{needs}], run: '{place}; {hand}' }}\n")
    };
    let mut flow = format!(
        "flow: Mixed\nbackends: {{ docker: {{ network: none }}, podman: {{ network: none }} }}\n\
         defaults: {{ container: {{ image: '{}' }} }}\nlayers:\n",
        image()
    );
    for (name, backend, needs) in [
        ("L1", "local", ""),
        ("D1", "docker", "L1"),
        ("P1", "podman", "D1"),
        ("L2", "local", "P1"),
        ("P2", "podman", "L2"),
        ("D2", "docker", "P2"),
        ("L3", "local", "D2"),
    ] {
        flow += &layer(name, backend, needs);
    }
    flow
}

#[test]
fn one_flow_runs_on_local_docker_and_podman_and_artifacts_pass_between_them() {
    on_all(&["docker", "podman"], || {
        let program = Program::new(program());
        program.write("flow.yaml", flow());
        program.write("here", "");
        let ran = program.run(["run", "--jobs", "3"]).exits(0);
        assert!(ran.stderr.contains("backends `local`, `docker`, `podman`"), "{}", ran.stderr);
        assert_eq!(program.run(["cat", "L3/chain"]).exits(0).stdout, "L1\nD1\nP1\nL2\nP2\nD2\nL3\n");
        let place = |layer: &str| program.run(["cat", &format!("{layer}/place")]).exits(0).stdout;
        assert!(place("L2").contains("here"));
        assert_eq!([place("D1"), place("P2")], ["", "/run/.containerenv\n"]);
        let status = program.run(["status", "--json"]).exits(0);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["backends"], serde_json::json!(["local", "docker", "podman"]));
        let of = |layer: &str| {
            let layers = status["layers"].as_array().unwrap();
            layers.iter().find(|it| it["layer"] == layer).unwrap()["backend"].as_str().unwrap().to_owned()
        };
        assert_eq!(["L1", "D1", "P1"].map(of), ["local", "docker", "podman"]);
        assert!(program.run(["status"]).exits(0).stdout.contains("BACKEND"));
        // Nothing of it is left on either engine.
        let id = status["id"].as_str().unwrap();
        for engine in ["docker", "podman"] {
            let ours = format!("label=laminar.execution={id}");
            let left = std::process::Command::new(engine).args(["ps", "-aq", "--filter", &ours]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{engine}");
        }
    });
}

#[test]
fn a_cancel_ends_the_layers_of_all_backends() {
    on_all(&["docker", "podman"], || {
        let program = Program::new(program());
        let script = "touch $LAMINAR_OUTPUTS/on; sleep 1000";
        let layer = |name: &str, backend: &str| {
            format!("  {name}: {{ backend: {backend}, container: {{ image: '{}' }}, run: '{script}' }}\n", image())
        };
        let layers = layer("L", "local") + &layer("D", "docker") + &layer("P", "podman");
        program.write("flow.yaml", format!("flow: Mixed\nlayers:\n{layers}"));
        let running = program.start(["run", "--json", "--jobs", "3", "--grace", "100ms"]);
        laminar_tests::world::eventually("all three run", || {
            let executions = std::fs::read_dir(program.path().join(".laminar/executions")).ok()?;
            let outputs = executions.flatten().map(|it| it.path().join("outputs"));
            let on = outputs.flat_map(|it| std::fs::read_dir(it).into_iter().flatten().flatten());
            (on.filter(|it| it.path().join("on").exists()).count() == 3).then_some(())
        });
        laminar_tests::world::signal(&running, rustix::process::Signal::INT);
        let ran = laminar_tests::world::finish(running).exits(130);
        let ended = ran.json().into_iter().filter(|it| it["event"] == "attempt_exited");
        let causes: Vec<_> = ended.map(|it| it["cause"].as_str().unwrap().to_owned()).collect();
        assert_eq!(causes, ["cancelled"; 3]);
        program.is_quiet();
    });
}

#[test]
fn a_killed_schedulers_layers_are_found_again_on_every_backend() {
    on_all(&["docker", "podman"], || {
        let program = Program::new(program());
        let script = "echo $LAMINAR_LAYER_ATTEMPT >> $LAMINAR_LAYER_NAME.ran; until test -e go; do sleep 0.05; done; \
                          echo over > $LAMINAR_OUTPUTS/word";
        let layer = |name: &str, backend: &str| format!("  {name}: {{ backend: {backend}, run: '{script}' }}\n");
        let layers = layer("L", "local") + &layer("D", "docker") + &layer("P", "podman");
        let container = format!("{{ image: '{}', network: none, workdir: /flow, mounts: ['.:/flow'] }}", image());
        let all =
            "  All: { needs: [L, D, P], backend: local, run: 'cat $LAMINAR_INPUTS/*/word > $LAMINAR_OUTPUTS/words' }";
        let flow = format!("flow: Mixed\ndefaults: {{ container: {container} }}\nlayers:\n{layers}{all}\n");
        program.write("flow.yaml", flow);
        let mut running = program.start(["run", "--jobs", "3"]);
        for layer in ["L", "D", "P"] {
            let _ = program.wait_for_file(&format!("{layer}.ran"));
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let resumed = program.start(["resume"]);
        program.write("go", "");
        let ran = laminar_tests::world::finish(resumed).exits(0);
        assert!(ran.stderr.contains("finished: 4 layers"), "{}", ran.stderr);
        for layer in ["L", "D", "P"] {
            assert_eq!(program.read(&format!("{layer}.ran")), "1\n", "{layer} ran once");
        }
        assert_eq!(program.run(["cat", "All/words"]).exits(0).stdout, "over\nover\nover\n");
        program.is_quiet();
    });
}
