//! The flow file as it is written: every key, nothing merged, no unit parsed.
//!
//! It is unaware of what the values mean. The JSON Schema that editors use, and that wrong files are compared with, is made
//! from these types, so the documentation of a field here is what a user reads there.
//!
//! There may be a million layers, which take several times the memory of what is made of them. So a file is read twice: first
//! with an [`Outline`] of each layer, then [layer by layer](each_layer).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod each;
mod short;
mod value;

pub(super) use each::each_layer;
pub(super) use value::{Duration, Factor, Gpus, Json, Number, Pairs, Size, Text};

/// A flow: layers, and what they need.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "laminar flow")]
pub(super) struct File<L = Layer> {
    /// The flow's name: letters, digits and `_`.
    pub(super) flow: Text,
    /// Parameters by name, with their defaults. The type of a parameter is that of its default; `--parameter name=value` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Pairs<Json>>,
    /// What holds for every layer that does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) defaults: Option<Defaults>,
    /// The layers by name.
    pub(super) layers: Pairs<L>,
    /// Options of backends, by their names; `laminar backends` lists them. `-o backend.option=value` sets one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backends: Option<Pairs<Pairs<Text>>>,
    /// What a failed layer means for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_failure: Option<OnFailure>,
    /// The most tasks that may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_parallel: Option<i64>,
}

/// The layers of a flow file, or of what could be in one.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    pub(super) layers: Pairs<Layer>,
}

/// Of a layer what others must know before any of them is understood.
#[derive(Debug, Deserialize)]
pub(super) struct Outline {
    /// See [`Layer::secrets`].
    pub(super) secrets: Option<Vec<Secret>>,
}

/// What a failed layer means for the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnFailure {
    /// Nothing new starts; what runs may finish.
    Stop,
    /// Everything that does not need the failed layer runs.
    Continue,
}

/// What holds for every layer that does not say otherwise.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    /// Where layers run and with what limits; merged key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<Box<Container>>,
    /// How often layers are tried; merged key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<Retry>,
    /// Environment variables; a layer's own come after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Pairs<Text>>,
    /// How long one attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Duration>,
    /// Exit codes that count as finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) catch: Option<Vec<i64>>,
    /// How much an attempt may leave and print; merged key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Limits>,
    /// The shell for `run`, and its options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shell: Option<Vec<Text>>,
    /// Secrets of the layers that name none themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secrets: Option<Vec<Secret>>,
    /// What runs the layers, unless `--backend` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backend: Option<Text>,
    /// Whether what layers did once, with the same command, image, variables and inputs, is not done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cache: Option<Cache>,
}

/// A layer: one command, in a container of its own or as a plain process.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Layer {
    /// The layers that must have finished before this one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) needs: Option<Vec<Text>>,
    /// A shell script. A `${{ expression }}` becomes a quoted reference to a variable: its value is never part of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Text>,
    /// A program and its arguments, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<Vec<Text>>,
    /// Environment variables. Numbers, `true` and `false` are given as they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Pairs<Text>>,
    /// The artifacts the layer must leave: plain file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outputs: Option<Vec<Text>>,
    /// Where the layer runs and with what limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<Box<Container>>,
    /// How often the layer is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<Box<Retry>>,
    /// How long one attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Duration>,
    /// Exit codes that count as finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) catch: Option<Vec<i64>>,
    /// How much an attempt may leave and print.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Box<Limits>>,
    /// The shell for `run`, and its options: `[bash, -euo, pipefail, -c]`. Without it: `[sh, -e, -c]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shell: Option<Vec<Text>>,
    /// Secrets: the layer finds each in a file of its name in the folder `$LAMINAR_SECRETS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secrets: Option<Vec<Secret>>,
    /// What runs this layer, whatever runs the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backend: Option<Text>,
    /// Whether the layer runs, an expression that is `true` or `false`. It is asked once, when all that the layer needs has
    /// settled, and also when something that it needs was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<Text>,
    /// Fans the layer out: one split for each value, or for each combination when there are several names; the last varies
    /// fastest. A value is a list, or an expression that gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) foreach: Option<Pairs<Json>>,
    /// The most splits of this layer that may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_parallel: Option<i64>,
    /// Whether what the layer did once, with the same command, image, variables and inputs, is not done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cache: Option<Cache>,
}

