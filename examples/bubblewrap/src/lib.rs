//! Layers in sandboxes of bubblewrap: namespaces of their own and a file system of what they need, without an engine.
//!
//! A layer sees the system's programs, libraries and `/etc`, the flow file's folder without the executions in it, its inputs,
//! values and secrets, none of which it can change; its outputs; and what `container.mounts` and the options add. `/tmp` and `/dev/shm` are its own. It has no
//! capability, no network unless it is told to have the machine's, and sees no process but its own.
//!
//! This crate is an example of a backend of one's own; `docs/backends.md` tells how it came to be.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use laminar_backend_local::Launcher;
use laminar_core::container::{Container, Feature, Mount};
use laminar_core::executor::{ExecutorError, Probe, Session, Task};
use laminar_core::option::{Kind, Options, Spec};

/// What `--backend` takes.
pub const NAME: &str = "bubblewrap";

/// The backend, for a command line.
#[must_use]
pub fn backend() -> laminar::Backend {
    let nice = laminar_backend_local::OPTIONS.iter().cloned();
    laminar::Backend::launching(NAME, "sandboxes of bubblewrap", Bubblewrap::new)
        .options(OPTIONS.into_iter().chain(nice))
}

/// The backend's options.
pub const OPTIONS: [Spec; 4] = [
    Spec::new("program", Kind::Text, "the program: a name on PATH or a path").or("bwrap"),
    Spec::new("network", NETWORKS, "the network of layers that say nothing of it").or("none"),
    Spec::new("share", Kind::Text, "more folders of this machine that layers can read, separated by `:`"),
    Spec::new("bind", Kind::Text, "more folders of this machine that layers can change, separated by `:`"),
];

/// What `network` may be.
const NETWORKS: Kind = Kind::OneOf(&["none", "host"]);

/// The system's own folders; those that a machine has.
const SYSTEM: [&str; 10] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/gnu"];

/// Where `/etc/resolv.conf` leads on many machines.
const NAMES: &str = "/run/systemd/resolve";

/// Always said: what a sandbox is apart from its files.
const APART: [&str; 9] = [
    "--unshare-user-try",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--cap-drop",
    "ALL",
    "--die-with-parent",
    "--as-pid-1",
];

/// What launches layers in sandboxes.
pub struct Bubblewrap {
    program: String,
    network: String,
    share: Vec<String>,
    bind: Vec<String>,
}

impl Bubblewrap {
    /// With these of its [`OPTIONS`].
    #[must_use]
    pub fn new(options: &Options) -> Bubblewrap {
        let text = |name| options.text(name).unwrap_or_default().to_owned();
        let folders = |name| text(name).split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        let (program, network) = (found(&text("program")), text("network"));
        Bubblewrap { program, network, share: folders("share"), bind: folders("bind") }
    }

    fn run(&self, words: &[&str]) -> Result<Output, ExecutorError> {
        let output = Command::new(&self.program).args(words).output();
        let reason = match output {
            Ok(output) if output.status.success() => return Ok(output),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("cannot execute `{}`: {error}", self.program),
        };
        let hint = if Path::new(&self.program).exists() {
            "see whether users may make namespaces here: `sysctl kernel.unprivileged_userns_clone user.max_user_namespaces`"
        } else {
            "install it: `apt-get install bubblewrap`, `dnf install bubblewrap`; or name it: `-o bubblewrap.program=/path/of/bwrap`"
        };
        Err(ExecutorError::Unavailable { engine: NAME.to_owned(), reason, hint: hint.to_owned() })
    }
}

