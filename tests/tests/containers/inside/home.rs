//! The image of a scheduler, made by the project's own Dockerfile, and how a container of it is started on an engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use laminar_tests::world::{Ran, eventually, finish};

use crate::stage::Stage;
use crate::world::{World, image, program};

/// Where the engine is heard inside.
const SOCKETS: [(&str, &str); 2] = [("docker", "/var/run/docker.sock"), ("podman", "/run/podman/podman.sock")];

/// Everything that a scheduler in a container needs. What it makes goes with it, by id.
pub(crate) struct Home<'a> {
    pub(crate) stage: Stage<'a>,
    /// The image's id.
    image: String,
    /// Where the engine is heard outside.
    socket: PathBuf,
    /// What answers there, where it is started for this test.
    service: Option<Child>,
    /// Named volumes of this test.
    volumes: Vec<String>,
}

impl<'a> Home<'a> {
    pub(crate) fn new(world: &'a World) -> Home<'a> {
        let (service, socket) = serve(world);
        let mut home = Home { stage: Stage::new(world), image: String::new(), socket, service, volumes: Vec::new() };
        home.build();
        home
    }

    /// The label of everything that this test makes.
    fn label(&self) -> String {
        format!("laminar.test.inside={}", self.stage.world.execution)
    }

    fn engine(&self, args: &[&str]) -> String {
        self.stage.world.engine(args)
    }

    /// Builds the image with the project's Dockerfile, and on top of it one with the engine's client as this machine has it:
    /// with libraries, where the manual asks for one that needs none.
    fn build(&mut self) {
        let folder = self.stage.world.folder.path().join("context");
        let binary = folder.join("target/x86_64-unknown-linux-gnu/release/laminar");
        std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
        std::fs::copy(program(), &binary).unwrap();
        std::fs::write(folder.join("target/other"), "not for the image").unwrap();
        // Not read from where they are: whoever runs this may not be able to reach them.
        std::fs::write(folder.join("Dockerfile"), include_str!("../../../../Dockerfile")).unwrap();
        std::fs::write(folder.join(".dockerignore"), include_str!("../../../../.dockerignore")).unwrap();
        let client =
            ["--build-arg", &format!("CLIENT={}", image()), "--build-arg", "PROGRAM=/bin/busybox"].map(str::to_owned);
        let name = ["--build-arg", "NAME=busybox"].map(str::to_owned);
        let plain = self.build_in(&folder, &[&client[..], &name].concat());
        let folder = self.stage.world.folder.path().join("with-client");
        let engine = format!("/usr/bin/{}", self.stage.world.dialect.program);
        for file in std::iter::once(engine.clone()).chain(libraries(&engine)) {
            let copy = folder.join("root").join(file.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(file, copy).unwrap();
        }
        let on_top = format!("FROM {plain}\nCOPY root/ /\nENV PATH=/usr/local/bin:/usr/bin\n");
        std::fs::write(folder.join("Dockerfile"), on_top).unwrap();
        self.image = self.build_in(&folder, &[]);
    }

    fn build_in(&self, folder: &Path, more: &[String]) -> String {
        let label = self.label();
        let mut words = vec!["build", "--quiet", "--network", "none", "--label", &label];
        // Without layers in between, which others that build the same would share, and lose.
        words.extend(if self.stage.world.dialect.name == "podman" { ["--layers=false"] } else { ["--no-cache"] });
        words.extend(more.iter().map(String::as_str));
        words.push(folder.to_str().unwrap());
        let mut command = Command::new(self.stage.world.dialect.program);
        // Where the newer builder of docker is not installed, its client asks for this.
        let built = command.args(words).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        String::from_utf8(built.stdout).unwrap().lines().last().unwrap().trim().to_owned()
    }

    /// Writes a flow: `text` follows its name, and `IMAGE` is the image of all tests, with what this machine demands.
    pub(crate) fn flow(&self, text: &str) {
        // Podman leaves limits to its client, but for those of its configuration: these it forgets when it is served.
        let conf = std::env::var("CONTAINERS_CONF").ok().filter(|_| self.stage.world.column == "podman");
        let conf = conf.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let limits = conf.lines().filter_map(|line| line.strip_prefix("default_ulimits = [")?.strip_suffix(']'));
        let limits =
            limits.flat_map(|line| line.split(", ")).map(|limit| format!("--ulimit={}", limit.trim_matches('"')));
        let options = limits.collect::<Vec<_>>().join(", ");
        self.stage.flow(&text.replace("IMAGE", &format!("'{}', options: [{options}]", image())));
    }

    /// Where the test's folder is.
    pub(crate) fn folder(&self) -> &str {
        self.stage.program.path().to_str().unwrap()
    }

    /// The options that let a container see the test's folder as everybody else does.
    pub(crate) fn as_it_is(&self) -> Vec<String> {
        ["--volume", &format!("{0}:{0}", self.folder()), "--workdir", self.folder()].map(str::to_owned).to_vec()
    }

    /// A named volume of this test.
    pub(crate) fn volume(&mut self) -> String {
        let name = format!("laminar-test-{}-{}", self.stage.world.execution, self.volumes.len());
        let label = self.label();
        self.engine(&["volume", "create", "--label", &label, &name]);
        self.volumes.push(name.clone());
        name
    }

    /// `laminar` with these arguments in a container with these options, not started yet.
    pub(crate) fn command(&self, options: &[String], args: &[&str]) -> Command {
        let dialect = self.stage.world.dialect;
        let inside = SOCKETS.iter().find(|(name, _)| *name == dialect.name).unwrap().1;
        let mut command = Command::new(dialect.program);
        command.args(["run", "--rm", "--network", "none", "--label", &self.label()]);
        command.arg("--volume").arg(format!("{}:{inside}", self.socket.display()));
        // What other tests reserve of the machine is no matter of this one.
        command.args(["--env", "LAMINAR_SHARES=/shares"]).args(options).arg(&self.image).args(args);
        if args.first() == Some(&"run") && !args.contains(&"--backend") {
            command.args(["--backend", dialect.name]);
        }
        command.current_dir(self.stage.world.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, options: &[String], args: &[&str]) -> Child {
        self.command(options, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn run(&self, options: &[String], args: &[&str]) -> Ran {
        finish(self.start(options, args))
    }

    /// The options of a container that can be spoken of by this name.
    pub(crate) fn named(&self, name: &str, options: &[String]) -> (String, Vec<String>) {
        let name = format!("laminar-test-{}-{name}", self.stage.world.execution);
        let named = [vec!["--name".to_owned(), name.clone()], options.to_vec()].concat();
        (name, named)
    }

    /// Asks the engine for something that may not be there.
    pub(crate) fn try_engine(&self, args: &[&str]) -> Output {
        Command::new(self.stage.world.dialect.program).args(args).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        let left = self.try_engine(&["ps", "--all", "--quiet", "--filter", &format!("label={}", self.label())]);
        for id in String::from_utf8_lossy(&left.stdout).split_whitespace() {
            self.try_engine(&["rm", "--force", "--volumes", id]);
        }
        // The layers' containers use the volumes.
        self.stage.world.clear();
        for volume in &self.volumes {
            self.try_engine(&["volume", "rm", volume]);
        }
        let label = format!("label={}", self.label());
        let images = self.try_engine(&["images", "--all", "--quiet", "--filter", &label]);
        for image in String::from_utf8_lossy(&images.stdout).split_whitespace() {
            self.try_engine(&["rmi", "--force", image]);
        }
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

/// The engine's socket. Podman has none unless somebody serves it.
fn serve(world: &World) -> (Option<Child>, PathBuf) {
    if world.dialect.name == "docker" {
        return (None, PathBuf::from(SOCKETS[0].1));
    }
    let socket = world.folder.path().join("podman.sock");
    let mut command = Command::new(world.dialect.program);
    command.args(["system", "service", "--time", "0"]).arg(format!("unix://{}", socket.display()));
    let quiet = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let service = quiet.spawn().unwrap();
    eventually("podman is served", || std::os::unix::net::UnixStream::connect(&socket).ok());
    (Some(service), socket)
}

/// What a program is linked with.
fn libraries(program: &str) -> Vec<String> {
    let shown = Command::new("ldd").arg(program).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    shown.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
