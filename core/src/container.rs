//! The `container` block: where a layer runs and with what limits, and the names of its keys.
//!
//! Values only, shared by the flow that says them and the executors that enforce them; unaware of both.

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
    /// Whether splits of the layer follow each other in one container, instead of one each.
    pub reuse: bool,
    /// Whether `container.env` was said; its variables are in `Layer::env`.
    pub env: bool,
}

impl Container {
    /// What of it decides what a task does, rather than how much it gets, when its image is pulled, and whether its container
    /// was there before. Its variables are the layer's.
    #[must_use]
    pub fn place(&self) -> Container {
        Container { cpu_millis: None, memory: None, pull: None, env: false, reuse: false, ..self.clone() }
    }

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
            (Feature::Reuse, self.reuse),
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

/// A key of the `container` block that a backend may or may not enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// `image`
    Image,
    /// `cpu`, as a limit
    Cpu,
    /// `memory`, as a limit
    Memory,
    /// `gpus`
    Gpus,
    /// `workdir`
    Workdir,
    /// `user`
    User,
    /// `network`
    Network,
    /// `mounts`
    Mounts,
    /// `env`
    Env,
    /// `entrypoint`
    Entrypoint,
    /// `pids_limit`
    PidsLimit,
    /// `read_only`
    ReadOnly,
    /// `cap_add`, `cap_drop`
    Capabilities,
    /// `platform`
    Platform,
    /// `shm_size`
    ShmSize,
    /// `pull`
    Pull,
    /// `options`
    Options,
    /// `reuse`
    Reuse,
}

impl Feature {
    /// Every one.
    const ALL: [Feature; 18] = [
        Feature::Image,
        Feature::Cpu,
        Feature::Memory,
        Feature::Gpus,
        Feature::Workdir,
        Feature::User,
        Feature::Network,
        Feature::Mounts,
        Feature::Env,
        Feature::Entrypoint,
        Feature::PidsLimit,
        Feature::ReadOnly,
        Feature::Capabilities,
        Feature::Platform,
        Feature::ShmSize,
        Feature::Pull,
        Feature::Options,
        Feature::Reuse,
    ];

    /// What a key of the flow file asks for.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Feature> {
        Feature::ALL.into_iter().find(|feature| feature.keys().contains(&key))
    }

    /// Its keys in the flow file.
    #[must_use]
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Feature::Image => &["image"],
            Feature::Cpu => &["cpu"],
            Feature::Memory => &["memory"],
            Feature::Gpus => &["gpus"],
            Feature::Workdir => &["workdir"],
            Feature::User => &["user"],
            Feature::Network => &["network"],
            Feature::Mounts => &["mounts"],
            Feature::Env => &["env"],
            Feature::Entrypoint => &["entrypoint"],
            Feature::PidsLimit => &["pids_limit"],
            Feature::ReadOnly => &["read_only"],
            Feature::Capabilities => &["cap_add", "cap_drop"],
            Feature::Platform => &["platform"],
            Feature::ShmSize => &["shm_size"],
            Feature::Pull => &["pull"],
            Feature::Options => &["options"],
            Feature::Reuse => &["reuse"],
        }
    }
}
