//! What engines have of executions that are over goes; what is others' stays, whatever it is called.

use laminar_tests::world::{World as Program, finish};

use crate::on_each_engine;
use crate::world::{World, image, program};

on_each_engine!(
    what_is_left_of_executions_goes_and_what_is_others_stays,
    what_can_be_resumed_stays_until_it_is_given_up,
    an_engine_that_is_silent_is_told_where_executions_ran_on_it
);

/// A program in a folder of its own, and what it makes, all of which goes in the end.
struct Scene<'w> {
    world: &'w World,
    program: Program,
    made: std::cell::RefCell<Vec<String>>,
}

impl Scene<'_> {
    fn new(world: &World) -> Scene<'_> {
        let scene = Scene { world, program: Program::new(program()), made: std::cell::RefCell::default() };
        let flow = world.flow();
        let container = format!(
            "defaults: {{ container: {{ image: '{}', network: none, mounts: ['.:/flow'], workdir: /flow }} }}",
            image()
        );
        scene.program.write(
            "done.yaml",
            format!("flow: {flow}\n{container}\nlayers:\n  A: {{ run: 'echo x > \"$LAMINAR_OUTPUTS/x\"' }}\n"),
        );
        let waits = "echo up > up; while [ ! -e go ]; do sleep 0.05; done; echo x > \"$LAMINAR_OUTPUTS/x\"";
        scene.program.write("waits.yaml", format!("flow: {flow}\n{container}\nlayers:\n  A: {{ run: '{waits}' }}\n"));
        scene
    }

    fn run(&self, flow: &str) -> String {
        self.program.run(["run", flow, "-q", "--backend", self.world.dialect.name]).exits(0);
        self.latest()
    }

    fn latest(&self) -> String {
        self.program.run(["list", "--json"]).exits(0).json()[0]["id"].as_str().unwrap().to_owned()
    }

    fn folder(&self, id: &str) -> String {
        let path = self.program.path().canonicalize().unwrap().join(".laminar/executions").join(id);
        path.to_str().unwrap().to_owned()
    }

    /// A container made by hand, started or not; returns its id.
    fn container(&self, verb: &[&str], name: &str, labels: &[(&str, &str)]) -> String {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("--label={name}={value}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let (test, image) = ("--label=laminar.test=1", image());
        let args = [verb, &["--network=none", "--name", name, test], &labels, &[&image, "sleep", "600"]].concat();
        let id = self.world.engine(&args);
        self.made.borrow_mut().push(id.clone());
        id
    }

    fn is_there(&self, id: &str) -> bool {
        let listed = self.world.engine(&["ps", "--all", "--quiet", "--no-trunc"]);
        listed.lines().any(|line| line == id)
    }

    /// How many containers there are of an execution.
    fn of(&self, id: &str) -> usize {
        let filter = format!("label=laminar.execution={id}");
        self.world.engine(&["ps", "--all", "--quiet", "--filter", &filter]).lines().count()
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        for id in self.made.borrow().iter().filter(|id| self.is_there(id)) {
            self.world.engine(&["rm", "--force", "--volumes", id]);
        }
    }
}

