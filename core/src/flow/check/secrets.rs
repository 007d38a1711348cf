//! The `secrets` of a layer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Address, Check, Key, Nth, Part, Step};
use crate::flow::raw::{self, Outline, SecretParts, Text};
use crate::flow::{Secret, SecretSource};
use crate::units::clip;

/// The variables that any secret of the file comes from.
pub(super) fn variables(file: &raw::File<Outline>) -> HashSet<&str> {
    let defaults = file.defaults.iter().flat_map(|defaults| &defaults.secrets);
    let own = file.layers.0.iter().flat_map(|(_, outline)| &outline.secrets);
    defaults.chain(own).flatten().filter_map(variable).collect()
}

fn variable(raw: &raw::Secret) -> Option<&str> {
    match raw {
        raw::Secret::Text(name) | raw::Secret::Parts(SecretParts { name, env: None, file: None }) => {
            Some(name.as_str())
        }
        raw::Secret::Parts(SecretParts { env, .. }) => env.as_ref().map(Text::as_str),
    }
}

impl Check<'_> {
    /// A list of its own takes the place of that of the defaults: so a layer can also have none.
    pub(super) fn secrets(&mut self, raw: Option<&[raw::Secret]>, here: &[Step]) -> Option<Arc<[Secret]>> {
        let mut secrets: Vec<Secret> = Vec::new();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (at, one) in raw?.iter().enumerate() {
            let steps = |rest: &[Step]| [here, &[Key("secrets"), Nth(at)], rest].concat();
            let (name, whole) = match one {
                raw::Secret::Text(name) => (name.as_str(), steps(&[])),
                raw::Secret::Parts(parts) => (parts.name.as_str(), steps(&[Key("name")])),
            };
            self.identifier("a secret's name", name, &whole, Part::Value);
            if name.starts_with("LAMINAR_") {
                let hint = Some("choose a name that does not begin with `LAMINAR_`".to_owned());
                self.find(format!("a secret cannot be named `{}`", clip(name)), hint, whole.clone(), Part::Value);
            }
            if let Some(first) = seen.insert(name, at) {
                let hint = Some("remove one, or give it another `name`".to_owned());
                self.find(format!("secret `{}` twice", clip(name)), hint, whole, Part::Value);
                let steps = [here, &[Key("secrets"), Nth(first)]].concat();
                self.also(Address { steps, part: Part::Value, label: "first here".to_owned() });
            }
            let from = match one {
                raw::Secret::Parts(SecretParts { env, file: Some(file), .. }) => {
                    if env.is_some() {
                        let hint = Some("keep one: where the secret comes from".to_owned());
                        self.find("both `env` and `file`", hint, steps(&[Key("env")]), Part::Key);
                    }
                    self.secret_file(file.as_str(), &steps(&[Key("file")]))
                }
                raw::Secret::Parts(SecretParts { env: Some(env), .. }) => {
                    self.secret_variable(env.as_str(), &steps(&[Key("env")]))
                }
                raw::Secret::Text(_) | raw::Secret::Parts(_) => SecretSource::Variable(name.into()),
            };
            secrets.push(Secret { name: name.into(), from });
        }
        Some(secrets.into())
    }

    fn secret_file(&mut self, file: &str, steps: &[Step]) -> SecretSource {
        self.no_expression("secrets", file, || steps.to_vec());
        if file.is_empty() || file.contains('\0') {
            let hint = Some("name the file that holds the secret".to_owned());
            self.find(format!("there cannot be a file `{}`", clip(file)), hint, steps.to_vec(), Part::Value);
        }
        SecretSource::File(file.into())
    }

    fn secret_variable(&mut self, name: &str, steps: &[Step]) -> SecretSource {
        self.no_expression("secrets", name, || steps.to_vec());
        if name.is_empty() || name.contains(['=', '\0']) {
            let hint = Some("name the variable that holds the secret".to_owned());
            self.find(format!("a variable cannot be named `{}`", clip(name)), hint, steps.to_vec(), Part::Value);
        } else if name.starts_with("LAMINAR_") {
            let hint = Some("choose a name that does not begin with `LAMINAR_`".to_owned());
            self.find(format!("a secret cannot come from `{}`", clip(name)), hint, steps.to_vec(), Part::Value);
        }
        SecretSource::Variable(name.into())
    }
}
