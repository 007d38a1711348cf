//! What expressions can name, and where: parameters, layers, the values of a split and the rest.
//!
//! It is unaware of what an expression does with them.

use std::collections::{HashMap, HashSet};

use crate::flow::Parameters;
use crate::id::LayerId;
use crate::units::closest;

/// The first names that an expression can have, besides those of layers.
pub(super) const ROOTS: [&str; 8] = ["parameters", "each", "attempt", "index", "splits", "execution", "env", PROGRAM];

/// What only the program that a flow belongs to can answer.
pub(super) const PROGRAM: &str = "program";

/// What there is to be named in one flow.
#[derive(Debug, Default)]
pub(super) struct Names<'r> {
    /// The flow's parameters.
    pub(super) parameters: Parameters,
    /// The flow's layers.
    pub(super) layers: HashMap<&'r str, LayerId>,
    /// The variables that secrets come from: no expression can name them.
    pub(super) secrets: HashSet<&'r str>,
    /// Where the expressions stand that are read now.
    pub(super) site: Site,
}

/// Where an expression stands: what decides which names there are.
#[derive(Debug, Default)]
pub(super) enum Site {
    /// In `defaults`, which are about no layer in particular.
    #[default]
    Defaults,
    /// In what is asked once for a whole layer: `when` or `foreach`.
    Whole {
        /// Which of both.
        key: &'static str,
        /// The layer.
        layer: LayerId,
    },
    /// In what each attempt has of its own.
    Attempt {
        /// The layer.
        layer: LayerId,
        /// The names of its `foreach`.
        each: Vec<String>,
    },
}

/// Something an expression names: `parameters.seed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `parameters`
    pub(super) root: String,
    /// `seed`; nothing when the root is used as a whole.
    pub(super) attribute: Option<String>,
}

impl Name {
    pub(super) fn new(dotted: &str) -> Name {
        let mut parts = dotted.split('.');
        let root = parts.next().unwrap_or_default().to_owned();
        Name { root, attribute: parts.next().map(str::to_owned) }
    }

    /// Whether there is such a name; the layer, if it is one's.
    pub(super) fn check(&self, known: &Names<'_>) -> Result<Option<LayerId>, (String, Option<String>)> {
        let did_you_mean = |found: Option<&str>| found.map(|name| format!("did you mean `{name}`?"));
        let parameters = &known.parameters;
        match (self.root.as_str(), self.attribute.as_deref()) {
            ("parameters", Some(name)) if !parameters.contains_key(name) => {
                let known = || parameters.keys().map(String::as_str);
                let hint = did_you_mean(closest(name, known()).map(|name| format!("parameters.{name}")).as_deref());
                let hint = hint.unwrap_or_else(|| match known().next() {
                    Some(_) => {
                        format!("the flow has {}", known().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))
                    }
                    None => "declare it, with its default, under `parameters`".to_owned(),
                });
                Err((format!("there is no parameter `{name}`"), Some(hint)))
            }
            ("execution", Some(name)) if name != "id" => {
                Err((format!("`execution` has no `{name}`"), Some("there is `execution.id`".to_owned())))
            }
            (PROGRAM, None) => {
                let hint = "it stands for what a flow program answers: `program.question`".to_owned();
                Err(("`program` has no value of its own".to_owned(), Some(hint)))
            }
            (root @ ("each" | "attempt" | "index" | "splits"), _) if let Site::Whole { key, .. } = known.site => {
                let hint = format!("`{key}` is asked once for the whole layer, before it has splits");
                Err((format!("`{root}` cannot be named in `{key}`"), Some(hint)))
            }
            ("env", Some(name)) if known.secrets.contains(name) => {
                let hint = "a layer that has it in its `secrets` reads it from a file in `$LAMINAR_SECRETS`".to_owned();
                Err((format!("`env.{name}` is a secret, which no expression can name"), Some(hint)))
            }
            ("each", name) => known.site.check_each(name).map(|()| None),
            (root, _) if ROOTS.contains(&root) => Ok(None),
            (root, _) if let Some(layer) = known.layers.get(root) => known.site.check_layer(root, *layer).map(Some),
            (root, _) if parameters.contains_key(root) => {
                Err((format!("unknown name `{root}`"), Some(format!("did you mean `parameters.{root}`?"))))
            }
            (root, _) => {
                let mut layers: Vec<&str> = Vec::new();
                if known.layers.len() <= SEARCHED {
                    layers.extend(known.layers.keys());
                    // The order of a hash map changes from run to run; the answer must not.
                    layers.sort_unstable();
                }
                let hint = did_you_mean(closest(root, ROOTS.iter().copied().chain(layers)));
                let hint = hint.unwrap_or_else(|| format!("an expression can name {}, and layers", ROOTS.join(", ")));
                Err((format!("unknown name `{root}`"), Some(hint)))
            }
        }
    }
}

impl Site {
    fn check_each(&self, name: Option<&str>) -> Result<(), (String, Option<String>)> {
        let Site::Attempt { each, .. } = self else {
            let hint = "what depends on the split belongs to its layer".to_owned();
            return Err(("`each` cannot be named in `defaults`".to_owned(), Some(hint)));
        };
        match name {
            _ if each.is_empty() => {
                Err(("the layer has no `foreach`, so there is no `each`".to_owned(), Some("add one".to_owned())))
            }
            Some(name) if !each.iter().any(|known| known == name) => {
                let near =
                    closest(name, each.iter().map(String::as_str)).map(|near| format!("did you mean `each.{near}`?"));
                let all = || each.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let hint = near.unwrap_or_else(|| format!("the layer's `foreach` has {}", all()));
                Err((format!("there is no `{name}` in the layer's `foreach`"), Some(hint)))
            }
            _ => Ok(()),
        }
    }

    fn check_layer(&self, name: &str, named: LayerId) -> Result<LayerId, (String, Option<String>)> {
        match self {
            Site::Defaults => {
                let hint = "every layer would need it, itself too; name it where it is needed".to_owned();
                Err((format!("the layer `{name}` cannot be named in `defaults`"), Some(hint)))
            }
            Site::Whole { layer, .. } | Site::Attempt { layer, .. } if *layer == named => {
                let hint = "a layer cannot read what it has not left yet".to_owned();
                Err((format!("`{name}` names itself"), Some(hint)))
            }
            Site::Whole { .. } | Site::Attempt { .. } => Ok(named),
        }
    }
}

/// The most layers that are searched for the one that was meant.
const SEARCHED: usize = 10_000;