fn what_is_left_of_executions_goes_and_what_is_others_stays(world: &World) {
    let scene = Scene::new(world);
    let (ended, gone) = (scene.run("done.yaml"), laminar_core::id::ExecutionId::now().to_string());
    let name = |what: &str| format!("laminar-{ended}-{what}-0-1");
    let (ours, unknown) = (scene.folder(&ended), scene.folder(&gone));
    let label =
        |execution: &str, root: &str| [("laminar.execution", execution.to_owned()), ("laminar.root", root.to_owned())];
    let make = |verb: &[&str], what: &str, labels: &[(&str, String)]| {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        scene.container(verb, &name(what), &labels)
    };
    let run: &[&str] = &["run", "--detach"];
    let doomed = [
        make(&["create"], "NeverStarted", &label(&ended, &ours)),
        make(run, "Running", &label(&ended, &ours)),
        make(run, "Unknown", &label(&gone, &unknown)),
        make(&["create"], "UnknownToo", &label(&gone, &unknown)),
    ];
    let elsewhere = tempfile::tempdir().unwrap();
    let (there, nowhere) = (elsewhere.path().to_str().unwrap(), elsewhere.path().join("nowhere"));
    let others = [
        // Of our name only; of our execution's id, but another root; of a root that is gone, but only just.
        make(&["create"], "NameOnly", &[]),
        make(&["create"], "NoRoot", &label(&ended, &ours)[..1]),
        make(&["create"], "NoExecution", &label(&ended, &ours)[1..]),
        make(&["create"], "Copy", &label(&ended, there)),
        make(run, "Gone", &label(&gone, nowhere.to_str().unwrap())),
        make(&["create"], "Mismatch", &label(&gone, &ours)),
    ];
    let tasks = std::path::Path::new(&ours).join(world.dialect.name).join("tasks/B.0.1");
    std::fs::create_dir_all(&tasks).unwrap();

    scene.program.run(["gc"]).exits(0);
    assert!(doomed.iter().all(|id| scene.is_there(id)), "they are too young");
    let told = scene.program.run(["gc", "--grace", "0s", "--json", "--dry-run"]).exits(0).json();
    assert!(doomed.iter().all(|id| scene.is_there(id)), "it was not meant");
    let mut named: Vec<_> =
        told.iter().filter(|it| it["kind"] == "leftover").map(|it| it["id"].as_str().unwrap()).collect();
    let mut expected: Vec<_> = doomed.iter().map(String::as_str).collect();
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
    assert!(told.iter().any(|it| it["text"].as_str().is_some_and(|text| text.contains(there))), "{told:?}");
    scene.program.run(["gc", "--grace", "0s"]).exits(0).says(&["4 leftovers"]);
    assert!(doomed.iter().all(|id| !scene.is_there(id)));
    assert!(others.iter().all(|id| scene.is_there(id)));
    assert!(!tasks.exists(), "the private folder of one that has ended");
    let again = scene.program.run(["gc", "--grace", "0s"]).exits(0);
    assert!(again.stderr.contains("nothing to remove"), "{}", again.stderr);
    let kept = scene.program.run(["gc", "--grace", "0s", "-v", "-n"]).exits(0);
    let counted = |line: &str| {
        line.contains(&format!("{}: ", world.dialect.name)) && line.contains(" of ") && line.contains("deleted root")
    };
    assert!(kept.stderr.lines().any(counted), "{}", kept.stderr);
    assert_eq!(scene.program.run(["cat", &ended, "A/x"]).exits(0).stdout, "x\n");
}

fn an_engine_that_is_silent_is_told_where_executions_ran_on_it(world: &World) {
    let scene = Scene::new(world);
    let backend = world.dialect.name;
    let deaf = |args: &[&str]| {
        let mut command = scene.program.command(args);
        // A path of nothing but the shell has no engine's client.
        let output =
            command.env("PATH", scene.program.path()).env("DOCKER_HOST", "unix:///nope.sock").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said = deaf(&["gc"]);
    assert!(!said.contains(backend), "nobody uses it: {said}");
    scene.run("done.yaml");
    let said = deaf(&["gc"]);
    let told = [format!("{backend} is not available"), format!("{backend} does not answer")];
    assert!(told.iter().all(|told| said.contains(told)), "{said}");
    let said = deaf(&["gc", "--json"]);
    assert!(said.contains(&told[0]) && said.contains(&format!("\"silent\":[\"{backend}\"]")), "{said}");
}

fn what_can_be_resumed_stays_until_it_is_given_up(world: &World) {
    let scene = Scene::new(world);
    let other = Scene::new(world);
    let backend = world.dialect.name;
    let theirs = other.program.start(["run", "waits.yaml", "--backend", backend]);
    let mut killed = scene.program.start(["run", "waits.yaml", "--backend", backend]);
    let _ = (other.program.wait_for_file("up"), scene.program.wait_for_file("up"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let first = scene.latest();
    let strict = ["gc", "--grace", "0s", "--keep", "0", "--max-size", "1"];
    scene.program.run(strict).exits(0);
    assert_eq!(scene.of(&first), 1, "it runs on");
    scene.program.write("go", "");
    scene.program.run(["resume"]).exits(0);
    assert_eq!(scene.program.run(["cat", &first, "A/x"]).exits(0).stdout, "x\n");
    std::fs::remove_file(scene.program.path().join("go")).unwrap();
    std::fs::remove_file(scene.program.path().join("up")).unwrap();

    let mut killed = scene.program.start(["run", "waits.yaml", "--backend", backend]);
    let _ = scene.program.wait_for_file("up");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let second = scene.latest();
    assert_eq!(scene.of(&second), 1);
    scene.program.run([&strict[..], &["--interrupted"]].concat()).exits(0).says(&["2 executions", "1 leftover"]);
    assert_eq!((scene.of(&first), scene.of(&second)), (0, 0));
    assert!(!std::path::Path::new(&scene.folder(&second)).exists());

    // Whoever ran beside it has noticed nothing.
    other.program.write("go", "");
    finish(theirs).exits(0);
}