impl Launcher for Bubblewrap {
    fn probe(&self, mut machine: Probe) -> Result<Probe, ExecutorError> {
        let said = self.run(&["--version"])?;
        // It is there; whether it may do its work is another question.
        self.run(&[&APART[..], &["--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]].concat())?;
        machine.version = String::from_utf8_lossy(&said.stdout).trim().trim_start_matches("bubblewrap ").to_owned();
        machine.facts.push(("program", self.program.clone()));
        machine.facts.push(("network", self.network.clone()));
        machine.enforces.extend([Feature::Workdir, Feature::Network, Feature::Mounts]);
        machine.enforces.extend([Feature::ReadOnly, Feature::ShmSize]);
        Ok(machine)
    }

    fn check(&self, layer: &str, container: &Container, workdir: &Path) -> Result<(), ExecutorError> {
        let refused = |verb: &str, reason: String| {
            Err(ExecutorError::Refused { engine: NAME.to_owned(), verb: format!("{verb} `{layer}`"), reason })
        };
        if let Some(network) = container.network.as_deref().filter(|network| !["none", "host"].contains(network)) {
            return refused("give a network to", format!("`network` is `{network}`, but must be `none` or `host`"));
        }
        if workdir == Path::new("/") {
            return refused("run", "the flow file is in `/`, which would have to be seen whole; move it".to_owned());
        }
        let missing = container.mounts.iter().map(|mount| source(mount, workdir)).find(|path| !path.exists());
        missing.map_or(Ok(()), |path| refused("mount a folder for", format!("there is no `{}`", path.display())))
    }

    fn launch(&self, task: &Task, session: &Session) -> Result<Vec<String>, ExecutorError> {
        let container = &task.container;
        self.check(&task.id.layer, container, &session.workdir)?;
        let mut words = Words(vec![self.program.clone()]);
        words.add(&APART);
        if container.network.as_ref().unwrap_or(&self.network) == "none" {
            words.add(&["--unshare-net"]);
        } else {
            words.add(&["--ro-bind-try", NAMES, NAMES]);
        }
        for folder in SYSTEM {
            words.add(&["--ro-bind-try", folder, folder]);
        }
        words.add(&["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]);
        if let Some(size) = container.shm_size {
            words.add(&["--perms", "1777", "--size", &size.to_string(), "--tmpfs", "/dev/shm"]);
        }
        for folder in &self.share {
            words.bind("--ro-bind", folder, folder);
        }
        // What comes later lies on top: the folder of the flow may hold all the others.
        words.at("--ro-bind", &session.workdir)?;
        for folder in &self.bind {
            words.bind("--bind", folder, folder);
        }
        // Other layers' folders are none of its business.
        if let Some(all) = session.folder.parent().filter(|all| all.ancestors().skip(1).any(|it| it == session.workdir))
        {
            words.add(&["--tmpfs", text(all)?]);
        }
        let own = task.each.iter().map(|each| &each.folder).chain(&task.secrets);
        let views = task.inputs.views.iter().map(|(_, folder)| folder);
        for folder in std::iter::once(&task.inputs.folder).chain(views).chain(own) {
            words.at("--ro-bind", folder)?;
        }
        words.at("--bind", &task.outputs)?;
        for mount in &container.mounts {
            let how = if mount.read_only { "--ro-bind" } else { "--bind" };
            words.bind(how, text(&source(mount, &session.workdir))?, &mount.target);
        }
        words.add(&[
            "--remount-ro",
            "/",
            "--chdir",
            container.workdir.as_deref().unwrap_or(text(&session.workdir)?),
            "--",
        ]);
        Ok(words.0)
    }
}

/// The words of a command line.
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn bind(&mut self, how: &str, source: &str, target: &str) {
        self.add(&[how, source, target]);
    }

    /// Has a folder be seen under its own path.
    fn at(&mut self, how: &str, folder: &Path) -> Result<(), ExecutorError> {
        let folder = text(folder)?;
        self.bind(how, folder, folder);
        Ok(())
    }
}

/// The file of a program on this process's `PATH`, since a layer may have another one; else what was said.
fn found(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(program));
    let file = files.find(|file| !program.contains('/') && file.is_file());
    file.and_then(|file| file.to_str().map(str::to_owned)).unwrap_or_else(|| program.to_owned())
}

/// A folder that is to be mounted.
fn source(mount: &Mount, workdir: &Path) -> PathBuf {
    workdir.join(&mount.source)
}

fn text(path: &Path) -> Result<&str, ExecutorError> {
    path.to_str().ok_or_else(|| ExecutorError::Refused {
        engine: NAME.to_owned(),
        verb: format!("mount `{}`", path.display()),
        reason: "the path is not valid UTF-8".to_owned(),
    })
}
