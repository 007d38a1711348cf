//! The second reading of a flow file: layer by layer.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Layer;

/// Reads a flow file's layers in their order, and gives away each before the next is read. The file must have been found to
/// be a [`File`] of something.
pub(in crate::flow) fn each_layer<'de, D: Deserializer<'de>>(
    file: D,
    take: &mut dyn FnMut(Layer),
) -> Result<(), D::Error> {
    file.deserialize_map(EachLayer { take, depth: Depth::File })
}

struct EachLayer<'t> {
    take: &'t mut dyn FnMut(Layer),
    depth: Depth,
}

enum Depth {
    File,
    Layers,
}

impl<'de> DeserializeSeed<'de> for EachLayer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EachLayer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let EachLayer { take, depth } = self;
        match depth {
            Depth::File => {
                while let Some(key) = map.next_key::<String>()? {
                    if key == "layers" {
                        map.next_value_seed(EachLayer { take: &mut *take, depth: Depth::Layers })?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Depth::Layers => {
                while let Some((_, layer)) = map.next_entry::<IgnoredAny, Layer>()? {
                    take(layer);
                }
            }
        }
        Ok(())
    }
}
