//! Images of a test's own in a registry that wants a login. All of them are removed from the engine in the end.

use std::io::Write;
use std::process::{Command, Stdio};

use laminar_tests::gaps;
use laminar_tests::world::Ran;

use super::door::Door;
use crate::stage::Stage;
use crate::world::{World, image};

pub(crate) struct Shop<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) door: Door,
    user: String,
    password: String,
}

impl<'a> Shop<'a> {
    /// A shop before the registry of `tests/engines`, if that is there: nobody has logged in.
    pub(crate) fn new(world: &'a World) -> Option<Shop<'a>> {
        let said = |name: &str| std::env::var(name).unwrap_or_default();
        let registry = said("LAMINAR_TEST_REGISTRY");
        if let Err(error) = std::net::TcpStream::connect(&registry) {
            gaps::skip("registry", &format!("LAMINAR_TEST_REGISTRY `{registry}`: {error}; see tests/engines"));
            assert!(!gaps::is_required("registry"), "a registry is required");
            return None;
        }
        let door = Door::before(&registry);
        let mut stage = Stage::new(world);
        // Credentials and settings are the engine's own, in files of this test's own.
        let auth = stage.program.write("auth.json", "{}");
        let insecure = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", door.address);
        let registries = stage.program.write("registries.conf", insecure);
        let docker = stage.program.path().join("docker");
        for (name, path) in
            [("DOCKER_CONFIG", docker), ("REGISTRY_AUTH_FILE", auth), ("CONTAINERS_REGISTRIES_CONF", registries)]
        {
            stage.env.push((name.to_owned(), path.to_str().unwrap().to_owned()));
        }
        let (user, password) = (said("LAMINAR_TEST_REGISTRY_USER"), said("LAMINAR_TEST_REGISTRY_PASSWORD"));
        Some(Shop { stage, door, user, password })
    }

    /// The same, logged in.
    pub(crate) fn open(world: &'a World) -> Option<Shop<'a>> {
        let shop = Shop::new(world)?;
        shop.log_in();
        Some(shop)
    }

    pub(crate) fn log_in(&self) {
        let args = ["login", "--username", &self.user, "--password-stdin", &self.door.address];
        let mut login =
            self.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        login.stdin.take().unwrap().write_all(self.password.as_bytes()).unwrap();
        assert!(login.wait_with_output().unwrap().status.success());
    }

    pub(crate) fn log_out(&self) {
        self.engine(&["logout", &self.door.address]);
    }

    /// The name of an image here. Repositories are this test's own.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{}-{}", self.door.address, self.stage.world.execution, image)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.stage.world.dialect.program);
        command.args(args).current_dir(self.stage.program.path()).stdin(Stdio::null());
        command.envs(self.stage.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Asks the engine's own command line, with the credentials.
    pub(crate) fn engine(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Whether the engine has an image.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.command(&["image", "inspect", name]).output().unwrap().status.success()
    }

    /// An image that says `word`, in the registry and not in the engine. Returns its digest.
    pub(crate) fn stock(&self, name: &str, word: &str) -> String {
        self.make(name, word);
        let _ = self.door.take();
        self.engine(&["push", name]);
        let put = |request: &super::door::Request| request.method == "PUT" && request.path.contains("/manifests/");
        let requests = self.door.take();
        let digest = requests.into_iter().find(put).and_then(|request| request.digest).unwrap();
        self.engine(&["rmi", name]);
        digest
    }

    /// An image that says `word`, in the engine only.
    pub(crate) fn make(&self, name: &str, word: &str) {
        let root = self.stage.program.path().join("root.tar");
        let root = root.to_str().unwrap();
        if !std::path::Path::new(root).exists() {
            let from = self.engine(&["create", "--label", &self.label(), "--network", "none", &image(), "true"]);
            // A layer of this test's own: podman cannot make an image of one that another test removes just then.
            let own = self.stage.program.write("own", self.label());
            self.engine(&["cp", own.to_str().unwrap(), &format!("{from}:/own")]);
            self.engine(&["export", "--output", root, &from]);
            self.engine(&["rm", "--force", &from]);
        }
        let label = format!("LABEL {}", self.label());
        let word = format!("ENV WORD={word}");
        self.engine(&["import", "--change", &label, "--change", "ENV PATH=/bin", "--change", &word, root, name]);
    }

    fn label(&self) -> String {
        format!("laminar.test.shop={}", self.stage.world.execution)
    }

    /// Runs the flow.
    pub(crate) fn run(&self) -> Ran {
        self.stage.run(&["run"])
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        let ours = format!("label={}", self.label());
        let listed = |args: &[&str]| {
            let output = self.command(args).output();
            let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        for container in listed(&["ps", "--all", "--quiet", "--filter", &ours]) {
            let _ = self.command(&["rm", "--force", &container]).output();
        }
        self.stage.world.clear();
        for image in listed(&["images", "--quiet", "--no-trunc", "--filter", &ours]) {
            let _ = self.command(&["rmi", "--force", &image]).output();
        }
    }
}
