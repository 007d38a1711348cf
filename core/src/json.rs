//! Values as JSON, which has no form for infinity and NaN: there they are errors that say where, since serde_json writes `null`.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// A value as JSON.
///
/// # Errors
/// When it has no JSON form: also where one of its numbers is infinite or NaN.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<serde_json::Value> {
    check(value).map_err(ser::Error::custom)?;
    serde_json::to_value(value)
}

/// A value as a JSON text.
///
/// # Errors
/// When it has no JSON form: also where one of its numbers is infinite or NaN.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    check(value).map_err(ser::Error::custom)?;
    serde_json::to_vec(value)
}

/// Whether all numbers of a value are finite.
pub(crate) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), NotFinite> {
    match value.serialize(Check) {
        Err(Found::Number(found)) => Err(found),
        // Whoever writes it is told the same.
        Ok(()) | Err(Found::Other) => Ok(()),
    }
}

/// A number that has no JSON form.
#[derive(Debug)]
pub(crate) struct NotFinite {
    number: f64,
    /// Where it is, from the inside out.
    steps: Vec<String>,
}

impl NotFinite {
    /// Where it is in the value: `[3].loss`; empty if it is the value.
    pub(crate) fn place(&self) -> String {
        self.steps.iter().rev().map(String::as_str).collect()
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no JSON form", self.number)?;
        match self.steps.is_empty() {
            true => write!(f, "; an `Option` can be `None` instead"),
            false => write!(f, "; at `{}` an `Option` can be `None` instead", self.place()),
        }
    }
}

#[derive(Debug)]
enum Found {
    Number(NotFinite),
    /// The value cannot be serialized anyway.
    Other,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has no JSON form")
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Found {
        Found::Other
    }
}

impl Found {
    fn within(self, step: impl FnOnce() -> String) -> Found {
        match self {
            Found::Number(mut found) => {
                found.steps.push(step());
                Found::Number(found)
            }
            Found::Other => Found::Other,
        }
    }
}

/// Looks at the numbers of whatever is serialized, and makes nothing of it.
#[derive(Clone, Copy)]
struct Check;

/// The same, of what has parts; so many have been looked at.
struct Parts(usize);

impl Parts {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        let at = self.0;
        self.0 += 1;
        value.serialize(Check).map_err(|found| found.within(|| format!("[{at}]")))
    }

    fn field<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<(), Found> {
        value.serialize(Check).map_err(|found| found.within(|| format!(".{name}")))
    }
}

macro_rules! fine {
    ($($method:ident($($kind:ty),*))*) => { $(fn $method(self, $(_: $kind),*) -> Result<(), Found> { Ok(()) })* };
}

macro_rules! parts {
    ($($method:ident($($kind:ty),*) $parts:ident)*) => {
        type SerializeSeq = Parts;
        $(type $parts = Parts; fn $method(self, $(_: $kind),*) -> Result<Parts, Found> { Ok(Parts(0)) })*
    };
}

type Name = &'static str;

impl Serializer for Check {
    type Ok = ();
    type Error = Found;

    fine! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8]) serialize_none() serialize_unit()
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_unit_struct(Name) serialize_unit_variant(Name, u32, Name)
    }

    parts! {
        serialize_tuple(usize) SerializeTuple
        serialize_tuple_struct(Name, usize) SerializeTupleStruct
        serialize_tuple_variant(Name, u32, Name, usize) SerializeTupleVariant
        serialize_map(Option<usize>) SerializeMap
        serialize_struct(Name, usize) SerializeStruct
        serialize_struct_variant(Name, u32, Name, usize) SerializeStructVariant
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Found> {
        Ok(Parts(0))
    }

    fn serialize_f32(self, number: f32) -> Result<(), Found> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Found> {
        if number.is_finite() { Ok(()) } else { Err(Found::Number(NotFinite { number, steps: Vec::new() })) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: Name, value: &T) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: Name,
        _: u32,
        variant: Name,
        value: &T,
    ) -> Result<(), Found> {
        Parts::field(variant, value)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Found> {
        Ok(())
    }
}

macro_rules! items {
    ($($parts:ident $method:ident)*) => {
        $(impl ser::$parts for Parts {
            type Ok = ();
            type Error = Found;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
                self.item(value)
            }

            fn end(self) -> Result<(), Found> {
                Ok(())
            }
        })*
    };
}

macro_rules! fields {
    ($($parts:ident)*) => {
        $(impl ser::$parts for Parts {
            type Ok = ();
            type Error = Found;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: Name, value: &T) -> Result<(), Found> {
                Parts::field(name, value)
            }

            fn end(self) -> Result<(), Found> {
                Ok(())
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

fields! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Parts {
    type Ok = ();
    type Error = Found;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Found> {
        key.serialize(Check)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        value.serialize(Check)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), Found> {
        key.serialize(Check)?;
        let step = || format!("[{}]", serde_json::to_string(key).unwrap_or_default());
        value.serialize(Check).map_err(|found| found.within(step))
    }

    fn end(self) -> Result<(), Found> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Serialize)]
    struct Run {
        loss: f32,
        best: Option<f64>,
        seen: BTreeMap<u32, Step>,
    }

    #[derive(Clone, Serialize)]
    enum Step {
        Rate(f64),
        Two(u8, f64),
        Whole { at: f64 },
        Done,
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_is() {
        let seen = [(7, Step::Whole { at: 0.5 }), (8, Step::Two(1, 0.5)), (9, Step::Rate(1.0)), (10, Step::Done)];
        let run = Run { loss: 0.5, best: None, seen: seen.into() };
        assert_eq!(to_vec(&vec![run.clone()]).unwrap(), serde_json::to_vec(&vec![run.clone()]).unwrap());
        let with = |change: &dyn Fn(&mut Run)| {
            let mut bad = run.clone();
            change(&mut bad);
            to_value(&vec![run.clone(), bad]).unwrap_err().to_string()
        };
        assert_eq!(
            with(&|run| run.loss = f32::NAN),
            "NaN has no JSON form; at `[1].loss` an `Option` can be `None` instead"
        );
        let said = with(&|run| run.best = Some(f64::INFINITY));
        assert!(said.starts_with("inf has no JSON form; at `[1].best`"), "{said}");
        for (key, step, place) in [
            (7, Step::Whole { at: f64::NAN }, "[7].at"),
            (8, Step::Two(1, f64::NAN), "[8][1]"),
            (9, Step::Rate(f64::NAN), "[9].Rate"),
        ] {
            let said = with(&|run| {
                run.seen.insert(key, step.clone());
            });
            assert!(said.contains(&format!("at `[1].seen{place}`")), "{said}");
        }
        let said = to_value(&f64::NEG_INFINITY).unwrap_err().to_string();
        assert_eq!(said, "-inf has no JSON form; an `Option` can be `None` instead");
    }
}
