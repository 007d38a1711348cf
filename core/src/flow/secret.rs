//! What a flow says of secrets: their names, and where they come from. Unaware of their values.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Flow;

/// A secret of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Secret {
    /// The name of its file in the folder `LAMINAR_SECRETS`, an identifier.
    pub name: Arc<str>,
    /// Where its bytes come from.
    pub from: SecretSource,
}

/// Where the bytes of a secret come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretSource {
    /// A variable of the environment that laminar was started in.
    Variable(Arc<str>),
    /// A file; a relative path begins at the flow file's folder.
    File(PathBuf),
}

impl Secret {
    /// The secret of this name that comes from the variable of this name.
    #[must_use]
    pub fn of_variable(name: &str) -> Secret {
        Secret { name: name.into(), from: SecretSource::Variable(name.into()) }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Variable(name) => write!(f, "the variable `{name}`"),
            SecretSource::File(path) => write!(f, "the file `{}`", path.display()),
        }
    }
}

impl Flow {
    /// The variables that secrets of its layers come from, each once. Nothing that runs is to see them.
    #[must_use]
    pub fn withheld(&self) -> BTreeSet<Arc<str>> {
        let sources = self.layers.iter().flat_map(|layer| layer.secrets.iter()).map(|secret| &secret.from);
        let variables = sources.filter_map(|from| match from {
            SecretSource::Variable(name) => Some(Arc::clone(name)),
            SecretSource::File(_) => None,
        });
        variables.collect()
    }
}
