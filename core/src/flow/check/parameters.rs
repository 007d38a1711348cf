//! Checks the parameters, and what the command line says of them.

use super::Step::{Key, Nth};
use super::{Check, Finding, Part};
use crate::flow::raw;
use crate::units::{clip, closest};

impl Check<'_> {
    pub(super) fn parameters(&mut self, declared: Option<&raw::Pairs<raw::Json>>, overrides: &[(String, String)]) {
        for (at, (name, value)) in declared.iter().flat_map(|pairs| &pairs.0).enumerate() {
            self.identifier("a parameter's name", name, &[Key("parameters"), Nth(at)], Part::Key);
            self.known.names.parameters.insert(name.clone(), value.0.clone());
        }
        for (name, text) in overrides {
            let message = match self.known.names.parameters.get_mut(name) {
                None => format!("there is no parameter `{}`", clip(name)),
                Some(value) => match typed(value, text) {
                    Ok(new) => {
                        *value = new;
                        continue;
                    }
                    Err(expected) => format!("parameter `{name}` must be {expected}, but is `{}`", clip(text)),
                },
            };
            let hint = if self.known.names.parameters.contains_key(name) {
                None
            } else {
                Some(self.parameters_there_are(name))
            };
            self.findings.push(Finding { message, hint, at: Vec::new(), absence: false });
        }
    }

    fn parameters_there_are(&self, name: &str) -> String {
        let names = || self.known.names.parameters.keys().map(String::as_str);
        let all = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match closest(name, names()) {
            Some(near) => format!("did you mean `{near}`? the flow has {all}"),
            None if all.is_empty() => "the flow declares no parameters".to_owned(),
            None => format!("the flow has {all}"),
        }
    }
}

/// What `--parameter name=text` stands for, by the type of the default; else the type that is expected.
fn typed(default: &serde_json::Value, text: &str) -> Result<serde_json::Value, &'static str> {
    use serde_json::Value;
    let parsed = serde_yaml::from_str::<raw::Json>(text).map(|json| json.0);
    match (default, parsed) {
        (Value::String(_), _) => Ok(Value::String(text.to_owned())),
        (Value::Null, parsed) => Ok(parsed.unwrap_or_else(|_| Value::String(text.to_owned()))),
        (Value::Bool(_), Ok(new @ Value::Bool(_)))
        | (Value::Array(_), Ok(new @ Value::Array(_)))
        | (Value::Object(_), Ok(new @ Value::Object(_))) => Ok(new),
        (Value::Number(old), Ok(Value::Number(new))) if old.is_f64() || !new.is_f64() => Ok(Value::Number(new)),
        (Value::Bool(_), _) => Err("`true` or `false`"),
        (Value::Number(old), _) if old.is_f64() => Err("a number"),
        (Value::Number(_), _) => Err("a whole number"),
        (Value::Array(_), _) => Err("a list, such as `[1, 2]`"),
        (Value::Object(_), _) => Err("a map, such as `{a: 1}`"),
    }
}
