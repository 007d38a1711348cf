//! Executions as people name them, and what the run store has of one.

use std::time::Duration;

use laminar_core::datastore::Artifact;
use laminar_core::folder::ExecutionFolder;
use laminar_core::id::{ExecutionId, LayerId, Split};
use laminar_core::scheduler::State;
use laminar_core::store::{self, ArtifactRow, LayerRow, RunReader, Status, StoreError};

use crate::backends::{Backend, Keeper};
use crate::context::Context;
use crate::error::Error;
use crate::load;
use crate::mask::Mask;
use crate::names::Names;
use crate::place::{ArtifactPath, LayerName};
use crate::secrets;
use crate::text::{count, few};

/// How many digits of an id are shown where it stands alone: its whole time, so that it stays unique later on.
const DIGITS: usize = 12;
/// The time from one look at a lock to the next.
const LOOK: Duration = Duration::from_millis(20);
/// How many executions are named when a beginning means several.
const MOST_CANDIDATES: usize = 5;
/// The fewest digits that are shown in a list.
const FEWEST: usize = 8;

/// A beginning of an id that is unique unless two executions were created in the same millisecond.
pub(crate) fn abbreviate(id: ExecutionId) -> String {
    id.to_string().chars().take(DIGITS).collect()
}

/// The shortest beginnings that tell these executions apart, in the same order.
pub(crate) fn abbreviate_all(ids: &[ExecutionId]) -> Vec<String> {
    let mut sorted: Vec<String> = ids.iter().map(ToString::to_string).collect();
    sorted.sort_unstable();
    let shared = |at: usize, text: &str| {
        let other: &str = sorted.get(at).map_or("", String::as_str);
        if other == text { 0 } else { text.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count() }
    };
    ids.iter()
        .map(|id| {
            let text = id.to_string();
            let at = sorted.partition_point(|other| *other < text);
            let before = at.checked_sub(1).map_or(0, |before| shared(before, &text));
            let length = (before.max(shared(at + 1, &text)) + 1).clamp(FEWEST, text.len());
            text[..length].to_owned()
        })
        .collect()
}

/// The word for a status.
pub(crate) fn status_word(status: &Status) -> &'static str {
    match status {
        Status::Running { .. } => "running",
        Status::Interrupted => "interrupted",
        Status::Damaged { .. } => "damaged",
        Status::Unreadable { .. } => "unreadable",
        Status::Ended(outcome) => outcome.word(),
    }
}

/// An execution that is read.
pub(crate) struct Execution {
    /// Its id.
    pub(crate) id: ExecutionId,
    /// What the store has.
    pub(crate) reader: RunReader,
    /// The names of its layers.
    pub(crate) names: Names,
    /// What is known of its layers as a whole, in their order.
    pub(crate) layers: Vec<LayerRow>,
    /// Its folder.
    pub(crate) folder: ExecutionFolder,
}

impl Execution {
    /// Opens the execution of this name: an id, a unique beginning, or `latest`.
    ///
    /// # Errors
    /// When there is none, more than one, or it cannot be read.
    pub(crate) fn open(context: &Context<'_>, name: &str) -> Result<Execution, Error> {
        let id = store::resolve(&context.root, name).map_err(|error| unknown(context, &error))?;
        let reader = RunReader::open(&context.root, id).map_err(|error| unreadable(id, &error))?;
        let layers = reader.layers().map_err(|error| unreadable(id, &error))?;
        let foreach = layers.iter().filter(|row| row.foreach).map(|row| row.layer);
        let names = Names::stored(&reader.creation().layers, foreach);
        Ok(Execution { id, reader, names, layers, folder: context.root.execution(id) })
    }

    /// The layer of this name.
    ///
    /// # Errors
    /// When the execution has none.
    pub(crate) fn layer(&self, name: &LayerName) -> Result<LayerId, Error> {
        self.names.find(&name.layer).ok_or_else(|| {
            let names = few(self.names.ids().map(|id| self.names.layer(id)), 10);
            Error::missing(format!("there is no layer `{}` in execution {}", name.layer, abbreviate(self.id)))
                .hint(format!("it has {names}"))
        })
    }

