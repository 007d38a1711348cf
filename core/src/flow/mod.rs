//! A flow: layers and what they need, as a user declared it, checked and ready to be planned.
//!
//! It is unaware of executions, executors and files on disk (but for [`file`], which reads the flow file). All names are
//! resolved, all defaults merged, all units parsed; what is wrong was reported as [`problem::Problem`]s and never gets here.

use std::sync::Arc;
use std::time::Duration;

use crate::executor::Feature;
use crate::id::LayerId;

mod check;
mod expression;
pub mod file;
mod locate;
mod marked;
pub mod problem;
mod raw;
mod shape;
mod shell;
pub mod template;
mod units;

pub use template::{Script, Template};

/// A checked flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its name.
    pub name: Arc<str>,
    /// Its parameters, with the values of this execution.
    pub parameters: Arc<Parameters>,
    /// Its layers, in the order of the flow file; [`LayerId`] is the place in this list.
    pub layers: Vec<Layer>,
    /// What a failed layer means for the others.
    pub on_failure: OnFailure,
    /// The most tasks that may run at once, whatever the command line allows.
    pub max_parallel: Option<u32>,
}

impl Flow {
    /// The layer with this id.
    ///
    /// # Panics
    /// When the id is not of this flow.
    #[must_use]
    pub fn layer(&self, id: LayerId) -> &Layer {
        &self.layers[id.at()]
    }
}

/// Parameters by name, in the order declared: JSON values.
pub type Parameters = serde_json::Map<String, serde_json::Value>;

/// What a failed layer means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing new starts; what runs may finish.
    #[default]
    Stop,
    /// Everything that does not need the failed layer runs.
    Continue,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name, an identifier.
    pub name: Arc<str>,
    /// The layers it needs, each once.
    pub needs: Vec<LayerId>,
    /// What it runs.
    pub command: Command,
    /// Its variables: `container.env`, then `env`, the defaults' before its own; the last of two equal names counts.
    pub env: Vec<(String, Template)>,
    /// The artifacts it must leave, if it says.
    pub outputs: Option<Vec<String>>,
    /// Where and with what limits it runs. Shared between layers that say nothing of their own.
    pub container: Arc<Container>,
    /// How often it is tried.
    pub retry: Retry,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// Exit codes that count as finished ("caught").
    pub catch: Vec<i32>,
}

/// What a layer runs.
#[derive(Clone, Debug)]
pub enum Command {
    /// A script, given as the last argument to a shell.
    Script {
        /// The shell and its options: `["sh", "-e", "-c"]`.
        shell: Arc<[String]>,
        /// The script.
        script: Script,
    },
    /// A program and its arguments, without a shell.
    Argv(Vec<Template>),
}

/// How often a layer is tried, and the pause between attempts.
///
/// The pause after the n-th charged attempt is `delay * backoff^(n-1)`, plus a random share of up to `jitter` of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// How many attempts are charged before the layer has failed; at least 1.
    pub attempts: u32,
    /// The first pause.
    pub delay: Duration,
    /// What each pause is multiplied with to give the next; at least 1.
    pub backoff: f64,
    /// The largest random share that is added; at least 0.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 1, delay: Duration::from_millis(100), backoff: 2.0, jitter: 0.1 }
    }
}

/// Where a layer runs and with what limits. `None` and empty mean "not said": the engine's or the image's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// The image.
    pub image: Option<String>,
    /// Cores, in thousandths: reserved among the layers that run at once, and a limit where the backend can enforce it.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes; reserved and limited like `cpu_millis`.
    pub memory: Option<u64>,
    /// How many GPUs; `Gpus::All` for every one.
    pub gpus: Option<Gpus>,
    /// The working folder inside.
    pub workdir: Option<String>,
    /// The user inside: a name or number, perhaps with `:group`.
    pub user: Option<String>,
    /// The network: `none`, `host`, or an engine's network.
    pub network: Option<String>,
    /// Folders of the host to be seen inside.
    pub mounts: Vec<Mount>,
    /// Instead of the image's own entrypoint; empty: no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The most processes inside.
    pub pids_limit: Option<u32>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// The platform of the image: `linux/amd64`.
    pub platform: Option<String>,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// When the image is pulled.
    pub pull: Option<Pull>,
    /// Options for the engine's command line, as the last resort.
    pub options: Vec<String>,
    /// Whether `container.env` was said; its variables are in [`Layer::env`].
    pub env: bool,
}

impl Container {
    /// The keys that were said, for comparison with what a backend enforces.
    #[must_use]
    pub fn features(&self) -> Vec<Feature> {
        let said = [
            (Feature::Image, self.image.is_some()),
            (Feature::Cpu, self.cpu_millis.is_some()),
            (Feature::Memory, self.memory.is_some()),
            (Feature::Gpus, self.gpus.is_some_and(|gpus| gpus != Gpus::Count(0))),
            (Feature::Workdir, self.workdir.is_some()),
            (Feature::User, self.user.is_some()),
            (Feature::Network, self.network.is_some()),
            (Feature::Mounts, !self.mounts.is_empty()),
            (Feature::Env, self.env),
            (Feature::Entrypoint, self.entrypoint.is_some()),
            (Feature::PidsLimit, self.pids_limit.is_some()),
            (Feature::ReadOnly, self.read_only),
            (Feature::Capabilities, !self.cap_add.is_empty() || !self.cap_drop.is_empty()),
            (Feature::Platform, self.platform.is_some()),
            (Feature::ShmSize, self.shm_size.is_some()),
            (Feature::Pull, self.pull.is_some()),
            (Feature::Options, !self.options.is_empty()),
        ];
        said.into_iter().filter(|(_, said)| *said).map(|(feature, _)| feature).collect()
    }
}

/// How many GPUs a layer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// So many.
    Count(u32),
    /// Every one there is.
    All,
}

/// A folder of the host to be seen inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder on the host; relative to the flow file's folder.
    pub source: String,
    /// Where it is seen; absolute.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// In every execution.
    Always,
    /// When it is not there.
    Missing,
    /// Never.
    Never,
}
