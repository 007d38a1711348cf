//! What is named on the command line: an execution, a layer or one of its splits, an artifact.
//!
//! Words only; whether any of it exists is for others to say.

use std::fmt;

use crate::error::Error;

/// The execution that is meant when none is named.
pub(crate) const LATEST: &str = "latest";

/// A layer, or one of its splits: `Train`, `Train[3]`, `Train.3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerName {
    /// The layer's name.
    pub(crate) layer: String,
    /// Which split; none means all.
    pub(crate) index: Option<u32>,
}

impl LayerName {
    /// Reads a layer's name, perhaps with an index.
    ///
    /// # Errors
    /// When the text can be no such name.
    pub(crate) fn parse(text: &str) -> Result<LayerName, Error> {
        let wrong =
            || Error::usage(format!("`{text}` is not a layer; write `Train`, or `Train[3]` for one of its splits"));
        let (layer, index) = match text.strip_suffix(']') {
            Some(inner) => inner.split_once('[').map(|(layer, index)| (layer, Some(index))).ok_or_else(wrong)?,
            None => text.split_once('.').map_or((text, None), |(layer, index)| (layer, Some(index))),
        };
        if layer.is_empty() || !layer.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(wrong());
        }
        let index = index.map(|index| index.parse().map_err(|_| wrong())).transpose()?;
        Ok(LayerName { layer: layer.to_owned(), index })
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => f.write_str(&self.layer),
            Some(index) => write!(f, "{}[{index}]", self.layer),
        }
    }
}

/// An artifact, or an entry of a folder artifact: `Train/model.json`, `Train[3]/folder/entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactPath {
    /// The layer or split.
    pub(crate) layer: LayerName,
    /// The artifact's name.
    pub(crate) artifact: String,
    /// The entry within it; empty for the artifact itself.
    pub(crate) entry: String,
}

impl ArtifactPath {
    /// Reads the path of an artifact.
    ///
    /// # Errors
    /// When the text can be no such path.
    pub(crate) fn parse(text: &str) -> Result<ArtifactPath, Error> {
        let (layer, path) = text.split_once('/').unwrap_or((text, ""));
        let layer = LayerName::parse(layer)?;
        let (artifact, entry) = path.split_once('/').unwrap_or((path, ""));
        if artifact.is_empty() {
            return Err(Error::usage(format!("`{text}` names no artifact; write `{layer}/ARTIFACT`"))
                .hint(format!("`laminar artifacts {layer}` lists them")));
        }
        let entry = entry.trim_matches('/').to_owned();
        Ok(ArtifactPath { layer, artifact: artifact.to_owned(), entry })
    }
}

/// Tells an execution from a layer when there is one word for both: what begins with a digit, or is `latest`, is an
/// execution. Layer names never begin with a digit, and ids do until the year 2527.
pub(crate) fn is_execution(word: &str) -> bool {
    word == LATEST || word.starts_with(|c: char| c.is_ascii_digit())
}

/// An execution and perhaps a layer, of two words that are each left out or not.
pub(crate) fn execution_and_layer(
    first: Option<&str>,
    second: Option<&str>,
) -> Result<(String, Option<LayerName>), Error> {
    let (execution, layer) = match (first, second) {
        (Some(word), None) if !is_execution(word) => (LATEST, Some(word)),
        (execution, layer) => (execution.unwrap_or(LATEST), layer),
    };
    Ok((execution.to_owned(), layer.map(LayerName::parse).transpose()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layer(name: &str, index: Option<u32>) -> LayerName {
        LayerName { layer: name.to_owned(), index }
    }

    #[test]
    fn a_split_is_written_in_two_ways() {
        assert_eq!(LayerName::parse("Train").unwrap(), layer("Train", None));
        assert_eq!(LayerName::parse("Train[3]").unwrap(), layer("Train", Some(3)));
        assert_eq!(LayerName::parse("Train.3").unwrap(), layer("Train", Some(3)));
        assert_eq!(layer("Train", Some(3)).to_string(), "Train[3]");
        for wrong in ["", "Train[", "Train]", "[3]", "Train[x]", "Train.", "a b", "../x", "Train[-1]"] {
            assert!(LayerName::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_word_is_an_execution_or_a_layer() {
        let of = |first, second| execution_and_layer(first, second).unwrap();
        assert_eq!(of(None, None), ("latest".to_owned(), None));
        assert_eq!(of(Some("019a"), None), ("019a".to_owned(), None));
        assert_eq!(of(Some("latest"), None), ("latest".to_owned(), None));
        assert_eq!(of(Some("cafe"), None), ("latest".to_owned(), Some(layer("cafe", None))));
        assert_eq!(of(Some("latest"), Some("latest")), ("latest".to_owned(), Some(layer("latest", None))));
        assert_eq!(of(Some("019a"), Some("B[1]")), ("019a".to_owned(), Some(layer("B", Some(1)))));
    }

    #[test]
    fn an_artifact_has_a_layer_a_name_and_perhaps_an_entry() {
        let path = ArtifactPath::parse("Train[3]/folder/a/b/").unwrap();
        assert_eq!(path.layer, layer("Train", Some(3)));
        assert_eq!((path.artifact.as_str(), path.entry.as_str()), ("folder", "a/b"));
        assert_eq!(ArtifactPath::parse("Train/m").unwrap().entry, "");
        for wrong in ["Train", "Train/", "/m", "Train//m"] {
            assert!(ArtifactPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
