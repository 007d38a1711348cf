//! The values of secrets: read once, from where a flow says they come, and put where tasks find them.
//!
//! A value is in this process's memory and, as long as a task runs that is handed it, in a file on memory (see [`Shelves`]).
//! It is in no event, no store, no argument; its `Debug` tells its size.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use crate::flow::{Layer, Secret, SecretSource};

mod shelf;

pub use shelf::{Shelf, ShelfError, Shelves};

/// The largest secret: what one variable can hold.
pub const LARGEST: u64 = 128 * 1024;

/// The bytes of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<[u8]>);

impl Value {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value(bytes.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a secret of {} bytes", self.0.len())
    }
}

/// The secrets of a flow whose values are known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<HashMap<Secret, Value>>);

/// A secret that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub secret: Secret,
    /// The layers that want it.
    pub layers: Vec<Arc<str>>,
    /// Why not: "the variable `TOKEN` is not set".
    pub why: String,
}

impl Secrets {
    /// Reads the secrets of these layers, and says which cannot be had. A relative file is one in `workdir`.
    pub fn read<'a>(
        layers: impl IntoIterator<Item = &'a Layer>,
        workdir: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> (Secrets, Vec<Missing>) {
        let (mut values, mut missing): (HashMap<Secret, Value>, Vec<Missing>) = Default::default();
        for layer in layers {
            for secret in layer.secrets.iter() {
                if values.contains_key(secret) {
                    continue;
                }
                if let Some(known) = missing.iter_mut().find(|missing| missing.secret == *secret) {
                    known.layers.push(Arc::clone(&layer.name));
                    continue;
                }
                match value(&secret.from, workdir, &variable) {
                    Ok(value) => drop(values.insert(secret.clone(), value)),
                    Err(why) => {
                        missing.push(Missing { secret: secret.clone(), layers: vec![Arc::clone(&layer.name)], why });
                    }
                }
            }
        }
        (Secrets(Arc::new(values)), missing)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&Secret, &Value)> {
        self.0.iter()
    }

    /// The values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.values()
    }

    /// The files of a task that wants these secrets: names and values.
    ///
    /// # Errors
    /// When one of them is not known; the text says which.
    pub fn files<'a>(&'a self, wanted: &'a [Secret]) -> Result<Vec<(&'a str, &'a Value)>, String> {
        let file = |secret: &'a Secret| match self.0.get(secret) {
            Some(value) => Ok((&*secret.name, value)),
            None => Err(format!("the secret `{}` is not there: it comes from {}", secret.name, secret.from)),
        };
        wanted.iter().map(file).collect()
    }
}

fn value(from: &SecretSource, workdir: &Path, variable: &impl Fn(&str) -> Option<OsString>) -> Result<Value, String> {
    let bytes = match from {
        SecretSource::Variable(name) => {
            variable(name).map(OsString::into_vec).ok_or_else(|| format!("{from} is not set"))?
        }
        SecretSource::File(path) => {
            let path = workdir.join(path);
            let failed = |error: std::io::Error| match error.kind() {
                std::io::ErrorKind::NotFound => format!("there is no file `{}`", path.display()),
                _ => format!("cannot read the file `{}`: {error}", path.display()),
            };
            let mut bytes = Vec::new();
            let read = || std::fs::File::open(&path)?.take(LARGEST + 1).read_to_end(&mut bytes);
            let _ = { read }().map_err(failed)?;
            bytes
        }
    };
    match bytes.len() as u64 {
        0 => Err(format!("{from} is empty")),
        1..=LARGEST => Ok(bytes.into()),
        _ => Err(format!("{from} holds more than 128 KiB")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fake::flow_of;

    #[test]
    fn what_is_missing_is_told_all_at_once_and_what_is_there_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), b"\xff\n'$%\n").unwrap();
        std::fs::write(folder.path().join("empty"), b"").unwrap();
        let mut flow = flow_of(&[&[], &[]]);
        let of_file = |name: &str, path: &str| Secret { name: name.into(), from: SecretSource::File(path.into()) };
        flow.layers[0].secrets =
            [Secret::of_variable("THERE"), of_file("KEY", "key"), of_file("EMPTY", "empty")].into();
        flow.layers[1].secrets =
            [of_file("EMPTY", "empty"), of_file("NONE", "none"), Secret::of_variable("UNSET")].into();
        let (secrets, missing) = Secrets::read(&flow.layers, folder.path(), |name| {
            (name == "THERE").then(|| OsString::from_vec(b"a\xfeb".to_vec()))
        });
        let told: Vec<(&str, usize, &str)> =
            missing.iter().map(|it| (&*it.secret.name, it.layers.len(), it.why.as_str())).collect();
        let none = format!("there is no file `{}`", folder.path().join("none").display());
        assert_eq!(
            told,
            [
                ("EMPTY", 2, "the file `empty` is empty"),
                ("NONE", 1, none.as_str()),
                ("UNSET", 1, "the variable `UNSET` is not set")
            ]
        );
        let wanted = &flow.layers[0].secrets[..2];
        let files: Vec<(&str, &[u8])> =
            secrets.files(wanted).unwrap().into_iter().map(|(name, value)| (name, value.bytes())).collect();
        assert_eq!(files, [("THERE", &b"a\xfeb"[..]), ("KEY", &b"\xff\n'$%\n"[..])]);
        assert!(secrets.files(&flow.layers[1].secrets).unwrap_err().contains("`EMPTY`"));
        assert!(!format!("{secrets:?}").contains("97, 254"), "{secrets:?}");
    }
}
