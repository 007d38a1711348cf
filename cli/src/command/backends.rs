//! `laminar backends`: each backend's probe, and its options.

use laminar_core::executor::{ExecutorError, Probe};
use laminar_core::option::{Kind, Spec};
use serde_json::{Value, json};

use crate::args::BackendsArgs;
use crate::backends::Backend;
use crate::choice;
use crate::context::{Context, runtime};
use crate::error::Error;
use crate::exit::Code;
use crate::output::Shape;
use crate::text::style::Style;
use crate::text::{size, visible};

/// Asks every backend what it finds.
pub(crate) fn run(context: &mut Context<'_>, args: &BackendsArgs) -> Result<Code, Error> {
    let having = |name: &str| {
        let all = context.backends.iter();
        all.filter(|backend| backend.options.iter().any(|spec| spec.name() == name)).collect()
    };
    let set = choice::settle(context, &args.options, having)?;
    let runtime = runtime()?;
    for backend in context.backends {
        let set = set.iter().filter(|(name, ..)| name == backend.name);
        let executor = backend.executor(set.map(|(_, name, value)| (name.as_str(), value.as_str())));
        let probe = runtime.block_on(async { executor.probe().await });
        if context.output.shape() == Shape::Json {
            context.output.object(&object(backend, &probe))?;
        } else {
            let text = text(backend, &probe, context.output.data_style());
            context.output.print(&text)?;
        }
        // A probe may take its time: what is known is shown.
        context.output.flush()?;
    }
    runtime.shutdown_background();
    Ok(Code::Finished)
}

fn text(backend: &Backend, probe: &Result<Probe, ExecutorError>, style: Style) -> String {
    let mut lines = Vec::new();
    let state = match probe {
        Ok(probe) => {
            lines.push(("version", visible::line(&probe.version)));
            lines.extend(probe.facts.iter().map(|(name, value)| (*name, visible::line(value))));
            lines.push(("cores", cores(probe.cpu_millis)));
            lines.push(("memory", size::short(probe.memory)));
            lines.push(("enforces", enforced(probe).join(", ")));
            style.state("available")
        }
        Err(ExecutorError::Unavailable { reason, hint, .. }) => {
            lines.push(("reason", visible::text(reason.as_bytes())));
            lines.push(("hint", visible::text(hint.as_bytes())));
            style.red("not available")
        }
        Err(error) => {
            lines.push(("reason", visible::text(error.to_string().as_bytes())));
            style.red("not available")
        }
    };
    let mut text = format!("{}: {state} ({})\n", style.bold(backend.name), backend.description);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("  {name:width$}  {value}\n"));
    }
    text.push_str(&options(&backend.options));
    text
}

/// One line an option: its name, what may be written for it, what it does.
fn options(specs: &[Spec]) -> String {
    let kinds: Vec<String> = specs.iter().map(|spec| spec.kind().to_string()).collect();
    let name = specs.iter().map(|spec| spec.name().len()).max().unwrap_or(0);
    let kind = kinds.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (spec, said) in specs.iter().zip(&kinds) {
        let default = spec.default().map_or(String::new(), |default| format!(" [default: {default}]"));
        text.push_str(&format!("  -o {:name$}  {said:kind$}  {}{default}\n", spec.name(), spec.help()));
    }
    text
}

fn option_object(spec: &Spec) -> Value {
    let (kind, limits) = match spec.kind() {
        Kind::Text => ("text", Value::Null),
        Kind::Integer(least, most) => ("integer", json!([least, most])),
        Kind::Size => ("size", Value::Null),
        Kind::Duration => ("duration", Value::Null),
        Kind::Boolean => ("boolean", json!([true, false])),
        Kind::OneOf(words) => ("one_of", json!(words)),
    };
    json!({"name": spec.name(), "type": kind, "values": limits, "default": spec.default(), "help": spec.help()})
}

fn object(backend: &Backend, probe: &Result<Probe, ExecutorError>) -> Value {
    let options: Vec<Value> = backend.options.iter().map(option_object).collect();
    let common = json!({
        "name": backend.name, "description": backend.description, "available": probe.is_ok(), "options": options,
    });
    let rest = match probe {
        Ok(probe) => json!({
            "version": probe.version,
            "facts": probe.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect::<serde_json::Map<_, Value>>(),
            "cpu_millis": probe.cpu_millis,
            "memory": probe.memory,
            "enforces": enforced(probe),
        }),
        Err(ExecutorError::Unavailable { reason, hint, .. }) => json!({"reason": reason, "hint": hint}),
        Err(error) => json!({"reason": error.to_string(), "hint": null}),
    };
    match (common, rest) {
        (Value::Object(mut common), Value::Object(rest)) => {
            common.extend(rest);
            Value::Object(common)
        }
        (common, _) => common,
    }
}

/// The keys of a `container` block that it enforces.
fn enforced(probe: &Probe) -> Vec<&'static str> {
    probe.enforces.iter().flat_map(|feature| feature.keys()).copied().collect()
}

/// Cores from thousandths: `2`, `1.5`.
fn cores(millis: u64) -> String {
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        rest => format!("{}.{}", millis / 1000, format!("{rest:03}").trim_end_matches('0')),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cores_have_no_needless_digits() {
        assert_eq!(cores(2000), "2");
        assert_eq!(cores(1500), "1.5");
        assert_eq!(cores(50), "0.05");
    }
}