    /// The layer of this name, and the index of the split if one is named.
    ///
    /// # Errors
    /// When the execution has no such layer, or the layer no such split.
    pub(crate) fn place(&self, name: &LayerName) -> Result<(LayerId, Option<u32>), Error> {
        let layer = self.layer(name)?;
        if let Some(index) = name.index {
            self.check_index(layer, index, false)?;
        }
        Ok((layer, name.index))
    }

    /// The same of a split that may be still to come.
    ///
    /// # Errors
    /// When the execution has no such layer, or the layer will have no such split.
    pub(crate) fn place_to_come(&self, name: &LayerName) -> Result<(LayerId, Option<u32>), Error> {
        let layer = self.layer(name)?;
        if let Some(index) = name.index {
            self.check_index(layer, index, true)?;
        }
        Ok((layer, name.index))
    }

    fn check_index(&self, layer: LayerId, index: u32, may_come: bool) -> Result<(), Error> {
        let row = self.layers.get(layer.at());
        let (splits, state) = row.map_or((None, None), |row| (row.splits, row.state));
        let name = self.names.layer(layer);
        if self.names.is_foreach(layer) {
            return match splits {
                Some(splits) if index >= splits => Err(out_of_range(name, index, splits)),
                _ => Ok(()),
            };
        }
        // That a layer is fanned out is in the store only once it is known over what; before, its flow says so.
        let flow = load::flows(self.reader.creation()).ok().and_then(|mut flows| flows.pop());
        let declared = flow.as_ref().and_then(|flow| flow.flow.layers.get(layer.at()));
        match declared {
            Some(declared) if declared.foreach.is_some() && may_come => Ok(()),
            Some(declared) if declared.foreach.is_some() => {
                let needs = declared.needs.iter().map(|need| self.names.layer(*need));
                Err(undecided(name, state, &few(needs, 3)))
            }
            _ if index > 0 => Err(alone(name, index)),
            _ => Ok(()),
        }
    }

    /// What a layer left, or all of them, in the order of the flow file and of the names.
    ///
    /// # Errors
    /// When there is no such layer, or the store cannot be read.
    pub(crate) fn artifacts(&self, name: Option<&LayerName>) -> Result<Vec<ArtifactRow>, Error> {
        let rows = match name.map(|name| self.place(name)).transpose()? {
            Some((layer, Some(index))) => self.reader.artifacts_of(Split { layer, index }),
            place => self.reader.artifacts(place.map(|(layer, _)| layer)),
        };
        let mut rows = rows.map_err(|error| self.unreadable(&error))?;
        rows.sort_by(|one, other| (one.split, &one.artifact.name).cmp(&(other.split, &other.artifact.name)));
        Ok(rows)
    }

    /// One artifact.
    ///
    /// # Errors
    /// When there is no such layer or artifact, or when several splits have left one of this name.
    pub(crate) fn artifact(&self, path: &ArtifactPath) -> Result<Artifact, Error> {
        let all = self.artifacts(Some(&path.layer))?;
        let mut found = all.iter().filter(|row| row.artifact.name == path.artifact);
        let (Some(one), another) = (found.next(), found.next()) else {
            let error = Error::missing(format!("there is no artifact `{}` of `{}`", path.artifact, path.layer));
            let names = few(all.iter().map(|row| row.artifact.name.as_str()), 10);
            return Err(error.hint(if names.is_empty() {
                "it has left none".to_owned()
            } else {
                format!("it has left {names}")
            }));
        };
        if another.is_some() {
            let example = format!("{}[0]/{}", path.layer.layer, path.artifact);
            return Err(Error::usage(format!("several splits of `{}` have left `{}`", path.layer, path.artifact))
                .hint(format!("name one: `{example}`")));
        }
        Ok(one.artifact.clone())
    }

    /// What its layers go on under although its scheduler may be gone. Of several backends: what holds where any do, without a
    /// process, since that is not the only one.
    pub(crate) fn keeper(&self, backends: &[Backend]) -> Keeper {
        let of = |name: &str| {
            let backend = backends.iter().rfind(|backend| backend.name == name);
            backend.map_or(Keeper::Unknown, |backend| backend.find_keeper(self.folder.path(), self.id))
        };
        let all: Vec<Keeper> = self.reader.creation().backends().into_iter().map(of).collect();
        match all[..] {
            [only] => only,
            _ if all.iter().any(|keeper| matches!(keeper, Keeper::Works(_))) => Keeper::Works(None),
            _ if all.contains(&Keeper::Unknown) => Keeper::Unknown,
            _ => Keeper::Gone,
        }
    }

