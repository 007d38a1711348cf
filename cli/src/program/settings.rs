//! Where a layer runs, how often it is tried and how much it may leave: the blocks `container`, `retry` and `limits` of the flow
//! file.
//!
//! What the values mean, and whether they fit, is checked with the rest of the flow.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value, json};

macro_rules! block {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[must_use = "it is given to a layer or a flow"]
        pub struct $name(Map<String, Value>);

        impl $name {
            /// Nothing is said.
            pub fn new() -> $name {
                $name::default()
            }

            fn with(mut self, key: &str, value: impl Into<Value>) -> $name {
                self.0.insert(key.to_owned(), value.into());
                self
            }

            pub(super) fn into_value(self) -> Value {
                Value::Object(self.0)
            }
        }
    };
}

block! {
    /// Where a layer runs and with what limits. What the local backend cannot enforce is said before anything runs.
    Container
}

block! {
    /// How often a layer is tried, after which ends, and the pause between attempts.
    Retry
}

block! {
    /// How much an attempt may leave and print.
    Limits
}

fn texts<T: Into<String>>(all: impl IntoIterator<Item = T>) -> Value {
    all.into_iter().map(|text| Value::String(text.into())).collect()
}

impl Container {
    /// The image; without it, what `--image` says.
    pub fn image(self, image: impl Into<String>) -> Container {
        self.with("image", image.into())
    }

    /// Cores, reserved among the layers that run at once, and a limit.
    pub fn cpu(self, cores: f64) -> Container {
        self.with("cpu", number(cores))
    }

    /// Memory, reserved and limited: `4GiB`, `1500MiB`; a bare number counts bytes.
    pub fn memory(self, memory: impl Display) -> Container {
        self.with("memory", memory.to_string())
    }

    /// How many GPUs: a number, or `all`.
    pub fn gpus(self, gpus: impl Display) -> Container {
        self.with("gpus", gpus.to_string())
    }

    /// The working folder inside.
    pub fn workdir(self, folder: impl Into<String>) -> Container {
        self.with("workdir", folder.into())
    }

    /// The user inside: a name or number, perhaps with `:group`.
    pub fn user(self, user: impl Into<String>) -> Container {
        self.with("user", user.into())
    }

    /// The network: `none`, `host`, or one of the engine's.
    pub fn network(self, network: impl Into<String>) -> Container {
        self.with("network", network.into())
    }

    /// Folders of the host to be seen inside: `source:target` or `source:target:ro`.
    pub fn mounts<T: Into<String>>(self, mounts: impl IntoIterator<Item = T>) -> Container {
        self.with("mounts", texts(mounts))
    }

    /// What runs inside, instead of the image's own entrypoint: where the image has this program.
    pub fn entrypoint<T: Into<String>>(self, words: impl IntoIterator<Item = T>) -> Container {
        self.with("entrypoint", texts(words))
    }

    /// Whether the root file system is read-only.
    pub fn read_only(self, is_read_only: bool) -> Container {
        self.with("read_only", is_read_only)
    }

    /// The platform of the image: `linux/amd64`.
    pub fn platform(self, platform: impl Into<String>) -> Container {
        self.with("platform", platform.into())
    }

    /// The size of `/dev/shm`.
    pub fn shm_size(self, size: impl Display) -> Container {
        self.with("shm_size", size.to_string())
    }

    /// Whether splits of the layer follow each other in one container, instead of one each.
    pub fn reuse(self, is_reused: bool) -> Container {
        self.with("reuse", is_reused)
    }

    /// Any key of the block, as the flow file has it.
    pub fn key(self, name: &str, value: impl Into<Value>) -> Container {
        self.with(name, value)
    }
}

impl Retry {
    /// How many attempts there are in all.
    pub fn attempts(count: u32) -> Retry {
        Retry::new().with("attempts", count)
    }

    /// After which ends there is another: `oom`, `timeout`, `signal`, `lost`, `engine`, `outputs`, exit codes and ranges of them.
    pub fn only<T: Into<String>>(self, ends: impl IntoIterator<Item = T>) -> Retry {
        self.with("only", texts(ends))
    }

    /// The first pause; 100 ms if it is not said.
    pub fn delay(self, delay: Duration) -> Retry {
        self.with("delay", milliseconds(delay))
    }

    /// The longest pause.
    pub fn max_delay(self, delay: Duration) -> Retry {
        self.with("max_delay", milliseconds(delay))
    }

    /// What each pause is multiplied with to give the next; 2 if it is not said.
    pub fn backoff(self, factor: f64) -> Retry {
        self.with("backoff", number(factor))
    }

    /// The largest random share that is added to a pause; 0.1 if it is not said.
    pub fn jitter(self, share: f64) -> Retry {
        self.with("jitter", number(share))
    }

    /// What the memory is multiplied with after each attempt that was out of memory.
    pub fn memory(self, factor: f64) -> Retry {
        self.with("memory", format!("x{factor}"))
    }

    /// The most memory that an attempt is given this way.
    pub fn max_memory(self, memory: impl Display) -> Retry {
        self.with("max_memory", memory.to_string())
    }
}

impl Limits {
    /// The most files, folders and links in its outputs, at any depth. More make it fail.
    pub fn files(self, count: u64) -> Limits {
        self.with("files", count)
    }

    /// The most bytes that the files in its outputs may have together: `4GiB`; holes count. More make it fail.
    pub fn outputs(self, size: impl Display) -> Limits {
        self.with("outputs", size.to_string())
    }

    /// The most bytes of its log that are kept, from the beginning.
    pub fn log(self, size: impl Display) -> Limits {
        self.with("log", size.to_string())
    }
}

/// A number as the flow file has it. One that has no JSON form is a text, which is refused where a number must stand.
fn number(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

/// A duration as the flow file has it.
pub(super) fn milliseconds(duration: Duration) -> Value {
    json!(format!("{}ms", duration.as_millis()))
}