/// How much an attempt may leave and print.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// The most files, folders and links in its outputs, at any depth; else 1,000,000. More make it fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<i64>,
    /// The most bytes that the files in its outputs may have together, holes included; else 1 TiB. More make it fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outputs: Option<Size>,
    /// The most bytes of its log that are kept, from the beginning; else 1 GiB. What it prints beyond is counted and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<Size>,
}

/// Whether what a layer did once is not done again: `true`, or a map with what counts besides.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Cache {
    /// Whether it is.
    Plain(bool),
    /// It is, and this counts besides.
    Parts(Box<CacheParts>),
}

/// What counts for the cache besides command, image, variables and inputs.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheParts {
    /// Files and folders that the layer reads, relative to the flow file's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<Text>,
    /// What the layer does not look at, although it could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ignore: Vec<Ignored>,
}

/// What a layer could look at, and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ignored {
    /// Parameters that no expression of it names.
    Parameters,
    /// How many splits there are.
    Splits,
    /// Which of them it is.
    Index,
}

/// Where a layer runs and with what limits.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    /// The image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Text>,
    /// Cores, such as `0.5` or `4`: reserved among the layers that run at once, and a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu: Option<Number>,
    /// Memory, reserved and limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Size>,
    /// How many GPUs: a number, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gpus: Option<Gpus>,
    /// The working folder inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workdir: Option<Text>,
    /// The user inside: a name or number, perhaps with `:group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Text>,
    /// The network: `none`, `host`, or one of the engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<Text>,
    /// Folders of the host to be seen inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mounts: Option<Vec<Mount>>,
    /// Environment variables; the layer's `env` comes after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Pairs<Text>>,
    /// Instead of the image's own entrypoint; an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entrypoint: Option<Vec<Text>>,
    /// The most processes inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pids_limit: Option<Number>,
    /// Whether the root file system is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_only: Option<bool>,
    /// Capabilities added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cap_add: Option<Vec<Text>>,
    /// Capabilities dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cap_drop: Option<Vec<Text>>,
    /// The platform of the image: `linux/amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Text>,
    /// The size of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shm_size: Option<Size>,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pull: Option<Pull>,
    /// Options for the engine's own command line, as the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Vec<Text>>,
    /// Whether splits of the layer follow each other in one container, instead of one each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reuse: Option<bool>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pull {
    /// In every execution.
    Always,
    /// When it is not there.
    Missing,
    /// Never.
    Never,
}

/// How often a layer is tried, and the pause between attempts.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// How many attempts there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<i64>,
    /// After which ends there is another attempt: `oom`, `timeout`, `signal`, `lost`, `engine` (it failed, or the layer could
    /// not be started), `outputs` (not as promised), exit codes and ranges of them, such as `75` and `100-110`. Without it:
    /// after any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) only: Option<Vec<Text>>,
    /// What the memory is multiplied with after each attempt that was out of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Factor>,
    /// The most memory that an attempt is given this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_memory: Option<Size>,
    /// The first pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) delay: Option<Duration>,
    /// The longest pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_delay: Option<Duration>,
    /// What each pause is multiplied with to give the next; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backoff: Option<f64>,
    /// The largest random share that is added to a pause; at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jitter: Option<f64>,
}

/// A folder of the host to be seen inside, as a text `source:target` or `source:target:ro`, or as a map.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Mount {
    /// `source:target`, perhaps with `:ro`.
    Text(Text),
    /// Its parts.
    Parts(MountParts),
}

/// A folder of the host to be seen inside.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MountParts {
    /// The folder on the host; relative to the flow file's folder.
    pub(super) source: Text,
    /// Where it is seen; absolute.
    pub(super) target: Text,
    /// Whether it can only be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read_only: Option<bool>,
}

/// A secret: a name, which is that of its variable in the environment of `laminar` too; or a map that says where it comes from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Secret {
    /// The name of its file, and of the variable that it comes from.
    Text(Text),
    /// Its name, and where it comes from.
    Parts(SecretParts),
}

/// A secret, and where it comes from.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretParts {
    /// The name of its file in `$LAMINAR_SECRETS`: letters, digits and `_`.
    pub(super) name: Text,
    /// The variable of the environment of `laminar` that it comes from, if that is called otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Text>,
    /// The file that it comes from, relative to the flow file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<Text>,
}
