//! What a user may say of an engine, beside what layers say: the options that its backend has.
//!
//! Values only. Which options an engine has, and under which names, is its backend's to say.

use std::ffi::OsString;

use laminar_core::container::Pull;
use laminar_core::option::{Kind, Options, Spec};

/// The option `program`: another command line that takes the same words.
pub const PROGRAM: Spec = Spec::new(
    "program",
    Kind::Text,
    "the engine's command line: a name or a path, or another that takes the same words",
);
/// The option `network`.
pub const NETWORK: Spec = Spec::new("network", Kind::Text, "the network of layers that say none");
/// The option `pull`.
pub const PULL: Spec = Spec::new(
    "pull",
    Kind::OneOf(&["always", "missing", "never"]),
    "when images are pulled, for layers that do not say",
)
.or("missing");

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The program, instead of the dialect's.
    pub(crate) program: Option<String>,
    /// The network of layers that say none.
    pub(crate) network: Option<String>,
    /// When images are pulled, for layers that do not say.
    pub(crate) pull: Option<Pull>,
    /// The user namespace of containers, where it is not the engine's own.
    pub(crate) userns: Option<String>,
    /// What the client is told before every command.
    pub(crate) client: Vec<OsString>,
    /// What every container is created with besides.
    pub(crate) create: Vec<String>,
}

impl Settings {
    /// Those of an engine. `client` are the names of options that are given to the client before every command, `create`
    /// of those with which containers are created: `context` as `--context VALUE`.
    #[must_use]
    pub fn new(options: &Options, client: &[&str], create: &[&str]) -> Settings {
        let words = |names: &[&str]| -> Vec<String> {
            let said = names.iter().filter_map(|name| Some([format!("--{name}"), options.text(name)?.to_owned()]));
            said.flatten().collect()
        };
        let text = |name| options.text(name).map(str::to_owned);
        Settings {
            program: text(PROGRAM.name()),
            network: text(NETWORK.name()),
            pull: match options.text(PULL.name()) {
                Some("always") => Some(Pull::Always),
                Some("never") => Some(Pull::Never),
                _ => None,
            },
            userns: text("userns"),
            client: words(client).into_iter().map(OsString::from).collect(),
            create: words(create),
        }
    }
}
