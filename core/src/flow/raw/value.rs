//! What is written behind the keys: texts, maps that keep their order, any JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::flow::marked::TEXT;

/// A text. Numbers, `true` and `false` are taken as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::flow) struct Text(pub(in crate::flow) String);

macro_rules! written_as_text {
    ($($(#[$doc:meta])* $name:ident: $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Serialize)]
        #[serde(transparent)]
        pub(in crate::flow) struct $name(pub(in crate::flow) Text);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

written_as_text! {
    /// A length of time.
    Duration: {
        "description": "A length of time with its unit: `100ms`, `10m`, `1h 30m`.",
        "type": "string",
    };
    /// A number of bytes.
    Size: {
        "description": "A size: `1500MiB`, `4GiB`; a bare number counts bytes.",
        "type": ["string", "integer"],
    };
    /// A factor.
    Factor: {
        "description": "A factor of more than 1: `x2`, `x1.5`.",
        "type": "string",
    };
    /// A number, or an expression that gives one.
    Number: {
        "description": "A number, or an expression that gives one.",
        "type": ["number", "string"],
    };
    /// How many GPUs.
    Gpus: {
        "description": "How many GPUs: a number, or `all`.",
        "type": ["integer", "string"],
    };
}

impl Text {
    /// The text.
    pub(in crate::flow) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text. Numbers, `true` and `false` are taken as they are written.",
            "type": ["string", "number", "boolean"],
        })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_newtype_struct(TEXT, TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        Ok(Text(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
        serde_json::to_string(&number).map(Text).map_err(E::custom)
    }
}

/// A map that keeps its order and refuses a key that comes twice.
#[derive(Debug)]
pub(in crate::flow) struct Pairs<T>(pub(in crate::flow) Vec<(String, T)>);

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Pairs<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<T>, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
    type Value = Pairs<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(1 << 16));
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        match first_duplicate(&pairs) {
            Some(key) => Err(de::Error::custom(format_args!("duplicate key `{key}`"))),
            None => Ok(Pairs(pairs)),
        }
    }
}

fn first_duplicate<T>(pairs: &[(String, T)]) -> Option<&str> {
    if pairs.len() < 8 {
        let twice = |at: usize| pairs[..at].iter().any(|(key, _)| *key == pairs[at].0);
        return (1..pairs.len()).find(|at| twice(*at)).map(|at| pairs[at].0.as_str());
    }
    let mut seen = std::collections::HashSet::with_capacity(pairs.len());
    pairs.iter().map(|(key, _)| key.as_str()).find(|key| !seen.insert(*key))
}

/// Any JSON value whose maps name each key once.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(in crate::flow) struct Json(pub(in crate::flow) serde_json::Value);

impl JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json(serde_json::Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json(value.into()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(number);
        number.map(|number| Json(number.into())).ok_or_else(|| E::custom("infinity and NaN have no JSON form"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Json(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = serde_json::Map::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, Json>()? {
            if let Some(_first) = map.get(&key) {
                return Err(de::Error::custom(format_args!("duplicate key `{key}`")));
            }
            map.insert(key, value);
        }
        Ok(Json(map.into()))
    }
}
