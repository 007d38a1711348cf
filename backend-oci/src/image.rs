//! An image as an engine's `image inspect` shows it: what it is called for good, and what it wants to run.

use laminar_core::container::{Container, Pull};
use serde::Deserialize;

/// What decides which image a layer gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Its platform, where not the engine's own.
    pub(crate) platform: Option<String>,
    /// When it is pulled; 0 is never, 1 when it is missing, 2 always.
    pull: u8,
}

impl Wanted {
    /// What a container asks for, if it names an image; `pull` is for one that does not say.
    pub(crate) fn of(container: &Container, pull: Option<Pull>) -> Option<Wanted> {
        let pull = match container.pull.or(pull) {
            Some(Pull::Never) => 0,
            None | Some(Pull::Missing) => 1,
            Some(Pull::Always) => 2,
        };
        Some(Wanted { name: container.image.clone()?, platform: container.platform.clone(), pull })
    }

    /// A file name that stands for all of it: letters, digits, dots and dashes as they are, the rest as numbers.
    pub(crate) fn file_name(&self) -> String {
        let text = format!("{} {} {}", self.name, self.platform.as_deref().unwrap_or_default(), self.pull);
        let mut name = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
                other => name.push_str(&format!("_{other:02x}")),
            }
        }
        name
    }

    /// Whether it is pulled though it is there.
    pub(crate) fn always(&self) -> bool {
        self.pull == 2
    }

    /// Whether it is never pulled.
    pub(crate) fn never(&self) -> bool {
        self.pull == 0
    }
}

/// An image that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id: unlike its name, it never means another image.
    pub id: String,
    /// The user that its processes are, empty for root.
    pub user: String,
    /// What a command is run through.
    pub entrypoint: Vec<String>,
    /// What it is for: `linux/amd64`, perhaps with a variant; empty if the engine does not say.
    pub platform: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    id: String,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
}

impl Image {
    /// Its id as every engine would write it.
    pub(crate) fn identity(&self) -> String {
        match self.id.contains(':') {
            true => self.id.clone(),
            false => format!("sha256:{}", self.id),
        }
    }

    /// Reads the output of `image inspect` for one image.
    pub(crate) fn parse(json: &[u8]) -> Result<Image, String> {
        let all: Vec<Raw> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let raw = all.into_iter().next().ok_or("it shows no image")?;
        let config = raw.config.unwrap_or_default();
        let platform = [raw.os, raw.architecture, raw.variant.unwrap_or_default()].join("/");
        Ok(Image {
            platform: platform.trim_end_matches('/').to_owned(),
            id: raw.id,
            user: config.user.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
        })
    }
}

/// Whether an image for this platform is one for the other that is wanted, as far as both say.
pub(crate) fn fits(platform: &str, wanted: &str) -> bool {
    let same = |(here, wanted): (&str, &str)| {
        let plain = |name: &str| match name.to_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        plain(here) == plain(wanted)
    };
    platform.is_empty() || wanted.is_empty() || platform.split('/').zip(wanted.split('/')).all(same)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_has_a_file_name_of_its_own() {
        let wanted = |name: &str| Wanted { name: name.into(), platform: None, pull: 1 }.file_name();
        assert_eq!(wanted("reg:5000/a_b:1.0-x"), "reg_3a5000_2fa_5fb_3a1.0-x_20_201");
        assert_ne!(wanted("a/b"), wanted("a_2fb"));
    }

    #[test]
    fn platforms_are_compared_as_far_as_both_say() {
        assert!(fits("linux/amd64", "linux/amd64") && fits("linux/amd64", "linux/x86_64") && fits("", "linux/amd64"));
        assert!(fits("linux/arm64", ""));
        assert!(fits("linux/arm64/v8", "linux/arm64") && fits("linux/arm", "linux/arm/v7"));
        assert!(!fits("linux/amd64", "linux/arm64") && !fits("linux/arm/v6", "linux/arm/v7"));
    }

    #[test]
    fn both_engines_images_can_be_read() {
        let docker = br#"[{"Id": "sha256:c6a8", "Config": {"User": "", "Env": ["PATH=/bin"], "Cmd": ["sh"], "Entrypoint": null}}]"#;
        assert_eq!(Image::parse(docker).unwrap(), Image { id: "sha256:c6a8".into(), ..Image::default() });
        let podman =
            br#"[{"Id": "3d5a", "Config": {"User": "app:app", "Entrypoint": ["/entry", "--"]}, "User": "app:app",
            "Os": "linux", "Architecture": "arm64", "Variant": "v8"}]"#;
        let image = Image::parse(podman).unwrap();
        assert_eq!(
            (image.user.as_str(), &image.entrypoint[..]),
            ("app:app", &["/entry".to_owned(), "--".to_owned()][..])
        );
        assert_eq!((image.platform.as_str(), &*image.identity()), ("linux/arm64/v8", "sha256:3d5a"));
        assert!(Image::parse(b"[]").is_err());
    }
}
