//! The secrets of a flow: read before anything runs, hidden in what is shown, and taken away from where dead executions had them.

use std::path::Path;
use std::time::Duration;

use laminar_core::flow::{Flow, Layer};
use laminar_core::folder::Root;
use laminar_core::secret::{Missing, Secrets, Shelf, Shelves};
use laminar_core::store::{self, Creation, RunReader, Status};

use crate::backends::{Backend, Keeper};
use crate::context::Context;
use crate::error::Error;
use crate::load;
use crate::mask::{self, Mask};
use crate::text::few;

/// How long an engine may take to start what was asked of it, after its client died.
const STARTING: Duration = Duration::from_secs(60);
/// How many layers are named that want a secret.
const MOST_LAYERS: usize = 5;

/// Reads the secrets of a flow; those of layers that are not `wanted` need not be there.
///
/// # Errors
/// When any are missing, with all of them; or they could not be handed over.
pub(crate) fn read(
    context: &mut Context<'_>,
    flow: &Flow,
    workdir: &Path,
    wanted: impl Fn(&Layer) -> bool,
) -> Result<Secrets, Error> {
    let (secrets, missing) = those_there(flow, workdir);
    let is_wanted =
        |missing: &&Missing| flow.active().any(|(_, layer)| layer.secrets.contains(&missing.secret) && wanted(layer));
    let missing: Vec<&Missing> = missing.iter().filter(is_wanted).collect();
    if !missing.is_empty() {
        let what = if missing.len() == 1 { "a secret is missing" } else { "secrets are missing" };
        let line = |missing: &Missing| {
            let layers = few(missing.layers.iter().map(|name| &**name), MOST_LAYERS);
            format!("`{}` of {layers}: {}", missing.secret.name, missing.why)
        };
        let error = missing.iter().fold(Error::usage(what), |error, missing| error.at(line(missing)));
        return Err(error.hint("set the variable for this command, or write the file; nothing was run"));
    }
    if secrets.values().next().is_some() {
        Shelves::here().place().map_err(|error| Error::because("cannot hand over secrets", &error))?;
    }
    for (secret, value) in secrets.all() {
        if value.bytes().trim_ascii().len() < mask::SHORTEST {
            context.output.note(&format!("the secret `{}` is too short to be masked in logs", secret.name));
        }
    }
    Ok(secrets)
}

/// Those that can be read.
pub(crate) fn those_there(flow: &Flow, workdir: &Path) -> (Secrets, Vec<Missing>) {
    let layers = flow.active().map(|(_, layer)| layer).filter(|layer| !layer.secrets.is_empty());
    Secrets::read(layers, workdir, |name| std::env::var_os(name))
}

/// Hides these.
pub(crate) fn mask(secrets: &Secrets) -> Mask {
    Mask::new(secrets.values().map(|value| value.bytes()))
}

/// Hides the secrets of an execution, also those that its flow had before an update, as far as they can be read here.
pub(crate) fn mask_of(creation: &Creation) -> Mask {
    let mut texts = creation.earlier.iter().map(|earlier| &earlier.source_text).chain([&creation.source_text]);
    if !texts.any(|text| text.contains("secrets")) {
        return Mask::default();
    }
    // A flow that this program does not understand has none that it could know.
    let flows = load::flows(creation).unwrap_or_default();
    let all: Vec<Secrets> = flows.iter().map(|planned| those_there(&planned.flow, &creation.workdir).0).collect();
    Mask::new(all.iter().flat_map(Secrets::values).map(|value| value.bytes()))
}

/// Takes away what executions have left of which nothing is alive any more.
pub(crate) fn sweep(backends: &[Backend]) {
    let shelves = Shelves::here();
    for shelf in shelves.all() {
        let root = shelf.folder.parent().and_then(Path::parent).and_then(|root| Root::new(root).ok());
        match root {
            // Who sees it may still need them; a reboot takes them away.
            _ if shelf.elsewhere && !shelf.folder.exists() => {}
            _ if !shelf.folder.exists() => shelves.clear(shelf.execution),
            Some(root) if is_dead(&root, &shelf, backends) => {
                // Looked at again with schedulers kept away: one may have begun to go on with it.
                if let Ok(Some(_seized)) = store::seize(&root, shelf.execution)
                    && is_dead(&root, &shelf, backends)
                {
                    shelves.clear(shelf.execution);
                }
            }
            _ => {}
        }
    }
}

fn is_dead(root: &Root, shelf: &Shelf, backends: &[Backend]) -> bool {
    match store::status(root, shelf.execution) {
        Some((Status::Ended(_), _)) => true,
        // What goes on without a scheduler still reads them; and an engine may be about to start what was asked of it last.
        Some((Status::Interrupted | Status::Running { .. }, _)) => {
            let Ok(reader) = RunReader::open(root, shelf.execution) else { return false };
            let is_gone = |name: &str| {
                let backend = backends.iter().rfind(|backend| backend.name == name);
                backend.is_some_and(|backend| backend.find_keeper(&shelf.folder, shelf.execution) == Keeper::Gone)
            };
            shelf.age() > STARTING && reader.creation().backends().into_iter().all(is_gone)
        }
        _ => false,
    }
}
