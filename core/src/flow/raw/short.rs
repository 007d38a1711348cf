//! What can be written in short, or as a map of its parts.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{Cache, CacheParts, Mount, MountParts, Secret, SecretParts, Text};

/// Reads each as its parts from a map, or from what one method of a visitor takes.
macro_rules! short_or_map {
    ($($name:ident, $expecting:literal, $short:ident($value:ident: $type:ty) => $made:expr, $parts:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Short;

                impl<'de> Visitor<'de> for Short {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn $short<E: de::Error>(self, $value: $type) -> Result<$name, E> {
                        Ok($made)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(map)).map($parts)
                    }
                }

                deserializer.deserialize_any(Short)
            }
        }
    )*};
}

short_or_map! {
    Cache, "`true`, `false` or a map", visit_bool(value: bool) => Cache::Plain(value),
        |parts: CacheParts| Cache::Parts(Box::new(parts));
    Mount, "`source:target` or a map", visit_str(text: &str) => Mount::Text(Text(text.to_owned())),
        |parts: MountParts| Mount::Parts(parts);
    Secret, "a name or a map", visit_str(text: &str) => Secret::Text(Text(text.to_owned())),
        |parts: SecretParts| Secret::Parts(parts);
}
