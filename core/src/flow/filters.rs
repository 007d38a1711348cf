//! The filters that expressions have, and the environment that they are evaluated in.
//!
//! There are no functions, and filters that could make texts out of proportion to what they are given are limited or left out.

use std::sync::LazyLock;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

/// The longest text that a filter may make on the way.
const LONGEST_BETWEEN: usize = 16 << 20;

/// Where expressions are compiled and evaluated.
pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    let functions: Vec<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    functions.iter().for_each(|name| environment.remove_global(name));
    // These make texts out of proportion to what they are given, or are for other languages.
    for filter in
        ["indent", "format", "batch", "slice", "map", "pprint", "escape", "e", "safe", "groupby", "chain", "zip"]
    {
        environment.remove_filter(filter);
    }
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
});

fn replace(text: &str, from: &str, to: &str) -> Result<String, minijinja::Error> {
    let times = text.matches(from).count();
    limit(text.len().saturating_add(times.saturating_mul(to.len())))?;
    Ok(text.replace(from, to))
}

fn join(list: &Value, between: Option<&str>) -> Result<String, minijinja::Error> {
    let mut joined = String::new();
    for (at, item) in list.try_iter()?.enumerate() {
        if at > 0 {
            joined.push_str(between.unwrap_or_default());
        }
        match item.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&item.to_string()),
        }
        limit(joined.len())?;
    }
    Ok(joined)
}

fn limit(length: usize) -> Result<(), minijinja::Error> {
    if length <= LONGEST_BETWEEN {
        return Ok(());
    }
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "the text becomes too long"))
}

/// The filters there are.
pub(super) const FILTERS: [&str; 36] = [
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

/// The first filter that does not exist. The compiler leaves that for the evaluation, which is too late for us.
pub(super) fn unknown_filter(source: &str) -> Option<&str> {
    let bytes = source.as_bytes();
    let (mut quote, mut at) = (None, 0);
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'|') => {
                let rest = source[at + 1..].trim_start();
                let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
                if length > 0 && !FILTERS.contains(&&rest[..length]) {
                    return Some(&rest[..length]);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}
