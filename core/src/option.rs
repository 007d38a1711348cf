//! Options of a backend: what it declares, what users write, and the checked values.
//!
//! A backend says which options it has ([`Spec`]), each with a type and one line of help; its executor is given
//! [`Options`], in which every value has its type already. Values only; unaware of which backends there are, and of where
//! texts come from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::units;

/// An option that a backend has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    default: Option<&'static str>,
}

/// What may be written for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text but an empty one.
    Text,
    /// A whole number between these, both included.
    Integer(i64, i64),
    /// A number of bytes: `4GiB`.
    Size,
    /// A length of time: `1m 30s`.
    Duration,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// A value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Integer(i64),
    Size(u64),
    Duration(Duration),
    Boolean(bool),
}

/// Why a text is no value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Spec {
    /// An option of this name and type, with one line of help that begins in lower case.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Spec {
        Spec { name, kind, help, default: None }
    }

    /// The same with a default, as it would be written.
    ///
    /// # Panics
    /// [`Options::new`] panics when a default is no value of its own option.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Spec {
        self.default = Some(default);
        self
    }

    /// What it is called: letters, digits and `_`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What may be written for it.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What it does.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// What it is when nothing is said.
    #[must_use]
    pub fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// Whether this may be written for it.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn check(&self, text: &str) -> Result<(), Unfit> {
        self.parse(text).map(drop)
    }

    fn parse(&self, text: &str) -> Result<Value, Unfit> {
        let wrong = |message: String, hint: Option<String>| Err(Unfit { message, hint });
        let unit = |wrong: units::Wrong| Unfit { message: wrong.message, hint: wrong.hint };
        let (name, shown) = (self.name, units::clip(text));
        match &self.kind {
            Kind::Text if text.trim().is_empty() => {
                wrong(format!("an empty `{name}`"), Some("write something, or leave it out".to_owned()))
            }
            Kind::Text if text.contains('\0') => wrong(format!("`{name}` cannot hold a NUL byte"), None),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Integer(least, most) => match text.trim().parse() {
                Ok(number) if (*least..=*most).contains(&number) => Ok(Value::Integer(number)),
                Ok(number) => wrong(format!("`{name}` is {number}, but must be from {least} to {most}"), None),
                Err(_) => {
                    wrong(format!("`{shown}` is no whole number"), Some(format!("write one from {least} to {most}")))
                }
            },
            Kind::Size => units::size(text).map(Value::Size).map_err(unit),
            Kind::Duration => units::duration(text).map(Value::Duration).map_err(unit),
            Kind::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => wrong(format!("`{shown}` is neither `true` nor `false`"), None),
            },
            Kind::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::OneOf(words) => {
                let near = units::closest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                wrong(format!("`{name}` is `{shown}`, but must be {}", must(words)), near)
            }
        }
    }
}

fn must(words: &[&str]) -> String {
    match words {
        [only] => format!("`{only}`"),
        words => format!("one of `{}`", words.join("`, `")),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("text"),
            Kind::Integer(least, most) => write!(f, "{least} to {most}"),
            Kind::Size => f.write_str("size"),
            Kind::Duration => f.write_str("duration"),
            Kind::Boolean => f.write_str("true or false"),
            Kind::OneOf(words) => f.write_str(&words.join(", ")),
        }
    }
}

/// The option of this name.
///
/// # Errors
/// When there is none, with the one that was probably meant, or all of them. `backend` is whose they are.
pub fn find<'s>(specs: &'s [Spec], backend: &str, name: &str) -> Result<&'s Spec, Unfit> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let names = || specs.iter().map(Spec::name);
        let all = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let hint = match units::closest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => "it has no options".to_owned(),
            None => format!("it has {all}"),
        };
        Unfit { message: format!("the backend `{backend}` has no option `{}`", units::clip(name)), hint: Some(hint) }
    })
}

/// The checked values of a backend's options: those that were said, else the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<&'static str, Value>);

impl Options {
    /// The defaults of these options, with what was said on top; the last that is said of an option counts. What is no
    /// option, or no value of it, is passed over: whoever said it was told by [`Spec::check`].
    ///
    /// # Panics
    /// When a default is no value of its own option.
    #[must_use]
    pub fn new<'a>(specs: &[Spec], said: impl IntoIterator<Item = (&'a str, &'a str)>) -> Options {
        let default = |spec: &Spec| {
            let text = spec.default?;
            let value = spec.parse(text);
            Some((spec.name, value.unwrap_or_else(|unfit| panic!("the default of `{}`: {}", spec.name, unfit.message))))
        };
        let mut values: BTreeMap<_, _> = specs.iter().filter_map(default).collect();
        for (name, text) in said {
            if let Some(spec) = specs.iter().find(|spec| spec.name == name)
                && let Ok(value) = spec.parse(text)
            {
                values.insert(spec.name, value);
            }
        }
        Options(values)
    }

    /// The value of a [`Kind::Text`] or [`Kind::OneOf`]; `None` when nothing was said and there is no default.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value of a [`Kind::Integer`].
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The value of a [`Kind::Size`], in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Value::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    /// The value of a [`Kind::Duration`].
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.0.get(name) {
            Some(Value::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    /// The value of a [`Kind::Boolean`].
    #[must_use]
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Value::Boolean(value)) => Some(*value),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPECS: &[Spec] = &[
        Spec::new("queue", Kind::Text, "where to"),
        Spec::new("nice", Kind::Integer(0, 19), "how nice").or("5"),
        Spec::new("scratch", Kind::Size, "how much"),
        Spec::new("patience", Kind::Duration, "how long").or("1m"),
        Spec::new("spot", Kind::Boolean, "whether"),
        Spec::new("pull", Kind::OneOf(&["always", "never"]), "when"),
    ];

    #[test]
    fn what_is_said_counts_else_the_default() {
        let said = [("queue", "long"), ("queue", "short"), ("spot", "true"), ("scratch", "4GiB"), ("pull", "never")];
        let options = Options::new(SPECS, said);
        assert_eq!((options.text("queue"), options.boolean("spot")), (Some("short"), Some(true)));
        assert_eq!((options.integer("nice"), options.size("scratch")), (Some(5), Some(4 << 30)));
        assert_eq!(
            (options.duration("patience"), options.text("pull")),
            (Some(Duration::from_secs(60)), Some("never"))
        );
        let none = Options::new(SPECS, []);
        assert_eq!((none.text("queue"), none.boolean("spot"), none.size("scratch")), (None, None, None));
    }

    #[test]
    fn what_is_no_value_is_told_with_what_would_be_one() {
        let unfit = |name: &str, text: &str| {
            let spec = SPECS.iter().find(|spec| spec.name() == name).unwrap();
            let Unfit { message, hint } = spec.check(text).unwrap_err();
            format!("{message}; {}", hint.unwrap_or_default())
        };
        assert_eq!(unfit("queue", " "), "an empty `queue`; write something, or leave it out");
        assert_eq!(unfit("nice", "20"), "`nice` is 20, but must be from 0 to 19; ");
        assert_eq!(unfit("nice", "very"), "`very` is no whole number; write one from 0 to 19");
        assert!(unfit("scratch", "much").starts_with("`much` is not a size; "));
        assert!(unfit("patience", "5").starts_with("`5` has no unit; "));
        assert_eq!(unfit("spot", "yes"), "`yes` is neither `true` nor `false`; ");
        assert_eq!(
            unfit("pull", "nevr"),
            "`pull` is `nevr`, but must be one of `always`, `never`; did you mean `never`?"
        );
    }
}
