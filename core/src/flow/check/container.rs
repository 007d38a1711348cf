//! Checks the `container` block.

use crate::container::{Container, Gpus, Mount, Pull};
use crate::flow::raw::{self, Text};
use crate::units::{self, Wrong, clip};

use super::Step::{self, Key, Nth};
use super::{Check, Part};

impl Check<'_> {
    /// `base`, with what `raw` says instead.
    pub(super) fn container(&mut self, raw: &raw::Container, base: &Container, here: &[Step]) -> Container {
        let mut container = base.clone();
        let steps = |key| [here, &[Key(key)]].concat();
        self.container_texts(raw, &mut container, here);
        self.container_lists(raw, &mut container, here);
        if let Some(cpu) = &raw.cpu {
            container.cpu_millis = self.take(number("cpu", cpu).and_then(units::cpu), || steps("cpu"));
        }
        if let Some(memory) = &raw.memory {
            container.memory = self.take(units::memory("memory", memory.0.as_str()), || steps("memory"));
        }
        if let Some(size) = &raw.shm_size {
            container.shm_size = self.take(units::size(size.0.as_str()), || steps("shm_size"));
        }
        if let Some(limit) = &raw.pids_limit {
            let limit = whole("pids_limit", limit).and_then(|limit| units::count("pids_limit", limit, 1));
            container.pids_limit = self.take(limit, || steps("pids_limit"));
        }
        if let Some(gpus) = &raw.gpus {
            container.gpus = self.take(self::gpus(gpus.0.as_str()), || steps("gpus"));
        }
        if let Some(read_only) = raw.read_only {
            container.read_only = read_only;
        }
        if let Some(reuse) = raw.reuse {
            container.reuse = reuse;
        }
        container.pull = raw.pull.map_or(container.pull, |pull| {
            Some(match pull {
                raw::Pull::Always => Pull::Always,
                raw::Pull::Missing => Pull::Missing,
                raw::Pull::Never => Pull::Never,
            })
        });
        container.env |= raw.env.as_ref().is_some_and(|env| !env.0.is_empty());
        container
    }

    fn container_texts(&mut self, raw: &raw::Container, container: &mut Container, here: &[Step]) {
        let texts = [
            ("image", &raw.image, &mut container.image),
            ("workdir", &raw.workdir, &mut container.workdir),
            ("user", &raw.user, &mut container.user),
            ("network", &raw.network, &mut container.network),
            ("platform", &raw.platform, &mut container.platform),
        ];
        for (key, raw, value) in texts {
            let Some(text) = raw.as_ref().map(Text::as_str) else { continue };
            let steps = || [here, &[Key(key)]].concat();
            if text.trim().is_empty() {
                self.find(
                    format!("an empty `{key}`"),
                    Some("write something, or remove the key".into()),
                    steps(),
                    Part::Value,
                );
            } else if key == "image" && (text.starts_with('-') || text.contains(char::is_whitespace)) {
                let hint = Some("write it like `python:3.12` or `registry.example/team/image@sha256:…`".to_owned());
                if !text.contains("${{") {
                    self.find(format!("`{}` is not the name of an image", clip(text)), hint, steps(), Part::Value);
                }
            }
            self.plain(text, "a text", &steps());
            self.no_expression(key, text, steps);
            *value = Some(text.to_owned());
        }
    }

    fn container_lists(&mut self, raw: &raw::Container, container: &mut Container, here: &[Step]) {
        let mut lists = [
            ("cap_add", &raw.cap_add, &mut container.cap_add),
            ("cap_drop", &raw.cap_drop, &mut container.cap_drop),
            ("options", &raw.options, &mut container.options),
        ];
        for (key, raw, value) in &mut lists {
            if let Some(raw) = raw {
                **value = self.texts(key, raw, &[here, &[Key(key)]].concat());
            }
        }
        if let Some(entrypoint) = &raw.entrypoint {
            container.entrypoint = Some(self.texts("entrypoint", entrypoint, &[here, &[Key("entrypoint")]].concat()));
        }
        if let Some(mounts) = &raw.mounts {
            let steps = |at| [here, &[Key("mounts"), Nth(at)]].concat();
            let mounts = mounts.iter().enumerate();
            container.mounts = mounts.filter_map(|(at, mount)| self.mount(mount, &steps(at))).collect();
        }
    }

    fn mount(&mut self, raw: &raw::Mount, steps: &[Step]) -> Option<Mount> {
        let mount = match raw {
            raw::Mount::Parts(parts) => Mount {
                source: parts.source.as_str().to_owned(),
                target: parts.target.as_str().to_owned(),
                read_only: parts.read_only.unwrap_or(false),
            },
            raw::Mount::Text(text) => {
                let mut parts = text.as_str().split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(source), Some(target), mode @ (None | Some("ro" | "rw")), None) => {
                        let read_only = mode == Some("ro");
                        Mount { source: source.to_owned(), target: target.to_owned(), read_only }
                    }
                    _ => {
                        let hint = Some("write `source:target` or `source:target:ro`".to_owned());
                        let message = format!("`{}` is not a mount", clip(text.as_str()));
                        self.find(message, hint, steps.to_vec(), Part::Value);
                        return None;
                    }
                }
            }
        };
        for text in [&mount.source, &mount.target] {
            self.plain(text, "a path", steps);
            self.no_expression("mounts", text, || steps.to_vec());
        }
        if mount.source.is_empty() || mount.target.is_empty() {
            self.absent("a mount without a source or a target", "write `source:target`", steps.to_vec());
        } else if !mount.target.starts_with('/') {
            let hint = Some("begin the target with `/`".to_owned());
            let message = format!("the target of a mount must be absolute, but is `{}`", clip(&mount.target));
            self.find(message, hint, steps.to_vec(), Part::Value);
        }
        Some(mount)
    }
}

fn number(key: &str, raw: &raw::Number) -> Result<f64, Wrong> {
    let text = raw.0.as_str();
    text.trim().parse().map_err(|_| Wrong { message: format!("`{key}` is `{}`, no number", clip(text)), hint: None })
}

fn whole(key: &str, raw: &raw::Number) -> Result<i64, Wrong> {
    let text = raw.0.as_str();
    let wrong = || Wrong { message: format!("`{key}` is `{}`, no whole number", clip(text)), hint: None };
    text.trim().parse().map_err(|_| wrong())
}

fn gpus(text: &str) -> Result<Gpus, Wrong> {
    match (text, text.parse()) {
        ("all", _) => Ok(Gpus::All),
        (_, Ok(count)) => Ok(Gpus::Count(count)),
        _ => Err(Wrong {
            message: format!("`{}` is not a number of GPUs", clip(text)),
            hint: Some("write a number, or `all`".to_owned()),
        }),
    }
}
