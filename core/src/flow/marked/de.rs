//! Deserializes from a marked tree.
//!
//! Scalars keep what was written: a type that deserializes as a newtype named [`TEXT`] is given the text of any scalar,
//! so `1.10` stays `1.10`.

use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::{Kind, Node, Plain};

/// The name of the newtype that takes the text of any scalar.
pub(in crate::flow) const TEXT: &str = "laminar::Text";

/// Reads a value from a tree.
pub(in crate::flow) fn deserialize<T: DeserializeOwned>(node: &Node<'_>) -> Result<T, Error> {
    T::deserialize(node)
}

/// What a type did not like, and at which node.
#[derive(Debug)]
pub(in crate::flow) struct Error {
    /// What is wrong.
    pub(in crate::flow) message: String,
    /// Where, as [`Node::span`].
    pub(in crate::flow) span: Option<Range<u32>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error { message: message.to_string(), span: None }
    }
}

impl Error {
    fn at(mut self, node: &Node<'_>) -> Error {
        self.span.get_or_insert_with(|| node.span.clone());
        self
    }
}

impl<'de> de::Deserializer<'de> for &Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self.kind() {
            // What was taken out of here was a map or a text; this is one of which nothing is left.
            Kind::Null if self.was_pruned() => visitor.visit_map(Entries { rest: [].iter(), value: None }),
            Kind::Null => visitor.visit_unit(),
            Kind::Plain(_, Plain::Bool(value)) => visitor.visit_bool(*value),
            Kind::Plain(_, Plain::Signed(number)) => visitor.visit_i64(*number),
            Kind::Plain(_, Plain::Unsigned(number)) => visitor.visit_u64(*number),
            Kind::Plain(..) if self.is_too_large() => Err(de::Error::custom("too large for a number")),
            Kind::Plain(_, Plain::Float(number)) => visitor.visit_f64(*number),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
            Kind::Shared(_) => visitor.visit_unit(),
        };
        result.map_err(|error| error.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind() {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match self.text() {
            Some(text) if name == TEXT => visitor.visit_str(text).map_err(|error: Error| error.at(self)),
            None if name == TEXT && self.was_pruned() => visitor.visit_str("").map_err(|error: Error| error.at(self)),
            _ if name == TEXT => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.text().ok_or_else(|| de::Error::custom("expected a word")).map_err(|e: Error| e.at(self))?;
        visitor.visit_enum(text.into_deserializer()).map_err(|error: Error| error.at(self))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

struct Items<'n, 'a>(std::slice::Iter<'n, Node<'a>>);

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'n, 'a> {
    rest: std::slice::Iter<'n, (Node<'a>, Node<'a>)>,
    value: Option<&'n Node<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let text = key.text().ok_or_else(|| Error { message: "a key must be a text".into(), span: None });
        let text = text.map_err(|error| error.at(key))?;
        seed.deserialize(text.into_deserializer()).map(Some).map_err(|error: Error| error.at(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| <Error as de::Error>::custom("a value before its key"))?;
        seed.deserialize(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