    /// Waits until the scheduler of an execution that has ended has tidied up and let go of it.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub(crate) fn is_let_go(&self) -> Result<(), Error> {
        while self.reader.is_held().map_err(|error| self.unreadable(&error))? {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Hides its secrets, as far as they can be read here.
    pub(crate) fn mask(&self) -> Mask {
        secrets::mask_of(self.reader.creation())
    }

    /// An error of the store while this execution was read.
    pub(crate) fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        unreadable(self.id, error)
    }
}

/// Why no execution could be found by its name.
pub(crate) fn unknown(context: &Context<'_>, error: &StoreError) -> Error {
    match error {
        StoreError::NoExecutions { root } => {
            let error = Error::missing(format!("there are no executions in `{}`", root.display()));
            error.hint(format!("`{}` makes one; `--root` names another folder", context.invocation.line(&["run"])))
        }
        StoreError::Unknown { text, similar } => {
            let error = Error::missing(format!("there is no execution `{text}`"));
            match similar.first() {
                Some(id) => error.hint(format!("did you mean `{}`?", abbreviate(*id))),
                None => error.hint(format!("`{}` shows them all", context.invocation.line(&["list"]))),
            }
        }
        StoreError::Ambiguous { text, candidates } => {
            let what = format!("`{text}` is the beginning of {}", count(candidates.len(), "execution"));
            let error = candidates.iter().take(MOST_CANDIDATES).fold(Error::usage(what), |e, id| e.at(id.to_string()));
            error.hint("write more of it")
        }
        error => Error::because("cannot look up the execution", error),
    }
}

/// A foreach layer has no split of this index.
pub(crate) fn out_of_range(layer: &str, index: u32, splits: u32) -> Error {
    let error = Error::missing(format!("there is no `{layer}[{index}]`"));
    match splits.checked_sub(1) {
        Some(last) => error.why(format!("`{layer}` has {}", count(splits as usize, "split"))).hint(match last {
            0 => format!("it is `{layer}[0]`"),
            last => format!("they are `{layer}[0]` to `{layer}[{last}]`"),
        }),
        None => error.why(format!("`{layer}` has no splits")),
    }
}

/// How many splits a foreach layer has is not known.
pub(crate) fn undecided(layer: &str, state: Option<State>, needs: &str) -> Error {
    let error = Error::missing(format!("`{layer}` has no splits"));
    match state {
        Some(State::Skipped) => error.why("it was skipped"),
        Some(State::Failed) => error.why("it failed before it had any"),
        _ if needs.is_empty() => error.why("how many there are is not decided yet"),
        _ => error.why(format!("how many there are is decided when what it needs has finished: {needs}")),
    }
}

/// A layer that is not fanned out.
pub(crate) fn alone(layer: &str, index: u32) -> Error {
    let error = Error::missing(format!("there is no `{layer}[{index}]`")).why(format!("`{layer}` has no `foreach`"));
    error.hint(format!("it is only `{layer}`"))
}

fn unreadable(id: ExecutionId, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::because(format!("cannot read execution {}", abbreviate(id)), error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ids(texts: &[&str]) -> Vec<ExecutionId> {
        texts.iter().map(|text| format!("{text:0<32}").parse().unwrap()).collect()
    }

    #[test]
    fn a_list_shows_what_tells_executions_apart() {
        let ids = ids(&["019a8f3c1d2e7", "019a8f3c1d2f7", "019b", "019a8f3c1d2e77"]);
        assert_eq!(abbreviate_all(&ids), ["019a8f3c1d2e70", "019a8f3c1d2f", "019b0000", "019a8f3c1d2e77"]);
        assert_eq!(abbreviate_all(&ids[2..3]), ["019b0000"]);
        assert!(abbreviate_all(&[]).is_empty());
    }

    #[test]
    fn ids_of_the_same_moment_can_be_told_apart() {
        let ids: Vec<ExecutionId> = (0..500).map(|_| ExecutionId::now()).collect();
        let short = abbreviate_all(&ids);
        for (id, short) in ids.iter().zip(&short) {
            let matching = ids.iter().filter(|other| other.to_string().starts_with(short.as_str())).count();
            assert_eq!(matching, 1, "{id} {short}");
        }
    }
}
