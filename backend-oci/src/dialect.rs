//! What one docker-like command line words differently from another: a value, so that differences cannot leak into code.

use serde_json::Value;

/// A command line.
#[derive(Debug)]
pub struct Dialect {
    /// What `--backend` takes, what messages call it, and the name of its private folder.
    pub name: &'static str,
    /// The program, looked up in `PATH`.
    pub program: &'static str,
    /// What to do when there is no such program.
    pub install: &'static str,
    /// What to do when it does not answer.
    pub wake: &'static str,
    /// The arguments that make it tell about itself, as JSON.
    pub about: &'static [&'static str],
    /// Variables for that question alone, which spare it answers that nobody wants.
    pub about_env: &'static [(&'static str, &'static str)],
    /// What is to be read there; `None` when the engine behind the command line did not answer.
    pub facts: fn(&Value) -> Option<Facts>,
    /// What every container is created with.
    pub always: &'static [&'static str],
    /// Where the engine keeps output: little, as the layer's does not go there.
    pub log: &'static [&'static str],
    /// Where it keeps the output of layers without laminar inside: all of it, byte for byte.
    pub whole_log: &'static [&'static str],
    /// The arguments in front of a command that keep warnings out of its output.
    pub quiet: &'static [&'static str],
    /// The command that removes containers, also those that are not there, with their volumes.
    pub remove: &'static [&'static str],
    /// How GPUs are asked for.
    pub gpus: Gpu,
    /// How folders are labelled where SELinux is on.
    pub relabel: Relabel,
    /// How it puts its errors.
    pub texts: Texts,
    /// The arguments in front of a command to be root in the user's own namespace, where it has one.
    pub unshare: Option<&'static [&'static str]>,
}

/// How a command line puts its errors: parts of their text, in lower case.
#[derive(Debug)]
pub struct Texts {
    /// There is no such container.
    pub gone: &'static [&'static str],
    /// What it says of a container, among these, that is half removed: whoever removed it died on the way.
    pub half_gone: &'static [&'static str],
    /// The container is being removed at this moment.
    pub removing: &'static [&'static str],
    /// The container is not running.
    pub not_running: &'static [&'static str],
    /// The name belongs to another container.
    pub taken: &'static [&'static str],
    /// The engine is not there.
    pub down: &'static [&'static str],
    /// The caller may not talk to the engine, or names one that is not there, with what to do about it.
    pub forbidden: &'static [(&'static str, &'static str)],
}

/// How GPUs are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// `--gpus N`
    Flag,
    /// `--device nvidia.com/gpu=N`, by the container device interface
    Device,
}

/// How a folder is labelled for containers where SELinux is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relabel {
    /// An option of `--mount`.
    Option(&'static str),
    /// `--mount` has none: `--volume` with this suffix.
    Volume(&'static str),
}

/// What an engine tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its version.
    pub version: String,
    /// Whether its root is the user that runs it.
    pub rootless: bool,
    /// The machine's architecture, as the engine calls it.
    pub arch: String,
    /// How many cores there are.
    pub cpus: u64,
    /// How much memory there is, in bytes.
    pub memory: u64,
    /// Which limits are enforced: cpu, memory, pids.
    pub limits: [bool; 3],
    /// Whether SELinux is on.
    pub selinux: bool,
    /// More that is worth showing.
    pub shown: Vec<(&'static str, String)>,
}

impl Facts {
    /// Whether a container has a memory controller of its own.
    pub(crate) fn limits_memory(&self) -> bool {
        self.limits[1]
    }
}

impl Dialect {
    /// The command that removes containers that do not run.
    pub(crate) fn remove_idle<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        self.remove.iter().filter(|word| **word != "--force").chain(names).copied().collect()
    }

    /// What an error text means.
    pub(crate) fn refusal(&self, text: &str) -> Refusal {
        let text = text.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if says(self.texts.down) {
            Refusal::Down(self.wake)
        } else if let Some((_, hint)) = self.texts.forbidden.iter().find(|(part, _)| text.contains(part)) {
            Refusal::Down(hint)
        } else if says(self.texts.taken) {
            Refusal::Taken
        } else if says(self.texts.removing) {
            Refusal::Removing
        } else if says(self.texts.not_running) {
            Refusal::NotRunning
        } else if says(self.texts.gone) {
            Refusal::Gone
        } else {
            Refusal::Refused
        }
    }

    /// Whether it is about a container that is half removed.
    pub(crate) fn is_half_gone(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.texts.half_gone.iter().any(|part| text.contains(part))
    }

    /// Whether the engine complains, a line for each container, of nothing but these.
    pub(crate) fn says_only(&self, text: &str, these: &[Refusal]) -> bool {
        !text.is_empty() && text.lines().all(|line| these.contains(&self.refusal(line)))
    }
}

/// What an error text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such container.
    Gone,
    /// The container is being removed at this moment.
    Removing,
    /// The container is not running.
    NotRunning,
    /// The name belongs to another container.
    Taken,
    /// The engine is not there, with what to do.
    Down(&'static str),
    /// Anything else.
    Refused,
}
